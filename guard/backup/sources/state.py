"""guard's own state. Wrapped keys are in it, so a backup of it and the root key or the recovery kit bring all back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from guard.backup.snapshot import STATE
from guard.backup.sources import Source
from guard.backup.sources.sqlite import SqliteSource

FILE: Final = "state.db"


def state_source(state: Path | Callable[[Path], None]) -> Source:
    """Return the source of state: its SQLite file, or what writes such a file of a state in PostgreSQL."""
    if isinstance(state, Path):
        return SqliteSource(STATE, state, "state")
    return SqliteSource(STATE, Path(FILE), "state", write=state)
