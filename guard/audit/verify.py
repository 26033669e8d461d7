"""Does the ledger say what was signed and anchored? Recomputes everything; the first difference ends it by name.

Steps: 1 the kept checkpoints are signed; 2 every entry and node is recomputed and compared, and there are as many as
were signed (`walk`); 3 the root at every kept checkpoint, and that the last one of each hour is kept; 4 each log begins
where the one before it ends, and signed nothing outside of that (`chain`); 5 the anchors. Nothing that could not be
looked at counts as fine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from guard.audit import entry, store
from guard.audit.anchor import FolderAnchor
from guard.audit.chain import RESTART, Chain, Restart
from guard.audit.checkpoint import Checkpoint, log_of, open_any
from guard.audit.store import Kind, Query, UnreadableError
from guard.audit.walk import HINT, Walk, between, tampered, walk
from guard.clock import parse
from guard.config.audit import AuditPolicy
from guard.crypto.sign import Verifier
from guard.errors import TamperedError, UnavailableError
from guard.events import Progress
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Trust:
    """What the ledger is compared with: the key, the anchors, how fresh they must be, and the time."""

    verifier: Verifier
    """Of the ledger's first log; later ones have the same key under another name."""
    anchors: Sequence[FolderAnchor]
    policy: AuditPolicy
    now: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What one anchor said: the size it vouches for, None when it holds nothing, or why it could not say."""

    name: str
    size: int | None
    problem: str | None = None


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


def inspect(tx: Tx, trust: Trust, progress: Progress) -> Verdict:
    """Compare everything in the snapshot `tx`. Raises TamperedError naming the entry, or those it must be among."""
    try:
        kept = _signed_checkpoints(tx, trust.verifier)
        said = {anchor.name: asked(anchor, trust.verifier) for anchor in trust.anchors}
        anchored = {name: found for name, found in said.items() if not isinstance(found, Seen)}
        silent = {name: found for name, found in said.items() if isinstance(found, Seen)}
        newest = kept[-1][1].size
        sizes = {found.size for _, found in kept} | {each.size for found in anchored.values() for each in found}
        found = walk(tx, sizes, progress, newest)
        _compare_kept(found, kept)
        chain = chain_of(tx, trust.verifier.name)
        _compare_logs(kept, chain)
        seen = {name: _vouched(found, chain, name, notes) for name, notes in anchored.items()} | silent
    except UnreadableError as error:
        raise tampered("the ledger cannot be read") from error
    return _verdict(found, _Said(len(kept), chain, {name: seen[name] for name in said}), trust)


def chain_of(tx: Tx, first: str) -> Chain:
    """Return the logs of the ledger whose first one has the origin `first`. Raises TamperedError for a broken chain."""
    try:
        return Chain.read(first, [entry.read(raw) for _, raw in store.leaves(tx, Query(what=RESTART))])
    except ValueError as error:
        raise tampered(f"an entry {RESTART} of the ledger cannot be read") from error


def _signed_checkpoints(tx: Tx, verifier: Verifier) -> list[tuple[str, Checkpoint]]:
    """Return (kind, checkpoint), smallest first, the newest last."""
    found = [(kind, _signed(size, note, verifier)) for size, kind, note in store.checkpoints(tx)]
    newest = [each.size for kind, each in found if kind == Kind.LATEST]
    if len(newest) != 1 or found[-1][1].size != newest[0]:
        raise tampered("the newest checkpoint of the ledger is missing")
    if unknown := {kind for kind, _ in found} - set(Kind):
        raise tampered(f"the ledger holds checkpoints of a kind it does not know: {len(unknown)}")
    return found


def _signed(size: object, note: object, verifier: Verifier) -> Checkpoint:
    try:
        found = open_any(str(note), verifier)
    except TamperedError as error:
        raise tampered(f"ledger entry {_before(size)}: the checkpoint behind it was changed: {error}") from None
    if found.size != size:
        raise tampered(f"ledger entry {_before(size)}: the checkpoint behind it says it is behind {found.size - 1}")
    return found


def _before(size: object) -> object:
    return size - 1 if isinstance(size, int) else "of unknown number"


def asked(anchor: FolderAnchor, verifier: Verifier) -> Sequence[Checkpoint] | Seen:
    """Return an anchor's newest checkpoint of each log, or why there is none. Raises TamperedError for a wrong one."""
    try:
        notes = anchor.newest()
    except UnavailableError as error:
        return Seen(anchor.name, None, str(error))
    try:
        found = [(log, open_any(note, verifier)) for log, note in notes.items()]
    except TamperedError as error:
        raise tampered(f"anchor {anchor.name}: {error}") from None
    if wrong := [log for log, signed in found if log_of(signed.origin) != log]:
        raise tampered(f"anchor {anchor.name}: what lies there for the log {wrong[0]} is another log's")
    return [signed for _, signed in found] or Seen(anchor.name, None)


def _compare_kept(found: Walk, kept: Sequence[tuple[str, Checkpoint]]) -> None:
    good = 0
    for _, signed in kept:
        if found.roots[signed.size] != signed.root:
            raise tampered(f"{between(good, signed.size - 1)}: not those that were signed")
        good = signed.size
    hourly = {signed.size for kind, signed in kept if kind == Kind.HOURLY}
    if wrong := hourly.symmetric_difference(found.hours):
        size = min(wrong)
        what = "stands at no end of an hour" if size in hourly else "is missing"
        raise tampered(f"ledger entry {size - 1}: the hourly checkpoint behind it {what}")


def _compare_logs(kept: Sequence[tuple[str, Checkpoint]], chain: Chain) -> None:
    """Compare where logs end with what was signed there, and that no log signed what is another's."""
    closed = {signed.size: signed.root for kind, signed in kept if kind == Kind.CLOSED}
    ends = {each.size: each.root for each in chain.restarts}
    if closed != ends:
        size = min(size for size in {*closed, *ends} if closed.get(size) != ends.get(size))
        raise tampered(f"ledger entry {size}: the log that it closes is not the one that was signed")
    for _, signed in kept:
        if signed.origin != chain.origin_at(signed.size):
            raise tampered(f"ledger entry {signed.size - 1}: the checkpoint behind it is one of another log")


def _vouched(found: Walk, chain: Chain, name: str, notes: Sequence[Checkpoint]) -> Seen:
    sizes = [chain.vouched(name, signed, found.tree.size, found.roots.__getitem__) for signed in notes]
    return Seen(name, max(sizes) or None)


@dataclass(frozen=True, slots=True)
class _Said:
    """What was compared beside the entries."""

    kept: int
    chain: Chain
    anchors: Mapping[str, Seen]


def _verdict(found: Walk, said: _Said, trust: Trust) -> Verdict:
    seen = list(said.anchors.values())
    anchored = max((each.size or 0 for each in seen), default=0)
    return Verdict(
        size=found.tree.size,
        root=found.tree.root().hex(),
        first=parse(found.first),
        last=parse(found.last),
        checkpoints=said.kept,
        anchors=tuple(seen),
        anchored=anchored,
        tail=found.tree.size - anchored,
        unanchored=_unanchored(seen, anchored, found.times.get(anchored), trust),
        origin=said.chain.origin,
        restarts=said.chain.restarts,
    )


def _unanchored(seen: Sequence[Seen], anchored: int, at: str | None, trust: Trust) -> str | None:
    if not seen:
        return "guard.toml names no anchor"
    if problems := [each.problem for each in seen if each.problem]:
        return "could not look at " + "; ".join(problems)
    if not anchored or at is None:
        return "no anchor holds a checkpoint yet"
    if parse(at) < trust.policy.anchor_age.before(trust.now):
        return f"the newest anchored entry, {anchored - 1} of {at}, is older than {trust.policy.anchor_age}"
    return None


__all__ = ["HINT", "Seen", "Trust", "Verdict", "asked", "chain_of", "inspect"]
