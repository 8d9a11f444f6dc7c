"""A shop for the dashboards' tests: generated invoices applied to a mart batch by batch, without Kafka and Spark."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations, islice
from pathlib import Path

import psycopg2
import pyarrow as pa
from psycopg2.extras import execute_values

from conf.line_rules import admin_codes
from conf.settings import Settings
from mart.connection import connect
from mart.migrate import migrate
from mart.next_offsets import Writer, take_over
from mart.shop_rules import apply_shop_rules
from producer.csv_invoices import Invoice, csv_files, read_invoices
from producer.generate import Options, generate
from streaming.apply import apply_batch
from tests.builders.applied import SCHEMA
from topic.describe import Topic

TOPIC = Topic("invoices", "11111111-1111-1111-1111-111111111111", {0: 0}, {0: 0})
_OTHER_RUNS_SHARE = 0.8  # of the baskets: what the run before the current one saw

_TIMES = {
    "batch": ("started_at", "applied_at", "oldest_kafka_timestamp", "newest_kafka_timestamp"),
    "invoice": ("kafka_timestamp", "applied_at"),
    "segment_change": ("changed_at",),
    "segment_trend": ("at",),
}


def invoices(folder: Path, days: int, customers: int = 1_500) -> Iterator[Invoice]:
    """The generated shop's invoices in the order of their dates."""
    generate(Options(days=days, customers=customers, output=folder), overwrite=True)
    for file in csv_files([folder]):
        yield from sorted(read_invoices(file)[0], key=lambda invoice: invoice.date)


class Shop:
    """A migrated mart that is filled by hand, one batch at a time."""

    def __init__(self, owner_dsn: str, writer_dsn: str) -> None:
        self.owner_dsn = owner_dsn
        with closing(psycopg2.connect(owner_dsn)) as owner:
            migrate(owner)
        self.connection = connect(writer_dsn)
        apply_shop_rules(self.connection, Settings())
        with self.connection, self.connection.cursor() as cursor:
            self.writer: Writer = take_over(cursor, TOPIC, "shop-till-1 pid 4711")
        self.offset = 0
        self.baskets: list[frozenset[str]] = []
        self.names: dict[str, str] = {}

    def apply(self, sold: list[Invoice], wrong: int = 0, took: timedelta = timedelta(milliseconds=180)) -> None:
        """Apply invoices that were produced `took` ago, and `wrong` records that are no JSON."""
        newest = datetime.now(UTC) - took
        rows = [self._cleaned(n, invoice, newest - timedelta(milliseconds=3 * n)) for n, invoice in enumerate(sold)]
        rows += [self._wrong(len(sold) + n, newest) for n in range(wrong)]
        self.offset += len(rows)
        batch = pa.Table.from_pylist(rows, schema=SCHEMA)
        apply_batch(self.connection, self.writer, batch, lambda coordinates: dict.fromkeys(coordinates, b""))

    def apply_all(self, sold: Iterator[Invoice], size: int = 500) -> None:
        while batch := list(islice(sold, size)):
            self.apply(batch)

    def _cleaned(self, n: int, invoice: Invoice, produced: datetime) -> dict[str, object]:
        counting = [
            line
            for line in invoice.lines
            if line.quantity > 0 and Decimal(line.price) > 0 and line.stock_code not in admin_codes()
        ]
        self.names.update({line.stock_code: line.description for line in counting})
        if len({line.stock_code for line in counting}) > 1:
            self.baskets.append(frozenset(line.stock_code for line in counting))
        return {
            "partition": 0,
            "offset": self.offset + n,
            "kafka_timestamp": produced,
            "invoice": invoice.number,
            "invoice_date": invoice.date,
            "customer_id": invoice.customer_id,
            "content_sha256": hashlib.sha256(repr(invoice.lines).encode()).hexdigest(),
            "line_count": len(invoice.lines),
            "counting_lines": len(counting),
            "purchased": sum((line.quantity * Decimal(line.price) for line in counting), Decimal(0)),
            "returned": Decimal(0),
        }

    def _wrong(self, n: int, produced: datetime) -> dict[str, object]:
        reason = ("not_json", "bad_date", "missing_field", "not_json")[n % 4]
        return {
            "partition": 0,
            "offset": self.offset + n,
            "kafka_timestamp": produced,
            "reason": reason,
            "detail": "made for a test",
            "raw": b"{",
        }

    def age(self, minutes: int) -> None:
        """Let all that was applied have been applied so many minutes earlier."""
        with closing(psycopg2.connect(self.owner_dsn)) as owner, owner, owner.cursor() as cursor:
            for table, columns in _TIMES.items():
                earlier = ", ".join(f"{column} = {column} - make_interval(mins => %(minutes)s)" for column in columns)
                cursor.execute(f"UPDATE mart.{table} SET {earlier}", {"minutes": minutes})

    def publish_rules(self) -> None:
        """Two runs of pair rules, the current one over all baskets, the one before over the first of them."""
        with closing(psycopg2.connect(self.owner_dsn)) as owner, owner, owner.cursor() as cursor:
            first = self._publish(cursor, self.baskets[: int(_OTHER_RUNS_SHARE * len(self.baskets))], None)
            self._publish(cursor, self.baskets, first)

    def _publish(self, cursor: psycopg2.extensions.cursor, baskets: list[frozenset[str]], before: int | None) -> int:
        single = Counter(code for basket in baskets for code in basket)
        pairs = Counter(pair for basket in baskets for pair in combinations(sorted(basket), 2))
        total, rules = len(baskets), []
        for pair, together in pairs.items():
            for one, other in (pair, pair[::-1]):
                confidence, share = together / single[one], single[other] / total
                if together / total >= 0.005 and confidence / share > 1.02:
                    rules.append((one, other, together, confidence, confidence / share, share))
        rules.sort(key=lambda rule: (-rule[4], rule[0]))
        cursor.execute("UPDATE mart.rule_run SET is_current = false")
        cursor.execute(
            "INSERT INTO mart.rule_run (status, is_current, previous_run_id, business_date, window_days, min_support,"
            " min_confidence, engine, lake, lake_version, invoices, baskets, products, itemsets, rules, seconds,"
            " code_version, started_at) VALUES ('published', true, %s, '2024-01-31', 90, 0.005, 0.05, 'eclat', 'lake',"
            " 1, %s, %s, %s, %s, %s, '{}', 'test', now()) RETURNING id",
            (before, total, total, len(single), len(pairs), len(rules)),
        )
        (run_id,) = cursor.fetchone() or (0,)
        execute_values(
            cursor,
            "INSERT INTO mart.association_rule (run_id, id, antecedent_codes, antecedent_names, consequent_code,"
            " consequent_name, lead_code, together_count, antecedent_count, consequent_count, support, confidence,"
            " lift, leverage, conviction, zhang) VALUES %s",
            [
                (
                    *(run_id, n, [one], [self.names[one]], other, self.names[other], one, together, single[one]),
                    *(
                        single[other],
                        together / total,
                        confidence,
                        lift,
                        together / total - single[one] / total * share,
                    ),
                    *(None if confidence == 1 else (1 - share) / (1 - confidence), 0.5),
                )
                for n, (one, other, together, confidence, lift, share) in enumerate(rules, 1)
            ],
        )
        return int(run_id)

    def close(self) -> None:
        self.connection.close()
