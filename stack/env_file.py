"""The .env file of docker-compose.yml: random passwords, for its owner's eyes."""

from __future__ import annotations

import secrets
from pathlib import Path

from stack.state import write_private

PASSWORDS = (
    "POSTGRES_PASSWORD",
    "MART_OWNER_PASSWORD",
    "MART_WRITER_PASSWORD",
    "MART_READER_PASSWORD",
    "METABASE_DATABASE_PASSWORD",
    "METABASE_ADMIN_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
)


def write_env_file(path: Path) -> list[str]:
    """Write the passwords that the file lacks, mode 600, and keep what it has; returns the names written."""
    kept = path.read_text() if path.exists() else ""
    present = {line.partition("=")[0].strip() for line in kept.splitlines()}
    missing = [name for name in PASSWORDS if name not in present]
    if missing:
        added = "".join(f"{name}={secrets.token_urlsafe(24)}\n" for name in missing)
        write_private(path, kept + ("\n" if kept and not kept.endswith("\n") else "") + added)
    return missing
