"""Cards as questions: chart settings, filters, and tiles that never overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.cards import CHARTS, CardError
from dashboards.cards import cards as kept_cards
from dashboards.metabase.questions import GRID_WIDTH, SEGMENT, questions, used_filters
from tests.builders.metabase import card

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
        (
            "line",
            VALUES,
            "line",
            {"graph.dimensions": ["moment"], "graph.metrics": ["slowest", "fastest"], "line.missing": "none"},
        ),
        ("area", SERIES, "area", {"stackable.stack_type": "stacked", "line.missing": "none"}),
        # Metabase stacks the areas of several columns unless told not to; latencies do not add up
        ("area", VALUES, "area", {"graph.metrics": ["slowest", "fastest"], "stackable.stack_type": None}),
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
    assert {name: question.settings[name] for name in expected} == expected


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
    assert [one.key for one in found] == ["now.invoices", "now.revenue"]
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


def test_times_are_shown_with_their_seconds_and_dates_without():
    columns = "at timestamptz, local timestamp, day date, customers bigint"
    formats = the_question("a", "table", columns).settings["column_settings"]
    assert formats['["name","at"]'] == {"column_title": "At", "time_enabled": "seconds"}
    assert formats['["name","local"]']["time_enabled"] == "seconds"
    assert "time_enabled" not in formats['["name","day"]']


def test_a_filter_of_several_values_lets_one_choose_several():
    assert SEGMENT.parameter["isMultiSelect"] is True
    segment, day = the_question("trend", "line", SERIES).body(1, 2)["parameters"]
    assert (segment["isMultiSelect"], "isMultiSelect" in day) == (True, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM mart.trend t JOIN LATERAL (SELECT 1 FROM h ORDER BY (at) LIMIT 1) l ON true",
        "SELECT * FROM mart.trend WHERE note <> 'no LIMIT 5' -- LIMIT 5",
        'SELECT "limit", (SELECT (SELECT 1 OFFSET 2) LIMIT 3) FROM mart.trend',
    ],
)
def test_a_cut_within_a_card_is_none_of_its_rows(sql):
    assert [chosen.slug for chosen in the_question("trend", "line", SERIES, sql=sql).filters] == ["segment", "day"]


def test_the_kept_cards_have_the_filters_that_fit_them():
    by_key = {one.key: [chosen.slug for chosen in one.filters] for one in questions(kept_cards(), "Rp")}
    for key in ("customers_by_segment", "revenue_by_segment"):
        assert by_key[key] == ["segment"]
    assert by_key["flows"] == ["day"]
    assert by_key["segments_last_hour"] == ["segment", "day"]
    assert (by_key["newest_moves"], by_key["at_risk"]) == ([], [])


def test_a_card_of_the_newest_day_shows_the_day_that_is_chosen():
    sql = "SELECT a, b, c FROM mart.f WHERE day = (SELECT max(day) FROM mart.f) AND a IS NOT NULL ORDER BY c LIMIT 5"
    question = the_question("flows", "sankey", "a text, b text, c bigint", sql=sql)
    assert "WHERE day = coalesce([[CAST({{day}} AS date), ]](SELECT max(day) FROM mart.f)) AND" in question.sql
    assert question.body(1, 2)["dataset_query"]["native"]["template-tags"]["day"]["type"] == "date"
    assert "[[AND" not in question.sql


@pytest.mark.parametrize("cut", ["LIMIT 12", "fetch first 3 rows only", "OFFSET 2"])
def test_a_card_that_cuts_its_rows_off_has_no_filter(cut):
    question = the_question("moves", "table", SERIES, sql=f"SELECT * FROM mart.moves {cut}")
    assert (question.filters, question.sql) == ((), f"SELECT * FROM mart.moves {cut}")
    assert used_filters([question]) == []


@pytest.mark.parametrize("text", ["ARRAY[[1, 2]]", "'{{x}}'"])
def test_sql_that_metabase_would_read_as_its_own_is_refused(text):
    with pytest.raises(CardError, match="card a: Metabase reads"):
        the_question("a", sql=f"SELECT {text}")


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
