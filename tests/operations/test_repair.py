"""Repair on a real PostgreSQL and a real Delta table, filled by our own parse, apply and land; no Spark, no Kafka."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import psycopg2
import pyarrow as pa
import pytest

from conf.errors import StreamingError
from conf.settings import Settings
from lake.table import open_lake
from mart.connection import connect
from mart.migrate import migrate
from mart.next_offsets import forget
from mart.score import check_scores
from operations import repair as repair_module
from operations.erase import erase, erase_from_mart, erase_listed
from operations.prune import Bounds, prune
from operations.repair import describe, repair
from operations.verify import verify
from streaming.land import land_batch
from tests.builders.applied import TOPIC
from tests.builders.mart_rows import assert_mart_equals, rows, snapshot
from tests.builders.pipeline import new_mart
from tests.builders.records import event, random_events
from tests.builders.rendered import rendered
from tests.builders.shop import Shop
from topic.describe import Topic
from torture.oracle import expected_customers

pytestmark = pytest.mark.stack


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
EVENTS = random_events(900, customers=60, seed=71)
for number, one in enumerate(EVENTS):  # of 12 days, so that the lake has few files
    one["invoice_date"] = f"2025-03-{number * 7 % 12 + 1:02}T10:00:00"
CONFLICT = {**event(EVENTS[5]["invoice"], "2025-06-01", EVENTS[5]["customer_id"]), "lines": EVENTS[6]["lines"]}


@pytest.fixture
def shop(fresh_mart, tmp_path):
    """600 invoices, 50 of them twice, one number with two contents, and three records that are none."""
    shop = Shop(fresh_mart, tmp_path)
    shop.send([*EVENTS[:300], b"{", b'{"version": 2}'])
    shop.send([*EVENTS[250:600], CONFLICT, b"no"])
    yield shop
    shop.mart.connection.close()


ONE = "SELECT customer_id FROM mart.customer WHERE frequency > 1 ORDER BY customer_id LIMIT 1"
BOUGHT = "SELECT invoice FROM mart.invoice WHERE customer_id IS NOT NULL AND counting_lines > 0 ORDER BY 1 LIMIT 1"
COPY = (
    "INSERT INTO mart.invoice SELECT 'made up', invoice_date, customer_id, line_count, counting_lines, purchased,"
    " returned, content_sha256, kafka_partition, kafka_offset, kafka_timestamp FROM mart.invoice"
    f" WHERE invoice = ({BOUGHT})"
)
WRONG = {
    "a cent too much": (f"UPDATE mart.customer SET monetary = monetary + 0.01 WHERE customer_id = ({ONE})", "customer"),
    "a purchase too late": (
        f"UPDATE mart.customer SET last_purchase = last_purchase + interval '1 day' WHERE customer_id = ({ONE})",
        "customer",
    ),
    "a lost invoice": (f"DELETE FROM mart.invoice WHERE invoice = ({BOUGHT})", "invoice"),
    "a doubled invoice": (COPY, "invoice"),
    "an invoice of another customer": (
        f"UPDATE mart.invoice SET customer_id = 'somebody' WHERE invoice = ({BOUGHT})",
        "invoice",
    ),
    "a wrong score": (f"UPDATE mart.customer SET r = r %% 5 + 1 WHERE customer_id = ({ONE})", "customer"),
    "a wrong segment": (f"UPDATE mart.customer SET segment = 'Odd' WHERE customer_id = ({ONE})", "customer"),
    "a wrong cut": ("UPDATE mart.quintile_cut SET m_value = m_value + 0.01 WHERE quintile = 2", "cut"),
    "no cuts": ("DELETE FROM mart.quintile_cut", "cut"),
    "a wrong total of scores": (
        "UPDATE mart.score_total SET customers = customers + 1 WHERE ctid = (SELECT min(ctid) FROM mart.score_total)",
        "score",
    ),
    "a wrong total": ("UPDATE mart.stream_total SET purchased = purchased + 0.01", "total"),
    "a fast clock": ("UPDATE mart.shop SET newest_invoice_date = newest_invoice_date + interval '1 day'", "total"),
    "a lost customer": (f"DELETE FROM mart.customer WHERE customer_id = ({ONE})", "customer"),
    "a made-up customer": (
        "INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary) VALUES ('x', '2025-01-01', 1, 1)",
        "customer",
    ),
    "no customers": ("DELETE FROM mart.customer", "customer"),
    "no invoices": ("DELETE FROM mart.invoice", "invoice"),
    "a lost conflict": ("DELETE FROM mart.rejected_invoice WHERE reason = 'conflicting_duplicate'", "conflict"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_each_kind_of_wrong_is_found_and_put_right(shop, wrong):
    statement, table = WRONG[wrong]
    right, history = snapshot(shop.mart.dsn), rows(shop.mart.dsn, "SELECT * FROM mart.segment_change ORDER BY id")
    ids = dict(rows(shop.mart.dsn, "SELECT customer_id, id FROM mart.customer"))
    shop.spoil(statement.replace("%%", "%"))
    left = dict(rows(shop.mart.dsn, "SELECT customer_id, id FROM mart.customer"))
    assert table in shop.verify()
    done = shop.repair()
    assert shop.verify() == {}
    assert snapshot(shop.mart.dsn) == right
    assert check_scores(shop.mart.connection).is_right
    # History stays, and the repair's own moves are told as such; who was not lost kept the id.
    now = rows(shop.mart.dsn, "SELECT * FROM mart.segment_change ORDER BY id")
    assert now[: len(history)] == history
    assert {row[10] for row in now[len(history) :]} <= {"repaired"}
    assert len(now) - len(history) == done.replaced.moved
    stayed = {customer: number for customer, number in left.items() if customer in ids}
    assert stayed.items() <= dict(rows(shop.mart.dsn, "SELECT customer_id, id FROM mart.customer")).items()
    # The stream goes on from where it was.
    assert shop.send(EVENTS[500:900]).invoices == 300
    assert shop.verify() == {}
    assert_mart_equals(shop.mart.dsn, expected_customers(EVENTS))


def test_what_was_replaced_is_kept_and_told(shop):
    customer = rows(shop.mart.dsn, ONE)[0][0]
    shop.spoil(WRONG["a cent too much"][0])
    shop.spoil(WRONG["a doubled invoice"][0])
    shop.spoil(f"UPDATE mart.invoice SET purchased = purchased + 1 WHERE invoice = ({BOUGHT})")
    shop.spoil("DELETE FROM mart.invoice WHERE invoice = (SELECT max(invoice) FROM mart.invoice WHERE invoice < 'm')")
    done = shop.repair()
    assert (done.replaced.removed["invoice"], done.replaced.corrected["invoice"], done.replaced.added["invoice"]) == (
        1,
        1,
        1,
    )
    assert (
        done.replaced.removed["customer"],
        done.replaced.corrected["customer"],
        done.replaced.added["customer"],
    ) == (0, 1, 0)
    assert {(p.partition, p.next_offset) for p in done.next_offsets} == set(shop.next_offsets.items())
    invoices = (done.kept_in / "replaced_invoices.csv").read_text().splitlines()
    assert len(invoices) == 3
    assert invoices[2].startswith("made up,")
    assert f",{customer}," in (done.kept_in / "replaced_customers.csv").read_text()
    assert done.kept_in.stat().st_mode & 0o077 == 0
    told = " ".join(rendered(describe(done), 140).split())
    assert "equal now: every row, every column, to the cent" in told
    next_offsets = f"{shop.next_offsets[0]} (partition 0), {shop.next_offsets[1]} (partition 1)"
    assert f"the stream goes on in topic invoices, next offsets {next_offsets}" in told


def test_a_right_mart_is_left_as_it_is(shop):
    everything = [rows(shop.mart.dsn, f"SELECT xmin, t.* FROM mart.{t} t") for t in ("invoice", "customer")]
    done = shop.repair()
    assert done.replaced.moved == 0
    assert done.kept_in is None
    assert not list((shop.settings.mart_home / "repair").iterdir())
    assert [rows(shop.mart.dsn, f"SELECT xmin, t.* FROM mart.{t} t") for t in ("invoice", "customer")] == everything


def test_returns_lower_what_is_spent_under_net(fresh_mart, tmp_path):
    shop = Shop(fresh_mart, tmp_path, "net")
    shop.send([*EVENTS[:600], event("C1", "2025-03-01", "only returns", ("A1", -2, "3.00"))])
    assert shop.verify() == {}
    shop.spoil("UPDATE mart.customer SET monetary = -5 WHERE customer_id = 'only returns'")
    assert shop.verify() == {"customer": 1}
    shop.spoil("UPDATE mart.customer SET segment = 'Odd' WHERE customer_id = 'only returns'")
    shop.repair()
    assert shop.verify() == {}
    late = [event("1", "2025-03-02", "only returns", ("A1", 10, "1.00"))]
    shop.send([*late, *EVENTS[600:]])
    assert shop.verify() == {}
    events = [*EVENTS, event("C1", "2025-03-01", "only returns", ("A1", -2, "3.00")), *late]
    assert_mart_equals(shop.mart.dsn, expected_customers(events, "net"))
    shop.mart.connection.close()


def test_who_only_returned_has_no_row_under_ignore(shop):
    """As apply leaves it: a repair adds none."""
    shop.send([event("C1", "2025-03-01", "only returns", ("A1", -2, "3.00"))])
    of_theirs = "SELECT count(*) FROM mart.customer WHERE customer_id = 'only returns'"
    assert rows(shop.mart.dsn, of_theirs) == [(0,)]
    assert shop.verify() == {}
    done = shop.repair()
    assert (done.replaced.added["customer"], rows(shop.mart.dsn, of_theirs)) == (0, [(0,)])
    assert shop.verify() == {}


def test_whom_the_shop_has_erased_stays_erased(shop):
    """Also where the lake still names them: an erasure that was cut short after the mart."""
    customer = rows(shop.mart.dsn, ONE)[0][0]
    with closing(connect(shop.mart.dsn)) as owner:
        erase_from_mart(owner, lambda known: known.of_one(customer))
    assert shop.verify() == {}
    shop.spoil("DELETE FROM mart.invoice WHERE customer_id IS NULL")
    shop.spoil("DELETE FROM mart.customer")
    shop.repair()
    assert shop.verify() == {}
    assert not rows(shop.mart.dsn, "SELECT 1 FROM mart.invoice WHERE customer_id = %s", (customer,))
    erase(shop.settings, customer)
    assert shop.verify() == {}
    others = [{**e, "customer_id": None if e["customer_id"] == customer else e["customer_id"]} for e in EVENTS]
    shop.send(EVENTS[600:])
    assert shop.verify() == {}
    assert_mart_equals(shop.mart.dsn, expected_customers(others))


LATE = timedelta(days=30)


@pytest.mark.parametrize("forgotten", ["nobody", "erased", "pruned", "redriven"])
def test_the_copy_that_was_applied_first_is_the_invoice(shop, forgotten):
    """A late copy with other content, produced before the first, changes no figure, whatever became of the first."""
    customer = rows(shop.mart.dsn, ONE)[0][0]
    first = next(e for e in EVENTS[:300] if e["customer_id"] == customer and e["lines"] != EVENTS[7]["lines"])
    # Also two copies in one batch, of which the later produced comes first in the topic.
    both = [{**event("both", "2025-03-02", customer), "lines": EVENTS[n]["lines"]} for n in (7, 8)]
    shop.send([both[0]], LATE / 2)
    parsed = [shop.records([both[1]], ago) for ago in (LATE, LATE * 2)]
    shop.land(pa.concat_tables(parsed))
    shop.apply(pa.concat_tables(parsed))
    if forgotten in ("erased", "redriven"):
        erase(shop.settings, customer)
    if forgotten == "pruned":
        prune(shop.settings, Bounds(date(2025, 3, 13), None, None, None, None, 30))
        assert rows(shop.mart.dsn, "SELECT count(*) FROM mart.invoice") == [(0,)]
    before = figures(shop)
    late = {**first, "lines": EVENTS[7]["lines"]}
    applied = shop.send([late, first, late], LATE)
    # Without the digest of an erased customer it is what the mart has of it that tells other content.
    assert (applied.invoices, applied.rejected) == (0, 0 if forgotten == "pruned" else 2)
    if forgotten == "redriven":  # it is sent again, at another place
        shop.send([late])
    assert figures(shop) == before
    assert shop.verify() == {}
    done = shop.repair()
    assert figures(shop) == before
    assert (done.kept_in, done.replaced.moved) == (None, 0)
    if forgotten == "erased":  # a mart that took such copies for duplicates, before it could tell
        shop.spoil("DELETE FROM mart.rejected_invoice WHERE kafka_timestamp < '2026-02-01'")
        assert shop.verify() == {}
        assert shop.repair().kept_in is None
        assert figures(shop) == before


def figures(shop):
    return snapshot(shop.mart.dsn), rows(shop.mart.dsn, "SELECT invoices, purchased, returned FROM mart.stream_total")


def test_a_record_that_postgresql_refused_is_no_difference_though_the_lake_has_it(shop, fresh_mart):
    """Until it is redriven: then it is the copy that counts."""
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER TABLE mart.invoice ADD CONSTRAINT odd CHECK (customer_id <> 'odd')")
    odd = event("odd one", "2025-03-02", "odd")
    applied = shop.send([*EVENTS[600:610], odd, *EVENTS[610:620]])
    assert (applied.invoices, applied.rejected) == (20, 1)
    assert shop.verify() == {}
    before = snapshot(shop.mart.dsn)
    shop.repair()
    assert snapshot(shop.mart.dsn) == before
    prune(shop.settings, Bounds(None, None, None, datetime.now(UTC) + timedelta(days=1), None, 30))
    assert shop.verify() == {}
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER TABLE mart.invoice DROP CONSTRAINT odd")
    assert shop.send([odd]).invoices == 1
    assert shop.verify() == {}


def test_an_invoice_ahead_of_the_clock_is_no_difference(shop):
    newest = "SELECT as_of_date, invoices_ahead FROM mart.as_of"
    # As a till with a wrong clock and a producer with a wrong clock send it.
    shop.send([event("ahead", "2098-03-02", "fast")], ago=-timedelta(days=365 * 73))
    assert rows(shop.mart.dsn, newest) == [(date(2025, 3, 12), 1)]
    assert shop.verify() == {}
    before = snapshot(shop.mart.dsn)
    shop.spoil("UPDATE mart.shop SET newest_invoice_date = '2098-03-02T10:00:00'")
    assert shop.verify() == {"total": 1}
    shop.repair()
    assert snapshot(shop.mart.dsn) == before
    assert rows(shop.mart.dsn, newest) == [(date(2025, 3, 12), 1)]
    prune(shop.settings, Bounds(date(2025, 3, 6), None, date(2025, 3, 6), None, None, 30))
    assert shop.verify() == {}
    erase(shop.settings, "fast")
    assert shop.verify() == {}
    assert rows(shop.mart.dsn, newest) == [(date(2025, 3, 12), 1)]


def test_a_lake_that_knows_of_more_erasures_comes_first(shop):
    erase(shop.settings, rows(shop.mart.dsn, ONE)[0][0])
    shop.spoil("DELETE FROM mart.erased_customer")  # restored from before
    with pytest.raises(StreamingError, match="retail-mart erase --listed"):
        shop.repair()
    erase_listed(shop.settings)
    shop.repair()
    assert shop.verify() == {}


def test_a_lost_conflict_is_in_quarantine_again(shop):
    kept = 'SELECT "partition", "offset", reason, kafka_timestamp FROM mart.rejected_invoice ORDER BY 1, 2'
    before = rows(shop.mart.dsn, kept)
    shop.spoil(WRONG["a lost conflict"][0])
    done = shop.repair()
    assert done.quarantined == 1
    assert rows(shop.mart.dsn, kept) == before
    [(detail, raw)] = rows(
        shop.mart.dsn, "SELECT detail, raw FROM mart.rejected_invoice WHERE reason = 'conflicting_duplicate'"
    )
    assert detail.startswith(f"invoice {CONFLICT['invoice']!r} was applied from partition")
    assert raw is None


def test_a_lake_that_lacks_much_is_not_believed(shop, tmp_path):
    before = snapshot(shop.mart.dsn)
    settings = shop.settings.model_copy(update={"lake_path": str(tmp_path / "poor")})
    poor = open_lake(settings.lake)
    for parsed in shop.sent_batches:
        reasons = [reason if n % 10 else "lost" for n, reason in enumerate(parsed["reason"].to_pylist())]
        at = parsed.schema.get_field_index("reason")
        land_batch(poor, TOPIC, parsed.set_column(at, "reason", pa.array(reasons)).drop(["detail", "raw"]))
    with pytest.raises(StreamingError, match=r"lacks [0-9]+ of the mart's 600 invoices.*--accept-loss"):
        repair(settings, wait_seconds=0)
    assert snapshot(shop.mart.dsn) == before
    assert not (shop.settings.mart_home / "repair").exists()
    done = repair(settings, wait_seconds=0, accept_loss=True)
    assert done.replaced.removed["invoice"] > 50
    assert verify(settings, wait_seconds=0).equal


def test_a_topic_made_anew_under_its_old_name(shop):
    """The old topic's rows stay in the lake, at offsets that the new one has not reached or has given out again."""
    with shop.mart.connection, shop.mart.connection.cursor() as cursor:
        forget(cursor, TOPIC.name)
    shop.topic = Topic(TOPIC.name, "22222222-2222-2222-2222-222222222222", {0: 0, 1: 0}, {0: 100, 1: 100})
    shop.mart.writer = shop.mart.take_over(shop.topic)
    shop.next_offsets = {0: 0, 1: 0}
    shop.send(EVENTS[600:700])
    shop.land(shop.records([*EVENTS[700:710]]))  # and not applied yet
    assert shop.verify() == {}
    shop.spoil(WRONG["a lost invoice"][0])
    shop.spoil(WRONG["a lost customer"][0])
    shop.repair()
    assert shop.verify() == {}
    assert_mart_equals(shop.mart.dsn, expected_customers(EVENTS[:700]))


def test_a_batch_waits_and_goes_on(shop, monkeypatch):
    """A job that is running needs no restart: its batch waits for the repair, and finds its next offsets."""
    shop.spoil(WRONG["no customers"][0])
    replace, applied = repair_module._replace, []
    parsed = shop.records(EVENTS[600:])
    shop.land(parsed)
    job = threading.Thread(target=lambda: applied.append(shop.apply(parsed)))

    def with_a_batch_meanwhile(cursor):
        job.start()
        while rows(shop.mart.dsn, WAITING) != [(1,)]:
            assert job.is_alive()
            time.sleep(0.01)
        return replace(cursor)

    monkeypatch.setattr(repair_module, "_replace", with_a_batch_meanwhile)
    done = shop.repair()
    job.join(30)
    assert done.replaced.added["customer"] > 30
    assert applied[0].invoices == 300
    assert shop.verify() == {}
    assert_mart_equals(shop.mart.dsn, expected_customers(EVENTS))


def test_readers_see_the_old_mart_until_the_commit(shop, monkeypatch):
    shop.spoil(WRONG["a cent too much"][0])
    wrong, seen = snapshot(shop.mart.dsn), []
    compare = repair_module.compare

    def look(*arguments, **options):
        seen.append(snapshot(shop.settings.require_mart("owner")))
        return compare(*arguments, **options)

    monkeypatch.setattr(repair_module, "compare", look)
    shop.repair()
    assert seen == [wrong]


def test_a_result_that_would_be_wrong_is_not_committed(shop, monkeypatch):
    shop.spoil(WRONG["a cent too much"][0])
    wrong = snapshot(shop.mart.dsn)
    replace = repair_module._replace

    def badly(cursor):
        done = replace(cursor)
        cursor.execute("UPDATE mart.customer SET monetary = monetary + 1 WHERE customer_id = (%s)" % ONE)  # noqa: UP031
        return done

    monkeypatch.setattr(repair_module, "_replace", badly)
    with pytest.raises(StreamingError, match=r"would not equal the lake \(customer 1\), so nothing was changed"):
        shop.repair()
    assert snapshot(shop.mart.dsn) == wrong


def environment(shop) -> dict[str, str]:
    current = shop.settings
    return {
        **os.environ,
        "KAFKA_TOPIC": current.kafka_topic,
        "MART_DSN": current.require_mart(),
        "MART_OWNER_DSN": current.require_mart("owner"),
        "MART_READER_DSN": current.require_mart("reader"),
        "MART_HOME": str(current.mart_home),
        "LAKE_PATH": current.lake,
        "COLUMNS": "160",
    }


@pytest.mark.slow
def test_killed_in_the_middle_it_has_changed_nothing_and_is_run_again(shop):
    shop.spoil(WRONG["a lost invoice"][0])
    shop.spoil(WRONG["a lost customer"][0])
    wrong = snapshot(shop.mart.dsn)
    with closing(psycopg2.connect(shop.mart.dsn)) as holding, holding.cursor() as cursor:
        cursor.execute("LOCK TABLE mart.score_total IN EXCLUSIVE MODE")  # what the repair needs last
        command = [sys.executable, "-m", "cli", "verify", "--repair", "--wait", "0"]
        process = subprocess.Popen(command, env=environment(shop), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while rows(shop.mart.dsn, WAITING) != [(1,)]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert snapshot(shop.mart.dsn) == wrong
    done = subprocess.run(command, env=environment(shop), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NOT equal" in done.stdout, "what it found"
    assert "equal now: every row, every column, to the cent" in done.stdout
    assert shop.verify() == {}


@pytest.mark.slow
def test_command_and_its_exit_codes(shop):
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", "verify", "--wait", "0", *options]
        return subprocess.run(command, env=environment(shop), capture_output=True, text=True)

    done = run("--repair")
    assert done.returncode == 0
    assert "Repair of the mart" not in done.stdout, "nothing differed"
    assert "Repair of the mart" in run("--repair", "--always").stdout
    assert run("--always").returncode == 2
    shop.spoil(WRONG["a wrong cut"][0])
    assert run().returncode == 5
    assert run("--repair").returncode == 0
    assert run().returncode == 0


def test_only_the_owner_may(shop):
    shop.spoil(WRONG["a cent too much"][0])
    with pytest.raises(StreamingError, match="only the mart's owner may repair: set MART_OWNER_DSN"):
        repair(shop.settings.model_copy(update={"mart_owner_dsn": None}), wait_seconds=0)


def test_views_and_rights_are_as_before(shop):
    of_reader = "SELECT customer_id, monetary FROM mart.customer_segmentation ORDER BY 1"
    before = rows(shop.settings.require_mart("reader"), of_reader)
    rights = (
        "SELECT relname, relkind, relacl::text, pg_get_userbyid(relowner), relfilenode > 0 FROM pg_class"
        " WHERE relnamespace = 'mart'::regnamespace ORDER BY 1"
    )
    of_then = rows(shop.mart.dsn, rights)
    for wrong in ("no customers", "no invoices", "no cuts"):
        shop.spoil(WRONG[wrong][0])
    shop.repair()
    assert rows(shop.settings.require_mart("reader"), of_reader) == before
    assert rows(shop.mart.dsn, rights) == of_then
    views = rows(
        shop.mart.dsn, "SELECT relname FROM pg_class WHERE relnamespace = 'mart'::regnamespace AND relkind = 'v'"
    )
    assert len(views) > 10
    for (view,) in views:
        rows(shop.settings.require_mart("reader"), f"SELECT * FROM mart.{view} LIMIT 1")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(shop.settings.require_mart("reader"), "SELECT * FROM mart.invoice")


def test_a_new_mart_is_built_from_the_lake(shop, servers, monkeypatch):
    """The topic may have lost the records long ago: the mart begins where the lake is."""
    monkeypatch.setattr(repair_module, "describe_topic", lambda *_: TOPIC)
    customer = rows(shop.mart.dsn, ONE)[0][0]
    erase(shop.settings, customer)
    before = snapshot(shop.mart.dsn)
    with new_mart(servers) as new:
        with closing(psycopg2.connect(new.owner_dsn)) as owner:
            migrate(owner)
        dsns = {"mart_dsn": new.writer_dsn, "mart_owner_dsn": new.owner_dsn, "kafka_bootstrap_servers": "unused:1"}
        settings = Settings.model_validate(shop.settings.model_dump() | dsns)
        with pytest.raises(StreamingError, match="erase --listed"):
            repair(settings, wait_seconds=0)
        erase_listed(settings)
        done = repair(settings, wait_seconds=0)
        assert done.quarantined == 1
        assert verify(settings, wait_seconds=0).equal
        assert snapshot(new.owner_dsn) == before
        with closing(connect(new.writer_dsn)) as connection:
            shop.mart.connection.close()
            shop.mart.connection, shop.settings = connection, settings
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT epoch FROM mart.stream_writer")
                assert cursor.fetchone() == (1,)
            shop.mart.writer = shop.mart.take_over()
            assert shop.send(EVENTS[600:]).invoices == 300
            assert verify(settings, wait_seconds=0).equal


def test_nothing_to_build_from(fresh_mart, tmp_path, monkeypatch):
    shop = Shop(fresh_mart, tmp_path)
    settings = shop.settings.model_copy(update={"kafka_bootstrap_servers": "unused:1"})
    monkeypatch.setattr(repair_module, "describe_topic", lambda *_: TOPIC)
    with pytest.raises(StreamingError, match="nothing to build the mart from"):
        repair(settings, wait_seconds=0)
    shop.mart.connection.close()


def test_any_mixture_of_wrongs(shop):
    """Seeded: the seed of a failure is in its message."""
    for seed in range(5):
        rng = random.Random(seed)
        mixture = rng.sample(sorted(WRONG), 6)
        for wrong in mixture:
            try:
                shop.spoil(WRONG[wrong][0].replace("%%", "%"))
            except (AssertionError, psycopg2.Error):  # what it spoils is gone already
                continue
        shop.repair()
        assert shop.verify() == {}, json.dumps([seed, mixture])
        assert_mart_equals(shop.mart.dsn, expected_customers(EVENTS[:600]))
