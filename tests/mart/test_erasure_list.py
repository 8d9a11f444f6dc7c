"""The erasure list without a database: whose ids stand in a value, and what rows lose."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mart.erasure_list import NO_CONTENT, ErasureList, possible_customers

SALT = "ab" * 32


def listing(*customers: str) -> ErasureList:
    empty = ErasureList(SALT)
    return ErasureList(SALT, frozenset(map(empty.digest, customers)))


def test_digest_by_hand():
    assert ErasureList("00ff").digest("é1") == hashlib.sha256("00ffé1".encode()).hexdigest()


@pytest.mark.parametrize("listed", [listing("ann", "bob"), ErasureList(SALT).of_one("ann")], ids=["hashed", "known"])
def test_whom_it_names_is_the_same_whether_the_ids_are_known_or_not(listed):
    column = pa.chunked_array([["ann", None, "Ann"], ["ann", "", "cy"]], pa.string())
    assert listed.named_in(column).to_pylist() == [True, False, False, True, False, False]
    assert [listed.names(who) for who in ("ann", "Ann", "")] == [True, False, False]
    assert listed.digests >= {ErasureList(SALT).digest("ann")}
    assert ErasureList(SALT, listed.digests) == listed  # the lake's copy of it has no ids


@pytest.mark.parametrize(
    "raw",
    [
        b'{"customer_id": "17850", "lines": []}',
        b'{"customer_id": 17850}',
        b'{"customer_id": 17850.0}',
        b'{"customer_id": "1", "customer_id": "17850"}',  # a doubled key
        b'{"customer": {"id": ["17850"]}}',  # another contract
        b'{"lines": [{"buyer": "17850"}]}',
        b'["17850"]',
        b'"17850"',
        b'{"customer_id": "\\u0031\\u0037850"}',
        b'{"customer_id": "17850", "lines": [',  # cut short
        b"17850;2025-01-01;A1;1.00",
        b"\xff 17850 \xfe",
        b'{"customer_id": "17850"} trailing',
    ],
)
def test_an_id_in_a_value_is_found(raw):
    assert listing("17850").is_mentioned(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"customer_id": "178501", "invoice": "17850"}',
        b'{"customer_id": null, "invoice": 17850, "lines": [{"stock_code": "17850", "description": "17850"}]}',
        b'{"customer_id": "12", "lines": [{"quantity": 17850, "price": "17850"}]}',
        b"117850 178500",
        b"",
        None,
    ],
)
def test_another_number_is_not_taken_for_an_id(raw):
    assert not listing("17850").is_mentioned(raw)


@given(customer=st.text(min_size=1, max_size=64).filter(str.isprintable), cut=st.integers(0, 20))
def test_any_id_in_an_event_is_found_even_if_the_event_is_cut_short(customer, cut):
    event = json.dumps({"lines": [], "customer_id": customer, "more": "x" * 30})
    assert customer in possible_customers(event[: len(event) - cut].encode())


def test_rows_lose_customer_and_digest():
    rows = pa.table({"customer_id": ["a", None, "b", "a"], "content_sha256": ["1", "2", "3", "4"], "n": [1, 2, 3, 4]})
    assert listing("a", "z").forget_in(rows).to_pydict() == {
        "customer_id": [None, None, "b", None],
        "content_sha256": [NO_CONTENT, "2", "3", NO_CONTENT],
        "n": [1, 2, 3, 4],
    }
    assert listing("z").forget_in(rows).equals(rows)
    assert listing().forget_in(rows) is rows
