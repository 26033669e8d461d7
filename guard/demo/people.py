"""Made-up people of the sample shop: English, German and Chinese names, addresses, phone numbers, e-mails.

Nobody here is real: e-mail domains are the reserved ones (RFC 2606), phone numbers come from blocks for fiction where a
country has them (`words.toml`), and all are valid to a phone number library.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

DOMAINS = ("example.com", "example.org", "example.net", "mail.example", "post.example")


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody lives. `country` is ISO 3166-1 alpha-2."""

    street: str
    postal_code: str
    city: str
    country: str


@dataclass(frozen=True, slots=True)
class Person:
    """One made-up customer. `language` is ISO 639-1; `full_name` is written as the language does."""

    first_name: str
    last_name: str
    full_name: str
    email: str
    phone: str
    birth_date: str
    language: str
    place: Place


class Crowd:
    """Makes people from a seeded source; no two share an e-mail address."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._seen: Counter[str] = Counter()

    def person(self, today: date) -> Person:
        """Return the next person, an adult on `today`. About 4 in 10 are English, 4 German, 2 Chinese."""
        rng = self._rng
        kind = rng.random()
        language = "en" if kind < 0.4 else "de" if kind < 0.8 else "zh"
        first, last, full, local = _NAMES[language](rng)
        home = _home(language, rng)
        age = timedelta(days=365.25 * (18 + 67 * rng.random() ** 1.6))
        born = (today - age).isoformat()
        return Person(first, last, full, self._email(local), home.phone(rng), born, language, home.place(rng))

    def name(self, language: str) -> str:
        """Return the full name of somebody else who speaks `language`: a neighbour, a gift's receiver."""
        return _NAMES[language](self._rng)[2]

    def place(self, language: str) -> Place:
        """Return another address where `language` is spoken."""
        return _home(language, self._rng).place(self._rng)

    def _email(self, local: str) -> str:
        self._seen[local] += 1
        number = self._seen[local]
        return f"{local}{number if number > 1 else ''}@{pick(self._rng, DOMAINS)}"


def pick(rng: Random, items: Sequence[T]) -> T:
    """Return one of `items`; faster than Random.choice."""
    return items[int(rng.random() * len(items))]


def digits(rng: Random, pattern: str) -> str:
    """Return `pattern` with a random digit for each #."""
    count = pattern.count("#")
    number = f"{int(10**count * rng.random()):0{count}d}"
    at = pattern.find("#")
    return pattern[:at] + number + pattern[at + count :] if count else pattern


@cache
def _words() -> dict[str, dict[str, list[Any]]]:
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))


def _word(rng: Random, part: str, name: str) -> Any:
    return pick(rng, _words()[part][name])


_ASCII = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ë": "e", "-": "", "'": ""})


def _western(language: str, rng: Random) -> tuple[str, str, str, str]:
    first, last = _word(rng, language, "first"), _word(rng, language, "last")
    full = f"{first} {last}"
    return first, last, full, full.lower().translate(_ASCII).replace(" ", ".")


def _chinese(rng: Random) -> tuple[str, str, str, str]:
    (first, given), (last, family) = _word(rng, "zh", "given"), _word(rng, "zh", "last")
    return first, last, last + first, f"{family}.{given}"


_NAMES: dict[str, Callable[[Random], tuple[str, str, str, str]]] = {
    "en": lambda rng: _western("en", rng),
    "de": lambda rng: _western("de", rng),
    "zh": _chinese,
}
"""Each gives (first name, last name, full name, local part of an e-mail address)."""


@dataclass(frozen=True, slots=True)
class _Home:
    phone: Callable[[Random], str]
    place: Callable[[Random], Place]


def _home(language: str, rng: Random) -> _Home:
    return pick(rng, _HOMES[language])


def _british_place(rng: Random) -> Place:
    city, code = _word(rng, "gb", "cities")
    street = f"{1 + int(180 * rng.random())} {_word(rng, 'gb', 'streets')}"
    if rng.random() < 0.15:
        street = f"Flat {1 + int(30 * rng.random())}, {street}"
    return Place(street, digits(rng, code), city, "GB")


def _american_place(rng: Random) -> Place:
    city, code = _word(rng, "us", "cities")
    street = f"{100 + int(9800 * rng.random())} {_word(rng, 'us', 'streets')}"
    if rng.random() < 0.2:
        street += f" Apt {1 + int(40 * rng.random())}"
    return Place(street, digits(rng, code), city, "US")


def _german_place(rng: Random) -> Place:
    city, code = _word(rng, "de", "cities")
    number = f"{1 + int(140 * rng.random())}{pick(rng, ('', '', '', 'a', 'b'))}"
    return Place(f"{_word(rng, 'de', 'streets')} {number}", digits(rng, code), city, "DE")


def _chinese_place(rng: Random) -> Place:
    city, code = _word(rng, "zh", "cities")
    street = f"{_word(rng, 'zh', 'streets')}{1 + int(900 * rng.random())}号"
    if rng.random() < 0.7:
        street += f"{1 + int(20 * rng.random())}栋{100 * (1 + int(20 * rng.random())) + 1 + int(4 * rng.random())}室"
    return Place(street, digits(rng, code), city, "CN")


def _british_phone(rng: Random) -> str:
    number = digits(rng, _word(rng, "gb", "phones") + "###")
    return f"+44 {number}" if rng.random() < 0.6 else f"0{number}"


def _american_phone(rng: Random) -> str:
    area, line = _word(rng, "us", "areas"), digits(rng, "555-01##")
    return f"+1 {area}-{line}" if rng.random() < 0.6 else f"({area}) {line}"


def _german_phone(rng: Random) -> str:
    number = digits(rng, _word(rng, "de", "phones") + "###")
    return f"+49 {number}" if rng.random() < 0.6 else "0" + number.replace(" ", " / ", 1)


def _chinese_phone(rng: Random) -> str:
    number = digits(rng, _word(rng, "zh", "phones") + " 0000 ####")
    return f"+86 {number}" if rng.random() < 0.6 else number.replace(" ", "")


_HOMES = {
    "en": (_Home(_british_phone, _british_place), _Home(_american_phone, _american_place)),
    "de": (_Home(_german_phone, _german_place),),
    "zh": (_Home(_chinese_phone, _chinese_place),),
}
