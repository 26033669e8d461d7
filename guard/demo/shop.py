"""Makes the sample shop, Lantern & Leaf: stationery and tea, twelve years of orders in one SQLite file.

The same seed, size and time give the same rows. The shop has grown: 0.55 % of the orders were placed more than ten
years before the end of last year, and 0.6 % of the support notes are older than three, so what the demo's rules find
due in the first night is some hundred rows and less than 1 % of a table.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import log
from pathlib import Path
from random import Random

from guard.config import Span
from guard.demo.people import Crowd, Person, Place, pick
from guard.demo.texts import order_note, products, support_note
from guard.errors import InterlockError

SEED = 20261122

_OLD_ORDERS = 0.0055
_OLD_NOTES = 0.006
_NOTES_AGE = Span(months=3 * 12)

_SCHEMA = """
CREATE TABLE customer (
    customer_id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    phone TEXT,
    birth_date TEXT,
    language TEXT NOT NULL,
    country TEXT NOT NULL,
    newsletter INTEGER NOT NULL,
    created_at DATETIME NOT NULL
);
CREATE TABLE address (
    address_id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    street TEXT NOT NULL,
    postal_code TEXT NOT NULL,
    city TEXT NOT NULL,
    country TEXT NOT NULL
);
CREATE TABLE product (
    product_id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    price_cents INTEGER NOT NULL
);
CREATE TABLE orders (
    order_id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
    placed_at DATETIME NOT NULL,
    status TEXT NOT NULL,
    ship_name TEXT,
    ship_street TEXT,
    ship_postal_code TEXT,
    ship_city TEXT,
    ship_country TEXT NOT NULL,
    notes TEXT,
    total_cents INTEGER NOT NULL
);
CREATE TABLE order_item (
    order_id INTEGER NOT NULL REFERENCES orders (order_id),
    line INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES product (product_id),
    quantity INTEGER NOT NULL,
    unit_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, line)
);
CREATE TABLE payment (
    payment_id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL REFERENCES orders (order_id),
    method TEXT NOT NULL,
    card_last4 TEXT,
    provider_token TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    paid_at DATETIME NOT NULL
);
CREATE TABLE support_note (
    note_id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
    order_id INTEGER REFERENCES orders (order_id),
    written_at DATETIME NOT NULL,
    author TEXT NOT NULL,
    body TEXT NOT NULL
);
"""
# Made after the rows: building an index once is faster than keeping it while rows come in.
_INDEXES = """
CREATE INDEX address_customer ON address (customer_id);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_placed_at ON orders (placed_at);
CREATE INDEX order_item_product ON order_item (product_id);
CREATE INDEX payment_order ON payment (order_id);
CREATE INDEX support_note_customer ON support_note (customer_id);
CREATE INDEX support_note_written_at ON support_note (written_at);
CREATE VIEW monthly_total AS
    SELECT substr(placed_at, 1, 7) AS month, count(*) AS orders, sum(total_cents) AS total_cents
    FROM orders WHERE status <> 'cancelled' GROUP BY 1 ORDER BY 1;
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How big the shop is. There are two support notes for five customers, and one to four lines an order."""

    customers: int = 20_000
    orders: int = 60_000

    def __post_init__(self) -> None:
        if self.customers < 1 or self.orders < 1:
            raise ValueError("a shop has at least one customer and one order")

    @property
    def notes(self) -> int:
        """The number of support notes."""
        return self.customers * 2 // 5


def make_shop(path: Path, now: datetime, *, size: Size = Size(), seed: int = SEED) -> dict[str, int]:
    """Write the shop as it stands at `now` (aware) to a new SQLite file. Returns rows by table.

    Raises InterlockError when `path` is already there.
    """
    if path.exists():
        raise InterlockError(f"{path} is already there", hint="name a new file; the demo never overwrites one")
    years = _Years.until(now.astimezone(UTC).replace(microsecond=0), size)
    with closing(sqlite3.connect(path, isolation_level=None)) as shop:
        shop.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;" + _SCHEMA)
        _fill(shop, years, Random(seed))
        shop.execute("COMMIT")
        shop.executescript(_INDEXES + "PRAGMA journal_mode = DELETE;")
        return {table: shop.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}  # noqa: S608  # our names


_TABLES = ("customer", "address", "product", "orders", "order_item", "payment", "support_note")


@dataclass(frozen=True, slots=True)
class _Years:
    """The shop's life from `start` to `now`. It grew: the orders up to a time are a power of the time."""

    now: datetime
    size: Size
    start: datetime
    growth: float
    """The power for which 0.55 % of all orders were placed ten years before the end of last year, or earlier."""

    @classmethod
    def until(cls, now: datetime, size: Size) -> "_Years":
        """The life of a shop that opened two years before the end of the last year whose tax term is over."""
        due = datetime(now.year - 10, 1, 1, tzinfo=UTC)
        start = datetime(due.year - 2, 1, 1, tzinfo=UTC)
        return cls(now, size, start, log(_OLD_ORDERS) / log((due - start) / (now - start)))

    def at(self, share: float) -> datetime:
        """The time by which `share` of all business was done."""
        return self.start + (self.now - self.start) * float(share ** (1 / self.growth))

    def share(self, at: datetime) -> float:
        """The share of all business that was done by `at`."""
        return float(((at - self.start) / (self.now - self.start)) ** self.growth)

    def note_at(self, share: float) -> datetime:
        """The time by which `share` of the kept support notes was written; 0.6 % are past three years."""
        kept = (self.now - _NOTES_AGE.before(self.now)) / (1 - _OLD_NOTES)
        return self.now - kept * (1 - share)


@dataclass(frozen=True, slots=True)
class _Customer:
    id: int
    person: Person


def _fill(shop: sqlite3.Connection, years: _Years, rng: Random) -> None:
    crowd = Crowd(rng)
    goods = products()
    _insert(shop, "product", ((number, *each) for number, each in enumerate(goods, 1)))
    customers = [
        _Customer(number, crowd.person(years.at(number / years.size.customers).date()))
        for number in range(1, years.size.customers + 1)
    ]
    _insert(shop, "customer", _customer_rows(customers, years, rng))
    _insert(shop, "address", _address_rows(customers, crowd, rng))
    clerk = _Clerk(customers, crowd, [price for *_, price in goods])
    _insert(shop, "orders", _order_rows(clerk, years, rng))
    _insert(shop, "order_item", clerk.lines)
    _insert(shop, "payment", clerk.payments)
    _insert(shop, "support_note", _note_rows(clerk, years, rng))


def _insert(shop: sqlite3.Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    found = iter(rows)
    first = next(found, None)
    if first is not None:
        marks = ", ".join("?" * len(first))
        shop.executemany(f"INSERT INTO {table} VALUES ({marks})", _before(first, found))  # noqa: S608  # our names


def _before(first: Sequence[object], rest: Iterator[Sequence[object]]) -> Iterator[Sequence[object]]:
    yield first
    yield from rest


def _customer_rows(customers: list[_Customer], years: _Years, rng: Random) -> Iterator[Sequence[object]]:
    for each in customers:
        who = each.person
        yield (
            each.id,
            who.email,
            who.first_name,
            who.last_name,
            who.phone if rng.random() < 0.9 else None,
            who.birth_date if rng.random() < 0.7 else None,
            who.language,
            who.place.country,
            int(rng.random() < 0.3),
            _text(years.at((each.id - 1) / years.size.customers)),
        )


def _address_rows(customers: list[_Customer], crowd: Crowd, rng: Random) -> Iterator[Sequence[object]]:
    number = 0
    for each in customers:
        who = each.person
        number += 1
        yield (number, each.id, "home", who.full_name, *_place(who.place))
        if rng.random() < 0.25:
            number += 1
            name = who.full_name if rng.random() < 0.5 else crowd.name(who.language)
            yield (number, each.id, "delivery", name, *_place(crowd.place(who.language)))


def _place(place: Place) -> tuple[str, str, str, str]:
    return place.street, place.postal_code, place.city, place.country


@dataclass(frozen=True, slots=True)
class _Clerk:
    """What writing orders needs, and where their lines and payments go."""

    customers: list[_Customer]
    crowd: Crowd
    prices: list[int]
    buyers: list[_Customer] = field(default_factory=list)
    """Who placed order 1, 2, ..."""
    lines: list[Sequence[object]] = field(default_factory=list)
    payments: list[Sequence[object]] = field(default_factory=list)


def _order_rows(clerk: _Clerk, years: _Years, rng: Random) -> Iterator[Sequence[object]]:
    count = years.size.orders
    for number in range(1, count + 1):
        share = (number - 0.5) / count
        placed_at = years.at(share)
        buyer = _one_of(clerk.customers, share, rng)
        clerk.buyers.append(buyer)
        who = buyer.person
        gift = rng.random() < 0.08
        name = clerk.crowd.name(who.language) if gift else who.full_name
        place = clerk.crowd.place(who.language) if gift else who.place
        notes = order_note(rng, who, clerk.crowd.name(who.language)) if rng.random() < 0.15 else None
        status = "cancelled" if rng.random() < 0.03 else "open" if years.now - placed_at < timedelta(days=3) else "sent"
        total = _add_lines(clerk, number, rng)
        if status != "cancelled":
            _add_payment(clerk, number, (placed_at, total), rng)
        yield number, buyer.id, _text(placed_at), status, name, *_place(place), notes, total


def _one_of(customers: list[_Customer], share: float, rng: Random) -> _Customer:
    # One of those who were customers when `share` of all business was done; newer ones more often.
    return customers[int(len(customers) * share * rng.random() ** 0.5)]


def _add_lines(clerk: _Clerk, order: int, rng: Random) -> int:
    total = 0
    for line in range(1, 2 + int(4 * rng.random() ** 2)):
        product = 1 + int(len(clerk.prices) * rng.random())
        quantity = 1 + int(3 * rng.random() ** 3)
        price = clerk.prices[product - 1]
        clerk.lines.append((order, line, product, quantity, price))
        total += quantity * price
    return total


_METHODS = ("card", "card", "card", "wallet", "invoice")


def _add_payment(clerk: _Clerk, order: int, paid: tuple[datetime, int], rng: Random) -> None:
    placed_at, total = paid
    method = pick(rng, _METHODS)
    last4 = f"{int(10_000 * rng.random()):04d}" if method == "card" else None
    token = f"tok_{rng.getrandbits(96):024x}"
    paid_at = placed_at + timedelta(seconds=20 + int(400 * rng.random()))
    clerk.payments.append((len(clerk.payments) + 1, order, method, last4, token, total, _text(paid_at)))


_DESK = ("support-1", "support-2", "support-3", "night-desk")


def _note_rows(clerk: _Clerk, years: _Years, rng: Random) -> Iterator[Sequence[object]]:
    count = years.size.notes
    for number in range(1, count + 1):
        written_at = years.note_at((number - 0.5) / count)
        order = 1 + int((len(clerk.buyers) - 1) * years.share(written_at) * (0.9 + 0.1 * rng.random()))
        about = clerk.buyers[order - 1]
        body = support_note(rng, about.person, clerk.crowd.name(about.person.language), order)
        yield number, about.id, order if str(order) in body else None, _text(written_at), pick(rng, _DESK), body


def _text(at: datetime) -> str:
    return at.isoformat(" ", "seconds")[:19]
