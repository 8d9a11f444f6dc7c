"""The expected mart, worked out from the raw lines in pandas: written from the business rules, not from our SQL."""

from __future__ import annotations

import pandas as pd

ADMIN_CODES = {
    "BIAYA-ADMIN", "ONGKIR", "DISCOUNT", "POST", "DOT", "C2", "M", "D", "S", "B", "PADS", "BANK CHARGES", "AMAZONFEE",
    "CRUK", "ADJUST", "ADJUST2", "TEST001", "TEST002", "GIFT_0001_10", "GIFT_0001_20", "GIFT_0001_30",
    "GIFT_0001_40", "GIFT_0001_50",
}  # fmt: skip
CUSTOMER_COLUMNS = ["customer_id", "frequency", "monetary", "last_purchase", "r", "f", "m", "segment"]


def expected_customers(lines: pd.DataFrame, returns_policy: str = "ignore") -> pd.DataFrame:
    """One row a customer (CUSTOMER_COLUMNS), monetary in whole cents, ordered by customer_id.

    `lines`: one row an invoice line: invoice, invoice_date (datetime), customer_id (str or None), stock_code,
    description, quantity (int), cents (int, unit price).
    """
    code = lines.stock_code.str.strip(" ").str.upper()
    product = (
        (lines.cents > 0)
        & (lines.description.str.strip(" ") != "")
        & lines.stock_code.str.contains("[0-9]", regex=True)
        & ~code.isin(ADMIN_CODES)
    )
    counting = product & (lines.quantity > 0) & ~lines.invoice.str.startswith("C")
    known = lines.customer_id.notna()
    amount = lines.assign(amount=lines.quantity * lines.cents)
    bought = (
        amount[counting & known]
        .groupby("customer_id")
        .agg(frequency=("invoice", "nunique"), monetary=("amount", "sum"), last_purchase=("invoice_date", "max"))
    )
    if returns_policy == "net":
        returned = amount[product & known & (lines.quantity < 0)].groupby("customer_id").amount.sum()
        bought["monetary"] += returned.reindex(bought.index, fill_value=0)
    customers = bought.reset_index().sort_values("customer_id", ignore_index=True)
    customers["r"] = quintile(customers, customers.last_purchase.dt.normalize())
    customers["f"] = quintile(customers, customers.frequency)
    customers["m"] = quintile(customers, customers.monetary)
    customers["segment"] = [segment(r, f) for r, f in zip(customers.r, customers.f, strict=True)]
    return customers[CUSTOMER_COLUMNS]


def quintile(customers: pd.DataFrame, metric: pd.Series) -> pd.Series:
    """ntile(5) over (metric, customer_id), 1 lowest; the first n % 5 tiles are one larger (the SQL standard)."""
    order = customers.assign(metric=metric).sort_values(["metric", "customer_id"]).index
    size, larger = divmod(len(order), 5)
    tiles = [tile for tile in range(1, 6) for _ in range(size + (tile <= larger))]
    return pd.Series(tiles, index=order, dtype="int64").reindex(customers.index)


def segment(r: int, f: int) -> str:
    if r >= 4 and f >= 4:
        return "Champions"
    if r >= 4 and f >= 2:
        return "Potential Loyalists"
    if r >= 3 and f >= 3:
        return "Loyal Customers"
    if r <= 2 and f >= 3:
        return "At Risk"
    if r >= 3 and f <= 2:
        return "New Customers"
    return "Needs Attention"


def lines_of_events(events: list[dict]) -> pd.DataFrame:
    """The lines of invoice events; of several events with one invoice number the first."""
    first = {}
    for event in events:
        first.setdefault(event["invoice"], event)
    rows = [
        {
            "invoice": event["invoice"],
            "invoice_date": pd.Timestamp(event["invoice_date"]),
            "customer_id": event["customer_id"],
            "stock_code": line["stock_code"],
            "description": line["description"],
            "quantity": line["quantity"],
            "cents": round(float(line["price"]) * 100),
        }
        for event in first.values()
        for line in event["lines"]
    ]
    return pd.DataFrame(rows).astype({"invoice_date": "datetime64[ns]", "customer_id": "object"})
