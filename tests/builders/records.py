"""Invoice events for the tests, and their way onto a topic."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Sequence

from kafka import KafkaProducer

NOW_MS = round(time.time() * 1000)


def event(invoice: str, date: str, customer: str | None, *lines: tuple[str, int, str]) -> dict:
    """One invoice event; a line is (stock code, quantity, price). Without lines: one of A1 x 1 at 1.00."""
    return {
        "version": 1,
        "invoice": invoice,
        "invoice_date": date if "T" in date else f"{date}T10:00:00",
        "customer_id": customer,
        "lines": [
            {"stock_code": code, "description": f"Product {code}", "quantity": quantity, "price": price}
            for code, quantity, price in lines or [("A1", 1, "1.00")]
        ],
    }


def random_events(count: int, customers: int, seed: int) -> list[dict]:
    """`count` invoices of a year, with ties, admin lines, free lines, returns and unknown customers in them."""
    rng = random.Random(seed)
    codes = ["A1", "B2", "C3", "D4", "ONGKIR", "DISCOUNT", "POST"]
    events = []
    for number in range(count):
        customer = None if rng.random() < 0.1 else f"{12000 + int(customers * rng.random() ** 2)}"
        lines = [
            (rng.choice(codes), rng.choice([1, 1, 2, 3, 12, -1]), rng.choice(["0", "0.05", "1.5", "2.50", "1234.56"]))
            for _ in range(rng.randint(1, 5))
        ]
        date = (
            f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(8, 21):02}:{rng.randint(0, 59):02}:00"
        )
        invoice = f"{'C' if rng.random() < 0.03 else ''}{500000 + number}"
        events.append(event(invoice, date, customer, *lines))
    return events


def encode(events: Iterable[dict]) -> list[tuple[bytes, bytes]]:
    """(key, value) of each event, as the contract says."""
    return [((e["customer_id"] or e["invoice"]).encode(), json.dumps(e).encode()) for e in events]


def send(bootstrap_servers: str, topic: str, records: Sequence[tuple[bytes, bytes | None]]) -> None:
    """Put (key, value) records on the topic and wait until all are there."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=5)
    try:
        sent = [producer.send(topic, key=key, value=value) for key, value in records]
        producer.flush()
        for future in sent:
            future.get(timeout=30)
    finally:
        producer.close()
