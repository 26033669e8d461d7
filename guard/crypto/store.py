"""The keyring's tables in guard's state: wrapped keys, the roots of the KEK, the kit, the next key id. FORMATS 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
    update,
)

from guard.clock import parse, stamp
from guard.crypto.kek import Origin, UnderRoot
from guard.crypto.roots import Argon2Params
from guard.crypto.wrap import Key
from guard.errors import TamperedError
from guard.state import METADATA, Tx

KEY = Table(
    "key",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("purpose", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("parent", BigInteger, nullable=False),
    Column("wrapped", LargeBinary),
    Column("commitment", LargeBinary, nullable=False),
    Column("recovery", LargeBinary),
    UniqueConstraint("purpose", "version"),
)

ROOT = Table(
    "key_root",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("mark", LargeBinary),
    Column("salt", LargeBinary),
    Column("memory", Integer),
    Column("passes", Integer),
    Column("lanes", Integer),
    Column("kms_key", Text),
    Column("kms_arn", Text),
    Column("wrapped", LargeBinary, nullable=False),
)

RING = Table(
    "key_ring",
    METADATA,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("next_id", BigInteger, nullable=False),
    Column("roots_at", Text, nullable=False),
    Column("recovery_public", LargeBinary),
    Column("recovery_tag", LargeBinary),
    Column("kit_made_at", Text),
    Column("kit_tested_at", Text),
)


class Life(StrEnum):
    """How far a key has come; it only goes on, but for a retired one that is called back."""

    WAITING = "waiting"
    """Made by a rotation; no backup of state is known to hold it, so it seals nothing."""
    ACTIVE = "active"
    RETIRED = "retired"
    """Nothing is sealed under it any more: it does not open."""
    DESTROYED = "destroyed"
    """Its material is gone; the row stays so that its id is never given again."""


USE = Table(
    "key_use",
    METADATA,
    Column("key_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("reserved", BigInteger, nullable=False),
)
"""How many values may have been sealed by alg 1 under a key."""


@dataclass(frozen=True, slots=True)
class Row:
    """A key as it is stored. `sheet` says what it is; its material is empty."""

    sheet: Key
    made_at: datetime
    parent: int
    wrapped: bytes | None
    """None for the KEK, which lies under its roots, and for what was destroyed."""
    commitment: bytes
    recovery: bytes | None
    life: Life = Life.ACTIVE
    changed_at: datetime | None = None
    """Since when it is in this state; None: since it was made."""


@dataclass(frozen=True, slots=True)
class KitHalf:
    """The public half of the recovery kit, and the tag under the KEK that vouches for it."""

    public: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class KitDates:
    """When the recovery kit was made, and last opened every key in a test; None: never."""

    made_at: datetime | None
    tested_at: datetime | None


def found(tx: Tx, next_id: int, roots: Sequence[UnderRoot], at: datetime) -> None:
    """Write the one row of the keyring and its roots: there is a keyring from now on."""
    tx.execute(insert(RING).values(one=1, next_id=next_id, roots_at=stamp(at)))
    set_roots(tx, roots, at)


def set_roots(tx: Tx, roots: Sequence[UnderRoot], at: datetime) -> None:
    """Put `roots` in place of those the KEK was wrapped under."""
    tx.execute(delete(ROOT))
    tx.execute(insert(ROOT), [{"number": number, **_root_values(each)} for number, each in enumerate(roots, 1)])
    tx.execute(update(RING).values(roots_at=stamp(at)))


def roots_of(tx: Tx) -> tuple[UnderRoot, ...]:
    """Return what the KEK is wrapped under; nothing before there is a keyring."""
    return tuple(UnderRoot(_origin(row), row.wrapped) for row in tx.execute(select(ROOT).order_by(ROOT.c.number)))


def roots_changed_at(tx: Tx) -> datetime | None:
    """Return when the roots were last wrapped under; None before there is a keyring."""
    at = tx.execute(select(RING.c.roots_at)).scalar_one_or_none()
    return None if at is None else parse(at)


def set_kit(tx: Tx, kit: KitHalf, at: datetime) -> None:
    """Remember the kit that new keys are sealed to, made at `at` and not tested yet."""
    values = {"recovery_public": kit.public, "recovery_tag": kit.tag}
    tx.execute(update(RING).values(**values, kit_made_at=stamp(at), kit_tested_at=None))


def set_kit_tag(tx: Tx, tag: bytes) -> None:
    """Replace the tag that vouches for the kit: the KEK is another."""
    tx.execute(update(RING).values(recovery_tag=tag))


def note_tested(tx: Tx, at: datetime) -> None:
    """Remember that the kit opened every key at `at`."""
    tx.execute(update(RING).values(kit_tested_at=stamp(at)))


def kit_of(tx: Tx) -> KitHalf | None:
    """Return the kit that keys are sealed to, unverified; None when there is none."""
    row = tx.execute(select(RING.c.recovery_public, RING.c.recovery_tag)).one_or_none()
    return None if row is None or row[0] is None else KitHalf(row[0], row[1])


def kit_dates(tx: Tx) -> KitDates:
    """Return when the kit was made and tested."""
    row = tx.execute(select(RING.c.kit_made_at, RING.c.kit_tested_at)).one_or_none()
    made, tested = row or (None, None)
    return KitDates(made and parse(made), tested and parse(tested))


def take_id(tx: Tx, count: int = 1) -> int:
    """Return the first of `count` key ids in a row that were never given before."""
    key_id: int = tx.execute(select(RING.c.next_id)).scalar_one()
    tx.execute(update(RING).values(next_id=key_id + count))
    return key_id


def add(tx: Tx, row: Row) -> None:
    """Store a new key."""
    tx.execute(
        insert(KEY).values(
            id=row.sheet.id,
            purpose=row.sheet.purpose,
            version=row.sheet.version,
            state=row.life.value,
            made_at=stamp(row.made_at),
            changed_at=stamp(row.changed_at or row.made_at),
            parent=row.parent,
            wrapped=row.wrapped,
            commitment=row.commitment,
            recovery=row.recovery,
        )
    )


def set_wrapped(tx: Tx, key_id: int, wrapped: bytes, parent: int) -> None:
    """Replace how a key is wrapped, and under which key."""
    tx.execute(update(KEY).where(KEY.c.id == key_id).values(wrapped=wrapped, parent=parent))


def set_recovery(tx: Tx, key_id: int, sealed: bytes) -> None:
    """Replace how a key is sealed to the recovery kit."""
    tx.execute(update(KEY).where(KEY.c.id == key_id).values(recovery=sealed))


def set_life(tx: Tx, key_id: int, life: Life, at: datetime) -> None:
    """Bring a key into another state; what is destroyed loses its material and its copy for the kit."""
    gone = {"wrapped": None, "recovery": None} if life is Life.DESTROYED else {}
    tx.execute(update(KEY).where(KEY.c.id == key_id).values(state=life.value, changed_at=stamp(at), **gone))


def all_rows(tx: Tx) -> list[Row]:
    """Return every key, by id."""
    return [_row(each) for each in tx.execute(select(KEY).order_by(KEY.c.id))]


def by_id(tx: Tx, key_id: int) -> Row | None:
    """Return one key; None when there is none with this id."""
    row = tx.execute(select(KEY).where(KEY.c.id == key_id)).one_or_none()
    return None if row is None else _row(row)


def newest(tx: Tx, purpose: str) -> Row | None:
    """Return the highest version of a purpose, in whatever state; None when there is none."""
    return next(iter(_versions(tx, purpose)), None)


def current(tx: Tx, purpose: str) -> Row | None:
    """Return the version that seals: the highest that does not wait, if it is active; else None."""
    row = next((row for row in _versions(tx, purpose) if row.life is not Life.WAITING), None)
    return row if row and row.life is Life.ACTIVE else None


def _versions(tx: Tx, purpose: str) -> list[Row]:
    """Return the versions of a purpose, the newest first."""
    query = select(KEY).where(KEY.c.purpose == purpose).order_by(KEY.c.version.desc())
    return [_row(each) for each in tx.execute(query)]


def reserved(tx: Tx, key_id: int) -> int:
    """Return how many values are reserved for a key of alg 1."""
    return tx.scalar(select(USE.c.reserved).where(USE.c.key_id == key_id)) or 0


def reserve(tx: Tx, key_id: int, values: int) -> None:
    """Add to what is reserved for a key; a negative number gives back, never more than this state knows of."""
    now = max(reserved(tx, key_id) + values, 0)
    if not tx.execute(update(USE).where(USE.c.key_id == key_id).values(reserved=now)).rowcount:
        tx.execute(insert(USE).values(key_id=key_id, reserved=now))


def _row(row: Any) -> Row:
    return Row(
        Key(row.id, row.purpose, row.version, b""),
        parse(row.made_at),
        row.parent,
        row.wrapped,
        row.commitment,
        row.recovery,
        _life(row.id, row.state),
        parse(row.changed_at),
    )


def _life(key_id: int, text: str) -> Life:
    try:
        return Life(text)
    except ValueError:
        raise TamperedError(f"state: key {key_id:010x} is in no state that guard writes") from None


def _origin(row: Any) -> Origin:
    argon2 = None if row.salt is None else Argon2Params(row.salt, row.memory, row.passes, row.lanes)
    return Origin(row.kind, row.mark, argon2, row.kms_key, row.kms_arn)


def _root_values(under: UnderRoot) -> dict[str, object]:
    origin, argon2 = under.origin, under.origin.argon2
    return {
        "kind": origin.kind,
        "mark": origin.mark,
        "salt": argon2 and argon2.salt,
        "memory": argon2 and argon2.memory,
        "passes": argon2 and argon2.passes,
        "lanes": argon2 and argon2.lanes,
        "kms_key": origin.kms_key,
        "kms_arn": origin.kms_arn,
        "wrapped": under.wrapped,
    }
