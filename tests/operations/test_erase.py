"""Erasure and export on a real PostgreSQL and a real Delta table, filled by hand; no Spark, no Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from conf.errors import StreamingError
from conf.settings import Settings
from lake.erasure_list import lake_list
from lake.files import compact
from lake.table import existing_lake, open_lake
from mart.connection import connect
from mart.erasure_list import NO_CONTENT, ErasureList, read_list
from mart.score import Check
from operations.erase import Stored, check_known, describe, erase, erase_from_lake, erase_listed, look
from operations.export import export, to_json
from sql import statement
from streaming import land
from streaming.apply import apply_batch
from streaming.land import land_batch
from tests.builders.applied import SCHEMA, Mart, cleaned, wrong
from tests.builders.landed import TOPIC, batch, landed_coordinates, valid
from tests.builders.mart_rows import rows
from tests.builders.rendered import rendered

pytestmark = pytest.mark.stack
DAY = "2025-03-0{}T10:00:00"


class Shop:
    """A mart of seven customers with a purchase a day each, two of kim3's, and quarantined records."""

    def __init__(self, fresh_mart, tmp_path: Path) -> None:
        self.mart = Mart(fresh_mart)
        self.settings = Settings(
            mart_dsn=fresh_mart.writer_dsn, mart_owner_dsn=fresh_mart.owner_dsn, lake_path=str(tmp_path / "lake")
        )
        self.purchases = [
            cleaned(n, f"i{n}", DAY.format(n % 7 + 1), f"kim{n % 7}", f"{n + 1}.00") for n in range(8)
        ] + [cleaned(8, "i8", DAY.format(9), "kim3", "50.00")]
        self.wrong = [
            wrong(9, b'{"customer_id": "kim3", "lines": []}', "no_lines"),
            wrong(10, b'{"customer_id": "kim33", "lines": []}', "no_lines"),
            wrong(11, b"customer kim3 paid 1.00", "not_json"),
        ]
        self.records = [*self.purchases, *self.wrong]
        self.mart.apply(*self.records)

    def check(self) -> Check:
        with self.mart.connection, self.mart.connection.cursor() as cursor:
            cursor.execute(statement("score/check"))
            return Check(*cursor.fetchone())

    def dumped(self) -> str:
        """All that the mart's tables hold, as text."""
        tables = rows(
            self.mart.dsn,
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'mart'::regnamespace AND relkind = 'r'",
        )
        found = [
            rows(
                self.mart.dsn,
                f"SELECT t::text, CASE WHEN '{t}' = 'mart.rejected_invoice' THEN"
                f" (SELECT string_agg(encode(raw, 'escape'), ' ') FROM mart.rejected_invoice) END FROM {t} t",
            )
            for (t,) in tables
        ]
        return json.dumps(found)


@pytest.fixture
def shop(fresh_mart, tmp_path):
    shop = Shop(fresh_mart, tmp_path)
    yield shop
    shop.mart.connection.close()


def test_the_customer_is_gone_and_everyone_elses_scores_are_exact(shop):
    assert "kim3" in shop.dumped().replace("kim33", "")
    revenue = rows(shop.mart.dsn, "SELECT count(*), sum(purchased), sum(line_count) FROM mart.invoice")
    done = erase(shop.settings, "kim3").mart
    assert (done.listed, done.invoices, done.customers, done.quarantined) == (1, 2, 1, 2)
    assert done.moves >= 1
    assert shop.check() == Check(6, 0, 0, 0)
    assert "kim3" not in {c[0] for c in shop.mart.customers()}
    assert "kim3" not in shop.dumped().replace("kim33", "")
    assert rows(shop.mart.dsn, "SELECT count(*), sum(purchased), sum(line_count) FROM mart.invoice") == revenue
    assert (
        rows(
            shop.mart.dsn,
            "SELECT customer_id, encode(content_sha256, 'hex') FROM mart.invoice WHERE invoice IN ('i3', 'i8')",
        )
        == [(None, NO_CONTENT)] * 2
    )
    assert rows(
        shop.mart.dsn, 'SELECT "offset", reason, detail, raw, outcome FROM mart.rejected_invoice ORDER BY 1'
    ) == [
        (9, "no_lines", "erased", None, "erased"),
        (10, "no_lines", "why", b'{"customer_id": "kim33", "lines": []}', None),
        (11, "not_json", "erased", None, "erased"),
    ]


def test_again_changes_nothing_and_an_unknown_customer_is_listed(shop):
    erase(shop.settings, "kim3")
    before = shop.dumped()
    again = erase(shop.settings, "kim3").mart
    assert (again.listed, again.invoices, again.customers, again.moves, again.quarantined) == (0, 0, 0, 0, 0)
    assert shop.dumped() == before
    assert erase(shop.settings, "nobody").mart.listed == 1  # the command asks for --accept-unknown first
    assert shop.check() == Check(6, 0, 0, 0)


def test_an_id_is_known_wherever_something_is_stored_of_it(shop):
    found = look(shop.settings, "kim3")
    assert (found.invoices, found.last_on, found.quarantined, found.landed) == (2, date(2025, 3, 9), 2, 0)
    assert str(found).startswith("2 invoices, the last on 2025-03-09, ")
    lake = open_lake(shop.settings.lake)
    land_batch(lake, TOPIC, batch({**valid(0), "customer_id": "o'neill"}))
    assert look(shop.settings, "o'neill") == Stored(0, None, 0, 0, 0, 1, False)
    assert look(shop.settings, "kim33").quarantined == 1
    for known in ("kim3", "kim33", "o'neill"):
        check_known(known, look(shop.settings, known))
    for unknown in ("kim", "KIM3", "kim3 "):
        with pytest.raises(StreamingError, match=f"customer {unknown!r} is unknown.*--accept-unknown"):
            check_known(unknown, look(shop.settings, unknown))
    erase(shop.settings, "o'neill")
    assert look(shop.settings, "o'neill") == Stored(0, None, 0, 0, 0, 0, True)
    shop.mart.rows("DELETE FROM mart.erased_customer RETURNING 1")  # the lake has its own copy of the list
    assert look(shop.settings, "o'neill").listed


def test_every_customer_one_by_one(shop):
    for left, customer in zip(range(6, -1, -1), ("kim6", "kim0", "kim3", "kim5", "kim1", "kim2", "kim4"), strict=True):
        assert erase(shop.settings, customer).mart.customers == 1
        assert shop.check() == Check(left, 0, 0, 0)
    assert rows(shop.mart.dsn, "SELECT count(*) FROM mart.segment_count WHERE customers > 0") == [(0,)]


def test_replays_and_new_invoices_do_not_bring_the_customer_back(shop):
    erase(shop.settings, "kim3")
    before = shop.mart.customers()
    again = shop.mart.apply(*[{**r, "partition": 1} for r in shop.records])
    assert (again.invoices, again.duplicates, again.rejected) == (0, 9, 3)
    new = shop.mart.apply(cleaned(12, "i12", DAY.format(8), "kim3", "7.00"), cleaned(13, "i13", DAY.format(8), None))
    assert new.invoices == 2
    assert shop.mart.customers() == before
    assert shop.check() == Check(6, 0, 0, 0)
    assert "kim3" not in shop.dumped().replace("kim33", "")
    outcomes = 'SELECT "offset", outcome FROM mart.rejected_invoice WHERE "partition" = 1 ORDER BY 1'
    assert rows(shop.mart.dsn, outcomes) == [(9, "erased"), (10, None), (11, "erased")]


def test_a_number_taken_twice_is_still_a_conflict(shop):
    erase(shop.settings, "kim3")
    other = shop.mart.apply(cleaned(12, "i3", DAY.format(1), "kim1", content="other"))
    assert (other.invoices, other.rejected) == (0, 1)
    conflict = shop.mart.apply(cleaned(13, "i1", DAY.format(1), "kim3", content="other"))
    assert (conflict.invoices, conflict.rejected) == (0, 1)


def test_erased_while_a_batch_is_under_way(shop):
    """The batch has looked at the list before; the erasure waits for its end, and takes its invoices, too."""
    batch_looked, erased = threading.Event(), []

    def erase_meanwhile() -> None:
        batch_looked.wait(20)
        erased.append(erase(shop.settings, "kim3"))

    eraser = threading.Thread(target=erase_meanwhile)
    eraser.start()

    def wait_for_the_eraser(coordinates):
        batch_looked.set()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while rows(shop.mart.dsn, waiting) != [(1,)]:
            pass
        return dict.fromkeys(coordinates, b"raw")

    # The conflict on i1 makes apply fetch raw values, in the middle of its transaction.
    both = [cleaned(12, "i12", DAY.format(8), "kim3"), cleaned(13, "i1", DAY.format(1), "kim1", content="other")]
    apply_batch(shop.mart.connection, shop.mart.writer, pa.Table.from_pylist(both, schema=SCHEMA), wait_for_the_eraser)
    eraser.join(30)
    assert erased[0].mart.invoices == 3
    assert shop.check() == Check(6, 0, 0, 0)
    assert "kim3" not in shop.dumped().replace("kim33", "")


def test_only_the_owner_may(shop, fresh_mart):
    settings = shop.settings.model_copy(update={"mart_owner_dsn": None})
    with pytest.raises(StreamingError, match="only the mart's owner may erase: set MART_OWNER_DSN"):
        erase(settings, "kim3")
    for attempt in (
        "DELETE FROM mart.customer",
        "UPDATE mart.invoice SET customer_id = NULL",
        "DELETE FROM mart.segment_change",
        "DELETE FROM mart.erased_customer",
        "UPDATE mart.erasure_salt SET salt = salt",
        "UPDATE mart.rejected_invoice SET raw = NULL",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(fresh_mart.writer_dsn, attempt)


def test_a_mart_without_tables_is_told(fresh_mart, tmp_path):
    settings = Settings(mart_dsn=fresh_mart.owner_dsn, lake_path=str(tmp_path / "none"))
    with pytest.raises(StreamingError, match="retail-mart migrate"):
        erase(settings, "kim3")


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A lake of 3 commits in 2 days; even offsets are kim1's, odd ones nobody's."""
    path = str(tmp_path / "lake")
    table = open_lake(path)
    for n in range(0, 6, 2):
        kims = {**valid(n), "customer_id": "kim1"}
        land_batch(
            table, TOPIC, batch(kims, valid(n + 1, day="2026-03-02"), {**valid(n // 2, 1), "customer_id": "kim2"})
        )
    return path


def listing(*customers: str) -> ErasureList:
    empty = ErasureList("5a" * 32)
    return ErasureList(empty.salt, frozenset(map(empty.digest, customers)))


def stored(path: str) -> bytes:
    """Every byte below a lake: its data, unpacked, and its log."""
    data = [
        json.dumps(row, default=str).encode()
        for file in Path(path).glob("business_date=*/*.parquet")
        for row in rows_of(file)
    ]
    return b"\n".join([*data, *(f.read_bytes() for f in Path(path, "_delta_log").iterdir() if f.is_file())])


def rows_of(file: Path) -> list[dict]:
    return pq.ParquetFile(file).read().to_pylist()


def test_the_lake_forgets_rows_files_and_log(lake):
    assert b'"kim1"' in stored(lake)
    everyone = landed_coordinates(lake)
    compact(lake, 168)  # older files stay, with the customer in them
    listed = listing("kim1")
    done = erase_from_lake(existing_lake(lake), listed, listed)
    assert done.rows == 3
    assert done.files > 1
    assert done.version == DeltaTable(lake).version()
    left = DeltaTable(lake).to_pyarrow_table(columns=["customer_id", "content_sha256"]).to_pylist()
    assert sorted(str(row["customer_id"]) for row in left) == ["None"] * 6 + ["kim2"] * 3
    assert sum(row["content_sha256"] == NO_CONTENT for row in left) == 3
    assert landed_coordinates(lake) == everyone
    assert b"kim1" not in stored(lake)  # not as a least or greatest value, not in a predicate
    read_as = {str(pq.read_schema(file).field("customer_id").type) for file in Path(lake).glob("*/*.parquet")}
    assert read_as == {"string"}  # a string_view, as an update would write, is not read by every engine
    again = erase_from_lake(existing_lake(lake), listed, listed)
    assert (again.rows, again.files) == (0, 0)


def test_landing_knows_the_list(lake):
    table = open_lake(lake)  # a landing that has looked at the lake before the erasure
    listed = listing("kim1")
    erase_from_lake(existing_lake(lake), listed, listed)
    landed = land_batch(
        table, TOPIC, batch({**valid(6), "customer_id": "kim1"}, valid(7), {**valid(3, 1), "customer_id": "kim2"})
    )
    assert landed.rows == 3
    assert b"kim1" not in stored(lake)
    assert landed_coordinates(lake)[-1] == (1, 3)
    assert lake_list(DeltaTable(lake)) == listed


def test_a_landing_that_prepared_its_commit_before_the_erasure_looks_again(lake, monkeypatch):
    listed, commit, erased = listing("kim1"), land.append, []

    def erase_first(*arguments):
        if not erased:
            erased.append(erase_from_lake(existing_lake(lake), listed, listed))
        commit(*arguments)

    monkeypatch.setattr(land, "append", erase_first)
    assert land_batch(open_lake(lake), TOPIC, batch({**valid(6), "customer_id": "kim1"})).rows == 1
    assert landed_coordinates(lake).count((0, 6)) == 1
    compact(lake, 0)  # the refused commit left its file, which no version holds
    assert b"kim1" not in stored(lake)


def test_erasing_beside_a_landing_and_a_compaction(lake):
    failures: list[BaseException] = []

    def land_more() -> None:
        table = open_lake(lake)
        try:
            for n in range(6, 66):
                land_batch(table, TOPIC, batch({**valid(n), "customer_id": f"d{n % 10}"}))
                time.sleep(0.05)
        except BaseException as failure:
            failures.append(failure)

    landing = threading.Thread(target=land_more)
    landing.start()
    gone: list[str] = []
    while landing.is_alive() and len(gone) < 8:
        gone.append(f"d{len(gone)}")
        listed = listing(*gone)
        erase_from_lake(existing_lake(lake), listed, listed.of_one(gone[-1]))
    landing.join()
    assert not failures
    assert len(landed_coordinates(lake)) == 9 + 60
    left = set(DeltaTable(lake).to_pyarrow_table(columns=["customer_id"])["customer_id"].to_pylist())
    assert left == {"kim1", "kim2", None, *(f"d{n}" for n in range(len(gone), 10))}


def test_a_list_of_nobody_erases_nobody(shop):
    open_lake(shop.settings.lake)
    before = shop.dumped()
    assert erase_listed(shop.settings).mart.listed == 0
    assert shop.dumped() == before


def test_a_restored_mart_and_a_new_one_take_the_lakes_list(shop, tmp_path):
    lake = open_lake(shop.settings.lake)
    land_batch(lake, TOPIC, batch({**valid(0), "customer_id": "kim3"}))
    erase(shop.settings, "kim3")
    shop.mart.rows("DELETE FROM mart.erased_customer RETURNING 1")  # restored from before
    shop.mart.rows("UPDATE mart.invoice SET customer_id = 'kim3' WHERE invoice = 'i3' RETURNING 1")
    done = erase_listed(shop.settings)
    assert (done.mart.listed, done.mart.invoices) == (1, 1)
    # Made anew: another salt.
    shop.mart.rows("DELETE FROM mart.erased_customer RETURNING 1")
    shop.mart.rows("UPDATE mart.erasure_salt SET salt = decode(repeat('01', 32), 'hex') RETURNING 1")
    assert erase_listed(shop.settings).mart.listed == 1
    assert shop.mart.apply(cleaned(12, "i12", DAY.format(8), "kim3")).invoices == 1
    assert "kim3" not in {c[0] for c in shop.mart.customers()}
    # Two histories: nothing can be told, so nothing is done.
    shop.mart.rows("UPDATE mart.erasure_salt SET salt = decode(repeat('02', 32), 'hex') RETURNING 1")
    with pytest.raises(StreamingError, match="erasure lists of different origin"):
        erase_listed(shop.settings)


def test_the_receipt_names_nobody(shop):
    receipt = rendered(describe(erase(shop.settings, "kim3")))
    assert "kim3" not in receipt
    assert "there is no lake" in receipt
    assert "UTC" in receipt
    with closing(connect(shop.mart.dsn)) as connection, connection, connection.cursor() as cursor:
        listed = read_list(cursor)
    assert not any(digest in receipt for digest in listed.digests)


def test_export_holds_all_that_is_stored(shop):
    land_batch(open_lake(shop.settings.lake), TOPIC, batch({**valid(0), "customer_id": "kim3", "invoice": "i3"}))
    found = json.loads(to_json(export(shop.settings, "kim3")))
    assert found["scores"]["monetary"] == "54.00"
    assert [(i["invoice"], i["purchased"]) for i in found["invoices"]] == [("i3", "4.00"), ("i8", "50.00")]
    assert found["moves"][0]["to_segment"]
    assert [(q["offset"], q["raw"]) for q in found["quarantined"]] == [
        (9, '{"customer_id": "kim3", "lines": []}'),
        (11, "customer kim3 paid 1.00"),
    ]
    [invoice] = found["lake"]["invoices"]
    assert invoice["lines"][0] == {"stock_code": "A1", "description": "an apple", "quantity": 2, "price": "1.50"}
    erase(shop.settings, "kim3")
    with pytest.raises(StreamingError, match="nothing is stored about customer 'kim3'"):
        export(shop.settings, "kim3")


@pytest.mark.slow
def test_commands(shop):
    environment = {
        **os.environ,
        "MART_DSN": shop.settings.mart_dsn.get_secret_value(),
        "MART_OWNER_DSN": shop.settings.mart_owner_dsn.get_secret_value(),
        "LAKE_PATH": shop.settings.lake,
        "COLUMNS": "160",
    }

    def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True)

    assert json.loads(run("export", "kim3").stdout)["customer_id"] == "kim3"
    assert run("erase").returncode == 2
    declined = run("erase", "kim3", answer="n\n")
    assert (declined.returncode, declined.stdout.strip()) == (1, "")
    asked = "Erase customer kim3 (2 invoices, the last on 2025-03-09, "
    assert declined.stderr.startswith(asked), declined.stderr
    before = shop.dumped()
    mistyped = run("erase", "kim03", "--yes")
    assert (mistyped.returncode, mistyped.stdout) == (1, "")
    assert "customer 'kim03' is unknown" in mistyped.stderr
    assert shop.dumped() == before
    assert Decimal(54) in {c[3] for c in shop.mart.customers()}
    done = run("erase", "kim3", answer="y\n")
    assert done.returncode == 0, done.stderr
    assert "Receipt of an erasure" in done.stdout
    assert "kim3" not in done.stdout
    assert run("erase", "kim3", "--yes").returncode == 0, "once more"
    assert run("erase", "kim03", "--yes", "--accept-unknown").returncode == 0
    gone = run("export", "kim3")
    assert (gone.returncode, gone.stdout) == (1, "")
    migrated = run("migrate")
    assert migrated.returncode == 0
