"""Scores kept by moving cuts equal a full ntile after every batch, row by row, on a real PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extras import execute_values

from conf.settings import Settings
from mart.connection import connect
from mart.migrate import migrate
from mart.score import Check, check_scores, follow_definitions, lock_scores, score, score_all, thin_history
from mart.shop_rules import apply_shop_rules
from sql import statement
from torture.oracle import quintiles, segment

pytestmark = pytest.mark.stack
DAY = datetime(2025, 3, 1)
BY_CUTS, BY_NTILE = float("inf"), 0.0


@dataclass(frozen=True)
class Invoice:
    """One invoice of a customer: the day, cents bought, cents returned (0 bought: a return alone)."""

    customer: str
    day: int = 0
    cents: int = 100
    returned: int = 0


@dataclass
class Shop:
    """A mart under test, and the same shop in plain Python: customer → [last purchase, frequency, cents]."""

    connection: psycopg2.extensions.connection
    dsn: str
    policy: str = "ignore"
    customers: dict[str, list] = field(default_factory=dict)
    batches: int = 0

    def buy(self, invoices: list[Invoice], full_share: float = BY_CUTS) -> int:
        """One batch through the statements of the apply path; returns how many customers moved."""
        self.batches += 1
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            execute_values(
                cursor,
                "INSERT INTO fresh_invoice VALUES %s",
                [
                    (
                        f"{self.batches}-{n}",
                        DAY + timedelta(days=i.day),
                        i.customer,
                        int(i.cents > 0),
                        Decimal(i.cents) / 100,
                        Decimal(-i.returned) / 100,
                    )
                    for n, i in enumerate(invoices)
                ],
            )
            cursor.execute(statement("apply/advance_clock"))
            cursor.execute(statement("apply/upsert_customers"), {"returns_policy": self.policy})
            moved = score(cursor, full_share)
        for i in invoices:
            if i.cents or (self.policy == "net" and i.returned):
                customer = self.customers.setdefault(i.customer, [None, 0, 0])
                customer[2] += i.cents - (i.returned if self.policy == "net" else 0)
                if i.cents:
                    day = DAY.date() + timedelta(days=i.day)
                    customer[0], customer[1] = max(customer[0] or day, day), customer[1] + 1
        return moved

    def erase(self, customers: list[str], full_share: float = BY_CUTS) -> None:
        """Customers who are deleted, with what stood before in due_customer."""
        with self.connection, self.connection.cursor() as cursor:
            lock_scores(cursor)
            cursor.execute(
                "WITH gone AS (DELETE FROM mart.customer WHERE customer_id = ANY(%s) RETURNING *)"
                " INSERT INTO due_customer SELECT customer_id, NULL, NULL, NULL, NULL, last_purchase::date, frequency,"
                " monetary, r, f, m, segment FROM gone WHERE frequency > 0",
                (customers,),
            )
            score(cursor, full_share)
        for customer in customers:
            self.customers.pop(customer, None)

    def expected(self) -> list[tuple]:
        """(customer, r, f, m, segment) of each, by the oracle."""
        known = sorted((c, metrics) for c, metrics in self.customers.items() if metrics[1])
        r, f, m = (quintiles([(metrics[at], c) for c, metrics in known]) for at in range(3))
        return [(c, r[c], f[c], m[c], segment(r[c], f[c])) for c, _ in known]

    def rows(self, query: str) -> list[tuple]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def assert_right(self) -> None:
        """Scores equal the oracle's and SQL's ntile; cuts, totals and flows equal those counted anew."""
        found = self.rows("SELECT customer_id, r, f, m, segment FROM mart.customer WHERE frequency > 0 ORDER BY 1")
        assert found == self.expected()
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement("score/check"))
            assert Check(*cursor.fetchone()) == Check(len(found), 0, 0, 0)
        counted = self.rows(
            "SELECT segment, count(*), sum(monetary) FROM mart.customer WHERE frequency > 0 GROUP BY 1 ORDER BY 1"
        )
        assert self.rows("SELECT * FROM mart.segment_count WHERE customers > 0 ORDER BY 1") == counted
        assert self.rows("SELECT day, from_segment, to_segment, customers FROM mart.segment_flow ORDER BY 1, 2, 3") == (
            self.rows(
                "SELECT event_time::date, from_segment, to_segment, count(*) FROM mart.segment_change"
                " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            )
        )


@pytest.fixture
def shop(fresh_mart):
    with closing(psycopg2.connect(fresh_mart.owner_dsn)) as owner:
        migrate(owner)
    with closing(connect(fresh_mart.owner_dsn)) as connection:
        apply_shop_rules(connection, Settings())
        yield Shop(connection, fresh_mart.owner_dsn)


def emptied(shop: Shop, policy: str) -> Shop:
    with shop.connection, shop.connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE mart.customer, mart.segment_change, mart.segment_flow_total, mart.segment_trend,"
            " mart.quintile_cut, mart.score_total, mart.score_check; UPDATE mart.shop SET newest_invoice_date = NULL"
        )
    return Shop(shop.connection, shop.dsn, policy)


# Few customers, days and amounts: many ties, and populations from none past several multiples of 5.
invoices = st.lists(
    st.builds(
        Invoice,
        customer=st.sampled_from([f"c{n}" for n in range(23)]),
        day=st.integers(-2, 3),
        cents=st.sampled_from([0, 100, 100, 100, 250, 999]),
        returned=st.sampled_from([0, 0, 0, 100, 400]),
    ),
    min_size=1,
    max_size=25,
)
steps = st.lists(
    st.tuples(
        st.one_of(invoices, invoices, st.lists(st.sampled_from([f"c{n}" for n in range(23)]), min_size=1, max_size=8)),
        st.sampled_from([BY_CUTS, BY_CUTS, BY_CUTS, 0.3, BY_NTILE]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=steps, policy=st.sampled_from(["ignore", "net"]))
def test_any_sequence_of_batches_gives_the_scores_of_a_full_ntile(shop, steps, policy):
    shop = emptied(shop, policy)
    for step, full_share in steps:
        if isinstance(step[0], Invoice):
            shop.buy(step, full_share)
        else:
            shop.erase(step, full_share)
        shop.assert_right()


def test_population_grows_and_shrinks_one_by_one_through_every_remainder(shop):
    for n in range(17):
        shop.buy([Invoice(f"c{n:02}", day=n % 3, cents=100 * (n % 4 + 1))])
        shop.assert_right()
    for n in (16, 0, 5, 4, 9, 1, 12, 3, 2, 6, 7, 8, 10, 11, 13, 14, 15):
        shop.erase([f"c{n:02}"])
        shop.assert_right()
    assert shop.rows("SELECT * FROM mart.quintile_cut") == []
    shop.buy([Invoice("again")])
    shop.assert_right()


def test_customers_alike_are_told_apart_by_id_in_the_byte_order(shop):
    shop.buy([Invoice(c) for c in ("a", "B", "é", "Z", "z", "10", "9", "_", "~", "A")])
    shop.assert_right()
    shop.buy([Invoice(c) for c in ("é", "B", "ä")])
    shop.assert_right()


def test_cuts_walk_by_index_after_plans_made_on_an_emptier_mart(shop):
    shop.buy([Invoice(f"a{n}", day=n) for n in range(8)])
    shop.rows("ANALYZE mart.customer; SELECT 1")
    for n in range(8):  # the session plans the walks here, for a table of a page
        shop.buy([Invoice(f"a{n}", day=n)])
    shop.buy([Invoice(f"b{n:04}", day=n % 90, cents=100 + n % 700) for n in range(3000)])
    with shop.connection, shop.connection.cursor() as cursor:

        def read(query: str) -> tuple[int, int]:
            """Customers that the query reads: in the table's order, and by an index."""
            counted = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'customer'"
            cursor.execute(counted)
            before = cursor.fetchone()
            cursor.execute(query)
            cursor.execute(counted)
            return tuple(now - then for now, then in zip(cursor.fetchone(), before, strict=True))

        assert read("SELECT count(*) FROM mart.customer") == (3008, 0)
        assert read("SELECT mart.move_cuts()") == (0, 12)  # nobody changed: each walk ends where it starts


def test_cuts_that_do_not_move_are_noticed_and_left_to_a_repair(shop):
    shop.buy([Invoice(f"c{n:02}", day=n, cents=100 + n) for n in range(20)])
    shop.rows("CREATE OR REPLACE FUNCTION mart.move_cuts() RETURNS boolean LANGUAGE sql AS 'SELECT true'; SELECT 1")
    shop.buy([Invoice("c00", day=30, cents=5000)])
    with pytest.raises(AssertionError):
        shop.assert_right()
    check = check_scores(shop.connection)
    assert (check.customers, check.wrong_cuts) == (20, 12)
    assert check.wrong_scores == 4  # the customer who ought to end each quintile, in all three metrics
    assert check.wrong_totals > 0
    assert check_scores(shop.connection) == check, "a check changes nothing"
    with shop.connection, shop.connection.cursor() as cursor:
        score_all(cursor, "repaired")
    shop.assert_right()
    assert set(shop.rows("SELECT cause FROM mart.segment_change WHERE event_time >= '2025-03-31'")) == {
        ("own purchase",),
        ("repaired",),
    }
    assert check_scores(shop.connection) == Check(20, 0, 0, 0)
    assert shop.rows("SELECT customers, wrong_cuts FROM mart.score_check ORDER BY id") == [(20, 12)] * 2 + [(20, 0)]


def test_cuts_that_fit_no_customer_are_built_anew(shop):
    shop.buy([Invoice(f"c{n:02}", day=n, cents=100 + n) for n in range(20)])
    shop.rows("UPDATE mart.quintile_cut SET m_value = -1 RETURNING 1")
    shop.buy([Invoice("c00", day=30, cents=5000)])
    shop.assert_right()


def test_totals_that_went_wrong_are_noticed(shop):
    shop.buy([Invoice(f"c{n:02}", day=n, cents=100 + n) for n in range(7)])
    shop.rows("UPDATE mart.score_total SET monetary = monetary + 0.01 WHERE (r, f, m) = (1, 1, 1) RETURNING 1")
    assert check_scores(shop.connection) == Check(7, 0, 0, 1)


def test_mart_from_before_the_cuts_is_scored_once_and_nobody_moves(shop):
    shop.buy([Invoice(f"c{n:02}", day=n, cents=100 + n) for n in range(12)])
    moves = shop.rows("SELECT count(*) FROM mart.segment_change")
    shop.rows("TRUNCATE mart.quintile_cut, mart.score_total; SELECT 1")
    with closing(psycopg2.connect(shop.dsn)) as owner:
        migrate(owner)
    shop.assert_right()
    assert shop.rows("SELECT count(*) FROM mart.segment_change") == moves
    with shop.connection, shop.connection.cursor() as cursor:
        assert follow_definitions(cursor) is None


def test_changed_definition_segments_anew_and_the_history_says_so(shop):
    shop.buy([Invoice(f"c{n:02}", day=n, cents=100 + n) for n in range(10)])
    assert ("c09", "Champions") in shop.rows("SELECT customer_id, segment FROM mart.customer")
    shop.rows("UPDATE mart.segment_score SET segment = 'Stars' WHERE segment = 'Champions' RETURNING 1")
    with shop.connection, shop.connection.cursor() as cursor:
        assert follow_definitions(cursor) == 4
    assert shop.rows(
        "SELECT DISTINCT from_segment, to_segment, cause, invoice FROM mart.segment_change"
        " WHERE cause = 'definition changed'"
    ) == [("Champions", "Stars", "definition changed", None)]
    assert ("Stars", 4) in shop.rows("SELECT customer_segment, customers FROM mart.segment_count")
    with closing(psycopg2.connect(shop.dsn)) as owner:
        migrate(owner)  # back to what conf/segments.toml says
    shop.assert_right()
    assert shop.rows(
        "SELECT count(*) FROM mart.segment_change WHERE to_segment = 'Champions' AND cause LIKE 'def%'"
    ) == [(4,)]


def test_changed_policy_scores_once_and_the_history_says_so(shop):
    shop.policy = "ignore"
    with shop.connection, shop.connection.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO mart.invoice (invoice, invoice_date, customer_id, line_count, counting_lines, purchased,"
            " returned, content_sha256, kafka_partition, kafka_offset, kafka_timestamp) VALUES %s",
            [
                (f"{n}", DAY + timedelta(days=n), f"c{n}", 1, 1, 10 + n, -12 if n == 4 else 0, b"0" * 32, 0, n, DAY)
                for n in range(5)
            ],
        )
    shop.buy([Invoice(f"c{n}", day=n, cents=1000 + 100 * n) for n in range(5)])
    apply_shop_rules(shop.connection, Settings(returns_policy="net"))
    assert shop.rows("SELECT customer_id, m FROM mart.customer ORDER BY 1") == [
        ("c0", 2), ("c1", 3), ("c2", 4), ("c3", 5), ("c4", 1),
    ]  # fmt: skip
    with shop.connection, shop.connection.cursor() as cursor:
        cursor.execute(statement("score/check"))
        assert Check(*cursor.fetchone()) == Check(5, 0, 0, 0)


def test_own_return_is_told_from_being_overtaken(shop):
    shop.policy = "net"
    shop.buy([Invoice(f"c{n}", day=n, cents=1000 + 100 * n) for n in range(5)])
    with shop.connection, shop.connection.cursor() as cursor:  # a definition by m, so that a return can move a customer
        cursor.execute("UPDATE mart.segment_score SET segment = 'Spenders' WHERE m = 5")
        follow_definitions(cursor)
    shop.buy([Invoice("c4", day=5, cents=0, returned=1000)])
    moves = shop.rows(
        "SELECT customer_id, to_segment, cause, invoice FROM mart.segment_change"
        " WHERE cause LIKE 'o%' ORDER BY id DESC LIMIT 2"
    )
    assert sorted(moves) == [("c3", "Spenders", "overtaken", None), ("c4", "Champions", "own return", "2-0")]


def test_history_has_a_row_a_minute_and_segment(shop):
    shop.buy([Invoice(f"c{n}", day=n) for n in range(5)])
    shop.buy([Invoice("c5", day=9)])
    [(minutes,)] = shop.rows("SELECT count(DISTINCT at) FROM mart.segment_count_history")
    assert minutes in (1, 2)  # a minute may have ended between the two
    newest = (
        "SELECT customer_segment, customers, monetary FROM mart.segment_count_history"
        " WHERE at = (SELECT max(at) FROM mart.segment_count_history) ORDER BY 1"
    )
    assert shop.rows(newest) == shop.rows("SELECT * FROM mart.segment_count ORDER BY 1")


def test_history_is_thinned_to_hours_then_days_of_the_shop(shop):
    apply_shop_rules(shop.connection, Settings(shop_time_zone="Asia/Jakarta"))
    shop.rows(
        "INSERT INTO mart.segment_trend"
        " SELECT s, date_trunc('hour', now()) - interval '100 days' + n * interval '7 minutes', n, n"
        " FROM generate_series(0, 100 * 24 * 60 / 7) n, (VALUES ('A'), ('B')) v (s) RETURNING 1"
    )
    before = shop.rows("SELECT segment, at, customers FROM mart.segment_trend")
    removed = thin_history(shop.connection, 2, 60)
    after = shop.rows("SELECT segment, at, customers FROM mart.segment_trend")
    assert removed == len(before) - len(after) > 0
    [(now,)] = shop.rows("SELECT now()")
    last_of_hour, last_of_day = {}, {}
    for row in sorted(before):
        local = row[1] + timedelta(hours=7)  # Jakarta
        last_of_hour[row[0], f"{local:%F %H}"] = last_of_day[row[0], f"{local:%F}"] = row
    hours, days = set(last_of_hour.values()), set(last_of_day.values())
    expected = {
        row
        for row in before
        if (now - row[1] <= timedelta(days=2) or row in hours) and (now - row[1] <= timedelta(days=60) or row in days)
    }
    assert set(after) == expected
    assert len(expected) < 2 * (2 * 24 * 60 / 7 + 58 * 24 + 41) + 4
    assert thin_history(shop.connection, 2, 60) == 0


@pytest.mark.parametrize("recency_clock", ["event", "wall"])
def test_midnight_without_a_purchase_ages_everyone_and_scores_nobody(shop, recency_clock):
    before = Settings(recency_clock=recency_clock, shop_time_zone="Etc/GMT+12")
    apply_shop_rules(shop.connection, before)
    shop.buy([Invoice(f"c{n}", day=n) for n in range(7)])
    state = "SELECT customer_id, r, f, m, segment, updated_at, xmin::text FROM mart.customer ORDER BY 1"
    recency = "SELECT customer_id, recency FROM mart.customer_segmentation"
    today = "SELECT as_of_date FROM mart.as_of"
    with shop.connection, shop.connection.cursor() as cursor:  # one transaction: one now()

        def ask(query: str) -> list[tuple]:
            cursor.execute(query)
            return cursor.fetchall()

        stood, aged, [(day,)] = ask(state), dict(ask(recency)), ask(today)
        if recency_clock == "event":  # an unknown customer buys after midnight
            cursor.execute("UPDATE mart.shop SET newest_invoice_date = newest_invoice_date + interval '1 day'")
        else:  # the same moment 26 hours to the east: there midnight has passed, once or twice
            cursor.execute("UPDATE mart.shop SET time_zone = 'Etc/GMT-14'")
        [(later,)] = ask(today)
        assert isinstance(later, date)
        assert (later - day).days >= 1
        assert dict(ask(recency)) == {c: days + (later - day).days for c, days in aged.items()}
        assert ask(state) == stood
    apply_shop_rules(shop.connection, before.model_copy(update={"shop_time_zone": "Etc/GMT-14"}))
    assert shop.rows(state) == stood
