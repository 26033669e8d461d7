"""What a verification compares the ledger with, and what it found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from guard.audit.anchors import Said
from guard.audit.anchors.enough import Seen
from guard.audit.chain import Restart
from guard.config.audit import AuditPolicy
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Verifier


@dataclass(frozen=True, slots=True)
class Trust:
    """What the ledger is compared with: the key, the anchors, how fresh they must be, and the time."""

    verifier: Verifier
    """Any key of the ledger, under the name of its first log; the entries lead from it to all others."""
    anchors: Sequence[Said]
    """What they said before the ledger was read."""
    policy: AuditPolicy
    now: datetime
    witnesses: Sequence[WitnessKey] = ()
    """Whose cosignatures on kept checkpoints have to be good."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """A change of key: the number of its entry, and the key that signs since, under the name of the first log."""

    n: int
    vkey: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ledger that is consistent: what was compared, and how far an anchor vouches for it."""

    size: int
    root: str
    """The root hash, hex."""
    first: datetime
    last: datetime
    checkpoints: int
    """How many kept checkpoints were compared."""
    anchors: tuple[Seen, ...]
    anchored: int
    """The entries below this number are vouched for by the newest anchor."""
    tail: int
    """How many entries lie above it: a cut among them would not be found."""
    unanchored: str | None
    """Why no fresh anchor vouches for it; None when one does."""
    origin: str
    """Of the log that is written to."""
    restarts: tuple[Restart, ...]
    """Where older logs end, and what each restore has lost."""
    vkey: str = ""
    """The key that signs now, under the name of the first log."""
    rekeys: tuple[Rekeyed, ...] = ()
    """Where a key followed another."""
    begin: int = 0
    """The entries below were not read again: the stored hashes over them agree with what was signed."""
    minimum: int = 0
    """Below it retention has removed entries; `first` is the time of this one, or of `begin`."""
    against: tuple[Seen, ...] = ()
    """What somebody kept: a size is that of the entries it vouches for, none is about entries that were lost."""
