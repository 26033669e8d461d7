"""The table of this room: which snapshots were made where, so that `verify` misses one that was taken away."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Column, String, Table, Text, delete, insert, select

from guard.backup.snapshot import SnapshotId
from guard.clock import stamp
from guard.state import METADATA, Tx

SNAPSHOT = Table(
    "backup_snapshot",
    METADATA,
    Column("snapshot", String(64), primary_key=True),
    Column("store", Text, nullable=False),
    Column("at", Text, nullable=False),
)


def add(tx: Tx, store: str, snapshot: SnapshotId, at: datetime) -> None:
    """Remember a snapshot that was published."""
    tx.execute(insert(SNAPSHOT).values(snapshot=snapshot, store=store, at=stamp(at)))


def remove(tx: Tx, snapshots: Iterable[SnapshotId]) -> None:
    """Forget snapshots that retention has dropped."""
    for snapshot in snapshots:
        tx.execute(delete(SNAPSHOT).where(SNAPSHOT.c.snapshot == snapshot))


def of(tx: Tx, store: str) -> tuple[SnapshotId, ...]:
    """Return the snapshots that should be in a store, the oldest first."""
    found = tx.scalars(select(SNAPSHOT.c.snapshot).where(SNAPSHOT.c.store == store).order_by(SNAPSHOT.c.at))
    return tuple(map(SnapshotId, found))
