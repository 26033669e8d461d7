"""The end of the ledger: where the next entries go, in which log, and which key signs behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from guard import faults
from guard.audit import checkpoint, entry, merkle, person_store, store
from guard.audit.chain import RESTART, Restart, is_new
from guard.audit.checkpoint import Checkpoint
from guard.audit.named import Names, Nobody
from guard.audit.rekey import REKEY, AskSeeds, Pen, Rekey
from guard.audit.store import Kind, Query
from guard.clock import parse, stamp
from guard.crypto.sign import Verifier
from guard.errors import TamperedError
from guard.events import Event
from guard.state import State, Tx, onward

VERIFY = "`guard audit verify` says what is wrong; guard records nothing, and so does nothing, until it is right"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the ledger as the newest checkpoint shows it."""

    note: str | None
    tree: merkle.Range
    at: datetime | None
    origin: str
    key: Verifier
    """The key that signs the next commit, under the name of the first log."""


class End:
    """Writes entries at the end of the ledger of `state`, and signs it."""

    def __init__(self, state: State, keys: AskSeeds | bytes, names: Names | None = None) -> None:
        self.names: Names = names or Nobody()
        self.first = checkpoint.origin_of(state.store_id)
        self.pen = Pen(self.first, keys)
        self._state = state
        self._seen: Head | None = None

    def append(self, tx: Tx, events: Sequence[Event]) -> None:
        """Write `events` and the checkpoint that covers them in `tx`.

        Raises ClockError when the clock is behind the last entry, TamperedError when the end of the ledger is not what
        was signed, ValueError for an event the format cannot hold.
        """
        head = self.head(tx)
        now = self._state.clock.now()
        at = now if head.at is None else onward(now, head.at)
        origin = self._origin(tx, head, events)
        keys = self._keys(tx, head, origin, events)
        settled, payloads = self.names.settle(tx, events, head.tree.size)
        tree, rows, nodes = head.tree.copy(), [], []
        for event in settled:
            raw = entry.leaf(tree.size, at, event)
            digest = merkle.leaf_hash(raw)
            found = entry.decode(raw)
            rows.append(
                (found.n, raw, digest, found.at, found.who, found.what, found.outcome, found.run, found.subject)
            )
            nodes += tree.push(digest)
        store.add_entries(tx, rows)
        store.add_nodes(tx, nodes)
        person_store.add_payloads(tx, payloads)
        note = self.pen.sign(Checkpoint(origin, tree.size, tree.root()), [key.raw for key in keys])
        if head.note is not None and head.at is not None and _hour(head.at) != _hour(at):
            store.keep(tx, head.tree.size, Kind.HOURLY, head.note)
        if len(keys) > 1:
            store.keep(tx, tree.size, Kind.REKEYED, note)
        store.set_latest(tx, tree.size, note)
        if len(keys) > 1:
            faults.point("audit.rekey.signed")
        # After a rollback the newest note is another one, and this is dropped.
        self._seen = Head(note, tree, at, origin, keys[-1])

    def head(self, tx: Tx) -> Head:
        """Return the end of the ledger. Raises TamperedError when it is not what was signed."""
        found = store.latest(tx)
        if self._seen is not None and found == (self._seen.tree.size, self._seen.note):
            return self._seen
        last = store.last_leaf(tx)
        if found is None:
            if last is not None:
                raise TamperedError("the ledger has lost its newest checkpoint", hint=VERIFY)
            return Head(None, merkle.Range(), None, self.first, self.pen.current)
        size, note = found
        key = self._in_force(tx)
        signed = checkpoint.open_any(note, key)
        tree = merkle.Range(size, [store.subtree(tx, level, at) for level, at in merkle.cover(size)])
        if (signed.size, signed.root) != (size, tree.root()) or last is None or last[0] != size - 1:
            raise TamperedError("the end of the ledger is not what was signed", hint=VERIFY)
        try:
            at = parse(entry.decode(last[1]).at)
        except ValueError:
            raise TamperedError(f"ledger entry {last[0]} is not an entry", hint=VERIFY) from None
        return Head(note, tree, at, signed.origin, key)

    def _in_force(self, tx: Tx) -> Verifier:
        """Return the key that signs by what the ledger says, which has to be what state says."""
        newest = next(store.leaves(tx, Query(what=REKEY), limit=1, newest=True), None)
        if newest is None:
            return self.pen.current
        try:
            said = Rekey.read(entry.read(newest[1])).new.named(self.first)
        except ValueError as error:
            raise TamperedError(f"ledger entry {newest[0]}: {error}", hint=VERIFY) from None
        if said.raw != self.pen.current.raw and said.raw != self.pen.renew().raw:
            raise TamperedError("the ledger says that it is signed by another key than guard's keys say", hint=VERIFY)
        return said

    def _origin(self, tx: Tx, head: Head, events: Sequence[Event]) -> str:
        """Return the origin to sign under: that of the log, or of the one that the first event begins."""
        begun = [at for at, event in enumerate(events) if event.what == RESTART]
        if not begun:
            return head.origin
        if begun != [0] or head.note is None:
            raise ValueError("a log begins as the first event of a commit, and not before there is one to close")
        found = Restart.read(events[0])
        if (found.closed, found.size, found.root) != (head.origin, head.tree.size, head.tree.root()):
            raise ValueError("a log begins where the one before it ends")
        if not is_new(self.first, found.origin, {head.origin}):
            raise ValueError(f"{found.origin} is no origin of a new log")
        store.keep(tx, head.tree.size, Kind.CLOSED, head.note)
        return found.origin

    def _keys(self, tx: Tx, head: Head, origin: str, events: Sequence[Event]) -> tuple[Verifier, ...]:
        """Return what signs the commit: the key in force, and the next one behind it where an event changes it."""
        changed = [at for at, event in enumerate(events) if event.what == REKEY]
        if not changed:
            return (head.key,)
        if changed != [1 if events[0].what == RESTART else 0] or head.note is None:
            raise ValueError("the key changes as the first event of a commit, and not before there is an entry")
        found = Rekey.read(events[changed[0]])
        used = {Rekey.read(entry.read(raw)).old.raw for _, raw in store.leaves(tx, Query(what=REKEY))}
        if (found.old.name, found.old.raw) != (origin, head.key.raw) or found.new.raw in used:
            raise ValueError("the key changes from the one that signs now to one that never did")
        return head.key, found.new.named(self.first)


def _hour(at: datetime) -> str:
    return stamp(at)[:13]
