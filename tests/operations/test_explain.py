"""Explain: the ranks, the way to the next quintile and the causes are what they say."""

from __future__ import annotations

import random
from contextlib import closing
from decimal import Decimal

import pandas as pd
import psycopg2
import pytest

from conf.errors import StreamingError
from conf.postgres import answering
from conf.settings import settings
from operations.explain import describe, explain, ways_up
from tests.builders.applied import Mart, cleaned
from tests.builders.rendered import rendered
from tests.builders.verbs import run
from torture.oracle import quintiles

pytestmark = pytest.mark.stack


@pytest.fixture
def mart(fresh_mart):
    mart = Mart(fresh_mart)
    yield mart
    mart.connection.close()


@pytest.fixture
def reader(fresh_mart, mart):
    with closing(psycopg2.connect(fresh_mart.reader_dsn)) as connection:
        yield connection


def scored(customers: pd.DataFrame, metric: pd.Series) -> pd.Series:
    """The oracle's quintile of each row."""
    return customers.customer_id.map(quintiles(list(zip(metric, customers.customer_id, strict=True))))


def shown(explanation) -> str:
    return rendered(describe(explanation), 140)


def five_customers(mart) -> None:
    """c0 to c4, each better than the one before in everything; then c0 buys most and becomes the best."""
    mart.apply(*(cleaned(n, f"{n}", f"2025-03-0{n + 1}T10:00:00", f"c{n}", f"{n + 1}.00") for n in range(5)))
    mart.apply(cleaned(5, "5", "2025-03-09T10:00:00", "c0", "100.00"))


def test_customer_whom_others_overtook(mart, reader):
    five_customers(mart)
    found = explain(reader, "c3")
    assert (found.customer.segment, found.customer.recency, found.customer.monetary) == (
        "Loyal Customers", 5, Decimal("4.00"),
    )  # fmt: skip
    assert [(s.metric, s.score, s.value, s.rank, s.customers) for s in found.scores] == [
        ("r", 3, "2025-03-04", 3, 5),
        ("f", 3, "1", 3, 5),
        ("m", 3, "4.00", 3, 5),
    ]
    assert ways_up(found.scores) == [
        "r=4: a purchase on or after 2025-03-06, or 1 place up",
        "f=4: 1 more invoice, or 1 place up",
        "m=4: 1.01 more spent, or 1 place up",
    ]
    newest, entered = found.moves
    assert (newest.from_segment, newest.to_segment, newest.cause) == ("Champions", "Loyal Customers", "overtaken")
    assert (newest.from_r, newest.from_f, newest.from_m, newest.to_r, newest.to_f, newest.to_m) == (4, 4, 4, 3, 3, 3)
    assert (entered.from_segment, entered.cause, entered.invoice) == (None, "own purchase", "3")
    text = shown(found)
    assert "overtaken by others" in text
    assert "own purchase: invoice 3" in text
    assert "Scores among 5 customers; rank 1 is the best" in text


def test_best_customer_has_no_quintile_above_and_the_own_purchase_is_named(mart, reader):
    five_customers(mart)
    found = explain(reader, "c0", newest=1)
    assert ways_up(found.scores) == []
    assert [(s.rank, s.quintile_begins, s.quintile_ends) for s in found.scores] == [(1, 1, 1)] * 3
    assert [p.invoice for p in found.purchases] == ["5"]
    assert [(m.to_segment, m.cause, m.invoice) for m in found.moves] == [("Champions", "own purchase", "5")]
    assert "Newest 1 invoice; 2 in total, 101.00" in shown(found)


def test_what_is_said_to_be_missing_reaches_the_next_quintile_and_less_does_not(mart, reader):
    rng = random.Random(7)
    mart.apply(
        *(
            cleaned(
                n,
                f"{n}",
                f"2025-03-{rng.randint(1, 9):02}T10:00:00",
                f"c{rng.randrange(23):02}",
                f"{rng.randint(1, 5)}.5",
            )
            for n in range(60)
        )
    )
    frame = pd.DataFrame(
        mart.rows("SELECT customer_id, last_purchase::date, frequency, monetary FROM mart.customer ORDER BY 1"),
        columns=["customer_id", "r", "f", "m"],
    )
    frame["r"] = pd.to_datetime(frame.r)
    least = {"r": pd.Timedelta(days=1), "f": 1, "m": Decimal("0.01")}
    seen = 0
    for row in range(len(frame)):
        for score in explain(reader, frame.customer_id[row]).scores:
            quintiles = scored(frame, frame[score.metric])
            order = frame.sort_values([score.metric, "customer_id"]).index
            assert score.score == quintiles[row]
            assert score.rank == len(order) - list(order).index(row)  # 1 is the best
            assert score.quintile_begins <= score.rank <= score.quintile_ends
            assert (score.more_to_next is None) == (score.score == 5)
            if score.more_to_next is None:
                continue
            seen += 1
            assert score.rank - (len(order) - list(quintiles[order]).index(score.score + 1)) == score.places_to_next
            more = pd.Timedelta(days=int(score.more_to_next)) if score.metric == "r" else score.more_to_next
            more = int(more) if score.metric == "f" else more
            for added, quintile in ((more, score.score + 1), (more - least[score.metric], score.score)):
                raised = frame[score.metric].copy()
                raised[row] += added
                assert scored(frame, raised)[row] >= quintile
                if quintile == score.score:
                    assert scored(frame, raised)[row] == quintile
    assert seen > 50


def test_customer_without_a_counting_invoice_is_shown_without_scores(mart, reader):
    mart.apply(
        cleaned(0, "1", "2025-03-01T10:00:00", "a"), cleaned(1, "C2", "2025-03-02T10:00:00", "b", "0", "-4", counting=0)
    )
    found = explain(reader, "b")
    assert (found.customer, found.scores, [p.invoice for p in found.purchases]) == (None, [], ["C2"])
    assert "none of their invoices counts" in shown(found)


def test_unknown_customer_and_missing_tables_are_clear_errors(mart, reader, fresh_mart):
    with pytest.raises(StreamingError, match="customer 'nobody' is not in the mart"):
        explain(reader, "nobody")
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("DROP SCHEMA mart CASCADE")
    with pytest.raises(StreamingError, match="retail-mart migrate"), answering():  # as in a command's session
        explain(reader, "nobody")


def test_command_reads_as_the_reader_or_the_writer(mart, fresh_mart, monkeypatch):
    five_customers(mart)
    for variable in ("MART_READER_DSN", "MART_DSN"):
        for name in ("MART_READER_DSN", "MART_DSN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MART_DSN", fresh_mart.writer_dsn)
        if variable == "MART_READER_DSN":
            monkeypatch.setenv(variable, fresh_mart.reader_dsn)
        settings.cache_clear()
        ended = run("explain", "c3")
        assert ended.code == 0, ended.text
        assert "Loyal Customers" in ended.out
        unknown = run("explain", "nobody")
        assert unknown.code == 1
        assert "not in the mart" in unknown.err
    settings.cache_clear()


def test_reader_may_not_call_what_writes(fresh_mart, mart, reader):
    with reader.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute("SELECT mart.move_cuts()")
