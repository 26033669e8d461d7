"""Give the newest checkpoint to every anchor, each compared first, and keep what they make of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from guard import faults
from guard.audit import proof, prune, store, verify
from guard.audit.anchors import Anchor, Said, ask
from guard.audit.checkpoint import log_of, parse
from guard.audit.store import Kind
from guard.crypto.cosign import WitnessKey, join
from guard.crypto.sign import Verifier, split_note
from guard.errors import ConfigError, GuardError, TamperedError, UnavailableError
from guard.state import State, Tx


@dataclass(frozen=True, slots=True)
class Anchored:
    """What an anchoring did: the size that is now vouched for, the anchors that hold it, those that could not."""

    size: int
    held: tuple[str, ...]
    failed: tuple[str, ...]
    """Name and reason, e.g. "offsite: No such file or directory"."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one anchor holds, or why it could not say."""

    name: str
    where: str
    weak: bool
    entries: int | None
    """Of the log that is written to; None when it holds nothing of it."""
    at: datetime | None
    """When a witness or an authority signed that."""
    logs: Mapping[str, int]
    """By the log's name: how many entries of each."""
    problem: str | None


@dataclass(frozen=True, slots=True)
class Book:
    """The ledger as anchors ask for it: `guard.audit.anchors.Known`. Each call reads it anew."""

    state: State

    def ends(self) -> Mapping[str, str]:
        """Return the newest checkpoint of each log, by its name; that of the log that is written to comes last."""
        with self.state.read() as tx:
            notes = store.notes(tx, Kind.CLOSED, Kind.LATEST)
        return {_log(note): note for note in reversed(notes)}

    def kept(self) -> Sequence[str]:
        """Return the notes that anchors took, those of the largest size first."""
        with self.state.read() as tx:
            return store.notes(tx, Kind.ANCHORED)

    def prove(self, old: int, new: int) -> Sequence[bytes]:
        """Return the proof that the tree of `new` entries begins with that of `old`."""
        with self.state.read() as tx:
            return proof.consistency(tx, old, new)


def anchor_all(state: State, anchors: Sequence[Anchor], trusted: Callable[[], Verifier]) -> Anchored:
    """Give the newest checkpoint to every anchor, after comparing each anchor's own newest with the ledger.

    `trusted`: gives a key of the ledger, under its first log's name. An anchor that fails keeps none of the others from
    it. Raises TamperedError when one holds another history, UnavailableError when none took it.
    """
    with state.read() as tx:
        size, note = proof.newest(tx)
    book, held, failed = Book(state), [], []
    lines, wrong = "", None
    for anchor in anchors:
        try:
            _compare(state, ask(anchor, book), trusted())
            lines += anchor.put(size, note, _log(note), book) or ""
            held.append(anchor.name)
            faults.point("audit.anchor.held")
        except TamperedError as error:
            wrong = wrong or error
        except GuardError as error:
            failed.append(str(error))
    if held:
        state.write(lambda tx: _keep(tx, size, note, lines))
    if wrong is not None:
        raise wrong
    if failed and not held:
        raise UnavailableError("no anchor took the checkpoint: " + "; ".join(failed))
    return Anchored(size, tuple(held), tuple(failed))


def look(state: State, anchors: Sequence[Anchor], trusted: Callable[[], Verifier]) -> tuple[Holding, ...]:
    """Return what every anchor holds, compared with the ledger. Raises TamperedError when one holds another history."""
    found = []
    for anchor in anchors:
        said, problem = ask(anchor, Book(state)), None
        try:
            _compare(state, said, trusted())
        except UnavailableError as error:
            problem = str(error)
        logs = {log: parse(split_note(note)[0]).size for log, note in said.notes.items()}
        *_, now = Book(state).ends()
        at = anchor.time_of(said.notes[now]) if now in said.notes else None
        found.append(Holding(anchor.name, anchor.where, anchor.weak, logs.get(now), at, logs, problem))
    return tuple(found)


def cosigned(state: State, witnesses: Sequence[WitnessKey]) -> str:
    """Return the newest note that one of `witnesses` has cosigned.

    Raises ConfigError when there is none, TamperedError for a wrong line under a witness's key.
    """
    found = proof.cosigned(Book(state).kept(), witnesses)
    if found is None:
        raise ConfigError("no witness has cosigned a checkpoint yet", hint="runbooks/anchors.md sets one up")
    return found


def _compare(state: State, said: Said, trusted: Verifier) -> None:
    """Raise TamperedError when an anchor holds another history than the ledger has now, or UnavailableError."""
    with state.read() as tx:
        chain = verify.chain_of(tx, trusted)
        size, _ = proof.newest(tx)
        for signed in said.opened(chain.keys.open):
            chain.vouched(f"anchor {said.name}", signed, size, lambda at: prune.root_at(tx, at))
        chain.require_declared(f"anchor {said.name}", said.beyond, size)
    if said.problem:
        raise UnavailableError(said.problem)


def _keep(tx: Tx, size: int, note: str, lines: str) -> None:
    """Keep the note with the cosignatures, beside those that it has already."""
    there = store.kept(tx, size, Kind.ANCHORED) or note
    store.put_kept(tx, size, Kind.ANCHORED, join(there, lines) if lines else there)


def _log(note: str) -> str:
    return log_of(parse(split_note(note)[0]).origin)
