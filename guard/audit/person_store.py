"""What is asked of the tables `ledger_person` and `ledger_payload`. docs/FORMATS.md, section 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import delete, func, insert, select

from guard.audit.store import ENTRY, PAYLOAD, PERSON
from guard.state import Tx

T = TypeVar("T")

FORGET = "audit.forget"
"""The action of an entry that takes away what those before it say of a person. No other entry is called so."""

_MANY = 500
"""Values named in one statement; SQLite takes 32,766, older ones 999."""


def persons(tx: Tx, keys: Iterable[int]) -> dict[int, bytes]:
    """Return the sealed names of the people with these keys, by key; nothing for who has none."""
    found: dict[int, bytes] = {}
    for some in _batches(list(keys)):
        rows = tx.execute(select(PERSON.c.key, PERSON.c.sealed).where(PERSON.c.key.in_(some)))
        found.update((row.key, row.sealed) for row in rows)
    return found


def persons_among(tx: Tx, keys: Iterable[int]) -> set[int]:
    """Return which of these keys have a name."""
    found: set[int] = set()
    for some in _batches(list(dict.fromkeys(keys))):
        found.update(tx.execute(select(PERSON.c.key).where(PERSON.c.key.in_(some))).scalars())
    return found


def add_persons(tx: Tx, sealed: Mapping[int, bytes]) -> None:
    """Store sealed names by key."""
    if sealed:
        tx.execute(insert(PERSON), [{"key": key, "sealed": each} for key, each in sealed.items()])


def add_payloads(tx: Tx, payloads: Sequence[tuple[int, bytes]]) -> None:
    """Store payloads, each with the number of its entry."""
    if payloads:
        tx.execute(insert(PAYLOAD), [{"n": n, "sealed": sealed} for n, sealed in payloads])


def payloads(tx: Tx, numbers: Iterable[int]) -> dict[int, bytes]:
    """Return the payloads of these entries, by number; nothing for those that have none."""
    found: dict[int, bytes] = {}
    for some in _batches(list(numbers)):
        rows = tx.execute(select(PAYLOAD.c.n, PAYLOAD.c.sealed).where(PAYLOAD.c.n.in_(some)))
        found.update((row.n, row.sealed) for row in rows)
    return found


def payloads_between(tx: Tx, first: int, end: int) -> Sequence[Any]:
    """Return number and bytes of the payloads from entry `first` up to and without `end`, in order."""
    query = select(PAYLOAD.c.n, PAYLOAD.c.sealed).where(PAYLOAD.c.n >= first, PAYLOAD.c.n < end).order_by(PAYLOAD.c.n)
    return tx.execute(query).fetchall()


def payload_outside(tx: Tx, size: int) -> int | None:
    """Return the number of a payload that belongs to none of the first `size` entries; None when there is none."""
    query = select(PAYLOAD.c.n).where((PAYLOAD.c.n < 0) | (PAYLOAD.c.n >= size)).order_by(PAYLOAD.c.n).limit(1)
    found: int | None = tx.execute(query).scalar()
    return found


def forgotten(tx: Tx, subjects: Iterable[str]) -> dict[str, int]:
    """Return for those of these pseudonyms that were forgotten the number of the first entry that says so."""
    found: dict[str, int] = {}
    for some in _batches(list(dict.fromkeys(subjects))):
        says = (ENTRY.c.what == FORGET) & ENTRY.c.subject.in_(some)
        query = select(ENTRY.c.subject, func.min(ENTRY.c.n)).where(says).group_by(ENTRY.c.subject)
        found.update((str(row[0]), int(row[1])) for row in tx.execute(query))
    return found


def all_forgotten(tx: Tx, most: int) -> dict[str, int] | None:
    """Return everybody who was forgotten, as `forgotten` does; None when they are more than `most`."""
    query = select(ENTRY.c.subject, func.min(ENTRY.c.n)).where(ENTRY.c.what == FORGET)
    rows = tx.execute(query.group_by(ENTRY.c.subject).limit(most + 1)).fetchall()
    return None if len(rows) > most else {str(row[0]): int(row[1]) for row in rows}


def forget(tx: Tx, key: int, subject: str) -> int:
    """Remove a person's name and all payloads under their pseudonym; return how many payloads."""
    tx.execute(delete(PERSON).where(PERSON.c.key == key))
    theirs = select(ENTRY.c.n).where(ENTRY.c.subject == subject)
    return tx.execute(delete(PAYLOAD).where(PAYLOAD.c.n.in_(theirs))).rowcount


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + _MANY] for at in range(0, len(items), _MANY))
