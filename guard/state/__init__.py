"""What guard must remember: its own database, the one writer, open runs, locks.

Holds no personal data in clear. Knows no ledger: its `append` is handed in and runs in the writer's transaction.
"""

from guard.state.db import Tx
from guard.state.locks import hold
from guard.state.move import file_of, file_url, place, require_free, settle
from guard.state.runs import OpenRun, orphan
from guard.state.schema import METADATA, Migration
from guard.state.store import Meta, State, migrate
from guard.state.writer import Append, onward

__all__ = [
    "METADATA",
    "Append",
    "Meta",
    "Migration",
    "OpenRun",
    "State",
    "Tx",
    "file_of",
    "file_url",
    "hold",
    "migrate",
    "onward",
    "orphan",
    "place",
    "require_free",
    "settle",
]
