"""Go through a whole column once, in one direction, by one process or several, while the shop goes on writing.

Each batch changes its rows and notes itself in one transaction of the shop, so the next run goes on where one ended,
wherever that was (Ctrl-C, SIGKILL, power), in each of its ranges. Then the column is looked through again for what the
shop wrote meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from guard import faults
from guard.canon import key_bytes
from guard.clock import Clock
from guard.config import Catalog
from guard.crypto.budget import Budget
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import SubjectKeys
from guard.errors import InterlockError
from guard.events import Progress, RunId
from guard.fields.batch import Direction, Job, calm
from guard.fields.cells import Keys
from guard.fields.lease import SEEN
from guard.fields.pace import Pace, Times
from guard.fields.person import owner
from guard.fields.store import IndexRecord, Record
from guard.fields.sweeper import Done, Site, Sweeper
from guard.fields.value import Cell
from guard.fields.workers import Address, Order, Part, Workers
from guard.shop import Shop, Table, progress
from guard.shop.due import count_due
from guard.shop.graph import Step
from guard.shop.progress import Bracket, Range
from guard.shop.rows import cut
from guard.state import State

_PASSES = 5
"""How often the whole column is looked through: a shop that never stops writing plain text is left after some."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a sweep works with."""

    shop: Shop
    keyring: Keyring
    state: State
    clock: Clock
    pace: Pace = field(default_factory=Pace)
    catalog: Catalog = field(default_factory=Catalog)
    budget: Budget | None = None
    subjects: SubjectKeys | None = None
    workers: int = 1
    """Processes that may work on a column at the same time; `Pace.workers` says how many do."""

    @property
    def keys(self) -> Keys:
        """Where the keys of cells come from."""
        return Keys(self.state.store_id, self.keyring, self.shop.dialect, self.budget, self.subjects)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one sweep did. `left` are values that still need work, `passed` those that nothing can be done about now."""

    rows: int
    left: int
    passed: int
    times: Times
    workers: int = 1
    """Processes that shared the column."""


def work_of(direction: Direction, column_id: int) -> str:
    """Return the name of a work on a column in the shop's table of progress."""
    return f"{direction} {column_id}"


def works_of(column_id: int) -> tuple[str, ...]:
    """Return the names of all works on a column."""
    return tuple(work_of(direction, column_id) for direction in Direction)


def job_of(tools: Tools, record: Record, direction: Direction, indexes: Iterable[IndexRecord] = ()) -> Job:
    """Return what is to be done to a column, as its table is now.

    Raises InterlockError where the rows have no persons that could be told.
    """
    table_name, _, name = record.at.partition(".")
    table = tools.shop.table(table_name)
    path, person = _way(tools, record) if record.subject else ((), ())
    keys = tools.keys
    spec, opening = keys.spec(record, indexes), keys.opening(record)
    return Job(direction, table, name, record.key_columns, spec, path, person, opening)


def fill_tokens(tools: Tools, record: Record, index: IndexRecord, run: RunId, tell: Progress) -> Outcome:
    """Fill in the tokens of one token column where they are missing, in plain and sealed rows alike.

    `left` counts every value without a token, those among them that have nothing to search by.
    """
    job = job_of(tools, record, Direction.TOKENS, (index,))
    bracket = Bracket(run, f"{work_of(Direction.TOKENS, record.column_id)}.{index.version}")
    outcome = carry_out(tools, job, bracket, tell)
    with tools.shop.begin() as connection:
        progress.end(tools.shop, connection, bracket, forget=(bracket.work,))
    return outcome


def carry_out(tools: Tools, job: Job, bracket: Bracket, tell: Progress, expected: int | None = None) -> Outcome:
    """Do `job` to every row that is due, going on where earlier runs of this work stopped; the bracket stays open.

    `expected`: how many rows are due, counted when it is not known. Raises BusyError when rows stay locked,
    TamperedError when a value does not open, and what a worker raises.
    """
    began = tools.clock.now()
    course = _Course(tools, job, tell, expected)
    ranges = course.ranges(bracket)
    with tools.shop.begin() as connection:
        parts = progress.share(tools.shop, connection, bracket, ranges)
    faults.point("fields.sweep.begun")
    with calm():
        course.through(parts)
        faults.point("fields.sweep.through")
        if len(parts) > 1:
            with tools.shop.begin() as connection:
                progress.begin(tools.shop, connection, bracket)
        if job.direction is Direction.SEAL and not job.spec.tokens:  # by the last look all writers know the stage
            tools.clock.sleep(max(SEEN - (tools.clock.now() - began), timedelta()))
        left = course.again(bracket)
    return Outcome(course.rows, left, course.passed, Times.of(course.took), course.workers)


class _Course:
    """One job, on its way through the column."""

    def __init__(self, tools: Tools, job: Job, tell: Progress, expected: int | None) -> None:
        self.rows = self.passed = 0
        self.took: list[timedelta] = []
        self._tools = tools
        self._job = job
        self._tell = tell
        self._site = Site(tools.shop, tools.clock, tools.pace)
        self._sweepers: dict[Bracket, Sweeper] = {}
        self._total = self._due() if expected is None else expected
        self.workers = tools.pace.workers(self._total, tools.workers)

    def ranges(self, bracket: Bracket) -> tuple[Range, ...]:
        """Return what earlier runs left of this work; else the whole table, cut for the workers."""
        shop, job = self._tools.shop, self._job
        with shop.read() as connection:
            cuts = [key_bytes(key) for key in cut(shop, connection, job.table, job.key, self.workers)]
        with shop.begin() as connection:
            left = progress.take_over(shop, connection, bracket.work)
        return left or tuple(Range(*ends) for ends in zip((None, *cuts), (*cuts, None), strict=True))

    def through(self, parts: Sequence[tuple[Bracket, Range]]) -> None:
        """Go through all parts once."""
        self._tell(self._job.spec.at, 0, self._total)
        self.workers = min(self.workers, len(parts))
        if self.workers > 1:
            self._count(self._workers().run([Part(*part) for part in parts]))
            return
        for bracket, part in parts:
            self._count(self._sweeper(bracket).sweep(part))
            if len(parts) > 1:
                with self._tools.shop.begin() as connection:
                    progress.end(self._tools.shop, connection, bracket)

    def again(self, bracket: Bracket) -> int:
        """Look through the whole column until nothing is left, or nothing more can be done; return what is."""
        for _ in range(_PASSES - 1):
            before, left = self.rows, self._due()
            self.passed = 0
            if left:
                self._count(self._sweeper(bracket).sweep())
            if not left or self.rows == before:
                return left
        return self._due()

    def _count(self, batches: Iterator[Done]) -> None:
        for done in batches:
            self.rows += done.rows
            self.passed += done.left
            self.took.append(done.took)
            self._tell(self._job.spec.at, self.rows, max(self._total, self.rows))

    def _sweeper(self, bracket: Bracket) -> Sweeper:
        if bracket not in self._sweepers:
            cell = Cell(self._job.spec, self._tools.keys.means())
            self._sweepers[bracket] = Sweeper(self._site, self._job, cell, bracket)
        return self._sweepers[bracket]

    def _workers(self) -> Workers:
        opening = {key_id: self._tools.keyring.by_id(key_id) for key_id in self._job.opening}
        order = Order(Address.of(self._tools.shop), self._job, self._tools.pace, opening)
        return Workers(order, self._tools.keys.means(), self.workers)

    def _due(self) -> int:
        shop, job = self._tools.shop, self._job
        with shop.read() as connection:
            return count_due(shop, connection, job.table, job.column, job.due)


def _way(tools: Tools, record: Record) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the joins from a column's rows to their persons, and the key of those."""
    tables = tools.shop.tables()
    column = next((each for each in tools.catalog.column if each.id == record.column_id), None)
    if column is None:
        raise InterlockError(
            f"{record.at} is sealed for persons, but the catalog does not say whose it is any more",
            hint="put it back into policies/catalog.toml, then guard data accept",
        )
    found = owner(tables, tools.catalog, column)
    if found.kind != record.subject:
        raise InterlockError(
            f"{record.at} is sealed for each {record.subject}, but the catalog leads to a {found.kind} now",
            hint="put [subject] and [[link]] back as they were, then guard fields decrypt first",
        )
    for step in found.path:
        _require_single(tables[step.to_table], step)
    return found.path, (found.subject.key,)


def _require_single(table: Table, step: Step) -> None:
    unique = [index.columns for index in table.indexes if index.unique and not index.condition and not index.derived]
    if not any(set(columns) <= set(step.to_columns) for columns in (table.key, *unique) if columns):
        raise InterlockError(
            f"{step.table} refers to {table.name} by {', '.join(step.to_columns)}, which is not unique there",
            hint="a value is sealed for one person: let the [[link]] lead to the key of a table",
        )
