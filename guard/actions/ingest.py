"""Take in a file of events of the shop: checked whole, taken once, in commits that each note how far it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from guard import faults
from guard.actions._perform import Action, Outcome, Task
from guard.actions.tell import Desk, record_once
from guard.audit import ingest, told_store
from guard.audit.told import Teller, events, problems
from guard.audit.told_store import Position
from guard.canon import parts
from guard.errors import BusyError
from guard.events import Activity, Level, Progress, RunId, silent

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit.ingest import Checked, Input
    from guard.state import Tx

NAME: Final = "audit.ingest"


@dataclass(frozen=True, slots=True)
class File:
    """A file of events, and how far it was taken before."""

    given: Input
    source: str
    """The keyed digest of its bytes."""
    taken: int

    @property
    def is_finished(self) -> bool:
        """Whether all of it was taken."""
        return self.taken >= self.given.lines


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of a file, now and before."""

    source: str
    lines: int
    before: int
    """Lines that were taken by an earlier run."""
    events: int
    """Events taken now, or that would be."""
    known: int = 0
    """Of these how many were recorded before, by their id."""
    first: int | None = None
    """The number of the first new entry of the ledger."""


def looked_at(app: App, given: Input) -> File:
    """Return the file with what the ledger knows of it."""
    source = app.digest(NAME, given.digest)
    with app.state.read() as tx:
        found = told_store.position(tx, source)
    return File(given, source, 0 if found is None else found.taken)


def checked(app: App, file: File, progress: Progress = silent) -> Checked:
    """Look at every line that is still to be taken. Raises InterlockError when the file changes meanwhile."""
    desk = Desk(app)
    known, now = desk.known(), app.clock.now()

    def tell(number: int) -> None:
        progress("lines checked", number, file.given.lines)

    return ingest.check(file.given, file.taken, lambda told: problems(told, known, now), tell)


def ingest_with(file: File, found: Checked) -> Action[Taken]:
    """Return the action that takes a file whose lines were checked and are right."""
    return Action(NAME, Level.ROUTINE, Activity.DATA_CREATE, partial(_take, file=file, found=found), holds=("ingest",))


def _take(app: App, task: Task, file: File, found: Checked) -> Outcome[Taken]:
    if looked_at(app, file.given).taken != file.taken:
        raise BusyError("another run has taken of this file meanwhile", hint="run it again: it goes on from there")
    desk = Desk(app)
    known, by = desk.known(), Teller(task.who.id, desk.actor, file.source)
    lines, seen = file.given.lines, 0
    first: int | None = None
    for portion in found.portions:
        made = {}
        for number, told in ingest.events(file.given, portion):
            run = _run_of(app, file.source, number) if told.id is None else desk.run_of(told)
            seen += run in made
            made[run] = events(told, known, by, run)
        to = Position(file.source, lines, portion.upto, task.run)
        faults.point("audit.ingest.read")
        done = record_once(app, made, _remember(app, to, portion.after))
        faults.point("audit.ingest.taken")
        seen += len(made) - len(done.fresh)
        if first is None:
            first = min((done.numbers[run] for run in done.fresh), default=None)
        task.progress("lines taken", portion.upto, lines)
    taken = Taken(file.source, lines, file.taken, found.events, seen, first)
    counts = {"lines": lines, "before": file.taken, "events": found.events, "known": seen}
    return Outcome(taken, counts=counts, digests={"source": file.source})


def _remember(app: App, to: Position, since: int) -> Callable[[Tx], None]:
    """Return the work that notes how far a file was taken. It raises BusyError when somebody else took of it."""

    def work(tx: Tx) -> None:
        if not told_store.advance(tx, to, since, app.clock.now()):
            raise BusyError("another run has taken of this file meanwhile", hint="run it again: it goes on from there")

    return work


def _run_of(app: App, source: str, line: int) -> RunId:
    """Return the run of an event without an id: the same whenever this line of this file is taken."""
    return RunId(app.digest("audit.line", parts(bytes.fromhex(source), line.to_bytes(8, "big")))[:32])
