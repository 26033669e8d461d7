"""guard's own state. Wrapped keys are in it, so a backup of it and the root key or the recovery kit bring all back."""

from __future__ import annotations

from pathlib import Path

from guard.backup.sources import Source, Uncovered
from guard.backup.sources.sqlite import SqliteSource

STATE = "state"


def state_source(path: Path | None) -> Source:
    """Return the source of state's SQLite file; without one (state in PostgreSQL) it is not covered yet."""
    if path is None:
        return Uncovered(STATE, "state in PostgreSQL is not covered by this version")
    return SqliteSource(STATE, path, "state")
