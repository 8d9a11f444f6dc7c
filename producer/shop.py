"""The model of the shop that `generate` and `live` share: its products, its customers and its baskets.

Everything here is a pure function of its arguments and of the numpy Generator that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FIRST_CUSTOMER = 12_000
DEFAULT_CUSTOMERS = 6_001  # 12000–18000
MIN_PRODUCTS = 7

RULES = {("IND-001", "IND-002"): 0.70, ("HHLD-001", "HHLD-002"): 0.60, ("BEV-001", "BEV-002"): 0.50}
"""(antecedent, consequent) → the share of the antecedent's baskets that hold the consequent."""

ANONYMOUS_SHARE = 0.10  # of invoices: no customer
ZERO_PRICE_SHARE = 0.02  # of lines
ADMIN_SHARE = 0.01  # of lines

OPENING_HOUR, CLOSING_HOUR = 8, 22
HOUR_WEIGHTS = np.array([2, 4, 6, 6, 5, 5, 4, 4, 5, 7, 8, 7, 4, 2], dtype=float)
"""Traffic in each hour of the day from OPENING_HOUR on: a rise before noon and the peak after work."""

Codes = NDArray[np.int64]


class Product(NamedTuple):
    code: str
    description: str
    price: int
    """Rupiah a piece."""
    popularity: float
    """Share of the basket's picks, relative to the other products."""


# The first MIN_PRODUCTS are those of the rules and rice: they are part of every shop.
PRODUCTS = [
    Product("IND-001", "Indomie Mi Goreng 85 g", 3_500, 9.0),
    Product("IND-002", "Telur Ayam Negeri 1 kg", 29_500, 5.0),
    Product("HHLD-001", "Sunlight Jeruk Nipis 700 ml", 14_900, 6.0),
    Product("HHLD-002", "Spons Cuci Piring", 4_500, 3.0),
    Product("BEV-001", "Teh Botol Sosro 350 ml", 4_900, 7.0),
    Product("BEV-002", "Aqua Air Mineral 600 ml", 3_900, 5.0),
    Product("RICE-001", "Beras Pandan Wangi 5 kg", 78_500, 5.5),
    Product("OIL-001", "Minyak Goreng Bimoli 2 L", 39_900, 5.0),
    Product("SUGAR-001", "Gula Pasir Gulaku 1 kg", 17_500, 4.5),
    Product("BEV-003", "Kopi Kapal Api 165 g", 15_900, 3.5),
    Product("BEV-004", "Susu Ultra Full Cream 1 L", 19_500, 3.0),
    Product("BEV-005", "Teh Celup Sariwangi 25 kantong", 7_200, 2.5),
    Product("IND-003", "Kecap Manis Bango 520 ml", 24_500, 2.8),
    Product("IND-004", "Sambal ABC Asli 335 ml", 18_900, 2.2),
    Product("IND-005", "Sarden ABC 425 g", 23_900, 1.6),
    Product("IND-006", "Tepung Terigu Segitiga Biru 1 kg", 13_500, 2.4),
    Product("IND-007", "Royco Kaldu Ayam 220 g", 10_500, 1.8),
    Product("IND-008", "Tempe 450 g", 6_500, 3.2),
    Product("IND-009", "Tahu Putih 10 potong", 8_000, 3.0),
    Product("SNACK-001", "Chitato Sapi Panggang 68 g", 11_500, 2.6),
    Product("SNACK-002", "Biskuit Roma Kelapa 300 g", 10_900, 2.0),
    Product("SNACK-003", "Silverqueen Cashew 58 g", 15_500, 1.4),
    Product("SNACK-004", "Roti Tawar Sari Roti", 16_500, 2.7),
    Product("HHLD-003", "Rinso Anti Noda 770 g", 26_900, 2.3),
    Product("HHLD-004", "Tisu Paseo 250 lembar", 12_900, 2.1),
    Product("HHLD-005", "Molto Pewangi 780 ml", 21_900, 1.5),
    Product("CARE-001", "Sabun Lifebuoy Batang 110 g", 4_700, 2.0),
    Product("CARE-002", "Sampo Sunsilk 170 ml", 23_500, 1.5),
    Product("CARE-003", "Pasta Gigi Pepsodent 190 g", 14_500, 1.8),
    Product("BABY-001", "Popok MamyPoko M 32", 69_900, 0.9),
]

# Charges and corrections that a till prints beside the products. A discount is a negative quantity, so that
# prices stay positive.
ADMIN_LINES = [
    ("BIAYA-ADMIN", "Biaya Admin", 1, 2_500),
    ("ONGKIR", "Ongkos Kirim", 1, 15_000),
    ("DISCOUNT", "Diskon Promo", -1, 5_000),
]

_MORE_KINDS = [
    ("SNACK", "Keripik Singkong {} {} g", (60, 500), 45),
    ("BEV", "Kopi Bubuk {} {} g", (100, 500), 110),
    ("BEV", "Sirup {} {} ml", (250, 700), 40),
    ("IND", "Bumbu Dapur {} {} g", (25, 250), 90),
    ("IND", "Kerupuk Udang {} {} g", (200, 800), 50),
    ("HHLD", "Pembersih Lantai {} {} ml", (400, 1600), 18),
    ("CARE", "Sabun Cair {} {} ml", (200, 900), 50),
]


def generator(seed: int, stream: int) -> np.random.Generator:
    """A stream of random numbers: the bit generator is named, so that numpy's default may change."""
    return np.random.Generator(np.random.PCG64([seed, stream]))


def catalogue(products: int, seed: int) -> list[Product]:
    """The shop's first `products` products; past the 30 of PRODUCTS, house brands named by Faker (id_ID)."""
    if products <= len(PRODUCTS):
        return PRODUCTS[:products]
    from faker import Faker  # here, because its import takes longer than a small shop

    fake = Faker("id_ID")
    fake.seed_instance(seed)
    numbers = {kind: sum(p.code.startswith(f"{kind}-") for p in PRODUCTS) for kind, *_ in _MORE_KINDS}
    more = []
    for i in range(products - len(PRODUCTS)):
        kind, name, (smallest, largest), rupiah_per_unit = _MORE_KINDS[i % len(_MORE_KINDS)]
        size = fake.random_int(smallest, largest, step=5)
        numbers[kind] += 1
        price = max(1_000, round(size * rupiah_per_unit, -2))
        popularity = round(2.0 / (1 + i / 10), 4)
        more.append(Product(f"{kind}-{numbers[kind]:03d}", name.format(fake.last_name(), size), price, popularity))
    return PRODUCTS + more


def _pick(cumulative: NDArray[np.float64], count: int, rng: np.random.Generator) -> Codes:
    """`count` indices at random, each as often as its step in the cumulative weights is high."""
    return np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")


@dataclass(frozen=True)
class Customers:
    """The people on the shop's books, one element a customer; the id is FIRST_CUSTOMER + the index.

    `weight` is how often one comes while active. Each is active from `first` to `last`, which are shares of
    the shop's history (0 its first day, 1 its end); lapsed customers have `last` < 1, new ones `first` > 0.
    """

    weight: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]

    def ids(self, indices: Codes) -> Codes:
        return indices + FIRST_CUSTOMER

    def draw(self, count: int, at: float, rng: np.random.Generator) -> Codes:
        """The indices of `count` visitors at a moment of the history, the frequent more often."""
        active = np.flatnonzero((self.first <= at) & (at <= self.last))
        if not len(active):  # a shop of very few customers
            active = np.arange(len(self.weight))
        return active[_pick(np.cumsum(self.weight[active]), count, rng)]

    def lapsed(self) -> Codes:
        """The indices of those who had stopped coming by the end of the history."""
        return np.flatnonzero(self.last < 1)


def customers(count: int, rng: np.random.Generator) -> Customers:
    """Loyalty is skewed: a few come very often, most seldom; a third has lapsed, a fifth came late.

    Frequency and activity are drawn apart from one another, so that every mix of recent and frequent occurs.
    """
    weight = rng.lognormal(mean=0.0, sigma=1.2, size=count)
    kind = rng.random(count)
    moment = rng.random(count)
    last = np.where(kind < 0.33, 0.05 + 0.90 * moment, 1.0)
    first = np.where(kind >= 0.80, 0.10 + 0.88 * moment, 0.0)
    return Customers(weight, first, last)


@dataclass(frozen=True)
class Baskets:
    """What some invoices hold, in order: the line arrays have one element a line.

    `product` is an index into Shelf.codes; `origin`, one element an invoice, is the invoice's own index, or
    that of the purchase that it gives back.
    """

    origin: Codes
    invoice: Codes
    product: Codes
    quantity: Codes
    price: Codes

    def __len__(self) -> int:
        """Lines."""
        return len(self.invoice)

    def cut(self, lines: int) -> Baskets:
        """The first `lines` lines and their invoices, the last of which may be cut short."""
        invoices = int(self.invoice[lines - 1]) + 1 if lines > 0 else 0
        return Baskets(
            self.origin[:invoices],
            self.invoice[:lines],
            self.product[:lines],
            self.quantity[:lines],
            self.price[:lines],
        )


def with_returns(purchases: Baskets, share: float, rng: np.random.Generator) -> Baskets:
    """Turn a share of the invoices into returns: each gives back an earlier purchase, whole."""
    count = len(purchases.origin)
    returned = rng.random(count) < share
    returned[:1] = False  # nothing was bought before
    if not returned.any():
        return purchases
    bought = np.flatnonzero(~returned)
    bought_before: Codes = np.cumsum(~returned) - ~returned
    origin = np.where(returned, bought[(rng.random(count) * bought_before).astype(int)], np.arange(count))

    starts = np.searchsorted(purchases.invoice, np.arange(count))
    sizes = np.bincount(purchases.invoice, minlength=count)[origin]
    invoice = np.repeat(np.arange(count), sizes)
    position = np.arange(len(invoice)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    line = starts[origin][invoice] + position
    sign = np.where(returned, -1, 1)[invoice]
    return Baskets(origin, invoice, purchases.product[line], purchases.quantity[line] * sign, purchases.price[line])


QUANTITIES = np.array([1, 2, 3, 4, 5, 6, 10, 12])
QUANTITY_CUMULATIVE = np.cumsum([0.46, 0.24, 0.11, 0.06, 0.05, 0.04, 0.02, 0.02])


class Shelf:
    """A catalogue as arrays, ready to draw baskets from."""

    def __init__(self, products: list[Product]) -> None:
        self.products = products
        self.codes = [p.code for p in products] + [code for code, *_ in ADMIN_LINES]
        self.descriptions = [p.description for p in products] + [text for _, text, *_ in ADMIN_LINES]
        self.prices = np.array([p.price for p in products] + [price for *_, price in ADMIN_LINES])
        self._cumulative = np.cumsum([p.popularity for p in products])
        self._rules = [
            (self.codes.index(antecedent), self.codes.index(consequent), share)
            for (antecedent, consequent), share in RULES.items()
        ]
        self._admin_quantities = np.array([quantity for *_, quantity, _ in ADMIN_LINES])

    def baskets(self, count: int, rng: np.random.Generator) -> Baskets:
        """What `count` invoices hold: at least one line each, a product once, the rules' shares injected.

        A basket with an antecedent holds the consequent exactly with the rule's probability: one that was
        drawn by chance is put back first.
        """
        size = len(self.products)
        picks = 1 + rng.poisson(2.9, count)
        invoice = np.repeat(np.arange(count), picks)
        product = _pick(self._cumulative, len(invoice), rng)
        drawn = np.sort(invoice * size + product)
        once = np.append(True, drawn[1:] != drawn[:-1])
        invoice, product = np.divmod(drawn[once], size)

        for antecedent, consequent, share in self._rules:
            has = np.zeros(count, dtype=bool)
            has[invoice[product == antecedent]] = True
            kept = ~((product == consequent) & has[invoice])
            injected = np.flatnonzero(has & (rng.random(count) < share))
            invoice = np.concatenate([invoice[kept], injected])
            product = np.concatenate([product[kept], np.full(len(injected), consequent)])

        # Each product line brings an admin line at the odds that make these ADMIN_SHARE of all lines.
        beside = rng.random(len(invoice)) < ADMIN_SHARE / (1 - ADMIN_SHARE)
        charged = invoice[beside]
        charge = rng.integers(len(ADMIN_LINES), size=len(charged))

        # Products in the order in which they come over the belt, charges last. The runs are sorted already, so a
        # stable sort merges them.
        belt = np.concatenate([invoice + rng.random(len(invoice)) / 2, charged + 0.75])
        invoice = np.concatenate([invoice, charged])
        product = np.concatenate([product, size + charge])
        order = np.argsort(belt, kind="stable")
        invoice, product = invoice[order], product[order]

        quantity = QUANTITIES[_pick(QUANTITY_CUMULATIVE, len(invoice), rng)]
        admin = product >= size
        quantity[admin] = self._admin_quantities[product[admin] - size]
        price = np.where(rng.random(len(invoice)) < ZERO_PRICE_SHARE, 0, self.prices[product])
        return Baskets(np.arange(count), invoice, product, quantity, price)


def day_seconds(count: int, rng: np.random.Generator) -> Codes:
    """The moments of `count` sales of a day, in order: seconds since midnight, by HOUR_WEIGHTS."""
    hour = _pick(np.cumsum(HOUR_WEIGHTS), count, rng)
    return np.sort((OPENING_HOUR + hour) * 3600 + rng.integers(3600, size=count))


NIGHT_FACTOR = 0.05


def rhythm(hour: int) -> float:
    """Live traffic in an hour of the day, 1 on average while the shop is open; a trickle at night."""
    if OPENING_HOUR <= hour < CLOSING_HOUR:
        return float(HOUR_WEIGHTS[hour - OPENING_HOUR] / HOUR_WEIGHTS.mean())
    return NIGHT_FACTOR
