"""The ledger: a signed, append-only record of all that guard does, and the proof that it is whole.

Holds ids, counts, pseudonyms and keyed digests, never personal data in clear. It proves that nothing recorded was
changed and, up to the newest anchor, that nothing was cut; it cannot prove that a thief of its key recorded the truth.

What is named here is imported when it is first used: a program of the shop that calls `emit` loads no database.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guard.audit.anchoring import Anchored
    from guard.audit.anchors import Anchor, ask
    from guard.audit.anchors.enough import Seen
    from guard.audit.anchors.folder import FolderAnchor
    from guard.audit.chain import Restart
    from guard.audit.checkpoint import Checkpoint, open_signed, origin_of
    from guard.audit.emitter import Emitter, UnrecordedError, emit, emit_many
    from guard.audit.entry import Entry
    from guard.audit.log import Ledger, heartbeat
    from guard.audit.store import Query
    from guard.audit.verify import Verdict

__all__ = [
    "Anchor",
    "Anchored",
    "Checkpoint",
    "Emitter",
    "Entry",
    "FolderAnchor",
    "Ledger",
    "Query",
    "Restart",
    "Seen",
    "UnrecordedError",
    "Verdict",
    "ask",
    "emit",
    "emit_many",
    "heartbeat",
    "open_signed",
    "origin_of",
]

_WHERE = {
    "Anchor": "anchors",
    "Anchored": "anchoring",
    "Checkpoint": "checkpoint",
    "Emitter": "emitter",
    "Entry": "entry",
    "FolderAnchor": "anchors.folder",
    "Ledger": "log",
    "Query": "store",
    "Restart": "chain",
    "Seen": "anchors.enough",
    "UnrecordedError": "emitter",
    "Verdict": "verify",
    "ask": "anchors",
    "emit": "emitter",
    "emit_many": "emitter",
    "heartbeat": "log",
    "open_signed": "checkpoint",
    "origin_of": "checkpoint",
}
"""The module each name is in."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name when it is first asked for."""
        if name not in _WHERE:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
        return found
