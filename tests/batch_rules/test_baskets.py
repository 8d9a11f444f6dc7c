"""Baskets: the window, the copies, the lines that count, the names."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from batch_rules.baskets import baskets_of, canonical_names, counting_lines, invoices_of
from batch_rules.landed import opened
from batch_rules.sold import conflicting_in, sold_in
from producer.csv_invoices import Line
from tests.builders.nightly import DAY, sale

pytestmark = pytest.mark.spark


@pytest.fixture(params=["spark", "here"])
def read(request, spark, lake, tmp_path):
    """The baskets and the names of the 7 days up to DAY, from a lake with these invoices."""
    path, land = lake

    def read(*batches):
        for batch in batches:
            land(batch)
        if request.param == "here":
            with sold_in(opened(path), DAY - timedelta(days=7), DAY, tmp_path) as sold:
                rows = sold._engine.execute("SELECT invoice, items FROM basket").fetchall()
                assert sold.occurrences() == sum(len(items) for _, items in rows)
                assert sorted(sold.baskets().to_pylist()) == sorted(items for _, items in rows)
                return dict(rows), sold.names()
        lake_table = spark.read.format("delta").load(path)
        lines = counting_lines(invoices_of(lake_table, DAY - timedelta(days=7), DAY))
        baskets = {row["invoice"]: row["items"] for row in baskets_of(lines).collect()}
        names = {row["stock_code"]: row["name"] for row in canonical_names(lines).collect()}
        return baskets, names

    return read


def test_a_basket_is_the_distinct_codes_in_order_where_there_are_two(read):
    baskets, _ = read([sale("1", "B2", "A1", "B2"), sale("2", "A1", "A1"), sale("3", "A1")])
    assert baskets == {"1": ["A1", "B2"]}


def test_only_lines_that_count_count(read):
    mixed = sale("1", "A1", "B2", "ONGKIR", "POSTAGE")  # an admin code, and a code without a digit
    mixed.lines += [Line("C3", "free", 1, "0"), Line("D4", "returned", -1, "1.00"), Line("E5", " ", 1, "1.00")]
    baskets, names = read([mixed, sale("C2", "A1", "B2")])
    assert baskets == {"1": ["A1", "B2"]}
    assert set(names) == {"A1", "B2"}


def test_the_window_is_open_at_its_start_and_closed_at_its_end(read):
    days = {"-8": -8, "-7": -7, "-6": -6, "0": 0, "1": 1}
    baskets, _ = read([sale(n, "A1", "B2", day=DAY + timedelta(days=d)) for n, d in days.items()])
    assert set(baskets) == {"-6", "0"}


def test_the_earliest_copy_is_the_invoice(read):
    """Landed again later with other content, and with the very same."""
    first, other = sale("1", "A1", "B2"), sale("1", "A1", "C3")
    assert read([first], [other, first])[0] == {"1": ["A1", "B2"]}


def test_invoices_with_copies_of_other_content_are_counted(lake, tmp_path):
    """Once each, also where the other copy lies outside the window; the very same again is none."""
    path, land = lake
    outside = sale("2", "A1", "B2", day=DAY - timedelta(days=30))
    land([sale("1", "A1", "B2"), outside, sale("3", "A1"), sale("4", "A1", day=DAY - timedelta(days=30))])
    land([sale("1", "A1", "C3"), sale("1", "A1", "D4"), sale("2", "A1", "C3"), sale("3", "A1")])
    land([sale("4", "B2", day=DAY - timedelta(days=29))])
    assert conflicting_in(opened(path), DAY - timedelta(days=7), DAY, tmp_path) == 2


def test_an_invoice_whose_earliest_copy_is_outside_the_window_is_outside(read):
    outside = sale("1", "A1", "B2", day=DAY - timedelta(days=30))
    late, inside = sale("2", "A1", "B2", day=DAY + timedelta(days=3)), sale("2", "A1", "B2")
    baskets, _ = read([outside, inside], [sale("1", "A1", "B2"), late])
    assert set(baskets) == {"2"}


def test_the_name_is_the_most_frequent_then_the_newest_then_the_first_in_the_alphabet(read):
    def described(number, day, **names):
        invoice = sale(number, "Z9", day=DAY - timedelta(days=day))
        return replace(invoice, lines=[*invoice.lines, *(Line(c, n, 1, "1.00") for c, n in names.items())])

    _, names = read(
        [
            described("1", 0, F1="rare and new", N1="old", T1="beta", S1=" spaced "),
            described("2", 3, F1="frequent", N1="older still", T1="gamma", S1="spaced"),
            described("3", 3, F1="frequent", N1="older still", S1="other"),
            described("4", 1, N1="old", T1="beta"),
            described("5", 1, T1="alpha"),
            replace(described("6", 0, T1="alpha"), date=datetime.combine(DAY, datetime.min.time()).replace(hour=10)),
        ]
    )
    assert names == {"F1": "frequent", "N1": "old", "T1": "alpha", "S1": "spaced", "Z9": "Name of Z9"}
