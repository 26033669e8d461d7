"""Marks: packs that are to be deleted once grace is over. A backup uses no chunk of a marked pack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from guard.backup.repository import Repository, decode, now_of
from guard.backup.sealed import Kind
from guard.canon import json_bytes
from guard.clock import stamp
from guard.errors import TamperedError


class _Body(msgspec.Struct, frozen=True):
    at: str
    packs: tuple[str, ...]
    v: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """Packs that are to be deleted, and when the store dates the mark."""

    name: str
    at: datetime
    packs: frozenset[bytes]


def marks(repository: Repository) -> list[Mark]:
    """Return all marks. Raises TamperedError when one cannot be read."""
    found = []
    for entry in repository.entries("marks"):
        body = decode(repository.read(Kind.MARK, entry.name), _Body, entry.name)
        try:
            packs = frozenset(map(bytes.fromhex, body.packs))
        except ValueError:
            raise TamperedError(f"{entry.name}: names no packs") from None
        found.append(Mark(entry.name, entry.at, packs))
    return found


def marked_packs(repository: Repository) -> frozenset[bytes]:
    """Return the packs in all marks."""
    return frozenset().union(*(mark.packs for mark in marks(repository)))


def mark(repository: Repository, packs: Iterable[bytes]) -> None:
    """Mark packs from the store's now on."""
    body = _Body(stamp(now_of(repository.store)), tuple(sorted(pack.hex() for pack in packs)))
    repository.write(Kind.MARK, "marks", json_bytes(msgspec.to_builtins(body)))
