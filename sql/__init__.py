"""All SQL of the project: migrations, the statements that the jobs run, Spark expressions.

`sql/<module>.sql` holds a module's statements in the order in which they run, each under a line `-- name: <name>`
(aiosql's convention) and a comment that says why; `sql/migrations/` holds the migrations, one numbered file each.

We wrote our own loader because aiosql (15.0), tried on these files, does not return the text as written. It takes
`:name` for a parameter in any dialect, so DuckDB's slice `[:5]` became `[%(5)s]`. It lost comments inside three
statements. It binds a file to one driver, and has none for Spark, while ours go to psycopg2, DuckDB and Spark with
parameters in the style of each. A statement cannot include another one. And names of statements carry operators such as
`!`, or it warns.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

FOLDER = Path(__file__).parent
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_HEADER = re.compile(r"(?:--.*\n)*")
_INCLUDED = re.compile(r"\{(?:(\w+)\.)?(\w+/\w+)\}")  # the slash tells it from the places that str.format fills


@cache
def statement(name: str) -> str:
    """The text of a statement without its header, e.g. `statement("apply/fence")`, with its inclusions filled in.

    `{apply/invoice_columns}` in a statement includes another statement, `{i.apply/invoice_columns}` its columns as
    those of a table `i`. Raises LookupError for an unknown name.
    """
    module, _, own_name = name.partition("/")
    texts = statements(module)
    if own_name not in texts:
        raise LookupError(f"no statement {own_name!r} in sql/{module}.sql, only: {', '.join(texts)}")
    return _INCLUDED.sub(_included, texts[own_name])


def _included(place: re.Match[str]) -> str:
    table, name = place.groups()
    return statement(name) if table is None else ", ".join(f"{table}.{column}" for column in columns(name))


def columns(name: str) -> list[str]:
    """The names in a statement that is a list of columns, e.g. `columns("apply/invoice_columns")`."""
    return re.split(r",\s*", statement(name))


@cache
def statements(module: str) -> dict[str, str]:
    """Name and text of each statement of a module, in the file's order, with inclusions not yet filled in."""
    path = FOLDER / f"{module}.sql"
    if not path.is_file():
        raise LookupError(f"no file sql/{path.name}, only: {', '.join(modules())}")
    _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
    names, texts = parts[::2], parts[1::2]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise LookupError(f"sql/{path.name} has more than one statement of the name {', '.join(sorted(twice))}")
    return {name: _HEADER.sub("", text, count=1).strip() for name, text in zip(names, texts, strict=True)}


def modules() -> list[str]:
    """The names of the files of statements."""
    return sorted(path.stem for path in FOLDER.glob("*.sql"))


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
