"""Numbers with their nouns, as a person reads them."""


def counted(number: int, noun: str) -> str:
    """`1 record`, `2 records`, `1,000 records`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
