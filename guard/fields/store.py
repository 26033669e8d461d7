"""What fields must remember: how far each column is sealed and how to undo it, and where the tokens of an index lie.

Whatever changes here, or a key of a column or an index, changes `mark`: so a process of the shop sees it at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, cast

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text, case, delete, func, insert, select, update

from guard.clock import parse, stamp
from guard.crypto.store import KEY
from guard.fields.kinds import Form
from guard.state import METADATA, Tx
from guard.state.schema import META

COLUMN = Table(
    "fields_column",
    METADATA,
    Column("column_id", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("binding", Text, nullable=False),
    Column("key_columns", Text, nullable=False),
    Column("original_type", Text),
    Column("key_id", BigInteger, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("row_count", BigInteger),
    Column("digest", Text),
    Column("verified_at", Text),
    Column("form", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("tight", Boolean, nullable=False),
    Column("subject", Text),
    Column("class", Text),
)

INDEX = Table(
    "fields_index",
    METADATA,
    Column("column_id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("key_id", BigInteger, nullable=False),
    Column("normaliser", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("is_unique", Boolean, nullable=False),
    Column("stage", Text, nullable=False),
)

VERSION: Final = "fields_version"
"""The fact in `state_meta` that counts the changes of these two tables."""

Bind = Literal["row", "subject", "column"]
"""What a column's values are bound to; the catalog's word."""


class Stage(StrEnum):
    """How far a column is. `INDEXING`, `SEALING` and `OPENING` are under way or were interrupted."""

    PLAIN = "plain"
    INDEXING = "indexing"
    """Its index is being built; values are still plain."""
    SEALING = "sealing"
    SEALED = "sealed"
    STRICT = "strict"
    """Finished: plaintext in it is refused."""
    OPENING = "opening"

    @property
    def seals(self) -> bool:
        """Whether what is written to the column now has to be sealed."""
        return self in {Stage.SEALING, Stage.SEALED, Stage.STRICT}


class Filling(StrEnum):
    """How far a token column is."""

    FILLING = "filling"
    """Writers fill it; rows from before are being filled in."""
    READY = "ready"
    LEAVING = "leaving"
    """Another one has taken its place."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one column."""

    column_id: int
    at: str
    stage: Stage
    binding: Bind
    key_columns: tuple[str, ...]
    """The key's columns in the order that was frozen when sealing began."""
    original_type: str | None
    """The definition to go back to, as SQL; None when sealing did not change it."""
    key_id: int
    """The key that seals; 0 where each person has one."""
    changed_at: datetime
    rows: int | None = None
    """How many values the sweep sealed."""
    digest: str | None = None
    """The sum of their keyed digests, 64 hex characters."""
    verified_at: datetime | None = None
    form: Form = Form.TEXT
    """How sealed values lie in the column."""
    kind: str = "text"
    """What the column held before: the type of the values inside, by `Spelling.kind`."""
    tight: bool = False
    subject: str | None = None
    """The kind of person values are bound to, with `bind = "subject"`."""
    class_: str | None = None
    """The class of that person's keys."""


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """One token column of a column, under one version of its index key."""

    column_id: int
    version: int
    name: str
    """The token column's name in the shop's table."""
    key_id: int
    normaliser: str
    size: int
    """Bytes of a token."""
    is_unique: bool
    stage: Filling


def find(tx: Tx, column_id: int) -> Record | None:
    """Return what is remembered of a column; None when it was never sealed."""
    return next(iter(_read(tx, column_id)), None)


def every(tx: Tx) -> tuple[Record, ...]:
    """Return what is remembered of all columns, by id."""
    return _read(tx, None)


def _read(tx: Tx, column_id: int | None) -> tuple[Record, ...]:
    query = select(COLUMN).order_by(COLUMN.c.column_id)
    if column_id is not None:
        query = query.where(COLUMN.c.column_id == column_id)
    return tuple(_record(row._mapping) for row in tx.execute(query))


def _record(row: Mapping[Any, Any]) -> Record:
    return Record(
        row["column_id"],
        row["at"],
        Stage(row["state"]),
        cast(Bind, row["binding"]),
        tuple(json.loads(row["key_columns"])),
        row["original_type"],
        row["key_id"],
        parse(row["changed_at"]),
        row["row_count"],
        row["digest"],
        parse(row["verified_at"]) if row["verified_at"] else None,
        Form(row["form"]),
        row["kind"],
        row["tight"],
        row["subject"],
        row["class"],
    )


def keep(tx: Tx, record: Record) -> None:
    """Remember `record` in place of what was known of its column."""
    values = {
        "at": record.at,
        "state": record.stage.value,
        "binding": record.binding,
        "key_columns": json.dumps(record.key_columns),
        "original_type": record.original_type,
        "key_id": record.key_id,
        "changed_at": stamp(record.changed_at),
        "row_count": record.rows,
        "digest": record.digest,
        "verified_at": stamp(record.verified_at) if record.verified_at else None,
        "form": record.form.value,
        "kind": record.kind,
        "tight": record.tight,
        "subject": record.subject,
        "class": record.class_,
    }
    mine = COLUMN.c.column_id == record.column_id
    if not tx.execute(update(COLUMN).where(mine).values(values)).rowcount:
        tx.execute(insert(COLUMN).values(column_id=record.column_id, **values))
    _changed(tx)


def note_verified(tx: Tx, column_id: int, at: datetime) -> None:
    """Remember that a column was verified at `at`."""
    if (record := find(tx, column_id)) is not None:
        keep(tx, replace(record, verified_at=at))


def indexes(tx: Tx, column_id: int | None = None) -> tuple[IndexRecord, ...]:
    """Return the token columns of one column, or of all; older versions first."""
    query = select(INDEX).order_by(INDEX.c.column_id, INDEX.c.version)
    if column_id is not None:
        query = query.where(INDEX.c.column_id == column_id)
    return tuple(
        IndexRecord(
            row.column_id,
            row.version,
            row.name,
            row.key_id,
            row.normaliser,
            row.size,
            row.is_unique,
            Filling(row.stage),
        )
        for row in tx.execute(query)
    )


def keep_index(tx: Tx, index: IndexRecord) -> None:
    """Remember `index` in place of what was known of this version."""
    values = {
        "name": index.name,
        "key_id": index.key_id,
        "normaliser": index.normaliser,
        "size": index.size,
        "is_unique": index.is_unique,
        "stage": index.stage.value,
    }
    if not tx.execute(update(INDEX).where(*_is(index)).values(values)).rowcount:
        tx.execute(insert(INDEX).values(column_id=index.column_id, version=index.version, **values))
    _changed(tx)


def drop_index(tx: Tx, index: IndexRecord) -> None:
    """Forget a token column that is gone from the shop."""
    tx.execute(delete(INDEX).where(*_is(index)))
    _changed(tx)


def _is(index: IndexRecord) -> tuple[Any, ...]:
    return INDEX.c.column_id == index.column_id, INDEX.c.version == index.version


def mark(tx: Tx) -> str:
    """Return a text that is another one whenever a column, an index or a key of either has changed."""
    states = [func.sum(case((KEY.c.state == name, 1), else_=0)) for name in ("active", "retired")]
    used = KEY.c.purpose.startswith("column/") | KEY.c.purpose.startswith("index/")
    keys = tx.execute(select(func.max(KEY.c.id), *states).where(used)).one()
    version = tx.scalar(select(META.c.value).where(META.c.name == VERSION)) or "0"
    return "/".join([version, *map(str, keys)])


def _changed(tx: Tx) -> None:
    mine = META.c.name == VERSION
    version = int(tx.scalar(select(META.c.value).where(mine)) or 0) + 1
    if not tx.execute(update(META).where(mine).values(value=str(version))).rowcount:
        tx.execute(insert(META).values(name=VERSION, value=str(version)))
