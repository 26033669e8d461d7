"""The table of people's keys. docs/FORMATS.md, section 3. Its rows need no seal: each opens only as what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)

from guard.clock import parse, stamp
from guard.state import METADATA, Tx

_TIME = 27
_MANY = 500
"""Values named in one statement; SQLite takes 32,766, older ones 999."""

SUBJECT = Table(
    "subject_key",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("person", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("wrapped", LargeBinary),
    Column("commitment", LargeBinary),
    Column("made_at", String(_TIME), nullable=False),
    Column("shredded_at", String(_TIME)),
)
_LIVING = SUBJECT.c.shredded_at.is_(None)
Index(
    "subject_key_living",
    SUBJECT.c.person,
    SUBJECT.c["class"],
    unique=True,
    sqlite_where=_LIVING,
    postgresql_where=_LIVING,
)
Index("subject_key_epoch", SUBJECT.c.epoch)


@dataclass(frozen=True, slots=True)
class Subject:
    """The key of one person's data of one class, as it is stored. `wrapped` is None once it was shredded."""

    id: int
    person: bytes
    """Keyed digest of kind and canonical key: state does not tell who."""
    kind: str
    class_: str
    epoch: int
    wrapped: bytes | None
    commitment: bytes | None
    made_at: datetime
    shredded_at: datetime | None = None

    @property
    def purpose(self) -> str:
        """What its key is for."""
        return purpose(self.class_, self.kind, self.person)


def purpose(class_: str, kind: str, person: bytes) -> str:
    """Return what a subject key is for; `person` is the keyed digest."""
    return f"subject/{class_}/{kind}/{person.hex()}"


def add_subjects(tx: Tx, subjects: Sequence[Subject]) -> None:
    """Store new subject keys."""
    if subjects:
        tx.execute(insert(SUBJECT), [_subject_values(each) for each in subjects])


def living_of(tx: Tx, persons: Sequence[bytes], class_: str) -> dict[bytes, Subject]:
    """Return the living keys of `persons` for a class, by person."""
    found: dict[bytes, Subject] = {}
    for at in range(0, len(persons), _MANY):
        query = select(SUBJECT).where(
            SUBJECT.c.person.in_(persons[at : at + _MANY]), SUBJECT.c["class"] == class_, _LIVING
        )
        found.update({row.person: _subject(row) for row in tx.execute(query)})
    return found


def classes_of(tx: Tx, person: bytes) -> set[str]:
    """Return the classes a person has living keys for."""
    return set(tx.execute(select(SUBJECT.c["class"]).where(SUBJECT.c.person == person, _LIVING)).scalars())


def subjects_by_id(tx: Tx, ids: Sequence[int]) -> dict[int, Subject]:
    """Return the keys with these ids, shredded ones included."""
    found: dict[int, Subject] = {}
    for at in range(0, len(ids), _MANY):
        query = select(SUBJECT).where(SUBJECT.c.id.in_(ids[at : at + _MANY]))
        found.update({row.id: _subject(row) for row in tx.execute(query)})
    return found


def living_among(tx: Tx, ids: Sequence[int]) -> set[int]:
    """Return which of the keys with these ids live."""
    found: set[int] = set()
    for at in range(0, len(ids), _MANY):
        query = select(SUBJECT.c.id).where(SUBJECT.c.id.in_(ids[at : at + _MANY]), _LIVING)
        found |= set(tx.execute(query).scalars())
    return found


def living_under(tx: Tx, epochs: Iterable[int], limit: int) -> list[Subject]:
    """Return up to `limit` living keys that are wrapped under one of `epochs`, by id."""
    query = select(SUBJECT).where(SUBJECT.c.epoch.in_(list(epochs)), _LIVING).order_by(SUBJECT.c.id).limit(limit)
    return [_subject(row) for row in tx.execute(query)]


def living_after(tx: Tx, after: int, limit: int, class_: str | None = None) -> list[Subject]:
    """Return up to `limit` living keys with ids above `after`, by id; of one class when it is given."""
    query = select(SUBJECT).where(SUBJECT.c.id > after, _LIVING).order_by(SUBJECT.c.id).limit(limit)
    if class_ is not None:
        query = query.where(SUBJECT.c["class"] == class_)
    return [_subject(row) for row in tx.execute(query)]


def count_living(tx: Tx, epochs: Iterable[int] | None = None, since: datetime | None = None) -> int:
    """Return how many living keys there are, of those under `epochs` and made after `since` where these are given."""
    query = select(func.count()).select_from(SUBJECT).where(_LIVING)
    if epochs is not None:
        query = query.where(SUBJECT.c.epoch.in_(list(epochs)))
    if since is not None:
        query = query.where(SUBJECT.c.made_at > stamp(since))
    return int(tx.execute(query).scalar_one())


def rewrap(tx: Tx, subjects: Sequence[Subject]) -> None:
    """Store how living keys are wrapped now, and under which epoch; one shredded meanwhile stays shredded."""
    if subjects:
        tx.execute(
            update(SUBJECT).where(SUBJECT.c.id == bindparam("key"), _LIVING),
            [{"key": each.id, "epoch": each.epoch, "wrapped": each.wrapped} for each in subjects],
        )


def wipe(tx: Tx, ids: Sequence[int], at: datetime) -> None:
    """Take the wrapped bytes and the commitment out of keys; the rows stay, so that a reader knows what happened."""
    values = {"wrapped": None, "commitment": None, "shredded_at": stamp(at)}
    for start in range(0, len(ids), _MANY):
        tx.execute(update(SUBJECT).where(SUBJECT.c.id.in_(ids[start : start + _MANY]), _LIVING).values(values))


def _subject(row: Any) -> Subject:
    return Subject(
        row.id,
        row.person,
        row.kind,
        getattr(row, "class"),
        row.epoch,
        row.wrapped,
        row.commitment,
        parse(row.made_at),
        parse(row.shredded_at) if row.shredded_at else None,
    )


def _subject_values(subject: Subject) -> dict[str, Any]:
    return {
        "id": subject.id,
        "person": subject.person,
        "kind": subject.kind,
        "class": subject.class_,
        "epoch": subject.epoch,
        "wrapped": subject.wrapped,
        "commitment": subject.commitment,
        "made_at": stamp(subject.made_at),
        "shredded_at": stamp(subject.shredded_at) if subject.shredded_at else None,
    }
