"""The ledger: a signed, append-only record of all that guard does, and the proof that it is whole.

Holds ids, counts, pseudonyms and keyed digests, never personal data in clear. It proves that nothing recorded was
changed and, up to the newest anchor, that nothing was cut; it cannot prove that a thief of its key recorded the truth.
"""

from guard.audit.anchor import FolderAnchor
from guard.audit.chain import Restart
from guard.audit.checkpoint import Checkpoint, open_signed, origin_of
from guard.audit.entry import Entry
from guard.audit.log import Anchored, Ledger, heartbeat
from guard.audit.store import Query
from guard.audit.verify import Seen, Verdict

__all__ = [
    "Anchored",
    "Checkpoint",
    "Entry",
    "FolderAnchor",
    "Ledger",
    "Query",
    "Restart",
    "Seen",
    "Verdict",
    "heartbeat",
    "open_signed",
    "origin_of",
]
