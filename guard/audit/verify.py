"""Does the ledger say what was signed and anchored? Recomputes everything; the first difference ends it by name.

Steps: 1 the kept checkpoints are signed; 2 every entry and node is recomputed and compared, and there are as many as
were signed (`walk`); 3 the root at every kept checkpoint, and that the last one of each hour is kept; 4 each log begins
where the one before it ends, and signed nothing outside of that (`chain`); 5 the anchors. Nothing that could not be
looked at counts as fine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from guard.audit import entry, prune, store
from guard.audit.against import Held
from guard.audit.anchors import Said
from guard.audit.anchors.enough import REMOVED, Seen, unanchored
from guard.audit.chain import RESTART, Chain
from guard.audit.past import Past
from guard.audit.payloads import Check
from guard.audit.prune import Pruned
from guard.audit.rekey import REKEY, Keys, Signed
from guard.audit.store import Kind, Query, UnreadableError
from guard.audit.verdict import Rekeyed, Trust, Verdict
from guard.audit.walk import HINT, Walk, Way, between, tampered, walk
from guard.clock import parse
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Verifier
from guard.errors import TamperedError
from guard.events import Progress, silent
from guard.state import Tx

_ALONG = frozenset({Kind.HOURLY, Kind.ANCHORED})
"""Checkpoints that go along with the entries that retention removes."""


def inspect(
    tx: Tx,
    trust: Trust,
    progress: Progress = silent,
    *,
    since: datetime | int | None = None,
    against: Sequence[Held] = (),
) -> Verdict:
    """Compare everything in the snapshot `tx`. Raises TamperedError naming the entry, or those it must be among.

    `since`: read only what lies behind the last kept checkpoint at or before a time or size. `against`: what somebody
    kept has to be in the ledger too; raises ConfigError where it is about another one.
    """
    try:
        chain = chain_of(tx, trust.verifier)
        kept = _kept(tx, chain.keys, _begin(tx, since))
        _compare_cosigned(tx, trust.witnesses, _begin(tx, since))
        told = [(said, said.opened(chain.keys.open)) for said in trust.anchors]
        held = [(each, each.opened(chain.keys)) for each in against]
        way = _way(tx, kept, [each for _, notes in told for each in notes] + [each for _, each in held], since)
        check = Check(tx, way.first)
        found = walk(tx, replace(way, look=check.look), progress)
        check.end(found.tree.size)
        past = Past(tx, way, found)
        _compare_kept(past, kept, prune.pruned(tx))
        past.compare_entries()
        _compare_hours(found, kept, max(way.begin, way.minimum))
        _compare_logs(kept, chain)
        compared = _Compared(
            len(kept),
            chain,
            tuple(_vouched(past, chain, found.tree.size, *each) for each in told),
            tuple(_agreed(past, chain, found.tree.size, *each) for each in held),
        )
    except UnreadableError as error:
        raise tampered("the ledger cannot be read") from error
    return _verdict(found, way, compared, trust)


def _begin(tx: Tx, since: datetime | int | None) -> int:
    """Return the size of the last kept checkpoint at or before a time or size; 0 for all of the ledger."""
    if since is None:
        return 0
    size = since if isinstance(since, int) else store.first_since(tx, since)
    return max((each for each, _, _ in store.checkpoints(tx) if each <= size), default=0)


def _way(tx: Tx, kept: Sequence[tuple[str, Signed]], others: Sequence[Signed], since: datetime | int | None) -> Way:
    size, pruned = kept[-1][1].size, prune.pruned(tx)
    sizes = {each.size for _, each in kept} | {each.size for each in others} | {pruned.minimum}
    return Way(size, frozenset(sizes), min(_begin(tx, since), max(size - 1, 0)), pruned.minimum, pruned.kept)


def chain_of(tx: Tx, trusted: Verifier) -> Chain:
    """Return the logs and keys of the ledger that has the key `trusted`. Raises TamperedError for a broken chain."""
    behind = [size for size, kind, _ in store.checkpoints(tx) if kind == Kind.REKEYED]
    return Chain.read(Keys.read(trusted, _entries(tx, REKEY), behind), _entries(tx, RESTART))


def _entries(tx: Tx, what: str) -> list[entry.Entry]:
    try:
        return [entry.read(raw) for _, raw in store.leaves(tx, Query(what=what))]
    except ValueError as error:
        raise tampered(f"an entry {what} of the ledger cannot be read") from error


def _kept(tx: Tx, keys: Keys, begin: int) -> list[tuple[str, Signed]]:
    """Return (kind, checkpoint), smallest first, the newest last; of smaller ones than `begin` those that logs need."""
    found = [
        (kind, _signed(size, note, keys))
        for size, kind, note in store.checkpoints(tx)
        if size >= begin or kind not in _ALONG
    ]
    newest = [each.size for kind, each in found if kind == Kind.LATEST]
    if len(newest) != 1 or found[-1][1].size != newest[0]:
        raise tampered("the newest checkpoint of the ledger is missing")
    if unknown := {kind for kind, _ in found} - set(Kind):
        raise tampered(f"the ledger holds checkpoints of a kind it does not know: {len(unknown)}")
    return found


def _signed(size: int, note: str, keys: Keys) -> Signed:
    try:
        found = keys.open(note)
        keys.require_in_force(found)
    except TamperedError as error:
        raise tampered(f"ledger entry {size - 1}: the checkpoint behind it was changed: {error}") from None
    if found.size != size:
        raise tampered(f"ledger entry {size - 1}: the checkpoint behind it says it is behind {found.size - 1}")
    return found


def _compare_cosigned(tx: Tx, witnesses: Sequence[WitnessKey], begin: int) -> None:
    """Check the lines of `witnesses` on what anchors took; lines of other keys vouch for nothing."""
    for size, kind, note in store.checkpoints(tx) if witnesses else ():
        try:
            for each in witnesses if kind == Kind.ANCHORED and size >= begin else ():
                each.time_on(note)
        except TamperedError as error:
            raise tampered(f"ledger entry {size - 1}: the checkpoint behind it was changed: {error}") from None


def _compare_kept(past: Past, kept: Sequence[tuple[str, Signed]], pruned: Pruned) -> None:
    good = 0
    for kind, signed in kept:
        if signed.size < pruned.minimum and kind in _ALONG:
            raise tampered(f"ledger entry {signed.size - 1}: the {kind} checkpoint behind it is one that was removed")
        if past.root(signed.size) != signed.root:
            raise tampered(f"{between(good, signed.size - 1)}: not those that were signed")
        good = signed.size
    if pruned.minimum and past.root(pruned.minimum) != pruned.root:
        raise tampered(f"{between(0, pruned.minimum - 1)}: not those of which some were removed")


def _compare_hours(found: Walk, kept: Sequence[tuple[str, Signed]], begin: int) -> None:
    """Compare behind which entries an hour ends with where a checkpoint is kept for that, from `begin` on."""
    hourly = {signed.size for kind, signed in kept if kind == Kind.HOURLY and signed.size > begin}
    if wrong := hourly.symmetric_difference(size for size in found.hours if size > begin):
        size = min(wrong)
        what = "stands at no end of an hour" if size in hourly else "is missing"
        raise tampered(f"ledger entry {size - 1}: the hourly checkpoint behind it {what}")


def _compare_logs(kept: Sequence[tuple[str, Signed]], chain: Chain) -> None:
    """Compare where logs end with what was signed there, and that no log signed what is another's."""
    closed = {signed.size: signed.root for kind, signed in kept if kind == Kind.CLOSED}
    ends = {each.size: each.root for each in chain.restarts}
    if closed != ends:
        size = min(size for size in {*closed, *ends} if closed.get(size) != ends.get(size))
        raise tampered(f"ledger entry {size}: the log that it closes is not the one that was signed")
    for _, signed in kept:
        if signed.origin != chain.origin_at(signed.size):
            raise tampered(f"ledger entry {signed.size - 1}: the checkpoint behind it is one of another log")


def _vouched(past: Past, chain: Chain, size: int, said: Said, notes: Sequence[Signed]) -> Seen:
    who = f"anchor {said.name}"
    chain.require_declared(who, said.beyond, size)
    sizes = [chain.vouched(who, signed, size, past.root) for signed in notes]
    known = [each for each in sizes if each is not None]
    if sizes and not known:
        return Seen(said.name, None, f"{who}: {REMOVED}", said.weak)
    largest = max(known, default=0) or None
    return Seen(said.name, largest, said.problem, said.weak, None if largest is None else past.time(largest))


def _agreed(past: Past, chain: Chain, size: int, held: Held, signed: Signed) -> Seen:
    found = chain.vouched(held.name, signed, size, past.root)
    if found is None:
        return Seen(held.name, None, f"{held.name}: {REMOVED}")
    if found:
        held.compare_entry(signed, past.leaf)
    return Seen(held.name, found or None, at=past.time(found) if found else None)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What was compared beside the entries."""

    kept: int
    chain: Chain
    anchors: tuple[Seen, ...]
    against: tuple[Seen, ...]


def _verdict(found: Walk, way: Way, compared: _Compared, trust: Trust) -> Verdict:
    anchored = max((each.size or 0 for each in compared.anchors), default=0)
    keys = compared.chain.keys
    return Verdict(
        size=found.tree.size,
        root=found.tree.root().hex(),
        first=parse(found.first),
        last=parse(found.last),
        checkpoints=compared.kept,
        anchors=compared.anchors,
        anchored=anchored,
        tail=found.tree.size - anchored,
        unanchored=unanchored(compared.anchors, trust.policy, trust.now),
        origin=compared.chain.origin,
        restarts=compared.chain.restarts,
        vkey=keys.current.vkey,
        rekeys=tuple(Rekeyed(each.n, each.rekey.new.named(keys.name).vkey) for each in keys.changes),
        begin=way.first,
        minimum=way.minimum,
        against=compared.against,
    )


__all__ = ["HINT", "Seen", "Trust", "Verdict", "chain_of", "inspect"]
