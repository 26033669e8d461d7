"""The register of what was done to people's data and must be done again to a restored copy. docs/FORMATS.md, section 6.

It lies in every store beside the snapshots and in none of them. Its entries are chained; the chain is the same in all
stores, so that a store which fell behind is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from guard.backup.repository import Repository, decode
from guard.backup.sealed import Kind
from guard.canon import json_bytes, parts
from guard.clock import parse, stamp
from guard.errors import BusyError, GuardError, InterlockError, TamperedError

_NO_HEAD = bytes(32)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one row: `key` is its canonical key in hex, `columns` the ones it was done to (none: all).

    "shred" was done to a person: `table` is where the catalog finds such people, `key` the canonical key of this one,
    `columns` are the "Table.Column" whose values about them are dead, wherever they lie, and "ledger" where guard's
    ledger has forgotten them.
    """

    effect: Literal["erase", "retain", "rectify", "restrict", "shred"]
    table: str
    key: str
    columns: tuple[str, ...] = ()


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    v: int = 1
    n: int
    at: str
    previous: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a register reaches: its length, and the hash that stands for all of it."""

    count: int = 0
    head: bytes = _NO_HEAD


START = Position()
"""Where an empty register stands."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One entry of the register, and the position it ends at."""

    at: datetime
    effects: tuple[Effect, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Newer:
    """Entries of a register that are newer than a snapshot, and the stores that could not say what they hold."""

    entries: tuple[Erasure, ...] = ()
    failed: Mapping[str, GuardError] = field(default_factory=dict)


class Register:
    """The erasure register of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def read(self) -> list[Erasure]:
        """Return all entries in order. Raises TamperedError when one is missing, changed or out of the chain."""
        found: list[Erasure] = []
        end = Position()
        for entry in self._repository.entries("erasures"):
            if entry.name != _name(end.count + 1):
                raise TamperedError(f"{_name(end.count + 1)} is missing in {self._repository.store.where}")
            raw = self._repository.read(Kind.ERASURE, entry.name)
            body = decode(raw, _Body, entry.name)
            if body.n != end.count + 1 or body.previous != end.head.hex():
                raise TamperedError(f"{entry.name} does not follow the entry before it")
            end = Position(body.n, _head(end.head, raw))
            found.append(Erasure(parse(body.at), body.effects, end))
        return found

    def position(self) -> Position:
        """Return how far the register reaches."""
        found = self.read()
        return found[-1].position if found else Position()

    def append(self, effects: Sequence[Effect], at: datetime) -> Position:
        """Add an entry and return the new position. Raises BusyError when another run added one at the same time."""
        end = self.position()
        body = _Body(n=end.count + 1, at=stamp(at), previous=end.head.hex(), effects=tuple(effects))
        raw = json_bytes(msgspec.to_builtins(body))
        name = _name(body.n)
        if not self._repository.store.put_if_absent(name, self._repository.sealing.seal(Kind.ERASURE, name, raw)):
            raise BusyError(f"{name} was added by another run meanwhile", hint="run it again")
        return Position(body.n, _head(end.head, raw))

    def require(self, least: Position) -> list[Erasure]:
        """Return all entries. Raises InterlockError when the register ends before `least`, or is another one there."""
        found = self.read()
        heads = [_NO_HEAD, *(each.position.head for each in found)]
        if len(found) < least.count:
            raise InterlockError(
                f"the erasure register in {self._repository.store.where} ends at {len(found)}, "
                f"but {least.count} entries are known",
                hint="restore from a store whose register is whole, or bring its missing objects back",
            )
        if heads[least.count] != least.head:
            raise InterlockError(f"the erasure register in {self._repository.store.where} is another one than is known")
        return found


def _name(n: int) -> str:
    return f"erasures/{n:020}"


def _head(previous: bytes, body: bytes) -> bytes:
    return sha256(parts(b"guard/erasure1", previous, body)).digest()
