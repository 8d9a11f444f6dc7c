"""Lines per second of the generator and of a plain Python loop that writes the same shape, in the same run."""

from __future__ import annotations

import csv
import random
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import accumulate, count
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from conf.terminal import Table, number
from producer import shop
from producer.generate import DEFAULT_INVOICES_PER_DAY, HEADER, MEAN_LINES, Options, generate


def plain_loop(output: Path, lines: int, seed: int = 42) -> int:
    """The same shop as one writes it without numpy: the csv module, random, invoice by invoice."""
    rng = random.Random(seed)
    output.mkdir(parents=True, exist_ok=True)
    products = {p.code: p for p in shop.PRODUCTS}
    codes, popularity = list(products), [p.popularity for p in shop.PRODUCTS]
    people = range(shop.FIRST_CUSTOMER, shop.FIRST_CUSTOMER + shop.DEFAULT_CUSTOMERS)
    loyalty = []  # weight, first and last moment of each customer, as in shop.customers
    for _ in people:
        kind, turn = rng.random(), rng.random()
        first = 0.10 + 0.88 * turn if kind >= 0.80 else 0.0
        last = 0.05 + 0.90 * turn if kind < 0.33 else 1.0
        loyalty.append((rng.lognormvariate(0, 1.2), first, last))
    history = lines / MEAN_LINES / DEFAULT_INVOICES_PER_DAY
    quantities, quantity_weights = shop.QUANTITIES.tolist(), shop.QUANTITY_CUMULATIVE.tolist()
    hours = range(shop.OPENING_HOUR, shop.CLOSING_HOUR)
    hour_weights = shop.HOUR_WEIGHTS.tolist()
    written = number = 0
    day = datetime(2024, 1, 1)
    for elapsed in count():
        if written >= lines:
            break
        at = min(1.0, (elapsed + 0.5) / history)
        active = [i for i, (_, first, last) in zip(people, loyalty, strict=True) if first <= at <= last]
        weights = list(accumulate(loyalty[i - shop.FIRST_CUSTOMER][0] for i in active))
        with (output / f"transaksi_{day.date()}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER.split(","))
            moments = sorted(
                hour * 3600 + rng.randrange(3600)
                for hour in rng.choices(hours, hour_weights, k=DEFAULT_INVOICES_PER_DAY)
            )
            for second in moments:
                number += 1
                moment = (day + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")
                anonymous = rng.random() < shop.ANONYMOUS_SHARE
                customer = "" if anonymous else rng.choices(active, cum_weights=weights)[0]
                picks = rng.choices(codes, popularity, k=rng.randint(1, 2 * round(MEAN_LINES) - 1))
                basket = dict.fromkeys(picks)
                for (antecedent, consequent), share in shop.RULES.items():
                    if antecedent in basket:
                        basket.pop(consequent, None)
                        if rng.random() < share:
                            basket[consequent] = None
                belt = list(basket)
                rng.shuffle(belt)
                for code in belt:
                    product = products[code]
                    price = 0 if rng.random() < shop.ZERO_PRICE_SHARE else product.price
                    quantity = rng.choices(quantities, cum_weights=quantity_weights)[0]
                    writer.writerow([number, code, product.description, quantity, moment, price, customer])
                    written += 1
                    if rng.random() < shop.ADMIN_SHARE:
                        charge, text, sign, amount = rng.choice(shop.ADMIN_LINES)
                        writer.writerow([number, charge, text, sign, moment, amount, customer])
                        written += 1
        day += timedelta(days=1)
    return written


def best(write: Callable[[Path], int], repeat: int) -> tuple[int, float]:
    """The lines written and the shortest of the times, each into an empty folder."""
    seconds = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(prefix="bench-generate-") as folder:
            started = time.perf_counter()
            lines = write(Path(folder))
            seconds.append(time.perf_counter() - started)
    return lines, min(seconds)


def main(
    lines: Annotated[int, typer.Option(help="Lines to write.", min=1)] = 1_000_000,
    repeat: Annotated[int, typer.Option(help="Runs of each; the best counts.", min=1)] = 3,
) -> None:
    """Time the generator beside a plain Python loop."""
    table = Table("generator", *map(number, ("lines", "seconds", "lines/s", "times the loop")))
    ours = best(lambda folder: generate(Options(folder, lines=lines)).lines, repeat)
    loop = best(lambda folder: plain_loop(folder, lines), repeat)
    for name, (written, seconds) in (("producer generate (numpy, pyarrow)", ours), ("plain Python loop", loop)):
        times = (written / seconds) / (loop[0] / loop[1])
        table.add(name, f"{written:,}", f"{seconds:.2f}", f"{written / seconds:,.0f}", f"{times:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
