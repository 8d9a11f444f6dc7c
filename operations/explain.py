"""Explain: why a customer has their scores: purchases, ranks, what is missing for the next quintile, and each move."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from rich.console import Group, RenderableType
from rich.text import Text

from conf.counted import counted
from conf.errors import StreamingError
from conf.terminal import Table, number, prose
from sql import statement

_METRIC = {"r": "recency", "f": "frequency", "m": "monetary"}
_CAUSE = {
    "overtaken": "overtaken by others",
    "definition changed": "the segments were redefined",
    "policy changed": "the returns policy was changed",
    "repaired": "a repair corrected a wrong score",
}


class Customer(NamedTuple):
    """A scored customer; `recency` in days up to `as_of_date`, `monetary` in the shop's currency."""

    customer_id: str
    recency: int
    frequency: int
    monetary: Decimal
    last_purchase: datetime
    r: int
    f: int
    m: int
    segment: str
    as_of_date: date | None


class Score(NamedTuple):
    """One metric's score and rank: `rank` among `customers` (1 is the best), within a quintile of the ranks
    `quintile_begins` to `quintile_ends`. `next_value` is the lowest value that reaches the quintile above,
    `more_to_next` how much more that is (days, invoices, currency), `places_to_next` the ranks to climb; all null if
    there is no quintile above."""

    metric: str
    score: int
    value: str
    rank: int
    customers: int
    quintile_begins: int
    quintile_ends: int
    value_below: str | None
    value_above: str | None
    places_to_next: int | None
    next_value: str | None
    more_to_next: Decimal | None


class Purchase(NamedTuple):
    """An invoice of the customer; it counts if `counting_lines` is above 0."""

    invoice: str
    invoice_date: datetime
    line_count: int
    counting_lines: int
    purchased: Decimal
    returned: Decimal


class Move(NamedTuple):
    """A move between segments with the scores before and after; before is null for a new customer."""

    changed_at: datetime
    event_time: datetime
    from_segment: str | None
    to_segment: str
    from_r: int | None
    from_f: int | None
    from_m: int | None
    to_r: int
    to_f: int
    to_m: int
    cause: str
    invoice: str | None


class Carried(NamedTuple):
    """The sums of the customer's pruned invoices: how many count, their amounts, and the newest date."""

    frequency: int
    purchased: Decimal
    returned: Decimal
    last_purchase: datetime | None


@dataclass(frozen=True)
class Explanation:
    """The whole explanation; `purchases` and `moves` are the newest ones, newest first. `customer` is None, and
    `scores` empty, if no invoice of the customer counts."""

    customer_id: str
    customer: Customer | None
    scores: list[Score]
    purchases: list[Purchase]
    moves: list[Move]
    carried: Carried | None = None


def explain(connection: Connection, customer_id: str, newest: int = 20) -> Explanation:
    """Read what the mart knows about a customer, with at most `newest` purchases and moves, as of one moment.

    The connection's role may be the writer or the reader. Raises StreamingError for a customer who is not in the mart,
    or a mart without tables.
    """
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    parameters: dict[str, str | int] = {"customer": customer_id, "newest": newest}
    with connection, connection.cursor() as cursor:
        found = [Customer._make(row) for row in _rows(cursor, "explain/customer", parameters)]
        explanation = Explanation(
            customer_id,
            found[0] if found else None,
            [Score._make(row) for row in _rows(cursor, "explain/scores", parameters)],
            [Purchase._make(row) for row in _rows(cursor, "explain/purchases", parameters)],
            [Move._make(row) for row in _rows(cursor, "explain/moves", parameters)],
            next((Carried._make(row) for row in _rows(cursor, "explain/carried", parameters)), None),
        )
    if not found and not explanation.purchases and not explanation.moves:
        raise StreamingError(
            f"customer {customer_id!r} is not in the mart: no applied invoice names them. "
            "Ids are compared exactly, with capitals and leading zeros"
        )
    return explanation


def _rows(cursor: Cursor, name: str, parameters: dict[str, str | int]) -> list[tuple]:
    cursor.execute(statement(name), parameters)
    return cursor.fetchall()


def describe(explanation: Explanation) -> RenderableType:
    """The explanation as printed."""
    parts: list[RenderableType] = [_heading(explanation)]
    if explanation.customer:
        parts += [_scores(explanation), *(Text(f"  {way}") for way in ways_up(explanation.scores)), Text()]
    if explanation.purchases:
        parts.append(_purchases(explanation))
    if carried := explanation.carried:
        since = f" until {carried.last_purchase:%Y-%m-%d}" if carried.last_purchase else ""
        parts.append(
            Text(
                f"and {counted(carried.frequency, 'older invoice')}{since}, {carried.purchased:,.2f} in all, pruned: "
                "counted, and no longer kept one by one"
            )
        )
    if explanation.moves:
        parts += [Text(), _moves(explanation.moves)]
    return Group(*parts)


def ways_up(scores: list[Score]) -> list[str]:
    """One sentence per metric that has a quintile above: what is missing for it, if the other customers do not move."""
    return [
        f"{score.metric}={score.score + 1}: {_more(score)}, or {counted(score.places_to_next or 0, 'place')} up"
        for score in scores
        if score.more_to_next is not None
    ]


def _more(score: Score) -> str:
    if score.metric == "r":
        return f"a purchase on or after {score.next_value}"
    if score.metric == "f":
        return f"{counted(int(score.more_to_next or 0), 'more invoice')}"
    return f"{score.more_to_next:,.2f} more spent"


def _heading(explanation: Explanation) -> Text:
    customer = explanation.customer
    heading = Text.assemble(("Customer ", "bold"), (explanation.customer_id, "bold"))
    if customer is None:
        return heading.append(
            ": none of their invoices counts (only returns, charges or free lines), so there is no score.\n"
        )
    return heading.append(
        f": {customer.segment} (r={customer.r} f={customer.f} m={customer.m})\n"
        f"{counted(customer.frequency, 'invoice')}, {customer.monetary:,.2f} spent, last purchase "
        f"{customer.last_purchase:%Y-%m-%d %H:%M}, {_distance(customer)}\n"
    )


def _distance(customer: Customer) -> str:
    """How far the last purchase is from the date that recency is measured to, which an invoice dated tomorrow does not
    move."""
    if customer.as_of_date is None:
        return "later than PostgreSQL's clock, like every invoice"
    if (ahead := (customer.last_purchase.date() - customer.as_of_date).days) > 0:
        return f"{counted(ahead, 'day')} after {customer.as_of_date}, to which recency is measured: it counts as 0 days"
    return f"{counted(customer.recency, 'day')} before {customer.as_of_date}"


def _scores(explanation: Explanation) -> Table:
    [customers] = {score.customers for score in explanation.scores}
    table = Table(
        "metric", number("score"), number("value"), number("rank"), number("ranks of the quintile"),
        number("quintile below ends at"), number("quintile above begins at"),
        title=f"Scores among {counted(customers, 'customer')}; rank 1 is the best",
    )  # fmt: skip
    for score in explanation.scores:
        table.add(
            f"{score.metric} {_METRIC[score.metric]}",
            str(score.score),
            _value(score.value),
            f"{score.rank:,}",
            f"{score.quintile_begins:,}-{score.quintile_ends:,}",
            _value(score.value_below),
            _value(score.value_above),
        )
    return table


def _value(value: str | None) -> str:
    """Thousands separated; dates as they are."""
    if value is None:
        return "-"
    return value if value.count("-") == 2 else f"{Decimal(value):,}"


def _purchases(explanation: Explanation) -> Table:
    shown, customer = len(explanation.purchases), explanation.customer
    total = f"; {customer.frequency:,} in total, {customer.monetary:,.2f}" if customer else ""
    table = Table(
        "date", "invoice", number("lines"), number("counting"), number("purchased"), number("returned"),
        title=f"Newest {counted(shown, 'invoice')}{total}",
    )  # fmt: skip
    for p in explanation.purchases:
        table.add(
            f"{p.invoice_date:%Y-%m-%d %H:%M}",
            p.invoice,
            f"{p.line_count:,}",
            f"{p.counting_lines:,}",
            f"{p.purchased:,.2f}",
            f"{p.returned:,.2f}" if p.returned else "",
            style="" if p.counting_lines else "dim",
        )
    return table


def _moves(moves: list[Move]) -> Table:
    table = Table(
        prose("applied (UTC)"), "as of", prose("from"), prose("to"), "r f m", prose("cause"),
        title=f"Newest {counted(len(moves), 'move')} between segments",
    )  # fmt: skip
    for move in moves:
        before = f"{move.from_r} {move.from_f} {move.from_m}" if move.from_segment else "new"
        table.add(
            f"{move.changed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            f"{move.event_time:%Y-%m-%d}",
            move.from_segment or "-",
            move.to_segment,
            f"{before} → {move.to_r} {move.to_f} {move.to_m}",
            _CAUSE.get(move.cause, f"{move.cause}: invoice {move.invoice}"),
        )
    return table
