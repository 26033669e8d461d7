"""What guard must remember: its own database, the one writer, open runs, locks.

Holds no personal data in clear. Knows no ledger: its `append` is handed in and runs in the writer's transaction.
"""

from guard.state.db import Tx
from guard.state.locks import hold
from guard.state.runs import OpenRun
from guard.state.schema import METADATA, Migration
from guard.state.store import Meta, State, migrate
from guard.state.writer import Append, onward

__all__ = ["METADATA", "Append", "Meta", "Migration", "OpenRun", "State", "Tx", "hold", "migrate", "onward"]
