"""All SQL of the project: migrations, the statements that the jobs run, Spark expressions."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def statement(name: str) -> str:
    """The text of one SQL file, e.g. `statement("apply/fence")`. Raises FileNotFoundError for an unknown name."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
