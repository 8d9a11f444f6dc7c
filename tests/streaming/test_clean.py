"""What counts: by hand, and against the Spark SQL by which the nightly job keeps lines."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812

from conf.line_rules import admin_codes
from sql import line_condition
from streaming import clean as clean_module
from streaming.clean import clean, parse_and_clean, parse_to_land
from streaming.parse import PARSED_SCHEMA, parse_records
from tests.builders.values import LINE, PRODUCED_AT, event, kafka_records

CODES = admin_codes()
COLUMNS = ["line_count", "counting_lines", "purchased", "returned"]


def line(code="A1", quantity=1, price="1.00", description="x"):
    return {"stock_code": code, "description": description, "quantity": quantity, "price": Decimal(price)}


def parsed(*invoices):
    """Parsed records, of (invoice number, lines) each; a number without lines is a rejected record."""
    rows = [
        {"partition": 0, "offset": at, "invoice": number, "lines": lines, "reason": None if lines else "not_json"}
        for at, (number, lines) in enumerate(invoices)
    ]
    return pa.RecordBatch.from_pylist(rows, PARSED_SCHEMA)


def cleaned(*invoices):
    rows = clean(parsed(*invoices), CODES)
    assert "lines" not in rows.schema.names
    return [tuple(row[column] for column in COLUMNS) for row in rows.to_pylist()]


@pytest.mark.parametrize(
    ("number", "lines", "expected"),
    [
        ("1", [line(quantity=3, price="2.55")], (1, 1, "7.65", 0)),
        ("1", [line(), line(quantity=2, price="0.05")], (2, 2, "1.10", 0)),
        ("1", [line(quantity=-2, price="3.10"), line()], (2, 1, "1.00", "-6.20")),
        ("C1", [line(), line(quantity=-1)], (2, 0, 0, "-1.00")),
        ("1", [line(code="ONGKIR"), line(code=" post "), line(code="adjust2"), line(code="bank")], (4, 0, 0, 0)),
        ("1", [line(code="teſt001"), line(code="tést001")], (2, 1, "1.00", 0)),  # ſ is S in capitals
        ("1", [line(description=""), line(description="  "), line(description="\t")], (3, 1, "1.00", 0)),
        ("1", [line(price="0"), line(price="-1"), line(quantity=0)], (3, 0, 0, 0)),
        ("1", [line(code="٣"), line(code="x9")], (2, 1, "1.00", 0)),  # a digit, but not one of 0-9
    ],
)
def test_what_counts(number, lines, expected):
    count, counting, purchased, returned = expected
    assert cleaned((number, lines)) == [(count, counting, Decimal(purchased), Decimal(returned))]


def test_rejected_records_have_no_amounts_and_shift_nobody_elses():
    assert cleaned(("1", [line()]), (None, None), ("2", [line(price="2"), line(price="3")])) == [
        (1, 1, Decimal("1.00"), 0),
        (None, None, None, None),
        (2, 2, Decimal("5.00"), 0),
    ]
    assert cleaned((None, None)) == [(None, None, None, None)]
    assert cleaned() == []


def test_amounts_beyond_64_bits_are_exact():
    most = line(quantity=2**31 - 1, price="9999999999999999.99")
    least = {**most, "quantity": -(2**31)}
    sold = (2**31 - 1) * Decimal("9999999999999999.99")
    assert cleaned(("1", [most] * 5 + [least]), ("2", [line()]), (None, None)) == [
        (6, 5, 5 * sold, -(2**31) * Decimal("9999999999999999.99")),
        (1, 1, Decimal("1.00"), 0),
        (None, None, None, None),
    ]


def test_amounts_are_exact_where_only_the_running_total_leaves_64_bits():
    big = line(quantity=9, price="9999999999999999.99")
    assert cleaned(*((str(n), [big]) for n in range(5))) == [(1, 1, Decimal("89999999999999999.91"), 0)] * 5


def test_a_part_of_a_batch_is_cleaned_alike():
    whole = parsed(*((str(n), [line(price=str(n + 1))] * (n + 1)) for n in range(6)))
    assert clean(whole.slice(2, 3), CODES).equals(clean(whole, CODES).slice(2, 3))


def test_parse_and_clean_of_records():
    records = pa.RecordBatch.from_pydict(
        {
            "value": pa.array([event(lines=[LINE, LINE]), b"no"], pa.binary()),
            "partition": pa.array([0, 0], pa.int32()),
            "offset": pa.array([5, 6], pa.int64()),
            "timestamp": pa.array([PRODUCED_AT] * 2, pa.timestamp("us", "UTC")),
        }
    )
    first, second = parse_and_clean(records, ZoneInfo("Asia/Jakarta"), 1000, CODES).to_pylist()
    assert (first["counting_lines"], first["purchased"], first["reason"]) == (2, Decimal("30.60"), None)
    assert (second["counting_lines"], second["purchased"], second["reason"]) == (None, None, "not_json")


@pytest.mark.parametrize("error", [OverflowError("too much"), MemoryError(), pa.ArrowInvalid("no")])
def test_record_that_cannot_be_cleaned_is_rejected_alone_by_apply_and_by_landing(monkeypatch, error):
    whole = clean_module._is_product

    def failing(flat, codes):
        if "culprit" in flat.field("stock_code").to_pylist():
            raise error
        return whole(flat, codes)

    monkeypatch.setattr(clean_module, "_is_product", failing)
    culprit = event(invoice="2", lines=[{**LINE, "stock_code": "culprit"}])
    records = kafka_records([event(), culprit, b"no", event(invoice="3")])
    zone = ZoneInfo("Asia/Jakarta")
    applied = parse_and_clean(records, zone, 1000, CODES)
    landed = parse_to_land(records, zone, 1000, CODES)
    for rows in (applied, landed):
        assert rows["reason"].to_pylist() == [None, "internal_error", "not_json", None]
        assert rows["offset"].to_pylist() == [0, 1, 2, 3]
    assert applied["raw"].to_pylist() == [None, culprit, b"no", None]
    assert applied["detail"][1].as_py().startswith(type(error).__name__)
    assert applied["counting_lines"].to_pylist() == [1, None, None, 1]
    assert applied["purchased"].to_pylist() == [Decimal("15.30"), None, None, Decimal("15.30")]
    assert [lines and len(lines) for lines in landed["lines"].to_pylist()] == [1, None, None, 1]


def test_landing_takes_what_parse_reads():
    records = kafka_records([event(), b"no", event(invoice="3")])
    zone = ZoneInfo("Asia/Jakarta")
    for batch in (records, records.slice(0, 0)):
        parsed = parse_records(batch, zone, 1000)
        landed = parse_to_land(batch, zone, 1000, CODES)
        assert landed.equals(parsed.drop_columns(["detail", "raw"]))


_CODES = st.sampled_from([*CODES, "post", " d ", "C2 ", "\tM", "A1", "85123A", "ABC", "teſt001", "ß1"]) | st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=4
)
_LINES = st.lists(
    st.builds(
        line,
        code=_CODES,
        quantity=st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1),
        price=st.decimals(-5, 5, places=2).map(str) | st.decimals(0, 10**15, places=2).map(str),
        description=st.sampled_from(["", " ", "\u2003", "x", "  x "]),
    ),
    min_size=1,
    max_size=4,
)
_NUMBERS = st.sampled_from(["1", "C1", "c1", " C1", "Ç1"])


@pytest.mark.spark
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_NUMBERS, _LINES), min_size=60, max_size=120))
def test_lines_count_as_in_spark_sql(spark, invoices):
    records = [(at, number, lines) for at, (number, lines) in enumerate(invoices)]
    schema = (
        "at INT, invoice STRING, "
        "lines ARRAY<STRUCT<stock_code: STRING, description: STRING, quantity: INT, price: DECIMAL(18,2)>>"
    )
    lines = spark.createDataFrame(records, schema).select("at", "invoice", F.explode("lines").alias("line"))
    amount = "CASE WHEN {} THEN CAST(line.quantity * line.price AS DECIMAL(38, 2)) ELSE 0 END"
    counting = line_condition("counting_line", CODES)
    # A returned line is a counting one but for the sign of its quantity, whatever the invoice's number is.
    returned = counting.replace("line.quantity > 0", "line.quantity < 0").replace("startswith(invoice, 'C')", "false")
    assert returned.count("line.quantity < 0") == returned.count("NOT false") == 1
    by_spark = (
        lines.groupBy("at")
        .agg(
            F.count("*"),
            F.count_if(F.expr(counting)),
            F.expr(f"sum({amount.format(counting)})"),
            F.expr(f"sum({amount.format(returned)})"),
        )
        .orderBy("at")
        .collect()
    )
    assert [tuple(row)[1:] for row in by_spark] == cleaned(*invoices)
