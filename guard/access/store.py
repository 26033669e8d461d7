"""The tables of the access room. Each row carries a keyed digest of itself: only guard can write one that is believed.

guard/state/sealed.py does that; docs/FORMATS.md, section 8, says what is digested.
"""

from __future__ import annotations

from base64 import b32encode

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Table

from guard.crypto import random
from guard.state import METADATA
from guard.state.sealed import Digest, Row, Sealed
from guard.state.sealed import seal_column as _seal

__all__ = [
    "APPROVAL", "FACTOR", "GRANT", "PENDING", "PERSON", "RECOVERY", "STANDING", "Digest", "Row", "Sealed", "new_id",
]  # fmt: skip

_TIME = 27
"""Times are texts of `clock.stamp`: they sort as they are."""


PERSON = Table(
    "access_person",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("os_user", String(200), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("since", String(_TIME), nullable=False),
    _seal(),
)

FACTOR = Table(
    "access_factor",
    METADATA,
    Column("person", String(12), primary_key=True),
    Column("secret", LargeBinary),
    Column("last_step", BigInteger, nullable=False),
    Column("drift", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("locked_until", String(_TIME)),
    Column("open_until", String(_TIME)),
    _seal(),
)

RECOVERY = Table(
    "access_recovery",
    METADATA,
    Column("person", String(12), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("used_at", String(_TIME)),
    _seal(),
)

GRANT = Table(
    "access_grant",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("person", String(12), nullable=False, index=True),
    Column("action", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("reads", Boolean, nullable=False),
    Column("given_at", String(_TIME), nullable=False),
    Column("until", String(_TIME), nullable=False),
    Column("spent_at", String(_TIME)),
    Column("ending", String(20)),
    _seal(),
)

STANDING = Table(
    "access_standing",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("action", String(100), nullable=False, index=True),
    Column("policy", String(64), nullable=False),
    Column("given_by", String(12), nullable=False),
    Column("given_at", String(_TIME), nullable=False),
    Column("ended_by", String(50)),
    Column("ended_at", String(_TIME)),
    _seal(),
)

PENDING = Table(
    "access_pending",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("action", String(100), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("args", LargeBinary),
    Column("lasting", Boolean, nullable=False),
    Column("asked_by", String(12), nullable=False),
    Column("asked_at", String(_TIME), nullable=False),
    Column("ended", String(10)),
    Column("ended_by", String(50)),
    Column("ended_at", String(_TIME)),
    _seal(),
)

APPROVAL = Table(
    "access_approval",
    METADATA,
    Column("request", String(12), primary_key=True),
    Column("person", String(12), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("at", String(_TIME), nullable=False),
    Column("ended_at", String(_TIME)),
    _seal(),
)


def new_id(prefix: str) -> str:
    """Return `prefix`, a hyphen and 10 random base32 characters (50 bit): enough to tell rows apart."""
    return f"{prefix}-{b32encode(random.token(7)).decode()[:10].lower()}"
