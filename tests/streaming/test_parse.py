"""The parser against the contract: a table of wrong records, and properties over any bytes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from mart.reject_reason import MEANING, RejectReason
from streaming import parse as parse_module
from streaming.invoice import Line
from streaming.parse import RejectedError, parse_invoice, parse_records
from tests.builders.values import EVENT, LINE, PRODUCED_AT, WRONG, changed, event, kafka_records, line

ZONE = ZoneInfo("Asia/Jakarta")  # UTC+7, no summer time
SCHEMA = json.loads(Path("conf/invoice_event.schema.json").read_text(encoding="utf-8"))


def parse(value: bytes | None, **limits):
    return parse_invoice(value, PRODUCED_AT, ZONE, **limits)


@pytest.mark.parametrize(("value", "reason"), WRONG, ids=changed)
def test_wrong_record_is_rejected_with_its_reason(value, reason):
    with pytest.raises(RejectedError) as caught:
        parse(value)
    assert caught.value.reason is reason
    assert "\x00" not in caught.value.detail
    caught.value.detail.encode("utf-8")


def test_too_large_is_measured_in_bytes():
    with pytest.raises(RejectedError) as caught:
        parse(event(), max_bytes=len(event()) - 1)
    assert caught.value.reason is RejectReason.TOO_LARGE
    assert parse(event(), max_bytes=len(event())).invoice == "536365"


def test_every_reason_has_a_meaning_and_a_test():
    in_mart = {RejectReason.CONFLICTING_DUPLICATE}  # known only there: tests/integration
    below = {RejectReason.TOO_LARGE, RejectReason.BAD_TIMESTAMP, RejectReason.INTERNAL_ERROR}
    assert {reason for _, reason in WRONG} | in_mart | below == set(RejectReason)
    assert set(MEANING) == set(RejectReason)


def test_valid_record():
    invoice = parse(event(customer_id=None, extra="ignored"))
    assert (invoice.invoice, invoice.customer_id) == ("536365", None)
    assert invoice.invoice_date == datetime(2010, 12, 1, 8, 26)
    [sold] = invoice.lines
    assert (sold.stock_code, sold.description, sold.quantity, sold.price) == ("85123A", "HOLDER", 6, "2.55")


@pytest.mark.parametrize(
    "value",
    [
        event(invoice_date="2010-12-02T10:00:00"),  # a day ahead to the second
        event(version=1.0),
        line(quantity=6.0),
        line(quantity=0),
        line(quantity=-6),
        line(price="-11062.06"),
        line(price="0"),
        line(price="9999999999999999.99", quantity=0),
        event(lines=[{**LINE, "quantity": q, "price": "500000000000000"} for q in (1, -1)]),  # the most
        event(invoice_date="2010-12-01T08:26:00.5"),
        event(invoice_date="2010-12-01T08:26:00.123456"),
        event(invoice_date="2010-12-01T08:26:00.123456000"),  # as .NET and Java write it
        event(invoice_date="2010-12-01T08:26:00Z"),
        event(invoice_date="2010-12-02T03:00:00.000000Z"),  # a day ahead to the microsecond
        event(invoice_date="2010-12-01T08:26:00+07:00"),
        event(invoice_date="2010-12-01T08:26:00-00:00"),
        event(invoice_date="2010-12-01T23:59:59+23:59"),
        line(description=""),
        line(description="\\u0000"),  # a backslash and letters, no NUL
        line(description="🧺 keranjang"),
        event(invoice="C536379"),
    ],
    ids=changed,
)
def test_unusual_but_valid(value):
    parse(value)
    jsonschema.validate(json.loads(value), SCHEMA)


@pytest.mark.parametrize(
    ("zone", "written", "local"),
    [
        ("Asia/Jakarta", "2024-02-28T10:00:00+07:00", "2024-02-28T10:00:00"),
        ("Asia/Jakarta", "2024-02-28T03:00:00Z", "2024-02-28T10:00:00"),
        ("Asia/Jakarta", "2024-02-28T03:00:00-00:00", "2024-02-28T10:00:00"),
        ("Asia/Jakarta", "2023-12-31T22:30:00.25-01:30", "2024-01-01T07:00:00.250000"),
        ("Asia/Jakarta", "2024-02-28T10:00:00.000001", "2024-02-28T10:00:00.000001"),
        ("Asia/Jakarta", "2024-02-28T10:00:00.000000", "2024-02-28T10:00:00"),
        ("Asia/Jakarta", "2024-02-28T10:00:00.1234560", "2024-02-28T10:00:00.123456"),
        # Berlin, clocks go forward at 02:00: what a till there wrote stays, what has an offset falls beside the gap
        ("Europe/Berlin", "2024-03-31T02:30:00", "2024-03-31T02:30:00"),
        ("Europe/Berlin", "2024-03-31T00:59:59Z", "2024-03-31T01:59:59"),
        ("Europe/Berlin", "2024-03-31T01:00:00Z", "2024-03-31T03:00:00"),
        # and back at 03:00: both hours read the same
        ("Europe/Berlin", "2024-10-27T02:30:00", "2024-10-27T02:30:00"),
        ("Europe/Berlin", "2024-10-27T00:30:00Z", "2024-10-27T02:30:00"),
        ("Europe/Berlin", "2024-10-27T01:30:00Z", "2024-10-27T02:30:00"),
        # the first and the last that the contract knows
        ("Asia/Jakarta", "1900-01-01T00:00:00", "1900-01-01T00:00:00"),
        ("Asia/Jakarta", "1900-01-01T00:00:00Z", "1900-01-01T07:07:12"),  # local mean time
        ("Asia/Jakarta", "2099-12-31T16:59:59.999999Z", "2099-12-31T23:59:59.999999"),
    ],
)
def test_time_with_an_offset_is_turned_into_the_shops(zone, written, local):
    shop = ZoneInfo(zone)
    late = datetime(2100, 1, 1, tzinfo=UTC)
    invoice = parse_invoice(event(invoice_date=written), late, shop)
    same = parse_invoice(event(invoice_date=local), late, shop)
    assert invoice.invoice_date.tzinfo is None
    assert invoice.invoice_date.fold == 0
    assert invoice.invoice_date.isoformat() == local
    assert invoice.content_sha256 == same.content_sha256  # a duplicate, no conflict


def test_digest_of_a_whole_second_is_what_it_was_before_fractions_were_taken():
    """Of the version before: marts and lakes hold such digests."""
    assert parse(event()).content_sha256 == "43325f0d7e9173b4223a284183a707d68d585a683cbea550db8a3223e9d75646"


def test_digest_is_of_the_content_not_of_the_bytes():
    two = [LINE, {**LINE, "stock_code": "71053", "price": "3.50"}]
    first = parse(event(lines=two))
    same = parse(
        json.dumps({k: EVENT[k] for k in reversed(EVENT)} | {"lines": [{**two[1], "price": "3.5"}, two[0]]}).encode()
    )
    assert first.content_sha256 == same.content_sha256
    others = [
        event(lines=[*two, LINE]),
        event(lines=two, customer_id="1"),
        event(lines=two, customer_id=None),
        event(lines=[LINE, {**two[1], "quantity": 7}]),
        event(lines=[LINE, {**two[1], "price": "3.51"}]),
        event(lines=two, invoice_date="2010-12-01T08:26:01"),
        event(lines=two, invoice_date="2010-12-01T08:26:00.000001"),
    ]
    assert len({parse(v).content_sha256 for v in others} | {first.content_sha256}) == len(others) + 1


def test_no_date_ends_the_batch():
    """It raised TypeError: can't compare offset-naive and offset-aware datetimes, at each start again."""
    dates = ["2010-12-01T10:00:00+07:00", "2010-12-01T03:00:00Z", "2010-12-01T10:00:00.123456", "2010-12-01T10:00:00"]
    rows = parse_records(kafka_records([event(invoice_date=date) for date in dates]), ZONE, 1_000_000).to_pylist()
    assert [row["reason"] for row in rows] == [None] * 4
    assert [row["invoice_date"].isoformat() for row in rows] == [
        "2010-12-01T10:00:00",
        "2010-12-01T10:00:00",
        "2010-12-01T10:00:00.123456",
        "2010-12-01T10:00:00",
    ]
    assert len({row["content_sha256"] for row in rows}) == 2


DAY = 86_400_000


@pytest.mark.parametrize(
    ("milliseconds", "stored", "said"),
    [
        (-1, "1970-01-01T00:00:00", "is none"),
        (None, "1970-01-01T00:00:00", "is none"),
        (-2, "1970-01-01T00:00:00", "is -2 ms"),
        (-(10**15), "1970-01-01T00:00:00", "is -1000000000000000 ms"),
        (1_291_172_400_000_000, "2099-12-31T23:59:59.999999", "is 1291172400000000 ms"),  # microseconds
        (47_482 * DAY, "2099-12-31T23:59:59.999999", "is 4102444800000 ms"),  # 2100
        (9_223_372_036_854_775, "2099-12-31T23:59:59.999999", "is 9223372036854775 ms"),  # the most that Spark holds
    ],
)
def test_record_timestamp_that_no_table_holds_is_a_reason_of_its_own(milliseconds, stored, said):
    good = round(PRODUCED_AT.timestamp() * 1000)
    records = kafka_records([event(), event(), b"nonsense"], [good, milliseconds, good])
    rows = parse_records(records, ZONE, 1_000_000).to_pylist()
    assert [row["reason"] for row in rows] == [None, "bad_timestamp", "not_json"]
    assert rows[1]["kafka_timestamp"].replace(tzinfo=None).isoformat() == stored
    assert said in rows[1]["detail"]
    assert (rows[1]["raw"], rows[1]["invoice"]) == (event(), None)
    assert rows[0]["kafka_timestamp"] == PRODUCED_AT


@pytest.mark.parametrize("milliseconds", [0, 47_482 * DAY - 1])
def test_first_and_last_record_timestamp(milliseconds):
    [row] = parse_records(kafka_records([b"{}"], [milliseconds]), ZONE, 1_000_000).to_pylist()
    assert row["reason"] == "missing_field"
    assert row["kafka_timestamp"].timestamp() * 1000 == milliseconds


@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), MemoryError(), OverflowError("b\0d \ud800"), KeyError("k")]
)
@pytest.mark.parametrize("function", ["parse_plain", "parse_invoice", "_check_not_future"])
def test_record_that_fails_as_nobody_foresaw_is_rejected_alone(monkeypatch, function, error):
    whole = getattr(parse_module, function)

    def failing(first, *rest):
        if first in (culprit, datetime(2010, 12, 2, 9, 0)):
            raise error
        return whole(first, *rest)

    # to the strict reader only what is not plain comes, to the comparison only what is late
    extra = {"extra": 1} if function == "parse_invoice" else {}
    culprit = event(invoice_date="2010-12-02T09:00:00", **extra)
    monkeypatch.setattr(parse_module, function, failing)
    values = [event(), culprit, b"nonsense", event(extra=1)]
    rows = parse_records(kafka_records(values), ZONE, 1_000_000).to_pylist()
    assert [row["reason"] for row in rows] == [None, "internal_error", "not_json", None]
    assert rows[1]["detail"].startswith(type(error).__name__)
    assert "\0" not in rows[1]["detail"]
    assert rows[1]["raw"] == culprit


@pytest.mark.parametrize(
    "unstorable",
    [{"invoice": "\ud800"}, {"invoice_date": 10**40}, {"customer_id": 7}, {"lines": [Line("a", "b", 2**40, "1")]},
     {"lines": [Line("a", "b", 1, "one")]}, {"content_sha256": "\udfff"}],
)  # fmt: skip
def test_record_that_no_column_takes_is_rejected_alone(monkeypatch, unstorable):
    whole = parse_module.parse_plain

    def misreading(value, zone):
        read = whole(value, zone)
        return structs.replace(read, **unstorable) if read and read.invoice == "culprit" else read

    monkeypatch.setattr(parse_module, "parse_plain", misreading)
    monkeypatch.setattr(parse_module, "_surely_past", lambda _: _Later())
    values = [event(), event(invoice="culprit"), b"nonsense", event(invoice="2")]
    rows = parse_records(kafka_records(values), ZONE, 1_000_000).to_pylist()
    assert [(row["invoice"], row["reason"]) for row in rows] == [
        ("536365", None),
        (None, "internal_error"),
        (None, "not_json"),
        ("2", None),
    ]
    assert rows[1]["raw"] == values[1]


class _Later:
    """Later than anything."""

    def __lt__(self, _):
        return False


def test_parse_records_keeps_order_and_raw_bytes_of_the_rejected():
    values = [event(), b"nonsense", None, line(price="1")]
    records = pa.RecordBatch.from_pydict(
        {
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0, 0, 1, 1], pa.int32()),
            "offset": pa.array([5, 6, 0, 1], pa.int64()),
            "timestamp": pa.array([PRODUCED_AT] * 4, pa.timestamp("us", "UTC")),
        }
    )
    rows = parse_records(records, ZONE, 1_000_000).to_pylist()
    assert [(r["partition"], r["offset"], r["reason"], r["raw"]) for r in rows] == [
        (0, 5, None, None),
        (0, 6, "not_json", b"nonsense"),
        (1, 0, "no_value", None),
        (1, 1, None, None),
    ]
    assert rows[1]["lines"] is None
    assert [str(sold["price"]) for sold in rows[3]["lines"]] == ["2.55", "1.00"]


@given(st.binary(max_size=200))
@example(b"\x00")
def test_any_bytes_are_parsed_or_rejected(value):
    try:
        parse(value)
    except RejectedError as rejected:
        assert rejected.reason in RejectReason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_DATES = st.tuples(
    st.datetimes(datetime(1899, 1, 1), datetime(2010, 12, 3)).map(lambda d: f"{d:%Y-%m-%dT%H:%M:%S}"),
    st.sampled_from(["", "", ".1", ".123456", ".1234560", ".1234567"]),
    st.sampled_from(["", "", "Z", "+07:00", "-23:59", "+24:00", "+0700"]),
).map("".join)
_PRICES = st.decimals(allow_nan=False, places=2, min_value=-(10**17), max_value=10**17).map(str)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.sampled_from([1, 1.0, 2, "1", True]),
            "invoice": st.text(max_size=3) | _JSON,
            "invoice_date": _DATES | _JSON,
            "customer_id": st.none() | st.text(max_size=3) | _JSON,
            "lines": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "stock_code": st.text(min_size=1, max_size=3),
                        "description": st.text(max_size=3),
                        "quantity": st.integers(-(2**32), 2**32) | _JSON,
                        "price": _PRICES | _JSON,
                    },
                ),
                max_size=3,
            ),
        },
    )
)
def test_accepts_what_the_schema_accepts(document):
    """The schema in conf/ and the parser agree, but for what JSON Schema cannot say: real dates, NUL, surrogates,
    products and sums."""
    value = json.dumps(document).encode()
    try:
        parse(value)
    except RejectedError as rejected:
        beyond_schema = {
            RejectReason.BAD_DATE,
            RejectReason.FUTURE_DATE,
            RejectReason.NUL_CHARACTER,
            RejectReason.BAD_CHARACTER,
            RejectReason.NOT_FINITE,
            RejectReason.AMOUNT_OUT_OF_RANGE,
        }
        if rejected.reason not in beyond_schema:
            assert not _schema_accepts(document), rejected
    else:
        assert _schema_accepts(document)


def _schema_accepts(document) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(document)


@given(st.timedeltas(timedelta(hours=-30), timedelta(hours=30)))
def test_future_is_a_day_past_the_record_in_shop_time(ahead):
    shop_time = datetime(2010, 12, 1, 10, 0)
    ahead = timedelta(seconds=round(ahead.total_seconds()))
    value = event(invoice_date=f"{shop_time + ahead:%Y-%m-%dT%H:%M:%S}")
    if ahead > timedelta(days=1):
        with pytest.raises(RejectedError):
            parse(value)
    else:
        assert parse(value).invoice_date == shop_time + ahead
