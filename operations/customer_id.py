"""A customer's id as an operator has typed it."""

from __future__ import annotations

from conf.errors import StreamingError


def checked_id(customer: str) -> str:
    """The same id. Raises StreamingError if it holds bytes that are no UTF-8, which no invoice can have."""
    try:
        customer.encode()
    except UnicodeEncodeError:
        raise StreamingError(
            f"customer {customer!r} is not valid UTF-8, as every id in the mart is: give it in UTF-8, whatever the "
            "terminal's encoding"
        ) from None
    return customer
