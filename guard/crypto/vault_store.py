"""The tables of epochs and of receipts of shredding. docs/FORMATS.md, section 3.

Their rows are sealed: what is gone, and who was shredded, is not to be written by whoever can write to state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, Text

from guard.clock import parse, stamp
from guard.state import METADATA, Tx
from guard.state.sealed import Digest, Row, Sealed, seal_column

_TIME = 27

EPOCH = Table(
    "vault_epoch",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(7), nullable=False),
    Column("version", Integer, nullable=False),
    Column("parent", BigInteger, nullable=False),
    Column("commitment", LargeBinary, nullable=False),
    Column("made_at", String(_TIME), nullable=False),
    Column("ready_at", String(_TIME)),
    Column("closed_at", String(_TIME)),
    Column("mirrors", Text, nullable=False),
    Column("arns", Text, nullable=False),
    Column("gone_at", String(_TIME)),
    seal_column(),
)

PLACE = Table(
    "vault_place",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("marker", Text, nullable=False),
    seal_column(),
)

RECEIPT = Table(
    "shred_receipt",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("run", String(32), nullable=False),
    Column("person", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("key_id", BigInteger, nullable=False),
    Column("epochs", Text, nullable=False),
    Column("at", String(_TIME), nullable=False),
    Column("left", Text, nullable=False),
    Column("who", LargeBinary),
    Column("row_count", BigInteger, nullable=False),
    Column("ended_at", String(_TIME)),
    seal_column(),
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch key as state knows it. `mirrors`: where it was written to, and since when it is dead there."""

    id: int
    name: str
    """The calendar month in UTC it was made in, e.g. 2026-01."""
    version: int
    parent: int
    commitment: bytes = field(repr=False)
    made_at: datetime
    ready_at: datetime | None = None
    """When it had been read back from every mirror; only then it wraps anything."""
    closed_at: datetime | None = None
    """When everybody living was under a later epoch, in a verified backup of state."""
    mirrors: Mapping[str, datetime | None] = field(default_factory=dict)
    arns: Mapping[str, str] = field(default_factory=dict)
    """What it lies under in the mirrors that tell: the keys of AWS KMS."""
    gone_at: datetime | None = None
    """From when on it is in no mirror. In the future where a mirror deletes with a delay."""

    @property
    def purpose(self) -> str:
        """What its key is for."""
        return f"epoch/{self.name}"

    @property
    def in_use(self) -> bool:
        """Whether living people's keys may be wrapped under it."""
        return self.ready_at is not None and self.closed_at is None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done when a person's data of one class was shredded, and what is still to be done."""

    id: str
    run: str
    person: bytes
    kind: str
    class_: str
    key_id: int
    epochs: tuple[int, ...]
    """The epochs whose keys can open the shredded key in backups of state."""
    at: datetime
    left: tuple[str, ...]
    """The steps in live stores that are not done yet."""
    who: bytes | None = field(repr=False)
    """The canonical key of the person, sealed; wiped when nothing is left to be done."""
    rows: int = 0
    """Rows of the shop whose blind tokens were replaced."""
    ended_at: datetime | None = None


class Epochs:
    """The table of epochs."""

    def __init__(self, digest: Digest) -> None:
        self._rows = Sealed(EPOCH, digest)

    def list(self, tx: Tx) -> list[Epoch]:
        """Return every epoch, the oldest first. Raises TamperedError for one that guard did not write."""
        return [_epoch(row) for row in self._rows.find(tx)]

    def add(self, tx: Tx, epoch: Epoch) -> None:
        """Store a new epoch."""
        self._rows.add(tx, **_epoch_values(epoch))

    def keep(self, tx: Tx, epoch: Epoch) -> None:
        """Store `epoch` in place of what was known of it."""
        for row in self._rows.find(tx, id=epoch.id):
            self._rows.change(tx, row, **_epoch_values(epoch))


class Receipts:
    """The table of receipts."""

    def __init__(self, digest: Digest) -> None:
        self._rows = Sealed(RECEIPT, digest)

    def list(self, tx: Tx, **equal: object) -> list[Receipt]:
        """Return the receipts whose columns equal what is given, the oldest first. Raises TamperedError."""
        return sorted((_receipt(row) for row in self._rows.find(tx, **equal)), key=lambda each: (each.at, each.id))

    def add(self, tx: Tx, receipt: Receipt) -> None:
        """Store a new receipt."""
        self._rows.add(tx, **_receipt_values(receipt))

    def keep(self, tx: Tx, receipt: Receipt) -> None:
        """Store `receipt` in place of what was known of it."""
        for row in self._rows.find(tx, id=receipt.id):
            self._rows.change(tx, row, **_receipt_values(receipt))


def _epoch(row: Row) -> Epoch:
    mirrors: dict[str, str | None] = json.loads(row["mirrors"])
    return Epoch(
        row["id"],
        row["name"],
        row["version"],
        row["parent"],
        row["commitment"],
        parse(row["made_at"]),
        _time(row["ready_at"]),
        _time(row["closed_at"]),
        {name: _time(at) for name, at in mirrors.items()},
        json.loads(row["arns"]),
        _time(row["gone_at"]),
    )


def _epoch_values(epoch: Epoch) -> dict[str, Any]:
    return {
        "id": epoch.id,
        "name": epoch.name,
        "version": epoch.version,
        "parent": epoch.parent,
        "commitment": epoch.commitment,
        "made_at": stamp(epoch.made_at),
        "ready_at": _text(epoch.ready_at),
        "closed_at": _text(epoch.closed_at),
        "mirrors": json.dumps({name: _text(at) for name, at in sorted(epoch.mirrors.items())}),
        "arns": json.dumps(dict(sorted(epoch.arns.items()))),
        "gone_at": _text(epoch.gone_at),
    }


def _receipt(row: Row) -> Receipt:
    return Receipt(
        row["id"],
        row["run"],
        row["person"],
        row["kind"],
        row["class"],
        row["key_id"],
        tuple(json.loads(row["epochs"])),
        parse(row["at"]),
        tuple(json.loads(row["left"])),
        row["who"],
        row["row_count"],
        _time(row["ended_at"]),
    )


def _receipt_values(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.id,
        "run": receipt.run,
        "person": receipt.person,
        "kind": receipt.kind,
        "class": receipt.class_,
        "key_id": receipt.key_id,
        "epochs": json.dumps(receipt.epochs),
        "at": stamp(receipt.at),
        "left": json.dumps(receipt.left),
        "who": receipt.who,
        "row_count": receipt.rows,
        "ended_at": _text(receipt.ended_at),
    }


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse(text)


def _text(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)
