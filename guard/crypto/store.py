"""The keyring's tables in guard's state: wrapped keys, the root's origin, the next key id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)

from guard.clock import parse, stamp
from guard.crypto.roots import Argon2Params
from guard.crypto.wrap import Key
from guard.state import METADATA, Tx

KEY = Table(
    "key",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("purpose", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("made_at", Text, nullable=False),
    Column("parent", BigInteger, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("commitment", LargeBinary, nullable=False),
    Column("recovery", LargeBinary),
    UniqueConstraint("purpose", "version"),
)

ROOT = Table(
    "key_root",
    METADATA,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("salt", LargeBinary),
    Column("memory", Integer),
    Column("passes", Integer),
    Column("lanes", Integer),
    Column("recovery_public", LargeBinary),
    Column("recovery_tag", LargeBinary),
    Column("next_id", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A key as it is stored. `sheet` says what it is; its material is empty."""

    sheet: Key
    made_at: datetime
    parent: int
    wrapped: bytes
    commitment: bytes
    recovery: bytes | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the root key comes from: `kind` is "file" or "passphrase"; the latter has its Argon2id parameters."""

    kind: str = "file"
    argon2: Argon2Params | None = None


@dataclass(frozen=True, slots=True)
class KitHalf:
    """The public half of the recovery kit, and the tag under the KEK that vouches for it."""

    public: bytes
    tag: bytes


def found(tx: Tx, origin: Origin) -> None:
    """Write the one row of the root: there is a keyring from now on."""
    tx.execute(insert(ROOT).values(one=1, next_id=1, **_origin_values(origin)))


def set_origin(tx: Tx, origin: Origin) -> None:
    """Remember that the root key now comes from `origin`."""
    tx.execute(update(ROOT).values(**_origin_values(origin)))


def set_kit(tx: Tx, kit: KitHalf) -> None:
    """Remember the kit that new keys are sealed to."""
    tx.execute(update(ROOT).values(recovery_public=kit.public, recovery_tag=kit.tag))


def origin_of(tx: Tx) -> Origin | None:
    """Return where the root key comes from; None before there is a keyring."""
    row = tx.execute(select(ROOT)).one_or_none()
    if row is None:
        return None
    if row.kind != "passphrase":
        return Origin(row.kind)
    return Origin(row.kind, Argon2Params(row.salt, row.memory, row.passes, row.lanes))


def kit_of(tx: Tx) -> KitHalf | None:
    """Return the kit that keys are sealed to, unverified; None when there is none."""
    row = tx.execute(select(ROOT.c.recovery_public, ROOT.c.recovery_tag)).one_or_none()
    return None if row is None or row[0] is None else KitHalf(row[0], row[1])


def take_id(tx: Tx) -> int:
    """Return a key id that was never given before."""
    key_id: int = tx.execute(select(ROOT.c.next_id)).scalar_one()
    tx.execute(update(ROOT).values(next_id=key_id + 1))
    return key_id


def add(tx: Tx, row: Row) -> None:
    """Store a new key."""
    tx.execute(
        insert(KEY).values(
            id=row.sheet.id,
            purpose=row.sheet.purpose,
            version=row.sheet.version,
            made_at=stamp(row.made_at),
            parent=row.parent,
            wrapped=row.wrapped,
            commitment=row.commitment,
            recovery=row.recovery,
        )
    )


def set_wrapped(tx: Tx, key_id: int, wrapped: bytes) -> None:
    """Replace how a key is wrapped."""
    tx.execute(update(KEY).where(KEY.c.id == key_id).values(wrapped=wrapped))


def set_recovery(tx: Tx, key_id: int, sealed: bytes) -> None:
    """Replace how a key is sealed to the recovery kit."""
    tx.execute(update(KEY).where(KEY.c.id == key_id).values(recovery=sealed))


def all_rows(tx: Tx) -> list[Row]:
    """Return every key, by id."""
    return [_row(each) for each in tx.execute(select(KEY).order_by(KEY.c.id))]


def by_id(tx: Tx, key_id: int) -> Row | None:
    """Return one key; None when there is none with this id."""
    row = tx.execute(select(KEY).where(KEY.c.id == key_id)).one_or_none()
    return None if row is None else _row(row)


def newest(tx: Tx, purpose: str) -> Row | None:
    """Return the highest version of a purpose; None when there is none."""
    row = tx.execute(select(KEY).where(KEY.c.purpose == purpose).order_by(KEY.c.version.desc()).limit(1)).one_or_none()
    return None if row is None else _row(row)


def _row(row: Any) -> Row:
    sheet = Key(row.id, row.purpose, row.version, b"")
    return Row(sheet, parse(row.made_at), row.parent, row.wrapped, row.commitment, row.recovery)


def _origin_values(origin: Origin) -> dict[str, object]:
    argon2 = origin.argon2
    if argon2 is None:
        return {"kind": origin.kind, "salt": None, "memory": None, "passes": None, "lanes": None}
    return {
        "kind": origin.kind,
        "salt": argon2.salt,
        "memory": argon2.memory,
        "passes": argon2.passes,
        "lanes": argon2.lanes,
    }
