"""Several processes work on one column, each on ranges of keys of its own, with a connection of its own.

Keys and the database's address go over a pipe, never through arguments, the environment or the disk. A worker opens no
state: what it needs from there (blocks of a tight key's budget, keys of persons) it asks its parent for. When the
parent ends, workers end after the batch they are at; when a worker ends, what it had not committed is as it was.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from guard.canon import parts
from guard.clock import SystemClock
from guard.crypto.budget import Budget
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.wrap import Key
from guard.errors import GuardError
from guard.fields.batch import Job, calm
from guard.fields.pace import Pace
from guard.fields.sweeper import Done, Site, Sweeper
from guard.fields.value import Cell, Means
from guard.shop import Shop, progress
from guard.shop.progress import Bracket, Range

_PROGRAM: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from guard.fields.workers import work
work(int(sys.argv[2]))
"""
"""Not multiprocessing's own way: that would run the caller's main program again in every worker."""
_ROOT: Final = str(Path(__file__).parents[2])
_LAST_BATCH: Final = 30.0
"""Seconds a worker has to end the batch it is at, before it is ended by force."""
_GONE: Final = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a pipe says when the other end is closed."""


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach the shop's database. `url` holds its password."""

    url: str = field(repr=False)
    schema: str | None
    tls: str

    @classmethod
    def of(cls, shop: Shop) -> Address:
        """Return where `shop` is connected to."""
        return cls(shop.engine.url.render_as_string(hide_password=False), shop.schema, shop.tls)


@dataclass(frozen=True, slots=True)
class Order:
    """All that a worker is told when it begins."""

    address: Address
    job: Job
    pace: Pace
    keys: Mapping[int, Key]
    """The keys that values may name."""


@dataclass(frozen=True, slots=True)
class Part:
    """One range of keys, and the bracket it is worked on as."""

    bracket: Bracket
    range: Range


@dataclass(frozen=True, slots=True)
class _Free:
    """A worker is ready for its next part."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A worker needs what only its parent has."""

    what: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Failed:
    """An error on its way to the other process: exceptions themselves do not all come out of a pipe again."""

    kind: type[GuardError]
    message: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> _Failed:
        """Return what can be sent of `error`. Of one that guard did not expect, no message: it could quote a row."""
        if isinstance(error, GuardError):
            return cls(type(error), str(error), vars(error))
        where = "".join(traceback.format_tb(error.__traceback__))
        return cls(GuardError, f"a worker failed with {type(error).__name__}", {"__notes__": [where]})

    def error(self) -> GuardError:
        """Return the error as it was."""
        found = self.kind.__new__(self.kind, self.message)
        vars(found).update({"hint": None, **self.facts})
        return found


# The parent's side ----------------------------------------------------------------------------------------------------


class Workers:
    """Hands out parts, answers what workers ask, and passes on what they did."""

    def __init__(self, order: Order, means: Means, count: int) -> None:
        self._order = order
        self._answers = _answers(means)
        self._count = count
        self._running: dict[Connection, subprocess.Popen[bytes]] = {}
        self._dismissed: set[Connection] = set()

    def run(self, parts: Sequence[Part]) -> Iterator[Done]:
        """Work on `parts` and yield each batch once it is committed.

        Raises what a worker raises, GuardError naming a worker that was ended from outside. Then, and when the caller
        stops, all workers end after the batch they are at.
        """
        waiting = list(reversed(parts))
        try:
            for _ in range(min(self._count, len(parts))):
                self._start()
            while self._running:
                for pipe in wait(list(self._running)):
                    yield from self._hear(pipe, waiting)  # type: ignore[arg-type]  # only pipes are waited for
        finally:
            self._end()

    def _hear(self, pipe: Connection, waiting: list[Part]) -> Iterator[Done]:
        try:
            message = pipe.recv()
        except _GONE:
            self._ended(pipe)
            return
        match message:
            case Done():
                yield message
            case _Asked():
                _tell(pipe, self._answer(message))
            case _Failed():
                raise message.error()
            case _:
                part = waiting.pop() if waiting else None
                if part is None:
                    self._dismissed.add(pipe)
                _tell(pipe, part)

    def _answer(self, asked: _Asked) -> object:
        try:
            return self._answers[asked.what](*asked.args)
        except GuardError as error:
            return _Failed.of(error)

    def _start(self) -> None:
        ours, theirs = Pipe()
        process = subprocess.Popen(  # noqa: S603  # this program, and nothing of anybody else's
            [sys.executable, "-c", _PROGRAM, _ROOT, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the parent alone
        )
        theirs.close()  # so that its end is heard
        self._running[ours] = process
        _tell(ours, self._order)

    def _ended(self, pipe: Connection) -> None:
        """Forget a worker that has ended. Raises GuardError when nobody told it to."""
        process = self._running.pop(pipe)
        pipe.close()
        code = process.wait(_LAST_BATCH)
        if pipe in self._dismissed and not code:
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise GuardError(
            f"a worker of {self._order.job.spec.at} (process {process.pid}) was ended by {how}",
            hint="nothing was lost: what it had not committed is as it was; run the same command again",
        )

    def _end(self) -> None:
        """Let every worker end after the batch it is at: it cannot tell of it any more."""
        for pipe in self._running:
            pipe.close()
        for process in self._running.values():
            try:
                process.wait(_LAST_BATCH)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def _tell(pipe: Connection, message: object) -> None:
    with contextlib.suppress(*_GONE):  # it has ended, which is heard
        pipe.send(message)


def _answers(means: Means) -> Mapping[str, Callable[..., object]]:
    """Return what a worker may ask for, by its name."""
    found: dict[str, Callable[..., object]] = {}
    if means.budget is not None:
        found["take"] = means.budget.take
    if means.subjects is not None:
        found["all_for_writing"] = means.subjects.all_for_writing
        found["by_ids"] = means.subjects.by_ids
    return found


# The worker's side ----------------------------------------------------------------------------------------------------


def work(handle: int) -> None:
    """Be a worker: take an order from the pipe with this file number, then parts, until there is none."""
    with Connection(handle) as pipe, contextlib.suppress(*_GONE):  # the parent has ended
        try:
            _work(pipe)
        except _GONE:
            raise
        except BaseException as error:  # noqa: BLE001  # the parent raises it
            pipe.send(_Failed.of(error))


def _work(pipe: Connection) -> None:
    order: Order = pipe.recv()
    address, job = order.address, order.job
    ask = _Line(pipe)
    means = Means(order.keys.__getitem__, _AskedBudget(ask), _AskedSubjects(ask, job.spec.digest))
    cell = Cell(job.spec, means)
    shop = Shop.connect(address.url, address.schema, address.tls)
    with calm(), contextlib.closing(shop):
        site = Site(shop, SystemClock(), order.pace)
        while (part := _next(pipe)) is not None:
            for done in Sweeper(site, job, cell, part.bracket).sweep(part.range):
                ask.tell(done)
            with shop.begin() as connection:
                progress.end(shop, connection, part.bracket)


def _next(pipe: Connection) -> Part | None:
    pipe.send(_Free())
    part: Part | None = pipe.recv()
    return part


class _Line:
    """The line to the parent, for the thread that writes batches and the one that prepares the next."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()

    def tell(self, message: object) -> None:
        """Tell the parent."""
        with self._sending:
            self._pipe.send(message)

    def __call__(self, what: str, *args: object) -> Any:
        """Ask the parent, and return its answer: only one thread asks, and only then it answers."""
        self.tell(_Asked(what, args))
        answer = self._pipe.recv()
        if isinstance(answer, _Failed):
            raise answer.error()
        return answer


class _AskedBudget(Budget):
    """The parent's budget: it alone reserves in state."""

    def __init__(self, ask: _Line) -> None:
        self._ask = ask

    def take(self, key_id: int, count: int) -> None:
        """See `guard.crypto.budget.Budget.take`."""
        self._ask("take", key_id, count)


class _AskedSubjects(SubjectKeys):
    """The parent's keys of persons: it alone makes and opens them."""

    def __init__(self, ask: _Line, digest: bytes) -> None:
        self._ask = ask
        self._started = HMAC(digest, SHA256())
        self._started.update(parts(b"guard/digest1", b"subject"))

    def person_digest(self, person: Person) -> bytes:
        """See `guard.crypto.subjects.SubjectKeys.person_digest`. FORMATS 3, keyed digest."""
        taken = self._started.copy()
        taken.update(parts(parts(person.kind.encode(), person.key)))
        return taken.finalize()

    def all_for_writing(self, persons: Sequence[Person], class_: str) -> list[Key]:
        """See `guard.crypto.subjects.SubjectKeys.all_for_writing`."""
        found: list[Key] = self._ask("all_for_writing", tuple(persons), class_)
        return found

    def by_ids(self, ids: Iterable[int]) -> dict[int, Key | None]:
        """See `guard.crypto.subjects.SubjectKeys.by_ids`."""
        found: dict[int, Key | None] = self._ask("by_ids", tuple(ids))
        return found
