"""What is asked of the ledger's tables about events of the shop: which are recorded, how far a file was taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update

from guard.audit.store import ENTRY, TAKEN
from guard.clock import stamp
from guard.state import Tx

_MANY = 500
"""Values named in one statement."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was taken: the first `taken` of its `lines`."""

    source: str
    lines: int
    taken: int
    run: str
    """The run that took the last of them."""


def recorded(tx: Tx, runs: Iterable[str]) -> dict[str, int]:
    """Return which of these runs have entries, with the number of the first."""
    wanted, found = list(runs), dict[str, int]()
    for at in range(0, len(wanted), _MANY):
        some = ENTRY.c.run.in_(wanted[at : at + _MANY])
        found.update(
            (row[0], row[1])
            for row in tx.execute(select(ENTRY.c.run, func.min(ENTRY.c.n)).where(some).group_by(ENTRY.c.run))
        )
    return found


def position(tx: Tx, source: str) -> Position | None:
    """Return how far the file with this keyed digest was taken; None when nothing was."""
    row = tx.execute(select(TAKEN).where(TAKEN.c.source == source)).one_or_none()
    return None if row is None else Position(row.source, row.lines, row.taken, row.run)


def advance(tx: Tx, to: Position, since: int, at: datetime) -> bool:
    """Note that a file was taken behind line `since`, up to `to`; False when somebody else took of it meanwhile."""
    values = {"lines": to.lines, "taken": to.taken, "run": to.run, "at": stamp(at)}
    mine = update(TAKEN).where(TAKEN.c.source == to.source, TAKEN.c.taken == since)
    if tx.execute(mine.values(**values)).rowcount:
        return True
    if since or position(tx, to.source) is not None:
        return False
    tx.execute(insert(TAKEN).values(source=to.source, **values))
    return True
