"""All SQL of the project: migrations, the statements that the jobs run, Spark expressions."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

FOLDER = Path(__file__).parent


@cache
def statement(name: str) -> str:
    """The text of one SQL file, e.g. `statement("apply/fence")`. Raises FileNotFoundError for an unknown name."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8").strip()


def literals(values: Iterable[str]) -> str:
    """Strings as a list of Spark SQL literals, for `IN (…)`."""
    return ", ".join("'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'" for v in values)


def line_condition(name: str, admin_codes: Iterable[str], line: str = "line", invoice: str = "invoice") -> str:
    """A Spark SQL condition on one invoice line, `counting_line`: whether it counts, by conf/line_rules.toml.

    `line` names the struct (stock_code, description, quantity, price) or the table alias, `invoice` the column of
    the invoice number. For the nightly job; streaming.clean does the same without Spark's SQL.
    """
    product_line = statement("spark/product_line").format(line=line, admin_codes=literals(admin_codes))
    return f"({statement(f'spark/{name}').format(line=line, invoice=invoice, product_line=product_line)})"


def one_row(cursor: Cursor) -> tuple[Any, ...]:
    """The next row of a statement that always returns one. Raises LookupError if it did not."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError(f"no row from: {cursor.query!r}")
    return row
