"""Every card runs as analytics_reader, keeps its header's promise, and stays fast where rows are many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from dashboards.cards import Card, CardError, cards, parse_card
from mart.migrate import migrate
from tests.builders.mart_rows import rows
from tests.builders.pipeline import new_mart

CARDS = cards()
by_name = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
GOOD = """-- title: Customers by segment
-- chart: bar
-- description: One bar a segment.
-- refresh: 2 s
-- columns: customer_segment text, spent numeric
-- unit: spent = currency
SELECT customer_segment, monetary AS spent FROM mart.segment_count
"""
# Tables that grow with the traffic or with the customers.
LARGE = {"invoice", "customer", "segment_change", "batch", "rejected_invoice", "segment_trend"}


def test_header_is_read():
    card = parse_card("spent", GOOD)
    assert card == Card(
        "spent",
        "Customers by segment",
        "bar",
        "One bar a segment.",
        2,
        (("customer_segment", "text"), ("spent", "numeric")),
        {"spent": "currency"},
        "SELECT customer_segment, monetary AS spent FROM mart.segment_count",
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("-- title: Customers by segment\n", "", "`-- title: …` is missing"),
        ("chart: bar", "chart: pie", "chart 'pie' is not one of bar, line"),
        ("refresh: 2 s", "refresh: often", "refresh 'often' is not like `1 s`"),
        ("refresh: 2 s", "refresh: 0 s", "refresh '0 s'"),
        ("-- refresh", "-- group: shop\n-- refresh", "group 'shop' is not one of now, business, operations"),
        ("-- refresh", "-- refrehs", "header 'refrehs' is unknown"),
        ("-- unit", "-- title: again\n-- unit", "header 'title' is given twice"),
        ("spent numeric\n", "spent money\n", "column 'spent money' is not a name and a type"),
        ("spent numeric\n", "customer_segment numeric\n", "a column is listed twice"),
        (", spent numeric", "", "a bar needs at least 2 columns"),
        ("= currency", "= rupiah", "unit 'spent = rupiah' is not like"),
        ("spent = currency", "customer_segment = currency", "with a number column"),
        ("FROM mart.segment_count", "FROM mart.segment_count; SELECT 1", "one SELECT, without a semicolon"),
        ("SELECT customer_segment", "DELETE FROM customer_segment", "one SELECT"),
    ],
)
def test_wrong_header_says_what_is_expected(old, new, says):
    assert old in GOOD
    with pytest.raises(CardError) as error:
        parse_card("spent", GOOD.replace(old, new), "07_spent.sql")
    assert str(error.value).startswith("07_spent.sql: ")
    assert says in str(error.value)


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(CardError, match="no cards in"):
        cards(tmp_path)
    (tmp_path / "01_spent.sql").write_text(GOOD)
    (tmp_path / "02_spent.sql").write_text(GOOD)
    with pytest.raises(CardError, match="two files name the card spent"):
        cards(tmp_path)
    (tmp_path / "02_spent.sql").rename(tmp_path / "spent.sql")
    with pytest.raises(CardError, match=r"spent\.sql: a card's file is named like 02_"):
        cards(tmp_path)


@pytest.mark.stack
def test_every_card_gives_the_columns_of_its_header_to_the_reader(shop, fresh_mart):
    wrong = {}
    with closing(psycopg2.connect(fresh_mart.reader_dsn)) as reader:
        reader.autocommit = True
        for card in CARDS:
            with reader.cursor() as cursor:
                cursor.execute(card.sql)
                found = cursor.fetchall()
                types = dict(_type_names(reader, cursor.description or ()))
                given = tuple((column.name, types[column.type_code]) for column in cursor.description or ())
            if given != card.columns or not found:
                wrong[card.name] = (given, len(found))
    assert wrong == {}


def _type_names(connection: Any, description: Any) -> list[tuple[int, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::int, CASE typname WHEN 'timestamptz' THEN typname WHEN 'timestamp' THEN typname"
            " ELSE format_type(oid, NULL) END FROM pg_type WHERE oid = ANY(%s)",
            ([column.type_code for column in description],),
        )
        return list(cursor.fetchall())


@pytest.mark.stack
def test_reader_may_read_views_and_nothing_else(shop, fresh_mart):
    readable = rows(
        fresh_mart.reader_dsn,
        "SELECT c.relkind, c.relname FROM pg_class c WHERE c.relnamespace = 'mart'::regnamespace"
        " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(c.oid, 'SELECT')",
    )
    assert {kind for kind, _ in readable} == {"v"}
    assert len(readable) >= 10


@pytest.fixture(scope="module")
def large_mart(servers) -> Iterator[str]:
    """A mart of 200,000 invoices, 50,000 customers, 100,000 moves and as many batches; its reader's DSN."""
    with new_mart(servers) as made, closing(psycopg2.connect(made.owner_dsn)) as owner:
        migrate(owner)
        with owner, owner.cursor() as cursor:
            cursor.execute(_FILL)
        owner.autocommit = True
        owner.cursor().execute("VACUUM ANALYZE")
        yield made.reader_dsn


_FILL = """
INSERT INTO mart.shop (returns_policy, recency_clock, time_zone, newest_invoice_date)
VALUES ('ignore', 'event', 'Asia/Jakarta', '2025-03-01');
INSERT INTO mart.invoice (invoice, invoice_date, customer_id, line_count, counting_lines, purchased, returned,
                          content_sha256, kafka_partition, kafka_offset, kafka_timestamp, applied_at)
SELECT n, '2025-01-01'::timestamp + n * interval '20 seconds', n % 50000, 3, 3, n % 1000, 0, sha256(n::text::bytea), 0,
       n, now() - (200000 - n) * interval '1 second', now() - (200000 - n) * interval '1 second'
FROM generate_series(1, 200000) n;
INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary, r, f, m, segment)
SELECT n, '2025-01-01'::timestamp + n * interval '1 minute', 4, n % 7919, n % 5 + 1, n / 7 % 5 + 1, n / 3 % 5 + 1,
       (SELECT segment FROM mart.segment_score s WHERE (s.r, s.f, s.m) = (n % 5 + 1, n / 7 % 5 + 1, n / 3 % 5 + 1))
FROM generate_series(0, 49999) n;
INSERT INTO mart.score_total (r, f, m, customers, monetary)
SELECT r, f, m, count(*), sum(monetary) FROM mart.customer GROUP BY r, f, m;
INSERT INTO mart.segment_change (customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause,
                                 event_time, changed_at)
SELECT n % 50000, 'Champions', 'At Risk', 5, 5, 5, 1, 5, 5, 'overtaken', '2025-02-01',
       now() - (100000 - n) * interval '2 seconds'
FROM generate_series(1, 100000) n;
INSERT INTO mart.segment_flow_total (day, from_segment, to_segment, moves)
SELECT '2025-01-01'::date + n, 'Champions', 'At Risk', 1 + n FROM generate_series(0, 400) n;
INSERT INTO mart.segment_trend (segment, at, customers, monetary)
SELECT segment, date_trunc('minute', now()) - n * interval '1 minute', n, n
FROM generate_series(0, 9999) n CROSS JOIN (SELECT DISTINCT segment FROM mart.segment_score) s;
ALTER TABLE mart.batch DISABLE TRIGGER count_batch;  -- made for a batch at a time
INSERT INTO mart.batch (topic, writer_epoch, started_at, applied_at, records, invoices, duplicates, rejected,
                        oldest_kafka_timestamp, newest_kafka_timestamp, purchased, returned)
SELECT 'invoices', 1, at - interval '200 ms', at, 2, 2, 0, 0, at - interval '900 ms', at - interval '300 ms', 10, 0
FROM (SELECT now() - (100000 - n) * interval '2 seconds' AS at FROM generate_series(1, 100000) n) moments;
ALTER TABLE mart.batch ENABLE TRIGGER count_batch;
INSERT INTO mart.rejected_invoice (topic_id, topic, "partition", "offset", kafka_timestamp, reason, detail, rejected_at)
SELECT gen_random_uuid(), 'invoices', 0, n, now(), CASE n % 50 WHEN 0 THEN 'bad_date' ELSE 'not_json' END, '',
       now() - n * interval '1 second'
FROM generate_series(1, 20000) n;
INSERT INTO mart.rule_run (status, is_current, business_date, window_days, min_support, min_confidence, engine, lake,
                           lake_version, baskets, rules, seconds, code_version, started_at)
VALUES ('published', true, '2025-03-01', 90, 0.005, 0.05, 'eclat', 'lake', 1, 1000, 20000, '{}', 'test', now());
INSERT INTO mart.association_rule (run_id, id, antecedent_codes, antecedent_names, consequent_code, consequent_name,
                                   lead_code, together_count, antecedent_count, consequent_count, support, confidence,
                                   lift, leverage, conviction, zhang)
SELECT r.id, n, ARRAY['A' || n], ARRAY['a'], 'B', 'b', 'A' || n, 1, 2, 2, 0.1, 0.5, 2, 0.01, 1.5, 0.5
FROM mart.rule_run r CROSS JOIN generate_series(1, 20000) n;
"""


@pytest.mark.stack
@by_name
def test_card_reads_no_large_table_from_its_start(card, large_mart):
    with closing(psycopg2.connect(large_mart)) as reader, reader.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {card.sql}")
        [(plan,)] = cursor.fetchall()
    nodes = list(_nodes(plan[0]["Plan"]))
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned & LARGE
    # Nor in disguise: no index is read from end to end either, but for the quarantine's counts.
    if card.name != "quarantine":
        most = {
            n["Relation Name"]: n["Actual Rows"] * n["Actual Loops"] for n in nodes if n.get("Relation Name") in LARGE
        }
        assert all(read < 10_000 for read in most.values()), most


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
