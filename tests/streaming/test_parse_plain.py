"""The fast parser against the strict one: what it reads it reads the same, and it reads what producers write."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer.csv_invoices import Invoice as Sale
from producer.csv_invoices import Line as Sold
from producer.event import event as message
from streaming import parse
from streaming.parse import RejectedError, parse_invoice, parse_records
from streaming.parse_plain import parse_plain
from tests.builders.values import EVENT, LINE, WRONG, changed, event, line

ZONE = ZoneInfo("Asia/Jakarta")
PRODUCED_AT = datetime(2010, 12, 1, 3, 0, tzinfo=UTC)


def strict(value: bytes):
    return parse_invoice(value, datetime(2100, 1, 1, tzinfo=UTC), ZONE)


@pytest.mark.parametrize(
    "value",
    [
        event(),
        event(customer_id=None),
        event(lines=[LINE] * 50),
        event(lines=[{**LINE, "stock_code": code} for code in "cab"]),
        json.dumps(EVENT, indent=1).encode(),
        json.dumps({key: EVENT[key] for key in reversed(EVENT)}).encode(),
        json.dumps(EVENT | {"lines": [{**LINE, "description": "keranjang 🧺 é"}]}, ensure_ascii=False).encode(),
        event().replace(b"HOLDER", b"\x7f"),
        line(quantity=-(2**31)),
        line(quantity=2**31 - 1),
        line(price="-0"),
        line(price="9999999999999999.9", quantity=0),
        event(lines=[{**LINE, "quantity": q, "price": "500000000000000"} for q in (1, -1)]),
        event(invoice_date="2010-12-01T08:26:00.5"),
        event(invoice_date="2010-12-01T08:26:00.123456"),
        event(invoice_date="2010-12-01T08:26:00Z"),
        event(invoice_date="2010-12-01T08:26:00.1234560+03:30"),
        message(Sale("7", datetime(2025, 1, 2, 3, 4, 5), "c", [Sold("A1", "x, y; é", 1, "2.50")], 2)),
    ],
    ids=changed,
)
def test_plain_record_is_read_as_by_the_strict_parser(value):
    read = parse_plain(value, ZONE)
    assert read is not None
    assert read == strict(value)


@pytest.mark.parametrize("value", [value for value, _ in WRONG if value is not None], ids=changed)
def test_wrong_record_is_left_to_the_strict_parser(value):
    """But for a date in the future, which it does not compare."""
    read = parse_plain(value, ZONE)
    assert read is None or read == strict(value)


@pytest.mark.parametrize(
    "value",
    [
        event(extra="ignored"),
        event(version=1.0),
        line(quantity=6.0),
        line(description='with "quotes"'),
        event().replace(b'"invoice"', b'"\\u0069nvoice"'),
        event().replace(b'"customer_id": "17850"', b'"customer_id": "1", "customer_id": "17850"'),
        event().replace(b'"customer_id": "17850"', b'"customer_id": "1", "customer_id": null'),
        event().replace(b'"price": "2.55"', b'"price": "2.55", "price": "2.55"'),
        event().replace(b'"lines"', b'"lines": [], "lines"'),
        event().replace(b'"quantity": 6', b'"quantity": 7, "quantity": 6'),
    ],
    ids=changed,
)
def test_unusual_record_is_left_to_the_strict_parser(value):
    assert parse_plain(value, ZONE) is None


_SHORT = st.text(max_size=3) | st.sampled_from(["", "\x00", "\x7f", "\ud800", '"', "\\", "é", "🧺", "x" * 65])
_DATES = st.sampled_from(
    ["2010-12-01T08:26:00", "2010-12-01 08:26:00", "2010-W48-3T08:26:00", "20101201T082600", "0010-12-01T08:26:00"]
) | st.datetimes().map(lambda moment: moment.isoformat()[:19])
_PRICES = st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{0,3})?", fullmatch=True) | _SHORT
_WHOLE = st.integers(-(2**32), 2**32) | st.sampled_from([6.0, 6.5, float("nan"), True, None, "6", 10**400])
_LINES = st.lists(
    st.fixed_dictionaries(
        {"stock_code": _SHORT, "description": _SHORT, "quantity": _WHOLE, "price": _PRICES},
        optional={"extra": _SHORT},
    ),
    max_size=3,
)
_EVENTS = st.fixed_dictionaries(
    {
        "version": st.sampled_from([1, 1, 1, 1.0, 2, True]),
        "invoice": _SHORT,
        "invoice_date": _DATES,
        "customer_id": st.none() | _SHORT,
        "lines": _LINES,
    },
    optional={"extra": _SHORT},
)
_SPLICES = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 3),
        st.binary(max_size=2)
        | st.sampled_from(
            [b'"', b"\\", b",", b'"price":"1",', b'"invoice":"2",', b'"x":1,', b"\xff", b"{", b"}", b"0"]
        ),
    ),
    max_size=2,
)


@given(_EVENTS, st.booleans(), _SPLICES)
@example(EVENT, False, [])
def test_any_bytes_are_read_the_same_or_not_at_all(document, ascii_only, splices):
    """A document near the contract's, then spliced: bytes cut out and others put in at some places."""
    value = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for at, cut, put in splices:
        value = value[:at] + put + value[at + cut :]
    read = parse_plain(value, ZONE)
    if read is not None:
        assert read == strict(value)


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(2010, 11, 28), datetime(2010, 12, 5)),
            st.datetimes(datetime(2010, 11, 28), datetime(2010, 12, 5)),
        ),
        max_size=4,
    ),
    st.sampled_from(["Asia/Jakarta", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/London"]),
)
def test_future_dates_are_the_same_whichever_way_a_record_was_read(moments, zone):
    values = [event(invoice_date=date.isoformat()[:19]) for date, _ in moments]
    records = pa.RecordBatch.from_pydict(
        {
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
            "timestamp": pa.array([at for _, at in moments], pa.timestamp("us", "UTC")),
        }
    )
    fast = parse_records(records, ZoneInfo(zone), 1_000_000)
    with pytest.MonkeyPatch.context() as without:
        without.setattr(parse, "parse_plain", lambda *_: None)
        assert fast.equals(parse_records(records, ZoneInfo(zone), 1_000_000))


def test_too_large_is_left_to_the_strict_parser():
    records = pa.RecordBatch.from_pydict(
        {
            "value": pa.array([event()], pa.binary()),
            "partition": pa.array([0], pa.int32()),
            "offset": pa.array([0], pa.int64()),
            "timestamp": pa.array([PRODUCED_AT], pa.timestamp("us", "UTC")),
        }
    )
    [row] = parse_records(records, ZONE, len(event()) - 1).to_pylist()
    assert row["reason"] == "too_large"


def test_strict_parser_still_reads_what_is_not_plain():
    assert strict(event(extra=1)).invoice == "536365"
    with pytest.raises(RejectedError):
        strict(event(version=2))
