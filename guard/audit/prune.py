"""Retention: entries that are older than the policy keeps are removed, the hashes over them stay.

Whole blocks of 256 entries go, below a minimum index that an entry names. The tree, and so every checkpoint and every
proof of a later entry, stays as it is. docs/FORMATS.md, section 4.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from guard.audit import entry, merkle, store
from guard.audit.chain import RESTART
from guard.audit.entry import Entry
from guard.audit.person_store import FORGET
from guard.audit.rekey import REKEY
from guard.audit.store import Query
from guard.audit.walk import BLOCK, tampered
from guard.events import Activity, Ending, Event, PrincipalId, RunId
from guard.state import Tx

PRUNE: Final = "audit.prune"
"""The action of the entries that tell of a removal; the one that names the minimum index has it among its counts."""

STANDING: Final = (RESTART, REKEY, FORGET, PRUNE)
"""What the ledger itself is read by: entries of these actions are never removed."""


@dataclass(frozen=True, slots=True)
class Prune:
    """What one entry says of a removal: all entries below `minimum` go that were there, but for some blocks."""

    minimum: int
    root: bytes
    """Over the first `minimum` entries."""
    kept: frozenset[int]
    """The numbers of the blocks of 256 entries that stay, between the minimum index before and this one."""

    def event(self, who: PrincipalId, run: RunId) -> Event:
        """Return what the ledger records of it."""
        return Event(
            PRUNE,
            Ending.DONE,
            who,
            run,
            Activity.DATA_DELETE,
            counts={"minimum": self.minimum},
            digests={"root": self.root.hex()},
            facts={"kept": self.text} if self.kept else {},
        )

    @property
    def text(self) -> str:
        """What stays, in words such as "3 5-9"."""
        return " ".join(_ranges(self.kept))

    @classmethod
    def read(cls, found: Entry | Event, before: int = 0) -> "Prune":
        """Return what an entry says behind one with the minimum `before`. Raises ValueError for something else."""
        try:
            minimum, root = found.counts["minimum"], bytes.fromhex(found.digests["root"])
        except KeyError as error:
            raise ValueError(f"the entry {PRUNE} lacks {error.args[0]}") from None
        spans = [_span(text) for text in found.facts.get("kept", "").split()]
        blocks = range(before // BLOCK, minimum // BLOCK)
        if (
            minimum % BLOCK
            or not blocks
            or any(not each or each[0] < blocks[0] or each[-1] > blocks[-1] for each in spans)
        ):
            raise ValueError(f"the entry {PRUNE} names no minimum index")
        return cls(minimum, root, frozenset(number for each in spans for number in each))


@dataclass(frozen=True, slots=True)
class Pruned:
    """What all such entries say together."""

    minimum: int = 0
    root: bytes = b""
    kept: frozenset[int] = frozenset()
    """The numbers of all blocks below it that stay."""


def pruned(tx: Tx) -> Pruned:
    """Return what was removed. Raises TamperedError when an entry that tells of it cannot be read."""
    found = Pruned()
    for n, raw in store.leaves(tx, Query(what=PRUNE)):
        try:
            said = entry.read(raw)
            if names_minimum(said):
                this = Prune.read(said, found.minimum)
                found = Pruned(this.minimum, this.root, found.kept | this.kept)
        except ValueError as error:
            raise tampered(f"ledger entry {n}: {error}") from None
    return found


def names_minimum(found: Entry) -> bool:
    """Tell whether an entry called `PRUNE` is the one that names a minimum index."""
    return "minimum" in found.counts


def root_at(tx: Tx, size: int) -> bytes | None:
    """Return the root over the first `size` entries out of the stored hashes; None where what it takes was removed.

    Raises TamperedError when a hash is missing that should be there.
    """
    if size % BLOCK and size < pruned(tx).minimum and not store.rows_from(tx, size - 1, 1, size):
        return None
    return merkle.fold([store.subtree(tx, level, at) for level, at in merkle.cover(size)])


def _ranges(numbers: Collection[int]) -> Iterator[str]:
    """Yield "3" or "5-9" for each run of neighbors."""
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [number for _, number in run]
        yield f"{first}-{rest[-1]}" if rest else f"{first}"


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
