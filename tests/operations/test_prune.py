"""Prune on a real mart and a real lake; no Spark, no Kafka. Its proof by `verify`: tests/integration/test_prune.py."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest
from deltalake import DeltaTable

from conf.errors import StreamingError
from conf.settings import Settings
from lake.files import delete_before, kept_since
from lake.table import open_lake, read_next_offsets
from mart.score import Check, check_scores
from mart.shop_rules import apply_shop_rules
from operations.erase import erase
from operations.explain import describe as describe_explanation
from operations.explain import explain
from operations.export import export
from operations.prune import Bounds, Old, look, prune
from sql import statement
from streaming import apply as apply_module
from streaming.land import land_batch
from tests.builders.applied import Mart, cleaned, wrong
from tests.builders.landed import TOPIC, batch, landed_coordinates, valid
from tests.builders.mart_rows import rows, snapshot
from tests.builders.rendered import rendered

pytestmark = pytest.mark.stack
NOTHING = Old(0, 0, 0, 0, 0, 0, None)


class Shop:
    """A mart of ten customers whose invoices are of January to October 2025, one a month each; the as-of date is
    10 October."""

    def __init__(self, fresh_mart, tmp_path: Path, policy: str = "ignore") -> None:
        self.mart = Mart(fresh_mart, policy)
        self.settings = Settings(
            mart_dsn=fresh_mart.writer_dsn,
            mart_owner_dsn=fresh_mart.owner_dsn,
            mart_reader_dsn=fresh_mart.reader_dsn,
            lake_path=str(tmp_path / "lake"),
        )
        self.records = [
            cleaned(
                *(
                    10 * month + n,
                    f"{month}-{n}",
                    f"2025-{month + 1:02}-{n + 1:02}T10:00:00",
                    f"kim{n}",
                    f"{n}.{month}0",
                ),
                returned="-0.50" if n == 3 else "0",
                counting=0 if n == 4 else 1,
            )
            for month in range(10)
            for n in range(10)
        ]
        self.mart.apply(*self.records)

    def keep(self, **days: int) -> Settings:
        return self.settings.model_copy(update=days)

    def prune(self, **days: int) -> Old:
        settings = self.keep(**days)
        bounds, old = look(settings)
        done = prune(settings, bounds)
        assert done == Old(**vars(old) | {"waiting": 0})  # what was shown is what went
        return done

    def figures(self) -> dict[str, list[tuple]]:
        found = snapshot(self.mart.dsn)
        found["stream_status"] = self.mart.rows("SELECT invoices, revenue FROM mart.stream_status")
        found["segment_flow"] = self.mart.rows("SELECT * FROM mart.segment_flow ORDER BY 4, 1, 2")
        del found["invoice"]
        return found

    def numbers(self) -> set[str]:
        return {invoice for (invoice,) in self.mart.rows("SELECT invoice FROM mart.invoice")}


@pytest.fixture
def shop(fresh_mart, tmp_path):
    shop = Shop(fresh_mart, tmp_path)
    yield shop
    shop.mart.connection.close()


def test_without_a_setting_all_stays(shop):
    bounds, old = look(shop.settings)
    assert (bounds, old) == (Bounds(None, None, None, None, None, 30, date(2025, 10, 10)), NOTHING)
    assert prune(shop.settings, bounds) == NOTHING


def test_invoices_go_and_every_figure_stays(shop):
    before = shop.figures()
    assert shop.prune(invoices_kept_days=101).invoices == 60  # since 1 July
    assert {int(number.split("-")[0]) for number in shop.numbers()} == {6, 7, 8, 9}
    assert shop.figures() == before
    assert check_scores(shop.mart.connection) == Check(9, 0, 0, 0)
    assert shop.mart.rows("SELECT * FROM mart.customer_carried WHERE customer_id IN ('kim3', 'kim4') ORDER BY 1") == [
        ("kim3", 6, Decimal("19.50"), Decimal("-3.00"), datetime(2025, 6, 4, 10)),
    ]
    assert shop.prune(invoices_kept_days=101) == NOTHING
    assert shop.prune(invoices_kept_days=70).invoices == 10  # since 1 August: carried on top
    assert shop.mart.rows("SELECT frequency, purchased FROM mart.customer_carried WHERE customer_id = 'kim3'") == [
        (7, Decimal("23.10"))
    ]
    assert shop.figures() == before


def test_what_was_pruned_is_not_counted_again_and_what_is_late_is_counted_once(shop):
    shop.prune(invoices_kept_days=101)
    before = shop.figures()
    again = [{**record, "offset": 100 + n} for n, record in enumerate(shop.records)]
    applied = shop.mart.apply(*again)
    assert (applied.invoices, applied.duplicates, applied.rejected) == (0, 100, 0)
    other = cleaned(200, "0-1", "2025-10-09T10:00:00", "kim1", "99.00", content="other")
    assert shop.mart.apply(other).duplicates == 1  # and not a conflict: what it was is no longer known
    after = shop.figures()
    assert after == before

    late = cleaned(201, "late", "2025-01-15T10:00:00", "kim1", "5.00")
    assert shop.mart.apply(late).invoices == 1
    assert shop.prune(invoices_kept_days=101).invoices == 1
    assert shop.mart.apply({**late, "offset": 202}).duplicates == 1
    [(frequency, monetary)] = shop.mart.rows(
        "SELECT frequency, monetary FROM mart.customer_segmentation WHERE customer_id = 'kim1'"
    )
    assert (frequency, monetary) == (11, Decimal("19.50"))
    assert check_scores(shop.mart.connection).is_right


def test_another_returns_policy_still_counts_what_was_pruned(shop):
    def under(policy: str) -> list[tuple]:
        apply_shop_rules(shop.mart.connection, Settings(returns_policy=policy))
        return shop.mart.customers()

    net = under("net")
    ignore = under("ignore")
    assert net != ignore
    shop.prune(invoices_kept_days=101)
    assert under("net") == net
    assert under("ignore") == ignore


def test_a_batch_and_a_page_of_pruning_take_turns(shop, monkeypatch):
    """The batch has looked at what was pruned and not yet inserted: an invoice must not leave the mart in between."""
    settings = shop.keep(invoices_kept_days=101)
    bounds, _ = look(settings)
    pruning = threading.Thread(target=prune, args=(settings, bounds))
    waits = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND usename = current_user"
    )

    def interrupted(name: str) -> str:
        if name == "apply/insert_invoices":
            pruning.start()
            while pruning.is_alive() and rows(shop.mart.dsn, waits) == [(0,)]:
                pruning.join(0.05)
        return statement(name)

    before = shop.figures()
    monkeypatch.setattr(apply_module, "statement", interrupted)
    applied = shop.mart.apply(*({**record, "offset": 100 + n} for n, record in enumerate(shop.records)))
    pruning.join()
    assert applied.invoices == 0
    assert shop.figures() == before
    assert len(shop.numbers()) == 40


def test_moves_go_and_the_flows_stay(shop):
    shop.mart.apply(*(cleaned(100 + n, f"new-{n}", "2025-12-30T10:00:00", f"kim{n % 3}", "80.00") for n in range(9)))
    before = shop.figures()
    flows = shop.mart.rows("SELECT sum(moves) FROM mart.segment_flow_total")
    moves = "SELECT count(*), min(event_time)::date FROM mart.segment_change"
    [(all_moves, _)] = shop.mart.rows(moves)
    assert shop.prune(moves_kept_days=30).moves == 9  # all of the first batch, as of 10 October
    assert shop.mart.rows(moves) == [(all_moves - 9, date(2025, 12, 30))]
    assert shop.figures() == before
    assert shop.mart.rows("SELECT sum(moves) FROM mart.segment_flow_total") == flows


def test_quarantined_records_go_but_what_verify_needs(shop):
    conflict = cleaned(103, "9-9", "2025-10-10T10:00:00", "kim9", "1.00", content="other")
    shop.mart.apply(wrong(100, b"old"), wrong(101, b"settled"), wrong(102, b"new"), conflict)
    assert shop.prune(quarantine_kept_days=30).quarantined == 0
    shop.mart.rows(
        "UPDATE mart.rejected_invoice SET rejected_at = now() - interval '31 days' WHERE raw <> 'new' RETURNING 1"
    )
    shop.mart.rows(
        "UPDATE mart.rejected_invoice SET outcome = 'redriven', settled_at = now() WHERE raw = 'settled' RETURNING 1"
    )
    _, old = look(shop.keep(quarantine_kept_days=30))
    assert (old.quarantined, old.waiting) == (3, 2)
    assert shop.prune(quarantine_kept_days=30).quarantined == 3
    assert shop.mart.rows('SELECT "offset", reason, raw, outcome FROM mart.rejected_invoice ORDER BY 1') == [
        (102, "not_json", b"new", None),
        (103, "conflicting_duplicate", None, "pruned"),
    ]
    assert shop.prune(quarantine_kept_days=30) == NOTHING


def test_the_log_of_batches_goes_but_the_newest(shop):
    before = shop.figures()
    for offset in (100, 101):
        shop.mart.apply(wrong(offset, b"x"))
    check_scores(shop.mart.connection)
    shop.mart.rows("UPDATE mart.batch SET applied_at = now() - interval '91 days' RETURNING 1")
    shop.mart.rows("UPDATE mart.score_check SET checked_at = now() - interval '91 days' RETURNING 1")
    assert shop.prune(batches_kept_days=90).batches == 2
    assert shop.mart.rows("SELECT id FROM mart.batch") == [(3,)]
    assert shop.mart.rows("SELECT count(*) FROM mart.score_check") == [(0,)]
    assert shop.figures() == before


def test_rule_runs_go_but_the_newest_and_the_current_one(shop):
    run = dict.fromkeys(("window_days", "min_support", "invoices", "baskets", "products", "itemsets", "rules"), 1)
    run |= {"status": "published", "reason": None, "previous_run_id": None, "business_date": "2025-10-01", "lake": "x"}
    run |= {"min_confidence": 0, "max_items": 3, "engine": "eclat", "lake_version": 0, "seconds": "{}"}
    run |= {"code_version": "1", "started_at": "2025-10-01"}
    with closing(psycopg2.connect(shop.mart.dsn)) as owner, owner, owner.cursor() as cursor:
        for _ in range(5):
            cursor.execute(statement("rules/insert_run"), run)
        cursor.execute("UPDATE mart.rule_run SET is_current = true WHERE id = 1")
    assert shop.prune(rule_runs_kept=2).rule_runs == 2
    assert shop.mart.rows("SELECT id FROM mart.rule_run ORDER BY 1") == [(1,), (4,), (5,)]


def test_an_erased_customer_is_not_carried_either(shop):
    shop.prune(invoices_kept_days=1)
    assert export(shop.settings, "kim3")["carried"]["purchased"] == Decimal("34.50")
    erase(shop.settings, "kim3")
    assert shop.mart.rows("SELECT * FROM mart.customer_carried WHERE customer_id = 'kim3'") == []
    with pytest.raises(StreamingError, match="nothing is stored"):
        export(shop.settings, "kim3")
    assert shop.mart.apply(*({**record, "offset": 100 + n} for n, record in enumerate(shop.records))).duplicates == 100
    assert "kim3" not in {c[0] for c in shop.mart.customers()}
    assert check_scores(shop.mart.connection) == Check(8, 0, 0, 0)


def test_explain_tells_what_was_pruned(shop):
    shop.prune(invoices_kept_days=101)
    with closing(psycopg2.connect(shop.settings.require_mart("reader"))) as reader:
        found = explain(reader, "kim3")
    assert len(found.purchases) == 4
    shown = rendered(describe_explanation(found), 160)
    assert "and 6 older invoices until 2025-06-04, 19.50 in all, pruned" in shown


def test_the_lake_loses_old_dates_and_keeps_its_next_offsets(shop):
    lake = open_lake(shop.settings.lake)
    days = ["2025-01-01", "2025-06-30", "2025-07-01", "2025-10-10"]
    land_batch(lake, TOPIC, batch(*(valid(n, day=day) for n, day in enumerate(days))))
    assert kept_since(DeltaTable(shop.settings.lake)) is None
    assert shop.prune(lake_kept_days=101).lake == 2
    assert landed_coordinates(shop.settings.lake) == [(0, 2), (0, 3)]
    table = DeltaTable(shop.settings.lake)
    assert kept_since(table) == date(2025, 7, 1)
    assert read_next_offsets(table, TOPIC, [0]) == {0: 4}
    # A longer time later brings nothing back; what lands late goes the next time.
    land_batch(table, TOPIC, batch(valid(4, day="2025-02-01")))
    assert delete_before(table, date(2025, 6, 1)) == 1
    assert kept_since(table) == date(2025, 7, 1)
    assert shop.prune(lake_kept_days=101).lake == 0


def test_only_the_owner_and_only_a_mart_of_this_version(shop, servers):
    settings = shop.keep(invoices_kept_days=101).model_copy(update={"mart_owner_dsn": shop.settings.mart_dsn})
    with pytest.raises(StreamingError, match="only the mart's owner may prune: set MART_OWNER_DSN"):
        prune(settings, look(settings)[0])
    with closing(psycopg2.connect(shop.mart.dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("DROP SCHEMA mart CASCADE")
    with pytest.raises(StreamingError, match="retail-mart migrate"):
        look(shop.settings)


@pytest.mark.slow
def test_command(shop):
    environment = {
        **os.environ,
        "MART_DSN": shop.settings.require_mart(),
        "MART_OWNER_DSN": shop.settings.require_mart("owner"),
        "LAKE_PATH": shop.settings.lake,
        "INVOICES_KEPT_DAYS": "101",
        "COLUMNS": "160",
    }

    def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "cli", "prune", *arguments]
        done = subprocess.run(command, env=environment, input=answer, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    for arguments, expected in ((["--dry-run"], 0), ([], 1)):  # no answer, as under cron, is no
        code, said = run(*arguments)
        assert code == expected
        assert "INVOICES_KEPT_DAYS=101" in said
        assert "days count back from 2025-10-10, the as-of date" in said
        assert "since 2025-07-01" in said
        assert len(shop.numbers()) == 100
    code, said = run(answer="y\n")
    assert (code, "removed" in said) == (0, True)
    assert len(shop.numbers()) == 40
    code, said = run("--yes")
    assert (code, "nothing to remove" in said) == (0, True)
