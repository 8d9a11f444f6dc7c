"""Which invoice lines count: the parameters of streaming.clean and `sql/spark.sql`, from `line_rules.toml`."""

import tomllib
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("line_rules.toml")


@cache
def admin_codes() -> tuple[str, ...]:
    """Stock codes that are charges or corrections, not products; in capitals, spaces trimmed, sorted."""
    rules = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(sorted(code.strip().upper() for code in rules["admin_codes"]))
