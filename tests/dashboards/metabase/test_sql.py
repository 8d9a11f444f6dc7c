"""The questions' SQL on a filled mart, as Metabase sends it: variables filled, or their `[[ ]]` left out."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from dashboards.cards import Card, cards
from dashboards.metabase.questions import questions
from tests.builders.pipeline import Mart
from tests.dashboards.shop import Shop


def as_metabase_sends_it(sql: str, values: dict[str, list[Any]]) -> tuple[str, list[Any]]:
    """An optional part stays if its variable has a value; a variable becomes a placeholder for each of its values."""
    parameters: list[Any] = []

    def optional(match: re.Match[str]) -> str:
        (name,) = re.findall(r"\{\{(\w+)\}\}", match[1])
        if name not in values:
            return ""
        parameters.extend(values[name])
        return match[1].replace(f"{{{{{name}}}}}", ", ".join(["%s"] * len(values[name])))

    return re.sub(r"\[\[(.*?)\]\]", optional, sql.replace("%", "%%")), parameters


class Reader:
    """Asks as analytics_reader; rows with their columns' names."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg2.connect(dsn)

    def __call__(self, sql: str, **values: list[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(*as_metabase_sends_it(sql, values))
            return [column.name for column in cursor.description or ()], cursor.fetchall()


@pytest.mark.stack
def test_every_question_gives_its_cards_columns_and_filters_only_leave_rows_out(shop: Shop, fresh_mart: Mart):
    by_name: dict[str, Card] = {card.title: card for card in cards()}
    reader = Reader(fresh_mart.reader_dsn)
    filtered = 0
    with closing(reader.connection):
        for question in questions(cards(), "Rp"):
            columns, everything = reader(question.sql)
            card = by_name.get(question.name)
            if card is not None:
                assert columns == [name for name, _ in card.columns]
                if card.chart != "sankey":
                    # enclosed, the rows keep their order
                    assert same_order(reader(card.sql)[1], everything)
            for chosen in () if question.display == "sankey" else question.filters:
                at = columns.index("customer_segment") if chosen.slug == "segment" else 0
                present = list(dict.fromkeys(row[at] for row in everything))
                some = present[:2] if chosen.slug == "segment" else [present[0].date()] if present else []
                if not some:
                    continue
                _, left = reader(question.sql, **{chosen.slug: some})
                expected = [
                    row for row in everything if (row[at] if chosen.slug == "segment" else row[at].date()) in some
                ]
                assert [row[at] for row in left] == [row[at] for row in expected], question.name
                filtered += 1
    assert filtered >= 6


def same_order(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """The same rows in the same order; a row that has grown meanwhile (a running minute, an age) may differ."""
    return [row[0] for row in one] == [row[0] for row in other]


@pytest.mark.stack
def test_both_filters_at_once(shop: Shop, fresh_mart: Mart):
    (question,) = (one for one in questions(cards(), "Rp") if one.name == "Segments, last hour")
    reader = Reader(fresh_mart.reader_dsn)
    with closing(reader.connection):
        _, everything = reader(question.sql)
        assert everything
        segment = everything[0][1]
        days = sorted({row[0].date() for row in everything})
        rows = [row for day in days for row in reader(question.sql, segment=[segment], day=[day])[1]]
        assert {row[1] for row in rows} == {segment}
        assert len(rows) == sum(row[1] == segment for row in everything)
        assert reader(question.sql, segment=["No such segment"])[1] == []


@pytest.mark.stack
def test_flows_are_those_of_the_chosen_day_or_else_of_the_newest(shop: Shop, fresh_mart: Mart):
    (question,) = (one for one in questions(cards(), "Rp") if one.display == "sankey")
    reader = Reader(fresh_mart.reader_dsn)
    with closing(reader.connection):
        days = [day for (day,) in reader("SELECT DISTINCT day FROM mart.segment_flow ORDER BY day DESC")[1]]
        newest = reader(question.sql)[1]
        assert newest
        assert reader(question.sql, day=[days[0]])[1] == newest
        for day in days[1:]:
            moves = reader(
                f"SELECT from_segment, '→ ' || to_segment, customers FROM mart.segment_flow WHERE day = '{day}' "
                "AND from_segment IS NOT NULL"
            )[1]
            assert sorted(reader(question.sql, day=[day])[1]) == sorted(moves)
        assert reader(question.sql, day=[days[-1] - timedelta(days=1)])[1] == []


@pytest.mark.stack
def test_a_sankey_that_goes_in_circles_has_none_in_metabase(shop: Shop, fresh_mart: Mart):
    (question,) = (one for one in questions(cards(), "Rp") if one.display == "sankey")
    reader = Reader(fresh_mart.reader_dsn)
    with closing(reader.connection):
        _, flows = reader(question.sql)
    assert flows
    assert not {source for source, _, _ in flows} & {target for _, target, _ in flows}
