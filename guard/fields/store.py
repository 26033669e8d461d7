"""What fields must remember of each column: how far it is sealed, under which key, and how to undo it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal, cast

from sqlalchemy import BigInteger, Column, Integer, Table, Text, insert, select, update

from guard.clock import parse, stamp
from guard.state import METADATA, Tx

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
)


Bind = Literal["row", "subject", "column"]
"""What a column's values are bound to; the catalog's word."""


class Stage(StrEnum):
    """How far a column is. `SEALING` and `OPENING` are under way or were interrupted."""

    PLAIN = "plain"
    SEALING = "sealing"
    SEALED = "sealed"
    STRICT = "strict"
    """Finished: plaintext in it is refused."""
    OPENING = "opening"


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
    """The type to go back to, as SQL; None when sealing did not change it."""
    key_id: int
    changed_at: datetime
    rows: int | None = None
    """How many values the sweep sealed."""
    digest: str | None = None
    """The sum of their keyed digests, 64 hex characters."""
    verified_at: datetime | None = None


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
    return tuple(
        Record(
            row.column_id,
            row.at,
            Stage(row.state),
            cast(Bind, row.binding),
            tuple(json.loads(row.key_columns)),
            row.original_type,
            row.key_id,
            parse(row.changed_at),
            row.row_count,
            row.digest,
            parse(row.verified_at) if row.verified_at else None,
        )
        for row in tx.execute(query)
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
    }
    mine = COLUMN.c.column_id == record.column_id
    if not tx.execute(update(COLUMN).where(mine).values(values)).rowcount:
        tx.execute(insert(COLUMN).values(column_id=record.column_id, **values))


def note_verified(tx: Tx, column_id: int, at: datetime) -> None:
    """Remember that a column was verified at `at`."""
    if (record := find(tx, column_id)) is not None:
        keep(tx, replace(record, verified_at=at))
