"""Recommend: what goes with a basket, by the current rules, or why there is nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from batch_rules.publish import rows
from sql import statement


@dataclass(frozen=True)
class Recommended:
    """Products, best first: stock code, name, because, confidence, lift, support; or why there is none."""

    rows: Sequence[tuple[Any, ...]]
    why_nothing: str = ""


def recommend(connection: Connection, codes: Collection[str], n: int) -> Recommended:
    """At most `n` products that go with stock codes, in capitals or not, as somebody typed them."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement("dashboards/products"))
        leading = dict(cursor.fetchall())
    meant = [_meant(code, leading) for code in codes]
    found = rows(connection, "recommend", {"stock_codes": meant, "n": n})
    return Recommended(found, "" if found else _why_nothing(meant, leading))


def _meant(typed: str, leading: Mapping[str, str]) -> str:
    """The stock code of that spelling, else the one that differs in capitals only."""
    return typed if typed in leading else next((code for code in leading if code.lower() == typed.lower()), typed)


def _why_nothing(codes: Collection[str], leading: Collection[str]) -> str:
    if not leading:
        return "no rules yet: `retail-mart mine` makes them"
    if unknown := [code for code in codes if code not in leading]:
        return f"no current rule begins with {', '.join(unknown)}: is the stock code right? Or little is bought with it"
    return f"the current rules lead from {', '.join(codes)} to no other product"
