"""Check a DSN before PostgreSQL's library sees it: the library repeats what it does not understand, even a password."""

from __future__ import annotations

import re

_URL = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
# As libpq splits a URL: an account, if there is an @ before the first slash; then the server up to a slash or a ?.
_PARTS = re.compile(r"(?:(?P<account>[^@/]*)@)?(?P<server>[^/?]*)(?P<database>/[^?]*)?", re.DOTALL)
_HOST = re.compile(r"[\w.-]*|[0-9A-Fa-f:.]+(?:%[\w.-]+)?")  # a name or an IPv4 address; IPv6, perhaps with its zone
_PORT = re.compile(r"[0-9]*")
_ENCODE = (
    "in a name or password write % as %25, @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, a space as %20 "
    "(Python: urllib.parse.quote(password, safe=''))"
)
_QUOTE = r"put a value with a space, quote or backslash between '…', in it ' as \' and \ as \\"


def is_url(dsn: str) -> bool:
    """Whether it has the form postgresql://…; the other form is key=value."""
    return _URL.match(dsn) is not None


def fault(dsn: str) -> str | None:
    """What is wrong with a DSN, and the fix, without quoting any of it; None if its parts are where they belong.

    Stricter than PostgreSQL's library: it refuses parts that only an unescaped character in a password can produce (a
    host with an @, a port of letters), because the library would look up a host of that name and say so.
    """
    import psycopg2  # not for a command that only prints its help
    from psycopg2.extensions import parse_dsn

    if "://" in dsn.partition("=")[0] and not is_url(dsn):
        return "begin it with postgresql://"
    fix = _ENCODE if is_url(dsn) else _QUOTE
    try:
        parts = parse_dsn(dsn)
    except (psycopg2.Error, ValueError):
        return f"PostgreSQL cannot read it; give it as postgresql://name:password@host:port/database, and {fix}"
    if not parts:
        return "it names no server; give it as postgresql://name:password@host:port/database"
    for name, wrong in (("host", _hosts(parts)), ("port", _ports(parts)), ("database", _database(dsn, parts))):
        if wrong:
            return f"its {name} cannot be one: is a character of the password not escaped? Then {fix}"
    return None


def in_utf8(dsn: str) -> str:
    """The same server and account, with texts in UTF-8 both ways, as everything that we COPY and read is written.
    Otherwise PGCLIENTENCODING or a setting of the role or the database decides, and PostgreSQL reads the "é" of a COPY
    as "Ã©"."""
    from psycopg2.extensions import make_dsn

    return str(make_dsn(dsn, client_encoding="UTF8"))


def _hosts(parts: dict[str, str]) -> bool:
    """A path is the folder of a socket, an @ before it an abstract one."""
    hosts = [h for name in ("host", "hostaddr") for h in parts.get(name, "").split(",") if not h.startswith(("/", "@"))]
    return not all(_HOST.fullmatch(host) for host in hosts)


def _ports(parts: dict[str, str]) -> bool:
    return not all(_PORT.fullmatch(port) for port in parts.get("port", "").split(","))


def _database(dsn: str, parts: dict[str, str]) -> bool:
    if not is_url(dsn):
        return is_url(parts.get("dbname", ""))  # PostgreSQL's tools would take it for a DSN
    found = _PARTS.match(dsn, dsn.index("://") + 3)
    rest = "" if found is None else found["server"] + (found["database"] or "")
    return "@" in rest or rest.count("/") > 1
