"""The only place that masks secrets: no error text, log line or alert of this process shows a secret that it knows."""

from __future__ import annotations

import html
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote, urlsplit

from conf.dsn import fault, is_url

MASK = "***"
# Secrets that libraries, or a later version of ours, may read from the environment.
FOREIGN = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "METABASE_API_KEY", "PGPASSWORD")
_LEAST = 4  # a shorter one would blot out half of every text, so it is masked only as a whole word
_MOST_KNOWN = 64
_CUTS = re.compile(r"[^0-9A-Za-z]+")
_PASSWORD_KEY = re.compile(r"\b(?:ssl)?password\s*=\s*(.*?)(?=\s+\w+\s*=|$)", re.DOTALL)
# Secrets that are in no setting of ours: a proxy's password, one in another program's message.
_ACCOUNT_IN_URL = re.compile(r"(\w://[^\s/:@]*:)(?!password@)[^\s/@]+(?=@)")  # our own advice names one
_PASSWORD_IN_DSN = re.compile(r"(?<![\w])((?:ssl)?password=)('(?:[^'\\]|\\.)*'|[^\s'&]+)")

_known: tuple[str, ...] = ()
_lock = threading.Lock()


def conceal(secret: str | None) -> None:
    """From now on, mask this secret: a password, a token, or a DSN or another URL that contains one."""
    global _known
    if secret and secret not in _known[-1:]:
        with _lock:
            kept = [known for known in _known if known != secret]
            _known = (*kept[-_MOST_KNOWN + 1 :], secret)  # without those of servers long gone


def masked(text: str) -> str:
    """The text with *** in place of each secret: of a DSN the password, of another URL its path, else the whole, in the
    spellings of URL, JSON, SQL, Java, Python and HTML; and the pieces that a parser's message may hold of a DSN that
    it cannot read."""
    spellings, pieces = _forms(frozenset(_known) | {os.environ.get(name, "") for name in FOREIGN})
    for spelling in spellings:
        if spelling in text:
            text = text.replace(spelling, MASK)
    if pieces is not None:
        text = pieces.sub(MASK, text)
    return _PASSWORD_IN_DSN.sub(rf"\1{MASK}", _ACCOUNT_IN_URL.sub(rf"\1{MASK}", text))


class MaskedError(Exception):
    """An error whose text may quote a server or a library: secrets in it are masked."""

    def __str__(self) -> str:
        return masked(super().__str__())


class MaskedStream:
    """A text stream for messages and logs that masks what is written to it; otherwise it is the stream itself.

    If it cannot be written (the log's disk is full, the terminal is gone), the writer continues anyway, and the stream
    says so itself once it can be written again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failed = 0
        self._reason: str | None = None

    def write(self, text: str) -> int:
        with self._whatever_happens():
            if self._failed:
                self._stream.flush()  # what it still holds from before, so that it does not come after the note
                self._stream.write(f"[{self._failed} writes failed here, what is missing is lost: {self._reason}]\n")
                self._failed = 0
            self._stream.write(masked(text))
        return len(text)

    def flush(self) -> None:
        with self._whatever_happens():
            self._stream.flush()

    @contextmanager
    def _whatever_happens(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed += 1
            self._reason = error.strerror

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@lru_cache(maxsize=8)
def _forms(secrets: frozenset[str]) -> tuple[tuple[str, ...], re.Pattern[str] | None]:
    """What to replace, the longest first, and the pattern of the pieces."""
    every = {s for secret in secrets for part in _parts(secret) for s in _spellings(part) if s}
    spellings = {s for s in every if len(s) >= _LEAST}
    pieces = {piece for secret in secrets for piece in _pieces(secret) if len(piece) >= _LEAST} | every
    pieces -= spellings
    longest_first = tuple(sorted(spellings, key=len, reverse=True))
    if not pieces:
        return longest_first, None
    # Whole words only: the piece `word` of a password must not turn password into pass***.
    either = "|".join(map(re.escape, sorted(pieces, key=len, reverse=True)))
    return longest_first, re.compile(rf"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-Fa-f]{{2}}))(?:{either})(?![0-9A-Za-z])")


def _parts(secret: str) -> Iterator[str]:
    """What of a setting is secret: the password of a DSN, the path of a web address, else all of it."""
    if _is_dsn(secret):
        yield from _passwords(secret)
        if fault(secret):
            yield secret
    elif "://" in secret:
        yield from _parts_of_address(secret)
    else:
        yield secret


def _pieces(secret: str) -> Iterator[str]:
    """What PostgreSQL's library may break out of a DSN that it cannot read, or reads otherwise than it was meant."""
    if _is_dsn(secret) and fault(secret):
        for password in _passwords(secret):
            yield from _CUTS.split(password)
            yield from _CUTS.split(unquote(password))


def _is_dsn(secret: str) -> bool:
    return is_url(secret) or _PASSWORD_KEY.search(secret) is not None


def _passwords(dsn: str) -> Iterator[str]:
    """The passwords in a DSN, as PostgreSQL's library finds them and, in a URL, as they were meant."""
    import psycopg2  # not for a command that only prints its help
    from psycopg2.extensions import parse_dsn

    try:
        found = parse_dsn(dsn)
    except (psycopg2.Error, ValueError):
        found = {}
        yield from (guess[1] for guess in _PASSWORD_KEY.finditer(dsn))
    yield from (found[key] for key in ("password", "sslpassword") if found.get(key))
    if is_url(dsn):  # up to the last @, where the library takes the first one
        yield dsn.partition("://")[2].rpartition("@")[0].partition(":")[2]


def _parts_of_address(address: str) -> Iterator[str]:
    try:
        url = urlsplit(address)
        yield from filter(None, (url.password, url.path.strip("/"), url.query))
    except ValueError:
        yield address.partition("://")[2]


def _spellings(secret: str) -> Iterator[str]:
    for one in {secret, unquote(secret), " ".join(secret.split())}:  # the last: a message in one line
        yield from (one, html.escape(one), html.escape(one, quote=False))
        encoded = (quote(one, safe=""), quote(one), quote_plus(one))
        yield from (*encoded, *(re.sub("%..", lambda code: code[0].lower(), text) for text in encoded))
        as_bytes = repr(one.encode(errors="replace"))[1:]
        for quoted in (json.dumps(one), json.dumps(one, ensure_ascii=False), repr(one), as_bytes):
            yield quoted[1:-1]
            for ascii_only in (True, False):  # a message in a message
                yield json.dumps(quoted[1:-1], ensure_ascii=ascii_only)[1:-1]
        yield one.replace("\\", "\\\\").replace("'", "\\'")  # key=value
