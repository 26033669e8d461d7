"""The ledger: what was done, by whom, when, in a tree whose root is signed with each commit."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from guard.audit import anchoring, entry, prune, pruning, store, verify
from guard.audit.against import Held
from guard.audit.anchoring import Anchored, Book, Holding
from guard.audit.anchors import Anchor, ask
from guard.audit.anchors.enough import what_helps
from guard.audit.chain import Restart
from guard.audit.end import VERIFY, End
from guard.audit.entry import Entry
from guard.audit.named import Names
from guard.audit.pruning import Keep, Pruning
from guard.audit.rekey import AskSeeds, Rekey
from guard.audit.store import Query
from guard.audit.verify import Verdict
from guard.audit.walk import HINT
from guard.config.audit import AuditPolicy
from guard.config.span import Span
from guard.crypto import random
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Signer
from guard.errors import TamperedError, UnanchoredError
from guard.events import Activity, Ending, Event, PrincipalId, Progress, RunId, silent
from guard.state import State, Tx

_EVERYTHING = Query()


class Ledger:
    """The ledger of one store. Hand `append` to `State.attach`: it runs in the transaction of what it records."""

    def __init__(
        self,
        state: State,
        keys: AskSeeds | bytes,
        anchors: Sequence[Anchor] = (),
        policy: AuditPolicy | None = None,
        persons: Names | None = None,
    ) -> None:
        """Open the ledger of `state`; `keys` gives the seeds of the key `ledger`: 32 bytes are the only one.

        `persons`: whom it can name; None without a vault.
        """
        self._state = state
        self._end = End(state, keys, persons)
        self._anchors = tuple(anchors)
        self._policy = policy or AuditPolicy()

    @property
    def vkey(self) -> str:
        """The verifier key: one line with which anybody checks the checkpoints that this ledger signs now."""
        with self._state.read() as tx:
            head = self._end.head(tx)
        return head.key.named(head.origin).vkey

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Where checkpoints are anchored."""
        return self._anchors

    @property
    def witnesses(self) -> tuple[WitnessKey, ...]:
        """Those anchors' keys that cosign; no other cosignature counts."""
        return tuple(key for each in self._anchors if (key := each.witness) is not None)

    def prepare(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Return events as `append` takes them: with the pseudonyms of whom they are about. Writes to state.

        Raises InterlockError for one about a person when there is no vault, GoneError when somebody is shredded again
        and again meanwhile.
        """
        return self._end.names.prepare(events)

    def append(self, tx: Tx, events: Sequence[Event]) -> None:
        """Write `events` and the checkpoint that covers them in `tx`. The writer's hook; called once a commit.

        Raises ClockError when the clock is behind the last entry, TamperedError when the end of the ledger is not what
        was signed, ValueError for an event the format cannot hold, GoneError when whom a prepared one is about was
        shredded meanwhile.
        """
        self._end.append(tx, events)

    def restart(self) -> Restart:
        """Work out how a restored ledger closes its log and begins another; what is lost is asked of the anchors.

        Nothing is written: record its event first in a commit. Raises TamperedError when an anchor holds another
        history than the one that was restored.
        """
        said = [ask(anchor, Book(self._state)) for anchor in self._anchors]
        with self._state.read() as tx:
            head = self._end.head(tx)
            chain = verify.chain_of(tx, head.key)
            found = {each.name: each.opened(chain.keys.open) for each in said}
            ahead, unknown = chain.ahead(found, head.tree.size, lambda size: prune.root_at(tx, size))
        unread = [each.name for each in said if each.problem or each.beyond]
        origin = f"{self._end.first}/{random.hex_token(8)}"
        return Restart(head.origin, head.tree.size, head.tree.root(), origin, ahead, tuple(unread), unknown)

    def rekey(self, seed: bytes, version: int) -> Rekey:
        """Work out the change to the key with this 32-byte seed. Nothing is written.

        Its event has to come first in a commit, in whose transaction the seed becomes the current one.
        """
        with self._state.read() as tx:
            head = self._end.head(tx)
        return Rekey(head.key.named(head.origin), Signer(seed, head.origin).verifier, version)

    def checkpoint(self) -> str:
        """Return the newest checkpoint, signed. Raises TamperedError when the ledger has none."""
        with self._state.read() as tx:
            found = store.latest(tx)
        if found is None:
            raise TamperedError("the ledger has no checkpoint", hint=VERIFY)
        return found[1]

    def list(self, query: Query = _EVERYTHING, limit: int = 100) -> tuple[Entry, ...]:
        """Return the last `limit` entries that fit, oldest first."""
        with self._state.read() as tx:
            found = [_read(n, raw) for n, raw in store.leaves(tx, query, limit=limit, newest=True)]
        return tuple(reversed(found))

    def minimum(self) -> int:
        """Return from which number on every entry is at hand; retention has removed older ones."""
        with self._state.read() as tx:
            return prune.pruned(tx).minimum

    def entries(self, query: Query = _EVERYTHING) -> Iterator[Entry]:
        """Yield all entries that fit, oldest first, from one snapshot."""
        with self._state.read() as tx:
            for n, raw in store.leaves(tx, query):
                yield _read(n, raw)

    def anchor(self) -> Anchored:
        """Give the newest checkpoint to every anchor, after comparing each anchor's own newest with the ledger.

        Raises TamperedError when an anchor holds another history, UnavailableError when none took it.
        """
        return anchoring.anchor_all(self._state, self._anchors, self._end.pen.renew)

    @property
    def policy(self) -> AuditPolicy:
        """What outside proof is enough."""
        return self._policy

    @property
    def book(self) -> Book:
        """What an anchor may ask of the ledger."""
        return Book(self._state)

    def look(self) -> tuple[Holding, ...]:
        """Return what every anchor holds. Raises TamperedError when one holds another history."""
        return anchoring.look(self._state, self._anchors, self._end.pen.renew)

    def cosigned(self) -> str:
        """Return the newest checkpoint with a good cosignature of one of `witnesses`.

        Raises ConfigError when there is none, TamperedError for a wrong one.
        """
        return anchoring.cosigned(self._state, self.witnesses)

    def pruning(self, keep: Keep = tuple, *, late: Span | None = None) -> Pruning | None:
        """Return what retention removes now; None when nothing is old enough, or, with `late`, older than that besides.

        `keep`: gives numbers of entries that stay.
        """
        before = self._policy.keep.before(self._state.clock.now())
        with self._state.read() as tx:
            return pruning.plan(tx, late.before(before) if late else before, keep)

    def prune(self, what: Pruning, told: tuple[PrincipalId, RunId], progress: Progress = silent) -> None:
        """Remove entries, after the whole ledger was verified; `told`: who does so, and a run id for the record of it.

        Raises what `verify` raises, and InterlockError when an anchor does not vouch for all that would go.
        """
        verdict = self.verify(progress)
        pruning.require_vouched(what, [(each.name, each.size) for each in verdict.anchors])
        pruning.carry_out(self._state, what, told, progress)

    def inspect(
        self, progress: Progress = silent, *, since: datetime | int | None = None, against: Sequence[Held] = ()
    ) -> Verdict:
        """Recompute the ledger from its bytes and compare everything. Raises TamperedError naming the entry.

        `since` and `against` are as `guard.audit.verify.inspect` takes them. The verdict says whether a fresh anchor
        vouches for it; `verify` raises when none does.
        """
        now, pen = self._state.clock.now(), self._end.pen
        trusted = pen.renew()  # keys and anchors first: what is read after them may have followed, not gone back
        said = [ask(anchor, Book(self._state)) for anchor in self._anchors]
        with self._state.read() as tx:
            trust = verify.Trust(trusted, said, self._policy, now, self.witnesses)
            verdict = verify.inspect(tx, trust, progress, since=since, against=against)
        if verdict.vkey not in {trusted.vkey, pen.renew().vkey}:
            raise TamperedError(f"the ledger says that {verdict.vkey} signs it, guard's keys say otherwise", hint=HINT)
        return verdict

    def verify(self, progress: Progress = silent) -> Verdict:
        """Do as `inspect`, and raise UnanchoredError when all is consistent but no fresh anchor vouches for it."""
        verdict = self.inspect(progress)
        if verdict.unanchored is not None:
            raise UnanchoredError(
                f"{verdict.size} entries are consistent, but not anchored: {verdict.unanchored}",
                hint=what_helps(verdict.anchors),
            )
        return verdict


def heartbeat(who: PrincipalId, run: RunId) -> Event:
    """Return the event that says guard was alive: a silence between two of them is proof that nothing was recorded."""
    return Event("audit.heartbeat", Ending.DONE, who, run, Activity.COMPLIANCE)


def _read(n: int, raw: bytes) -> Entry:
    try:
        found = entry.read(raw)
    except ValueError:
        raise TamperedError(f"ledger entry {n} is not an entry", hint=VERIFY) from None
    if found.n != n:
        raise TamperedError(f"ledger entry {n} holds the bytes of entry {found.n}", hint=VERIFY)
    return found
