"""Metabase's administrator: from the environment, or generated at the first setup and kept in MART_HOME."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from conf.masking import conceal
from conf.settings import Settings
from dashboards.metabase.api import MetabaseError

FILE_NAME = "metabase.json"


class Account(NamedTuple):
    """An administrator of one Metabase."""

    email: str
    password: str


def known_account(settings: Settings) -> Account | None:
    """The administrator's account as the environment or MART_HOME/metabase.json names it; None where neither does."""
    if settings.metabase_admin_password is not None:
        return Account(settings.metabase_admin_email, settings.metabase_admin_password.get_secret_value())
    kept = _read(settings).get(settings.metabase_url)
    if not kept:
        return None
    conceal(kept["password"])
    return Account(**kept)


def first_account(settings: Settings) -> Account:
    """The account for setting up a fresh Metabase. A generated password is on disk before Metabase gets it."""
    known = known_account(settings)
    if known is not None:
        return known
    # the ending satisfies the strictest of Metabase's rules (`strong`: two small, two capital, a digit, another sign)
    account = Account(settings.metabase_admin_email, secrets.token_urlsafe(24) + "-aaAA1")
    conceal(account.password)
    _write(settings, _read(settings) | {settings.metabase_url: account._asdict()})
    return account


def file(settings: Settings) -> Path:
    """Where generated passwords are kept, by the URL of their Metabase; readable by the owner alone."""
    return settings.mart_home / FILE_NAME


def log_in(settings: Settings) -> str:
    """With what a person logs in, without the password itself."""
    if settings.metabase_api_key is not None:
        return "your own account"
    where = "METABASE_ADMIN_PASSWORD" if settings.metabase_admin_password else f"in {file(settings)}"
    known = known_account(settings)
    return f"{known.email if known else settings.metabase_admin_email}, password {where}"


def _read(settings: Settings) -> dict[str, dict[str, str]]:
    try:
        kept = json.loads(file(settings).read_text(encoding="utf-8"))
        return {url: {"email": str(one["email"]), "password": str(one["password"])} for url, one in kept.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MetabaseError(
            f"{file(settings)} cannot be read as accounts by URL: put it right, or move it away and set "
            "METABASE_ADMIN_PASSWORD"
        ) from None


def _write(settings: Settings, accounts: dict[str, dict[str, str]]) -> None:
    """Replace the file in one step: a crash leaves the old one or the new one."""
    path = file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as text:
        text.write(json.dumps(accounts, indent=2) + "\n")
        text.flush()
        os.fsync(text.fileno())
    new.replace(path)
