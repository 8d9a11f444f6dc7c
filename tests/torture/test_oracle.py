"""The oracle on a table that a person can check, and the traffic's promises."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mart.reject_reason import RejectReason
from torture.oracle import Acknowledged, expected, quintiles, read, segment
from torture.traffic import WRONG, Traffic, every_class, message

PRODUCED_AT = datetime(2026, 12, 1, tzinfo=UTC)


def record(offset: int, invoice: str, customer: str | None, day: int, *lines: tuple[str, int, str]) -> Acknowledged:
    sold = [{"stock_code": c, "description": "x", "quantity": q, "price": p} for c, q, p in lines]
    event = {
        "version": 1,
        "invoice": invoice,
        "invoice_date": f"2025-01-{day:02}T10:00:00",
        "customer_id": customer,
        "lines": sold,
    }
    return Acknowledged(0, offset, message(event))


def test_mart_of_five_records():
    records = [
        record(0, "1", "ann", 1, ("A1", 2, "1.50"), ("ONGKIR", 1, "9")),
        record(1, "2", "bob", 2, ("A1", 1, "0.05")),
        record(2, "1", "ann", 1, ("A1", 2, "1.50"), ("ONGKIR", 1, "9")),  # again
        record(3, "2", "bob", 2, ("A1", 7, "0.05")),  # another content
        record(4, "C3", "ann", 3, ("A1", -1, "1.50")),
    ]
    mart = expected(records)
    assert (mart.records, mart.duplicates, mart.rejected) == (5, 1, {(0, 3): "conflicting_duplicate"})
    assert {n: (i.counting_lines, i.purchased, i.returned) for n, i in mart.invoices.items()} == {
        "1": (1, 300, 0),
        "2": (1, 5, 0),
        "C3": (0, 0, -150),
    }
    ann, bob = mart.customers["ann"], mart.customers["bob"]
    assert (ann.frequency, ann.monetary, ann.r, ann.f, ann.m) == (1, 300, 1, 1, 2)
    assert (bob.frequency, bob.monetary, bob.r, bob.f, bob.m) == (1, 5, 2, 2, 1)
    assert mart.landed[0, 0] == ("1", 1200)


def test_of_seven_customers_the_first_two_quintiles_hold_one_more():
    assert list(quintiles([(n, f"c{n}") for n in range(7)]).values()) == [1, 1, 2, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("r", "f", "name"),
    [(5, 5, "Champions"), (4, 2, "Potential Loyalists"), (3, 3, "Loyal Customers"), (1, 3, "At Risk"),
     (3, 1, "New Customers"), (2, 2, "Needs Attention")],
)  # fmt: skip
def test_segments(r, f, name):
    assert segment(r, f) == name


def test_same_seed_same_traffic():
    assert Traffic(7).messy(50) == Traffic(7).messy(50) != Traffic(8).messy(50)


def test_same_seed_same_mutations_and_a_number_stays_with_its_key():
    messages = list(Traffic(7).mutated(8000))
    assert messages == list(Traffic(7).mutated(8000)) != list(Traffic(8).mutated(8000))
    assert len({m.key for m in messages}) > 4000
    kinds = {read(m.value, PRODUCED_AT) is None for m in messages}
    assert kinds == {True, False}
    keys: dict[str, set[bytes]] = {}
    for sent in messages:
        if (event := read(sent.value, PRODUCED_AT)) is not None:
            keys.setdefault(event["invoice"], set()).add(sent.key)
    assert {len(of_number) for of_number in keys.values()} == {1}


def test_a_record_of_an_impossible_moment_is_rejected_whatever_it_says():
    [good] = Traffic(7).invoices(1)
    moments = (-1, 0, 4_102_444_799_999, 4_102_444_800_000, 2**63 - 1)
    found = expected([Acknowledged(0, at, good, timestamp_ms) for at, timestamp_ms in enumerate(moments)])
    assert found.rejected == dict.fromkeys([(0, 0), (0, 3), (0, 4)], "bad_timestamp")
    assert (len(found.invoices), found.duplicates) == (1, 1)


def test_some_mutated_records_have_timestamps_that_spark_cannot_read():
    sent = [m.timestamp_ms for m in Traffic(7).mutated(60_000)]
    assert any(t is not None and t > 2**63 // 1000 for t in sent)
    assert 0 < sum(t is not None for t in sent) < 600


@pytest.mark.parametrize(
    ("changes", "local"),
    [
        ({}, "2025-01-02T10:00:00"),
        ({"invoice_date": "2025-01-02T03:00:00Z"}, "2025-01-02T10:00:00"),
        ({"invoice_date": "2025-01-02T00:30:00.50-02:30"}, "2025-01-02T10:00:00.500000"),
        ({"invoice_date": "2025-01-02T10:00:00.1234560"}, "2025-01-02T10:00:00.123456"),
        ({"invoice_date": "2025-01-02T10:00:00.1234567"}, None),
        ({"invoice_date": "2025-01-02T10:00:00+25:00"}, None),
        ({"invoice_date": "2025-01-02T24:00:00"}, None),
        ({"invoice_date": "2026-12-02T10:00:00"}, None),
        ({"version": True}, None),
        ({"version": 1.0}, "2025-01-02T10:00:00"),
        ({"invoice": ""}, None),
        ({"invoice": "\ud800"}, None),
        ({"lines": []}, None),
        ({"lines": [{"stock_code": "a", "description": "", "quantity": 6.0, "price": "-1.5"}]}, "2025-01-02T10:00:00"),
        ({"lines": [{"stock_code": "a", "description": "", "quantity": 6, "price": "1.555"}]}, None),
        ({"lines": [{"stock_code": "a", "description": "", "quantity": 2, "price": "500000000000000.01"}]}, None),
    ],
)
def test_oracle_reads_a_record_that_nobody_described(changes, local):
    event = {
        "version": 1,
        "invoice": "1",
        "invoice_date": "2025-01-02T10:00:00",
        "customer_id": None,
        "lines": [{"stock_code": "A1", "description": "x", "quantity": 1, "price": "1.50"}],
    }
    found = read(json.dumps(event | changes).encode(), PRODUCED_AT)
    assert (found and found["invoice_date"]) == local


def test_there_are_32_classes_of_wrong_records_and_all_reasons_are_among_them():
    assert len(WRONG) >= 32
    reasons = {RejectReason(reason) for reason, _ in WRONG.values()}
    # no value makes these: they need a mart, a clock, a fault
    others = {RejectReason.CONFLICTING_DUPLICATE, RejectReason.BAD_TIMESTAMP, RejectReason.INTERNAL_ERROR}
    assert reasons == set(RejectReason) - others
    assert len(list(every_class(Traffic(1), 3))) == 3 * len(WRONG)
