"""Live: one set of questions for all viewers, only when they are due, and only what changed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import closing

import psycopg2
import pytest

from conf.errors import UnavailableError
from dashboards.cards import cards, parse_card
from dashboards.live import Live
from dashboards.reader import Reader, RefusedError
from tests.builders.mart_rows import rows
from tests.builders.waiting import until
from tests.builders.wire import Wire

pytestmark = pytest.mark.stack


class Counting(Reader):
    """A reader that counts its questions."""

    def __init__(self, dsn: str) -> None:
        super().__init__(lambda: dsn, listen=True)
        self.asked: Counter[str] = Counter()

    def rows(self, question, parameters=None):
        self.asked[question] += 1
        return super().rows(question, parameters)


def names(events: list[str]) -> set[str]:
    return {event.get("card", "status") for event in map(json.loads, events)}


def test_cards_are_asked_when_due_and_sent_when_changed(shop, fresh_mart, sold):
    listed = [card for card in cards() if card.name in ("headline", "customers_by_segment", "top_rules")]
    reader = Counting(fresh_mart.reader_dsn)
    live = Live(reader, listed)
    live.refresh()
    version, events = live.since(0)
    assert names(events) == {"status", *(card.name for card in listed)}
    live.refresh()  # at once again: nothing is due
    assert [reader.asked[card.sql] for card in listed] == [1, 1, 1]
    shop.apply(sold[-500:])
    live.refresh(pushed=True)  # a batch: the quick cards, not the rules that change once a night
    assert [reader.asked[card.sql] for card in listed] == [2, 2, 1]
    newer, events = live.since(version)
    assert names(events) == {"status", "headline", "customers_by_segment"}
    assert live.since(newer) == (newer, [])
    assert len(live.since(0)[1]) == 4  # a viewer who comes later gets everything
    reader.close()


def test_many_viewers_share_the_questions_and_none_asks_nothing(shop, fresh_mart, sold):
    card = next(card for card in cards() if card.name == "customers_by_segment")
    reader, came = Counting(fresh_mart.reader_dsn), threading.Event()
    live = Live(reader, [card], came.set)
    live.start()
    try:
        assert not came.wait(1.5)
        assert not reader.asked
        for _ in range(20):
            live.enter()
        assert came.wait(10)
        asked = reader.asked[card.sql]
        before = live.version
        shop.apply(sold[-500:])
        while live.version == before or not names(live.since(before)[1]) >= {"customers_by_segment"}:
            came.clear()
            assert came.wait(10)
        assert reader.asked[card.sql] - asked < 20
    finally:
        live.stop()


def test_a_card_that_cannot_be_asked_does_not_stop_the_others(shop, fresh_mart):
    wrong = parse_card(
        "secret",
        "-- title: t\n-- chart: table\n-- description: d\n-- refresh: 1 s\n-- columns: invoice text\n"
        "SELECT invoice FROM mart.invoice",
    )
    reader = Counting(fresh_mart.reader_dsn)
    live = Live(reader, [wrong, next(card for card in cards() if card.name == "headline")])
    live.refresh()
    answers = {answer.get("card"): answer for answer in map(json.loads, live.since(0)[1])}
    assert answers["secret"]["error"] == "permission denied for table invoice"
    assert answers["headline"]["rows"][0][0] == rows(fresh_mart.owner_dsn, "SELECT count(*) FROM mart.invoice")[0][0]
    reader.close()


def test_a_job_that_waits_for_a_lock_is_said_with_who_holds_it(shop, fresh_mart, monkeypatch):
    reader = Counting(fresh_mart.reader_dsn)
    live = Live(reader, [])

    def status():
        live.refresh()
        return json.loads(live.since(0)[1][0])["status"]

    assert "blockers" not in status()  # while batches come, the locks are not asked for
    shop.age(minutes=60)
    assert status()["blockers"] == []
    monkeypatch.setattr("dashboards.live._QUIET_MILLISECONDS", 100)
    with closing(psycopg2.connect(fresh_mart.owner_dsn, application_name="psql")) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE mart.invoice")
        counting = threading.Thread(target=shop.connection.cursor().execute, args=("TABLE mart.invoice LIMIT 1",))
        counting.start()
        [blocker] = until(lambda: status()["blockers"])
        pid = other.info.backend_pid
        other.rollback()
    counting.join(60)
    shop.connection.rollback()
    assert blocker.pop("since")
    assert blocker == {"relation": "mart.invoice", "pid": pid, "role": "mart_owner", "application": "psql"}
    assert status()["blockers"] == []
    reader.close()


def test_reader_cannot_write_and_comes_back_after_an_outage(shop, fresh_mart):
    wire = Wire(fresh_mart.reader_dsn)
    reader = Reader(lambda: wire.dsn, listen=True)
    assert reader.rows("SELECT 1") == [[1]]
    with pytest.raises(RefusedError, match="read-only transaction"):
        reader.rows("CREATE TEMPORARY TABLE t AS SELECT 1")
    wire.cut()
    with pytest.raises(UnavailableError):
        reader.rows("SELECT 1")
    with pytest.raises(UnavailableError, match="Connection refused"):
        reader.batch_came(1)
    wire.mend()
    assert reader.rows("SELECT 1") == [[1]]
    assert not reader.batch_came(0)
    shop.apply([], wrong=1)
    assert reader.batch_came(10)
    reader.close()
    wire.cut()
