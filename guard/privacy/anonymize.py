"""What happens to one value when its time is over. Pure, and the second time changes nothing.

Each way f has f(f(v)) = f(v): the data itself says that it was treated. So an interrupted run goes on where it stopped,
and a row that came back from an old backup is found again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, get_args

from guard.config.taxonomy import AnonymizeMethod
from guard.shop import ShopColumn
from guard.shop.catalog import Sort

METHODS: Final[tuple[str, ...]] = get_args(AnonymizeMethod)

Digest = Callable[[str, bytes], str]
"""Domain and bytes in, keyed digest in hex out: without the key nobody can guess back what it was made from."""

_WORD: Final = "anonymized"
_ANON: Final = re.compile(r"anon-[0-9a-f]{8,32}(@anon\.invalid)?")
_MAIL_TAIL: Final = "@anon.invalid"  # RFC 2606: never a real domain
_ISO: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(.*)", re.DOTALL)
_HEX: Final = 12
_HEX_UNIQUE: Final = 16
_UNIQUE: Final = frozenset({"email", "username"})
"""Categories shops keep unique. The others get shorter pseudonyms, which fit the 20 characters names often have: a
sealed column no longer tells how long its values may be."""
_SORTS: Final[dict[str, frozenset[Sort]]] = {
    "pseudonym": frozenset({Sort.TEXT}),
    "mask": frozenset({Sort.TEXT}),
    "postcode": frozenset({Sort.TEXT}),
    "year": frozenset({Sort.TIME, Sort.TEXT}),
    "month": frozenset({Sort.TIME, Sort.TEXT}),
}
"""The sorts of column a method is for; the others take any."""
_SHORTEST: Final = len("anon-") + 8
_NO_DATE: Final = datetime(1900, 1, 1)  # noqa: DTZ001  # stands in a column that must not be empty; no moment


@dataclass(frozen=True, slots=True)
class Way:
    """How the values of one column are treated: the method, fitted to the column."""

    method: str
    category: str
    column: ShopColumn
    text_dates: bool = False
    """Dates are stored as texts here (SQLite)."""

    def trouble(self) -> str | None:
        """Say why the method does not fit the column; None when it does."""
        if self.method not in METHODS:
            return f'anonymize = "{self.method}" is not one of {", ".join(METHODS)}'
        if self.column.generated:
            return "it is generated from other columns; those are to be treated"
        if self.method == "null" and not self.column.nullable:
            return 'it must not be NULL; use "constant" or "pseudonym"'
        if self.column.sort not in _SORTS.get(self.method, frozenset(Sort)):
            return f'"{self.method}" does not fit a column that is {self.column.type or "without a type"}'
        length = self.column.length
        if self.method == "pseudonym" and length is not None and length < self._least():
            return f"a pseudonym has at least {self._least()} characters, and it takes {length}"
        return None

    def _least(self) -> int:
        return _SHORTEST + (len(_MAIL_TAIL) if self.category == "email" else 0)


def treat(way: Way, value: object, digest: Digest) -> object:
    """Return what stands for `value` from now on; the same value where it was treated already. NULL stays NULL."""
    if value is None:
        return None
    return _WAYS[way.method](way, value, digest)


def _keep(_: Way, value: object, __: Digest) -> object:
    return value


def _null(_: Way, __: object, ___: Digest) -> object:
    return None


def _constant(way: Way, _: object, __: Digest) -> object:
    match way.column.sort:
        case Sort.INTEGER | Sort.NUMBER:
            return 0
        case Sort.BOOLEAN:
            return 0 if way.text_dates else False
        case Sort.BINARY:
            return b""
        case Sort.TIME:
            return "1900-01-01" if way.text_dates else _NO_DATE
        case _:
            return _WORD[: way.column.length]


def _mask(_: Way, value: object, __: Digest) -> object:
    text = str(value)
    return text if text in {"", "***"} else f"{text[0]}***" if len(text) > 1 else "***"


def _pseudonym(way: Way, value: object, digest: Digest) -> object:
    text = str(value)
    if not text or _ANON.fullmatch(text):
        return value
    tail = _MAIL_TAIL if way.category == "email" else ""
    room = (way.column.length or 1000) - len("anon-") - len(tail)
    size = min(room, _HEX_UNIQUE if way.category in _UNIQUE else _HEX)
    return f"anon-{digest(f'pseudonym/{way.category}', text.encode())[:size]}{tail}"


def _year(way: Way, value: object, _: Digest) -> object:
    return _cut(way, value, keep_month=False)


def _month(way: Way, value: object, _: Digest) -> object:
    return _cut(way, value, keep_month=True)


def _cut(way: Way, value: object, *, keep_month: bool) -> object:
    match value:
        case datetime():
            first = value.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return first if keep_month else first.replace(month=1)
        case date():
            return value.replace(day=1) if keep_month else value.replace(month=1, day=1)
        case str() if found := _ISO.fullmatch(value):
            year, month, rest = found[1], found[2], found[4]
            return f"{year}-{month if keep_month else '01'}-01{re.sub('[0-9]', '0', rest)}"
        case str() if re.fullmatch(r"\d{4}", value):
            return value
        case _:  # no date that could be cut: nothing of it may stay
            return None if way.column.nullable else _constant(way, value, lambda *_: "")


def _postcode(_: Way, value: object, __: Digest) -> object:
    return str(value)[:2]


_WAYS: Final[dict[str, Callable[[Way, object, Digest], object]]] = {
    "keep": _keep,
    "null": _null,
    "constant": _constant,
    "mask": _mask,
    "pseudonym": _pseudonym,
    "year": _year,
    "month": _month,
    "postcode": _postcode,
}


def same(old: object, new: object) -> bool:
    """Tell whether a treated value is what was there before, as databases compare: a date equals its midnight."""
    if isinstance(old, date) and not isinstance(old, datetime) and isinstance(new, datetime):
        return datetime(old.year, old.month, old.day) == new  # noqa: DTZ001  # both without a zone
    if isinstance(old, memoryview):
        return bytes(old) == new
    return (type(old) is type(new) and old == new) or (isinstance(old, int | float) and old == new)
