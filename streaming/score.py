"""Score: exact quintiles r, f, m of every customer, their segments, and who moved."""

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from sql import statement


def score(cursor: Cursor) -> int:
    """Bring every customer's scores and segment up to date, in the caller's transaction.

    Writes a segment_change for each customer who moved; returns how many did. Customers of the batch are told
    from those that were overtaken by the temporary table fresh_invoice.
    """
    cursor.execute(statement("apply/score"))
    return cursor.rowcount
