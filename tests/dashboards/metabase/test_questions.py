"""Cards as questions: chart settings, filters, entity ids, and tiles that never overlap."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.cards import CHARTS, CardError
from dashboards.metabase.questions import ENTITY_PREFIX, GRID_WIDTH, entity_id, questions, used_filters
from tests.dashboards.metabase.conftest import card

SERIES = "minute timestamptz, customer_segment text, customers bigint"
VALUES = "moment timestamptz, slowest numeric, fastest numeric"


def the_question(*arguments, **more):
    (found,) = questions([card(*arguments, **more)], "Rp")
    return found


@pytest.mark.parametrize(
    ("chart", "columns", "display", "expected"),
    [
        (
            "bar",
            "customer_segment text, customers bigint, monetary numeric",
            "bar",
            {
                "graph.dimensions": ["customer_segment"],
                "graph.metrics": ["customers"],
                "graph.x_axis.scale": "ordinal",
            },
        ),
        ("bar", "minute timestamptz, invoices bigint", "bar", {"graph.x_axis.scale": "timeseries"}),
        (
            "line",
            SERIES,
            "line",
            {"graph.dimensions": ["minute", "customer_segment"], "graph.metrics": ["customers"]},
        ),
        ("line", VALUES, "line", {"graph.dimensions": ["moment"], "graph.metrics": ["slowest", "fastest"]}),
        ("area", SERIES, "area", {"stackable.stack_type": "stacked"}),
        ("area", VALUES, "area", {"graph.metrics": ["slowest", "fastest"]}),
        (
            "matrix",
            "r smallint, f smallint, customers bigint",
            "table",
            {"table.pivot": True, "table.pivot_column": "f", "table.cell_column": "customers"},
        ),
        (
            "sankey",
            "from_segment text, to_segment text, customers bigint",
            "sankey",
            {"sankey.source": "from_segment", "sankey.target": "to_segment", "sankey.value": "customers"},
        ),
        ("scalar", "invoices bigint", "scalar", {"scalar.field": "invoices"}),
        ("table", "customer_id text, monetary numeric", "table", {}),
    ],
)
def test_a_chart_is_drawn_from_the_columns_in_their_order(chart, columns, display, expected):
    question = the_question("a", chart, columns)
    assert question.display == display
    assert {name: question.settings.get(name) for name in expected} == expected
    if (chart, columns) == ("area", VALUES):
        assert "stackable.stack_type" not in question.settings, "latencies do not add up"


def test_units_are_formats_of_their_columns():
    columns = "spent numeric, share numeric, took numeric, age integer, plain bigint"
    units = {"spent": "currency", "share": "percent", "took": "ms", "age": "days"}
    formats = the_question("a", "table", columns, units=units).settings["column_settings"]
    assert formats['["name","spent"]'] == {
        "column_title": "Spent", "number_style": "decimal", "decimals": 2, "prefix": "Rp ",
    }  # fmt: skip
    assert formats['["name","share"]']["number_style"] == "percent"
    assert formats['["name","took"]']["suffix"] == " ms"
    assert formats['["name","age"]']["suffix"] == " days"
    assert formats['["name","plain"]'] == {"column_title": "Plain"}


def test_a_scalar_of_many_figures_is_a_question_each():
    found = questions([card("now", "scalar", "invoices bigint, revenue numeric")], "Rp")
    assert [(one.name, one.settings["scalar.field"]) for one in found] == [
        ("Invoices", "invoices"),
        ("Revenue", "revenue"),
    ]
    assert len({one.entity_id for one in found}) == 2
    assert {(one.place.row, one.place.size_x) for one in found} == {(0, 12)}, "side by side"


def test_a_sankey_has_no_circles():
    sql = the_question("flows", "sankey", "from_segment text, to_segment text, customers bigint").sql
    assert "'→ ' || to_segment AS to_segment" in sql


def test_filters_enclose_the_card_and_fall_away_when_empty():
    question = the_question("trend", "line", SERIES)
    assert [chosen.slug for chosen in question.filters] == ["segment", "day"]
    assert question.sql.splitlines() == [
        "SELECT minute, customer_segment, customers FROM (",
        "SELECT * FROM mart.trend",
        ") AS card",
        "WHERE true",
        "[[AND customer_segment IN ({{segment}})]]",
        "[[AND CAST(minute AS date) = {{day}}]]",
    ]


@pytest.mark.parametrize("cut", ["LIMIT 12", "fetch first 3 rows only"])
def test_a_card_that_cuts_its_rows_off_has_no_filter(cut):
    question = the_question("moves", "table", SERIES, sql=f"SELECT * FROM mart.moves {cut}")
    assert (question.filters, question.sql) == ((), f"SELECT * FROM mart.moves {cut}")
    assert used_filters([question]) == []


@pytest.mark.parametrize("text", ["ARRAY[[1, 2]]", "'{{x}}'"])
def test_sql_that_metabase_would_read_as_its_own_is_refused(text):
    with pytest.raises(CardError, match="card a: Metabase reads"):
        the_question("a", sql=f"SELECT {text}")


@given(st.text(min_size=1))
def test_an_entity_id_is_a_nano_id_of_ours_and_always_the_same(name):
    made = entity_id(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{21}", made)
    assert made.startswith(ENTITY_PREFIX)
    assert made == entity_id(name)


def test_the_entity_id_of_a_card_does_not_change_between_versions_of_this_code():
    """Else every Metabase would get all its questions a second time."""
    assert entity_id("customers_by_segment") == "retail-mart_uMhkX4y30"


@given(st.lists(st.sampled_from(CHARTS), min_size=1, max_size=30))
def test_tiles_fill_the_grid_without_overlap(charts):
    columns = "a text, b text, c bigint, d bigint"
    found = questions([card(f"c{n}", chart, columns) for n, chart in enumerate(charts)], "Rp")
    taken = set()
    for one in found:
        place = one.place
        assert place.col + place.size_x <= GRID_WIDTH
        cells = {
            (row, col)
            for row in range(place.row, place.row + place.size_y)
            for col in range(place.col, place.col + place.size_x)
        }
        assert cells
        assert not cells & taken
        taken |= cells
    assert len(taken) == GRID_WIDTH * (max(row for row, _ in taken) + 1), "no hole"
    assert [(p.place.row, p.place.col) for p in found] == sorted((p.place.row, p.place.col) for p in found)
