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

from streaming.parse import RejectedError, parse_invoice, parse_records
from streaming.reject_reason import MEANING, RejectReason

ZONE = ZoneInfo("Asia/Jakarta")  # UTC+7, no summer time
PRODUCED_AT = datetime(2010, 12, 1, 3, 0, tzinfo=UTC)  # 10:00 in the shop
SCHEMA = json.loads(Path("conf/invoice_event.schema.json").read_text(encoding="utf-8"))
LINE = {"stock_code": "85123A", "description": "HOLDER", "quantity": 6, "price": "2.55"}
EVENT = {
    "version": 1,
    "invoice": "536365",
    "invoice_date": "2010-12-01T08:26:00",
    "customer_id": "17850",
    "lines": [LINE],
}


def event(**changes) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def line(**changes) -> bytes:
    return event(lines=[LINE, {**LINE, **changes}])


def without(field: str) -> bytes:
    return json.dumps({k: v for k, v in EVENT.items() if k != field}).encode()


def without_in_line(field: str) -> bytes:
    return event(lines=[{k: v for k, v in LINE.items() if k != field}])


def parse(value: bytes | None, **limits):
    return parse_invoice(value, PRODUCED_AT, ZONE, **limits)


WRONG = [
    (None, RejectReason.NO_VALUE),
    (b"", RejectReason.NOT_JSON),
    (b"{", RejectReason.NOT_JSON),
    (event()[:-1], RejectReason.NOT_JSON),
    (event() + b" {}", RejectReason.NOT_JSON),
    (event() + b"x", RejectReason.NOT_JSON),
    (b"\xef\xbb\xbf" + event(), RejectReason.NOT_JSON),
    (b"[" * 100_000, RejectReason.NOT_JSON),
    (b'{"version": ' + b"1" * 5000 + b"}", RejectReason.NOT_JSON),
    (event().replace(b"HOLDER", b"HOL\nDER"), RejectReason.NOT_JSON),
    (event().replace(b"HOLDER", b"HOL\x00DER"), RejectReason.NOT_JSON),
    (b"\xff\xfe", RejectReason.NOT_UTF8),
    (event().replace(b"HOLDER", b"\xed\xa0\x80"), RejectReason.NOT_UTF8),
    (event().replace(b'"version": 1', b'"version": 1, "version": 1'), RejectReason.DUPLICATE_KEY),
    (event().replace(b'"quantity": 6', b'"quantity": 6, "quantity": 7'), RejectReason.DUPLICATE_KEY),
    (b"[]", RejectReason.NOT_AN_OBJECT),
    (b"null", RejectReason.NOT_AN_OBJECT),
    (b"7", RejectReason.NOT_AN_OBJECT),
    (event(lines=["x"]), RejectReason.NOT_AN_OBJECT),
    (event(lines=[None]), RejectReason.NOT_AN_OBJECT),
    (event(version=2), RejectReason.UNKNOWN_VERSION),
    (event(version="1"), RejectReason.UNKNOWN_VERSION),
    (event(version=True), RejectReason.UNKNOWN_VERSION),
    (event(version=None), RejectReason.UNKNOWN_VERSION),
    *[(without(field), RejectReason.MISSING_FIELD) for field in EVENT],
    *[(without_in_line(field), RejectReason.MISSING_FIELD) for field in LINE],
    (event(invoice=536365), RejectReason.WRONG_TYPE),
    (event(invoice=None), RejectReason.WRONG_TYPE),
    (event(customer_id=17850), RejectReason.WRONG_TYPE),
    (event(invoice_date=1291191960), RejectReason.WRONG_TYPE),
    (event(lines={}), RejectReason.WRONG_TYPE),
    (event(lines=None), RejectReason.WRONG_TYPE),
    (line(quantity="6"), RejectReason.WRONG_TYPE),
    (line(quantity=True), RejectReason.WRONG_TYPE),
    (line(quantity=None), RejectReason.WRONG_TYPE),
    (line(price=2.55), RejectReason.WRONG_TYPE),
    (line(price=None), RejectReason.WRONG_TYPE),
    (line(description=None), RejectReason.WRONG_TYPE),
    (event(invoice=""), RejectReason.EMPTY_TEXT),
    (event(customer_id=""), RejectReason.EMPTY_TEXT),
    (line(stock_code=""), RejectReason.EMPTY_TEXT),
    (event(invoice="9" * 65), RejectReason.TEXT_TOO_LONG),
    (line(description="x" * 1001), RejectReason.TEXT_TOO_LONG),
    (line(description="a\x00b"), RejectReason.NUL_CHARACTER),
    (event(invoice="\x00"), RejectReason.NUL_CHARACTER),
    (line(description="\ud800"), RejectReason.BAD_CHARACTER),
    (event(customer_id="\udfff"), RejectReason.BAD_CHARACTER),
    (event(invoice_date="2010-02-30T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T24:00:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01 08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-01T08:26:00Z"), RejectReason.BAD_DATE),
    (event(invoice_date="2010-W48-3T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="01/12/2010 08:26"), RejectReason.BAD_DATE),
    (event(invoice_date="0010-12-01T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date="２010-12-01T08:26:00"), RejectReason.BAD_DATE),
    (event(invoice_date=""), RejectReason.BAD_DATE),
    (event(invoice_date="2010-12-02T10:00:01"), RejectReason.FUTURE_DATE),
    (event(invoice_date="2099-12-01T08:26:00"), RejectReason.FUTURE_DATE),
    (line(price="NaN"), RejectReason.NOT_FINITE),
    (line(price="-Infinity"), RejectReason.NOT_FINITE),
    (line(quantity=float("nan")), RejectReason.NOT_FINITE),
    (line(quantity=float("inf")), RejectReason.NOT_FINITE),
    (line(quantity=6.5), RejectReason.BAD_NUMBER),
    (line(quantity=2**31), RejectReason.BAD_NUMBER),
    (line(quantity=-(2**31) - 1), RejectReason.BAD_NUMBER),
    (line().replace(b'"quantity": 6', b'"quantity": 1e999'), RejectReason.BAD_NUMBER),
    (line(price=""), RejectReason.BAD_NUMBER),
    (line(price="2,55"), RejectReason.BAD_NUMBER),
    (line(price=" 2.55"), RejectReason.BAD_NUMBER),
    (line(price="2."), RejectReason.BAD_NUMBER),
    (line(price="1e3"), RejectReason.BAD_NUMBER),
    (line(price="٢"), RejectReason.BAD_NUMBER),
    (line(price="1" * 17), RejectReason.BAD_NUMBER),
    (line(price="1.255"), RejectReason.PRICE_SCALE),
    (line(price="-0.001"), RejectReason.PRICE_SCALE),
    (event(lines=[]), RejectReason.NO_LINES),
]


@pytest.mark.parametrize(("value", "reason"), WRONG, ids=lambda v: v.name if isinstance(v, RejectReason) else None)
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
    assert {reason for _, reason in WRONG} | in_mart | {RejectReason.TOO_LARGE, RejectReason.INTERNAL_ERROR} == set(RejectReason)
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
        line(price="9999999999999999.99"),
        line(description=""),
        line(description="\\u0000"),  # a backslash and letters, no NUL
        line(description="🧺 keranjang"),
        event(invoice="C536379"),
    ],
)
def test_unusual_but_valid(value):
    parse(value)
    jsonschema.validate(json.loads(value), SCHEMA)


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
    ]
    assert len({parse(v).content_sha256 for v in others} | {first.content_sha256}) == len(others) + 1


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
_DATES = st.datetimes(datetime(1899, 1, 1), datetime(2010, 12, 3)).map(lambda d: f"{d:%Y-%m-%dT%H:%M:%S}")
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
    """The schema in conf/ and the parser agree, but for what JSON Schema cannot say: real dates, NUL, surrogates."""
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
