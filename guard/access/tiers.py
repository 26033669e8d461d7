"""Who sees what of a value: the form a role sees a column in, and the value in that form. Pure.

The masking views that guard writes for PostgreSQL and MariaDB (`guard.access.views`) give the same texts:
docs/FORMATS.md, section 8, says how each is made. What is unknown, a column, a tier, a category, is hidden.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

from guard.config import Catalog, Column, load_catalog, load_policy
from guard.config.access import AccessPolicy
from guard.config.taxonomy import UNCLASSIFIED
from guard.crypto.stored import looks_sealed
from guard.events import Role

KEY_DOMAIN: Final = "access/view"
"""The keyed digest of no bytes under this domain is the key of the pseudonyms that people see."""
MARK: Final = "***"
LAST: Final = 4
LONG: Final = 8
"""Characters a card or account number has at least before its last ones are shown: never more than half of it."""
PSEUDONYM: Final = "v-"
DIGITS: Final = 16

_CATEGORY: Final = re.compile("[a-z][a-z0-9_]*")
_ISO: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Form(StrEnum):
    """How somebody sees a value."""

    CLEAR = "clear"
    MASKED = "masked"
    PSEUDONYM = "pseudonym"
    HIDDEN = "hidden"


class Mask(StrEnum):
    """What a masked value keeps."""

    FIRST = "first character"
    LAST = "last four characters"
    LAST_OF_LONG = "last four characters of eight or more"
    YEAR = "year"
    NOTHING = "nothing"


_MASKS: Final[dict[str, Mask]] = {
    "card": Mask.LAST_OF_LONG,
    "bank_account": Mask.LAST_OF_LONG,
    "payment": Mask.LAST,
    "card_secret": Mask.NOTHING,
    "secret": Mask.NOTHING,
    "special": Mask.NOTHING,
    "photo": Mask.NOTHING,
    "birth_date": Mask.YEAR,
    "employment": Mask.YEAR,
    "date": Mask.YEAR,
}


def mask_of(category: str) -> Mask:
    """Return what a masked value of a category keeps."""
    return _MASKS.get(category, Mask.FIRST)


def form_of(policy: AccessPolicy, column: Column | None, role: Role, purpose: str | None = None) -> Form:
    """Return how `role` sees `column`; hidden where the catalog lacks it, or nobody has said what it is."""
    if column is None or column.category == UNCLASSIFIED or not _CATEGORY.fullmatch(column.category):
        return Form.HIDDEN
    rule = policy.tier.get(column.tier)
    return Form(rule.form(role, purpose)) if rule else Form.HIDDEN


def is_open(policy: AccessPolicy, column: Column) -> bool:
    """Tell whether every role sees a column clear, whatever for: there is nothing in it to keep."""
    people = (role for role in Role if role is not Role.SERVICE)
    return all(form_of(policy, column, role) is Form.CLEAR for role in people)


def text_of(value: object) -> str | None:
    """Return the one text of a value by which it is masked; None for what has no such text: bytes, floats, lists."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            at = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return at.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case str() | int() | UUID() if not isinstance(value, bool):
            return str(value)
        case _:
            return None


def mask(value: object, form: Form, category: str = "", key: bytes | None = None) -> object:
    """Return `value` as somebody sees it who sees it in `form`. `key`: that of pseudonyms; without it they are hidden.

    NULL stays NULL, which is also what is hidden. A value that is still sealed is hidden in every form.
    """
    if value is None or form is Form.HIDDEN or looks_sealed(value):
        return None
    if form is Form.CLEAR:
        return value
    text = text_of(value)
    if form is Form.MASKED:
        is_date = isinstance(value, date)  # a datetime is one too
        return MARK if text is None else _masked(text, Mask.YEAR if is_date else mask_of(category))
    if key is None:
        return None
    return MARK if text is None else pseudonym(key, category, text)


def pseudonym(key: bytes, category: str, text: str) -> str:
    """Return the stand-in of a text: the same for the same text of a category within a store."""
    found = hmac.new(key, f"{category}:{text}".encode(errors="surrogatepass"), sha256).hexdigest()
    return f"{PSEUDONYM}{found[:DIGITS]}"


def pads(key: bytes) -> tuple[bytes, bytes]:
    """Return the inner and the outer block of HMAC-SHA256 under a key of 32 bytes (RFC 2104), for views."""
    block = key.ljust(64, b"\0")
    return bytes(each ^ 0x36 for each in block), bytes(each ^ 0x5C for each in block)


def _masked(text: str, how: Mask) -> str:
    match how:
        case Mask.LAST:
            return MARK + text[-LAST:]
        case Mask.LAST_OF_LONG:
            return MARK + text[-LAST:] if len(text) >= LONG else MARK
        case Mask.YEAR:
            return text[:4] if _ISO.fullmatch(text[:10]) else MARK
        case Mask.FIRST:
            return text[0] + MARK if len(text) > 1 else MARK
        case _:
            return MARK


@dataclass(frozen=True, slots=True)
class Tiers:
    """Policy and catalog as one says who sees what: for the shop's own code.

    The role is for the shop to know, from its own login: guard knows who somebody is only where guard is asked.
    """

    policy: AccessPolicy
    catalog: Catalog
    key: bytes | None = None
    """The key of pseudonyms; without it they are hidden."""

    @classmethod
    def read(cls, policies: Path, key: bytes | None = None) -> Tiers:
        """Read `access.toml` and `catalog.toml` of a folder. Raises ConfigError naming every mistake in them."""
        return cls(load_policy(policies, "access", AccessPolicy), load_catalog(policies), key)

    def form(self, at: str, role: Role, purpose: str | None = None) -> Form:
        """Return how a role sees "Table.Column"."""
        return form_of(self.policy, self.catalog.find(at), role, purpose)

    def mask(self, at: str, value: object, role: Role, purpose: str | None = None) -> object:
        """Return a value of "Table.Column", opened before, as a role sees it."""
        column = self.catalog.find(at)
        form = form_of(self.policy, column, role, purpose)
        return mask(value, form, column.category if column else "", self.key)
