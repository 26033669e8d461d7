"""The ledger: what was done, by whom, when, in a tree whose root is signed with each commit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from guard.audit import checkpoint, entry, merkle, store, verify
from guard.audit.anchor import FolderAnchor
from guard.audit.chain import RESTART, Chain, Restart, is_new
from guard.audit.checkpoint import Checkpoint
from guard.audit.entry import Entry
from guard.audit.store import Kind, Query
from guard.audit.verify import Verdict
from guard.clock import parse, stamp
from guard.config.audit import AuditPolicy
from guard.crypto import random
from guard.crypto.sign import Signer, Verifier
from guard.errors import TamperedError, UnanchoredError, UnavailableError
from guard.events import Activity, Ending, Event, PrincipalId, Progress, RunId, silent
from guard.state import State, Tx, onward

_EVERYTHING = Query()
_VERIFY = "`guard audit verify` says what is wrong; guard records nothing, and so does nothing, until it is right"


@dataclass(frozen=True, slots=True)
class Anchored:
    """What an anchoring did: the size that is now vouched for, the anchors that hold it, those that could not."""

    size: int
    held: tuple[str, ...]
    failed: tuple[str, ...]
    """Name and reason, e.g. "offsite: No such file or directory"."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The end of the ledger as the newest checkpoint shows it."""

    note: str | None
    tree: merkle.Range
    at: datetime | None
    origin: str


class Ledger:
    """The ledger of one store. Hand `append` to `State.attach`: it runs in the transaction of what it records."""

    def __init__(
        self, state: State, seed: bytes, anchors: Sequence[FolderAnchor] = (), policy: AuditPolicy | None = None
    ) -> None:
        """Open the ledger of `state`; `seed` is the 32-byte key of purpose `ledger`."""
        self._state = state
        self._signer = Signer(seed, checkpoint.origin_of(state.store_id))
        self._writing = self._signer  # the first log's; a later one's has the same key and another name
        self._verifier = Verifier.from_vkey(self._signer.vkey)
        self._anchors = tuple(anchors)
        self._policy = policy or AuditPolicy()
        self._seen: _Head | None = None

    @property
    def vkey(self) -> str:
        """The verifier key: one line with which anybody checks the checkpoints that this ledger signs now."""
        with self._state.read() as tx:
            found = store.latest(tx)
        return self._signer.vkey if found is None else self._signer.named(self._opened(found[1]).origin).vkey

    @property
    def anchors(self) -> tuple[FolderAnchor, ...]:
        """Where checkpoints are anchored."""
        return self._anchors

    def append(self, tx: Tx, events: Sequence[Event]) -> None:
        """Write `events` and the checkpoint that covers them in `tx`. The writer's hook; called once a commit.

        Raises ClockError when the clock is behind the last entry, TamperedError when the end of the ledger is not what
        was signed, ValueError for an event the format cannot hold.
        """
        head = self._head(tx)
        now = self._state.clock.now()
        at = now if head.at is None else onward(now, head.at)
        origin = self._origin(tx, head, events)
        tree, rows, nodes = head.tree.copy(), [], []
        for event in events:
            raw = entry.leaf(tree.size, at, event)
            digest = merkle.leaf_hash(raw)
            found = entry.decode(raw)
            rows.append(
                (found.n, raw, digest, found.at, found.who, found.what, found.outcome, found.run, found.subject)
            )
            nodes += tree.push(digest)
        store.add_entries(tx, rows)
        store.add_nodes(tx, nodes)
        if self._writing.name != origin:
            self._writing = self._signer.named(origin)
        note = self._writing.sign_note(Checkpoint(origin, tree.size, tree.root()).text())
        if head.note is not None and head.at is not None and _hour(head.at) != _hour(at):
            store.keep(tx, head.tree.size, Kind.HOURLY, head.note)
        store.set_latest(tx, tree.size, note)
        # After a rollback the newest note is another one, and this is dropped.
        self._seen = _Head(note, tree, at, origin)

    def _head(self, tx: Tx) -> _Head:
        found = store.latest(tx)
        if self._seen is not None and found == (self._seen.tree.size, self._seen.note):
            return self._seen
        last = store.last_leaf(tx)
        if found is None:
            if last is not None:
                raise TamperedError("the ledger has lost its newest checkpoint", hint=_VERIFY)
            return _Head(None, merkle.Range(), None, self._signer.name)
        size, note = found
        signed = self._opened(note)
        tree = merkle.Range(size, [store.subtree(tx, level, at) for level, at in merkle.cover(size)])
        if (signed.size, signed.root) != (size, tree.root()) or last is None or last[0] != size - 1:
            raise TamperedError("the end of the ledger is not what was signed", hint=_VERIFY)
        return _Head(note, tree, parse(entry.decode(last[1]).at), signed.origin)

    def _opened(self, note: str) -> Checkpoint:
        return checkpoint.open_any(note, self._verifier)

    def _origin(self, tx: Tx, head: _Head, events: Sequence[Event]) -> str:
        """Return the origin to sign under: that of the log, or of the one that the first event begins."""
        begun = [at for at, event in enumerate(events) if event.what == RESTART]
        if not begun:
            return head.origin
        if begun != [0] or head.note is None:
            raise ValueError("a log begins as the first event of a commit, and not before there is one to close")
        found = Restart.read(events[0])
        if (found.closed, found.size, found.root) != (head.origin, head.tree.size, head.tree.root()):
            raise ValueError("a log begins where the one before it ends")
        if not is_new(self._signer.name, found.origin, {head.origin}):
            raise ValueError(f"{found.origin} is no origin of a new log")
        store.keep(tx, head.tree.size, Kind.CLOSED, head.note)
        return found.origin

    def restart(self) -> Restart:
        """Work out how a restored ledger closes its log and begins another; what is lost is asked of the anchors.

        Nothing is written: record its event first in a commit. Raises TamperedError when an anchor holds another
        history than the one that was restored.
        """
        with self._state.read() as tx:
            head, chain = self._head(tx), verify.chain_of(tx, self._signer.name)
            said = {anchor.name: verify.asked(anchor, self._verifier) for anchor in self._anchors}
            found = {name: each for name, each in said.items() if not isinstance(each, verify.Seen)}
            ahead = chain.ahead(found, head.tree.size, lambda size: _root(tx, size))
        unread = [each.name for each in said.values() if isinstance(each, verify.Seen) and each.problem]
        origin = f"{self._signer.name}/{random.hex_token(8)}"
        return Restart(head.origin, head.tree.size, head.tree.root(), origin, ahead, tuple(unread))

    def checkpoint(self) -> str:
        """Return the newest checkpoint, signed. Raises TamperedError when the ledger has none."""
        with self._state.read() as tx:
            found = store.latest(tx)
        if found is None:
            raise TamperedError("the ledger has no checkpoint", hint=_VERIFY)
        return found[1]

    def list(self, query: Query = _EVERYTHING, limit: int = 100) -> tuple[Entry, ...]:
        """Return the last `limit` entries that fit, oldest first."""
        with self._state.read() as tx:
            found = [_read(n, raw) for n, raw in store.leaves(tx, query, limit=limit, newest=True)]
        return tuple(reversed(found))

    def entries(self, query: Query = _EVERYTHING) -> Iterator[Entry]:
        """Yield all entries that fit, oldest first, from one snapshot."""
        with self._state.read() as tx:
            for n, raw in store.leaves(tx, query):
                yield _read(n, raw)

    def anchor(self) -> Anchored:
        """Give the newest checkpoint to every anchor, after comparing each anchor's own newest with the ledger.

        Raises TamperedError when an anchor holds another history, UnavailableError when none took it.
        """
        with self._state.read() as tx:
            found = store.latest(tx)
            if found is None:
                raise TamperedError("the ledger has no checkpoint", hint=_VERIFY)
            size, note = found
            log, chain = checkpoint.log_of(self._opened(note).origin), verify.chain_of(tx, self._signer.name)
            held, failed = [], []
            for anchor in self._anchors:
                try:
                    self._check_newest(tx, anchor, size, chain)
                    anchor.put(size, note, log)
                    held.append(anchor.name)
                except UnavailableError as error:
                    failed.append(str(error))
        if failed and not held:
            raise UnavailableError("no anchor took the checkpoint: " + "; ".join(failed))
        if held:
            self._state.write(lambda tx: store.keep(tx, size, Kind.ANCHORED, note))
        return Anchored(size, tuple(held), tuple(failed))

    def _check_newest(self, tx: Tx, anchor: FolderAnchor, size: int, chain: Chain) -> None:
        found = verify.asked(anchor, self._verifier)
        if not isinstance(found, verify.Seen):
            for signed in found:
                chain.vouched(anchor.name, signed, size, lambda at: _root(tx, at))
        elif found.problem:
            raise UnavailableError(found.problem)

    def inspect(self, progress: Progress = silent) -> Verdict:
        """Recompute the whole ledger from its bytes and compare everything. Raises TamperedError naming the entry.

        The verdict says whether a fresh anchor vouches for it; `verify` raises when none does.
        """
        now = self._state.clock.now()
        with self._state.read() as tx:
            return verify.inspect(tx, verify.Trust(self._verifier, self._anchors, self._policy, now), progress)

    def verify(self, progress: Progress = silent) -> Verdict:
        """Do as `inspect`, and raise UnanchoredError when all is consistent but no fresh anchor vouches for it."""
        verdict = self.inspect(progress)
        if verdict.unanchored is not None:
            raise UnanchoredError(
                f"{verdict.size} entries are consistent, but not anchored: {verdict.unanchored}",
                hint="`guard audit anchor` anchors the newest checkpoint",
            )
        return verdict


def heartbeat(who: PrincipalId, run: RunId) -> Event:
    """Return the event that says guard was alive: a silence between two of them is proof that nothing was recorded."""
    return Event("audit.heartbeat", Ending.DONE, who, run, Activity.COMPLIANCE)


def _root(tx: Tx, size: int) -> bytes:
    """Return the root over the first `size` entries, from the stored hashes."""
    return merkle.fold([store.subtree(tx, level, at) for level, at in merkle.cover(size)])


def _hour(at: datetime) -> str:
    return stamp(at)[:13]


def _read(n: int, raw: bytes) -> Entry:
    try:
        found = entry.read(raw)
    except ValueError:
        raise TamperedError(f"ledger entry {n} is not an entry", hint=_VERIFY) from None
    if found.n != n:
        raise TamperedError(f"ledger entry {n} holds the bytes of entry {found.n}", hint=_VERIFY)
    return found
