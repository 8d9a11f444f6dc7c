"""Both readers are one contract: valid events, mutated field by field and byte by byte.

CI tries some thousands. On 2026-11-28 the seeds 15, 16, 17 and 18 tried 30,000 each, 120,000 in all, without a
counterexample: `PARSE_EXAMPLES=30000 pytest tests/streaming/test_parse_contract.py -k one_contract --timeout=0
--hypothesis-seed=15`, about two minutes of a processor each.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mart.reject_reason import RejectReason
from streaming.invoice import Invoice
from streaming.parse import RejectedError, parse_invoice, parse_records
from streaming.parse_plain import parse_plain
from tests.builders.values import EVENT, LINE, kafka_records
from torture.mutation import mutated, mutated_bytes
from torture.oracle import read

ZONES = [ZoneInfo(name) for name in ("Asia/Jakarta", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns")]
LATE = datetime(2099, 12, 31, 23, tzinfo=UTC)  # no date that the contract knows is a future one then
EXAMPLES = int(os.environ.get("PARSE_EXAMPLES", "2500"))
many = settings(
    max_examples=EXAMPLES,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

_TEXTS = st.text(max_size=4) | st.sampled_from(
    ["", "\x00", "\x7f", "\ud800", "\udfff\ud800", '"', "\\", "é", "🧺", "\ufeff", "\u2028", "x" * 64, "x" * 65, "C1"]
)
_DATES = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.sampled_from(["2024", "2010", "1900", "1899", "2099", "0001", "9999", "２024", "24"]),
    st.sampled_from(["01", "02", "03", "10", "12", "13", "00", "1"]),
    st.sampled_from(["01", "28", "29", "30", "31", "32", "W1"]),
    st.sampled_from(["T", "T", "T", "T", " ", "t", ""]),
    st.sampled_from(["00", "01", "02", "03", "08", "23", "24"]),
    st.sampled_from(["00", "30", "59", "60"]),
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["", "", "", ".5", ".123456", ".000000", ".1234560", ".1234567", ".", ",5", ".12345६"]),
    st.sampled_from(
        ["", "", "Z", "z", "+07:00", "-00:00", "+14:00", "-23:59", "+24:00", "+25:00", "+0700", "+07:00:1"]
    ),
) | st.datetimes().map(datetime.isoformat)
_PRICES = st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{0,3})?", fullmatch=True) | st.sampled_from(
    ["NaN", "-Infinity", "1e3", "٢", "", " 1", "9999999999999999.99", "465661287307.73", "1000000000000000"]
)
_QUANTITIES = st.integers(-(2**32), 2**32) | st.sampled_from(
    [6.0, -0.0, 6.5, float("nan"), float("inf"), True, None, "6", 10**400, -(2**63), 1e300, [6]]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=4,
)
_OF_LINE = {"stock_code": _TEXTS, "description": _TEXTS, "quantity": _QUANTITIES, "price": _PRICES}
_LINE = st.fixed_dictionaries(
    {field: st.just(LINE[field]) | st.just(LINE[field]) | values for field, values in _OF_LINE.items()}
)
_OF_EVENT = {
    "version": st.sampled_from([1, 1.0, 2, 0, "1", True, None, 10**30]),
    "invoice": _TEXTS,
    "invoice_date": _DATES,
    "customer_id": st.none() | _TEXTS,
    "lines": st.lists(_LINE, min_size=1, max_size=3),
}
_SPLICES = st.binary(max_size=3) | st.sampled_from(
    [
        *(b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"0", b"-", b"e5", b"E400", b".", b"null", b"NaN"),
        *(b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\\u0000", b"\\ud83e", b"\\u0041"),
        *(b'"version":1,', b'"price":"1",', b'"invoice":"2",', b'"x":1,', b'"x":' + b"[" * 1100, b"[" * 100_000),
        *(b"1" * 5000, b"\n", b" ", b"Z", b"+07:00"),
    ]
)


@st.composite
def records(draw) -> bytes:
    """The bytes of a valid event, some of its fields changed, dropped, added or there twice, then spliced; nearly a
    third comes from the torture's mutations, which only know a random seed."""
    if draw(st.integers(0, 9)) < 3:
        return mutated(random.Random(draw(st.integers(0, 2**64))), EVENT) or b""
    line, event = dict(LINE), dict(EVENT)
    for field in draw(st.lists(st.sampled_from([*_OF_LINE, *_OF_EVENT]), max_size=3)):
        holder = line if field in _OF_LINE else event
        match draw(st.integers(0, 7)):
            case 0:
                holder.pop(field, None)
            case 1:
                holder[field] = draw(_ANYTHING)
            case 2:
                holder[draw(_TEXTS)] = draw(_ANYTHING)
            case _:
                holder[field] = draw(_OF_LINE[field] if field in _OF_LINE else _OF_EVENT[field])
    if event.get("lines") == [LINE]:
        event["lines"] = [line]
    text = json.dumps(event, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    value = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))):
        at, cut = draw(st.integers(0, len(value))), draw(st.integers(0, 3))
        value = value[:at] + draw(_SPLICES) + value[at + cut :]
    return value


def strictly(value: bytes, produced_at: datetime, zone: ZoneInfo) -> Invoice | RejectReason:
    try:
        return parse_invoice(value, produced_at, zone)
    except RejectedError as error:
        error.detail.encode("utf-8")
        assert "\x00" not in error.detail
        return error.reason


@many
@given(records(), st.sampled_from(ZONES))
def test_both_readers_are_one_contract(value, zone):
    """The strict reader gives an invoice or a reason, never another exception; the plain one the same invoice, or
    leaves the record to it; and the oracle of the torture, which imports neither, says the same."""
    strict = strictly(value, LATE, zone)
    plain = parse_plain(value, zone)
    if plain is not None:
        assert plain == strict
        assert plain.invoice_date.tzinfo is None
    assert strict is not RejectReason.INTERNAL_ERROR
    if zone.key == "Asia/Jakarta":
        by_oracle = read(value, LATE)
        assert (by_oracle is None) == isinstance(strict, RejectReason), strict
        if by_oracle is not None and isinstance(strict, Invoice):
            lines = [
                {"stock_code": s.stock_code, "description": s.description, "quantity": s.quantity, "price": s.price}
                for s in strict.lines
            ]
            assert by_oracle == {
                "invoice": strict.invoice,
                "invoice_date": strict.invoice_date.isoformat(),
                "customer_id": strict.customer_id,
                "lines": lines,
            }


@settings(parent=many, max_examples=max(50, EXAMPLES // 50))
@given(st.lists(records(), min_size=1, max_size=20), st.sampled_from(ZONES))
def test_a_batch_says_of_each_record_what_it_says_of_it_alone(values, zone):
    produced_at = datetime(2024, 2, 28, 12, tzinfo=UTC)
    milliseconds = round(produced_at.timestamp() * 1000)
    rows = parse_records(kafka_records(values, [milliseconds] * len(values)), zone, 1_000_000).to_pylist()
    for value, row in zip(values, rows, strict=True):
        alone = strictly(value, produced_at, zone)
        if isinstance(alone, RejectReason):
            assert (row["reason"], row["raw"], row["lines"]) == (alone.value, value, None)
        else:
            assert (row["reason"], row["invoice"], row["invoice_date"]) == (None, alone.invoice, alone.invoice_date)
            assert (row["content_sha256"], len(row["lines"])) == (alone.content_sha256, len(alone.lines))


@pytest.mark.parametrize("seed", range(3))
def test_mutations_are_of_every_kind(seed):
    """Else the properties above would be empty: some records are plain, some are not, and most reasons occur."""
    rng = random.Random(seed)
    found = set()
    for _ in range(3000):
        value = mutated(rng, EVENT) or b""
        if rng.random() < 0.1:
            value = mutated_bytes(rng, value)
        strict = strictly(value, LATE, ZONES[0])
        kind = strict if isinstance(strict, RejectReason) else "invoice"
        found.add((kind, parse_plain(value, ZONES[0]) is not None))
    assert {("invoice", True), ("invoice", False)} <= found
    assert len({kind for kind, _ in found}) >= 15
