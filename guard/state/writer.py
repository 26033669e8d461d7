"""The one writer. Waiting works are committed together, each stands or falls alone, none is told before it is safe."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar, cast
from uuid import uuid4

from sqlalchemy import RootTransaction, delete, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from guard.clock import Clock, parse, stamp
from guard.errors import ClockError, GuardError, UnavailableError
from guard.events import Event
from guard.state import forks, runs
from guard.state.db import Database, Tx
from guard.state.schema import COMMIT, META

T = TypeVar("T")

Append = Callable[[Tx, Sequence[Event]], None]
"""The ledger's hook: writes the entries of one commit."""

TOLERANCE = timedelta(seconds=5)
"""How far a clock may be behind what was recorded: NTP steps smaller than this are ordinary."""

_KEPT = 100


def onward(now: datetime, mark: datetime) -> datetime:
    """Return the later of `now` and `mark`. Raises ClockError when `now` is more than TOLERANCE behind."""
    if mark - now > TOLERANCE:
        raise ClockError(
            f"the clock says {stamp(now)}, but {stamp(mark)} was already recorded",
            hint="set the clock right; guard writes nothing until it is",
        )
    return max(now, mark)


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Tx], object]
    events: tuple[Event, ...]
    result: object = None
    error: BaseException | None = None
    done: bool = False
    thread: int = field(default_factory=threading.get_ident)
    called: threading.Event = field(default_factory=threading.Event)
    """Set when it is done, or when its thread is to lead."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    generation: int
    token: str
    at: datetime


class _AppendError(Exception):
    """The ledger's hook failed; its cause says why."""


class Writer:
    """Commits works in groups: whoever finds no leader leads the works that wait, the others wait for theirs.

    A work must touch nothing but its transaction: after a failure of its group it may be run a second time.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._append: Append | None = None
        self._turn = threading.Lock()
        self._waiting: list[_Job] = []
        self._group: list[_Job] = []
        self._leader: int | None = None
        forks.watch(self)

    def before_fork(self) -> None:
        """Nothing to close: the connections are the database's."""

    def after_fork(self) -> None:
        """Forget what other threads waited for or led: they are in the parent."""
        self._turn = threading.Lock()
        self._waiting, self._group = [], []
        self._leader = None

    def attach(self, append: Append) -> None:
        """Set the ledger's hook; works with events are accepted from now on."""
        self._append = append

    @property
    def waiting(self) -> int:
        """How many works wait for their turn."""
        return len(self._waiting)

    def submit(self, work: Callable[[Tx], T], events: tuple[Event, ...]) -> T:
        """Run `work` and record `events` in one transaction; return its result after the commit.

        Raises what the work raised, the GuardError of a commit that failed, RuntimeError inside another work.
        """
        if events and self._append is None:
            raise RuntimeError("events need a ledger: attach it first")
        if self._leader == threading.get_ident():
            raise RuntimeError("a work may not call write: it has a transaction")
        job = _Job(work, events)
        try:
            if group := self._queue(job):
                self._commit_all(group)
        finally:
            self._release(job)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    def _queue(self, job: _Job) -> list[_Job]:
        """Wait until `job` is done (nothing to lead), or nobody leads (the group to lead, with `job` in it)."""
        with self._turn:
            self._waiting.append(job)
            if self._leader is None:
                self._leader = job.thread
                job.called.set()
        job.called.wait()
        with self._turn:
            if not job.done:
                self._group, self._waiting = self._waiting, []
            return self._group if not job.done else []

    def _release(self, job: _Job) -> None:
        """End what this thread leads, and wake the others. An interrupted thread takes its own work back."""
        with self._turn:
            if job in self._waiting:
                self._waiting.remove(job)
            if self._leader == job.thread:
                self._hand_over()
                return
            committed = job.done or job not in self._group
        if not committed:
            job.called.wait()  # another thread is committing it

    def _hand_over(self) -> None:
        """Wake everybody whose work was led, and then, as late as can be, the one who leads what waits by now."""
        for each in self._group:
            if not each.done:
                each.error = each.error or UnavailableError("the write was interrupted; see `guard audit list`")
                each.done = True
            each.called.set()
        self._group = []
        self._leader = self._waiting[0].thread if self._waiting else None
        if self._waiting:
            self._waiting[0].called.set()

    def _commit_all(self, group: list[_Job]) -> None:
        try:
            self._commit(group)
        except _AppendError as error:
            live = [job for job in group if job.error is None]
            if len(live) == 1:
                live[0].error = error.__cause__
            else:
                for job in live:
                    self._commit_all([job])
        except Exception as error:  # noqa: BLE001  # it is raised again in each caller
            for job in group:
                job.error = job.error or self._database.explain(error)
        for job in group:
            job.done = True

    def _commit(self, group: list[_Job]) -> None:
        with self._database.turn(), self._database.writer.connect() as tx:
            transaction = tx.begin()
            try:
                ticket = self._ticket(tx)
                for job in group:
                    self._try(tx, job)
                live = [job for job in group if job.error is None]
                self._record(tx, [event for job in live for event in job.events], ticket.at)
            except BaseException:
                transaction.rollback()
                raise
            if live:
                self._finish(tx, transaction, ticket)
            else:
                transaction.rollback()

    def _ticket(self, tx: Tx) -> _Ticket:
        """Take the writer's turn among all processes, and note it. Raises ClockError when the clock went back."""
        if tx.dialect.name == "postgresql":
            tx.execute(text("SET LOCAL lock_timeout = '30s'"))
            tx.execute(select(META.c.value).where(META.c.name == "writer").with_for_update())
        last = tx.execute(select(COMMIT.c.generation, COMMIT.c.at).order_by(COMMIT.c.generation.desc()).limit(1)).one()
        ticket = _Ticket(last.generation + 1, uuid4().hex, onward(self._clock.now(), parse(last.at)))
        tx.execute(insert(COMMIT).values(generation=ticket.generation, token=ticket.token, at=stamp(ticket.at)))
        tx.execute(delete(COMMIT).where(COMMIT.c.generation <= ticket.generation - _KEPT))
        return ticket

    def _try(self, tx: Tx, job: _Job) -> None:
        tx.exec_driver_sql("SAVEPOINT work")  # as text: SQLAlchemy's own costs three times as much
        try:
            job.result = job.work(tx)
        except Exception as error:  # noqa: BLE001  # it is raised again in its caller
            job.error = self._database.explain(error)
            tx.exec_driver_sql("ROLLBACK TO SAVEPOINT work")  # fails when all is rolled back; then the group fails
        tx.exec_driver_sql("RELEASE SAVEPOINT work")

    def _record(self, tx: Tx, events: list[Event], at: datetime) -> None:
        if not events or self._append is None:
            return
        try:
            runs.note(tx, events, at)
            self._append(tx, events)
        except Exception as error:  # noqa: BLE001  # it is raised again in its caller
            raise _AppendError from self._database.explain(error)

    def _finish(self, tx: Tx, transaction: RootTransaction, ticket: _Ticket) -> None:
        """Commit. When that fails, read back whether it landed all the same."""
        try:
            transaction.commit()
        except BaseException as error:
            tx.invalidate()
            if not self._landed(ticket):
                raise
            if not isinstance(error, Exception):
                raise

    def _landed(self, ticket: _Ticket) -> bool:
        query = select(COMMIT.c.token).where(COMMIT.c.generation == ticket.generation)
        try:
            with self._database.read() as tx:
                return tx.scalar(query) == ticket.token
        except (SQLAlchemyError, GuardError) as error:
            raise UnavailableError(
                f"{self._database.where} went away during a commit; whether it was written is unknown",
                hint="run `guard status` when it answers again",
            ) from error
