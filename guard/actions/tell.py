"""Record what the shop tells. The entry is the record: there is no begin and end around it. docs/decisions/0019.

What is told is checked against the accepted catalog and the policy as they are now, all of it before any of it is
taken. An event with an `id` is recorded once, however often it is told.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from guard import faults
from guard.actions._perform import Caller, Plan
from guard.app import App
from guard.audit import told_store
from guard.audit.persons import actor
from guard.audit.told import Known, NotToldError, Problem, Teller, Told, events, problems, shaped
from guard.canon import key_bytes, parts
from guard.config import Catalog, Subject, load_policy
from guard.config.audit import AuditPolicy
from guard.errors import ConfigError, DeniedError, InterlockError
from guard.events import Activity, Ending, Event, Level, Principal, PrincipalId, Role, RunId
from guard.fields.person import parsed

if TYPE_CHECKING:
    from pathlib import Path

    from guard.state import Tx

EMIT = "audit.emit"
"""What policies/access.toml has to let a service do."""

SHOWN = 20
"""Problems that are named; of more only how many."""

_FRESH = timedelta(seconds=1)
"""How old a look at catalog and policy may be."""

_QUIET = timedelta(hours=1)
"""A service that is refused again within it is not recorded again."""

_ACTORS = 4096
"""Stand-ins of actors that are remembered: a shop's staff."""

_log = logging.getLogger(__name__)


class _KnownError(Exception):
    """Some of what is to be recorded is recorded."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__()
        self.known = known


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where events stand: the number of each one's first entry, by run, and which were recorded just now."""

    numbers: Mapping[RunId, int]
    fresh: frozenset[RunId]


class Desk:
    """Takes what services tell, for one app. May be shared by threads."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._known: tuple[datetime, Known] | None = None
        self._refused: dict[PrincipalId, datetime] = {}
        self.actor: Callable[[str], str] = lru_cache(_ACTORS)(lambda name: actor(app.keyring, name))
        """Gives the stand-in of a name in the shop; its key stays for ever."""

    def tell(self, who: Principal, told: Sequence[object]) -> list[int]:
        """Record events, each parsed JSON, in one commit; return the number of each one's first entry.

        Raises DeniedError when `who` may not, ConfigError naming what is wrong with them, InterlockError for an event
        about a person where there is no vault. Then nothing is recorded.
        """
        self._require(who)
        found, wrong = self.checked(told)
        if wrong:
            raise ConfigError(explained("event", wrong))
        known, by = self.known(), Teller(who.id, self.actor)
        runs = [self.run_of(each) for each in found]
        made = {run: events(each, known, by, run) for run, each in zip(runs, found, strict=True)}
        numbers = record_once(self.app, made).numbers
        faults.point("audit.emit.recorded")
        return [numbers[run] for run in runs]

    def checked(self, told: Sequence[object]) -> tuple[list[Told], list[tuple[int, Problem]]]:
        """Return the events, and what is wrong with them, each with the number of its event."""
        known, now = self.known(), self.app.clock.now()
        found: list[Told] = []
        wrong: list[tuple[int, Problem]] = []
        for number, each in enumerate(told, 1):
            try:
                event = shaped(each)
                wrong += [(number, problem) for problem in problems(event, known, now)]
                found.append(event)
            except NotToldError as error:
                wrong += [(number, problem) for problem in error.problems]
        return found, wrong

    def known(self) -> Known:
        """Return what events may speak of, as it was at most a second ago.

        A catalog whose file is being edited stays what was accepted. Raises InterlockError when that was never seen.
        """
        with self._lock:
            now = self.app.clock.now()
            if self._known is None or not timedelta() <= now - self._known[0] < _FRESH:
                self._known = (now, self._look())
            return self._known[1]

    def run_of(self, told: Told) -> RunId:
        """Return the run an event is recorded under: the same for one that is told again with its id."""
        if told.id is None:
            return self.app.new_run()
        return RunId(self.app.digest("audit.told", parts(told.what.encode(), told.id.encode()))[:32])

    def _look(self) -> Known:
        try:
            self._catalog = self.app.catalog
        except InterlockError as error:
            if self._catalog is None:
                raise
            _log.warning("%s; going on with what was accepted", error)
        catalog = self._catalog
        objects = {each for column in catalog.column for each in (column.at, column.table)}
        kinds = {kind: partial(self._key, subject) for kind, subject in catalog.subject.items()}
        purposes = load_policy(self.app.policies, "audit", AuditPolicy).purposes
        return Known(frozenset(objects), kinds, purposes)

    def _key(self, subject: Subject, key: int | str) -> bytes:
        """Return the canonical key of a person, typed as the shop's column is."""
        with self._lock:
            shop = self.app.shop
        table = shop.tables().get(subject.table)
        if table is None or table.find(subject.key) is None:
            shop.tables(fresh=True)
        return key_bytes((parsed(shop.table(subject.table), subject.key, str(key)),))

    def _require(self, who: Principal) -> None:
        """Raise DeniedError when `who` may not tell. Each one's refusals are recorded once an hour."""
        try:
            self._allow(who)
        except DeniedError as error:
            now, before = self.app.clock.now(), self._refused.get(who.id)
            if before is None or now - before >= _QUIET:
                facts = {"reason": error.reason} if error.reason else {}
                run = self.app.new_run()
                denied = Event(EMIT, Ending.DENIED, who.id, run, Activity.DATA_CREATE, facts=facts)
                self.app.record(_nothing, denied)
                self._refused[who.id] = now
            raise

    def _allow(self, who: Principal) -> None:
        if who.role is not Role.SERVICE:
            raise DeniedError(
                "events of the shop are told by a service",
                hint="a person takes a file of them in: guard audit ingest",
                reason="role",
            )
        try:
            self.app.access.allow(Caller(who), EMIT, Level.ROUTINE, "", Plan(), None)
        except DeniedError as error:
            how = f'add routine = ["{EMIT}"] below [service.{who.name}] in policies/access.toml'
            raise DeniedError(str(error), hint=how, reason=error.reason) from None


class _Flight:
    """The runs that this process is recording. Works of one commit do not see each other's entries: one at a time."""

    def __init__(self) -> None:
        self.clear()
        os.register_at_fork(after_in_child=self.clear)  # what flew is the parent's

    def clear(self) -> None:
        self._landed = threading.Condition()
        self._runs: set[RunId] = set()

    @contextmanager
    def of(self, runs: frozenset[RunId]) -> Iterator[None]:
        """Wait until none of `runs` is being recorded, and keep others from it while the block runs."""
        with self._landed:
            self._landed.wait_for(lambda: self._runs.isdisjoint(runs))
            self._runs |= runs
        try:
            yield
        finally:
            with self._landed:
                self._runs -= runs
                self._landed.notify_all()


_FLIGHT = _Flight()


def record_once(
    app: App, made: Mapping[RunId, tuple[Event, ...]], remember: Callable[[Tx], None] | None = None
) -> Recorded:
    """Record the events of each run that has no entry yet, in one commit; `remember` runs in its transaction."""
    left, numbers = dict(made), dict[RunId, int]()

    def work(tx: Tx) -> None:
        if known := told_store.recorded(tx, left):
            raise _KnownError(known)
        (remember or _nothing)(tx)

    with _FLIGHT.of(frozenset(made)):
        while True:
            try:
                app.record(work, *(event for each in left.values() for event in each))
                break
            except _KnownError as error:
                for run, number in error.known.items():
                    numbers[RunId(run)] = number
                    del left[RunId(run)]
    with app.state.read() as tx:
        numbers |= {RunId(run): number for run, number in told_store.recorded(tx, left).items()}
    return Recorded(numbers, frozenset(left))


def explained(unit: str, wrong: Sequence[tuple[int, Problem]], more: int = 0) -> str:
    """Return the message that names what is wrong, the first of it; `more` is what was only counted."""
    lines = [f"{unit} {number}: {problem}" for number, problem in wrong[:SHOWN]]
    more += len(wrong) - len(lines)
    return "\n".join([*lines, *([f"and {more} more"] if more else [])])


def embedded(config: Path, service: str) -> tuple[Callable[[Sequence[object]], list[int]], Callable[[], None]]:
    """Open the app of `config` in this process; return what records in the name of `service`, and what closes it.

    Raises GuardError when this process may not read what it takes. Whether the service may tell is asked each time.
    """
    app = App.open(config)
    try:
        _ = app.access  # settings, state and keys
    except BaseException:
        app.close()
        raise
    return partial(Desk(app).tell, Principal(PrincipalId(f"s-{service}"), Role.SERVICE, service)), app.close


def _nothing(_: Tx) -> None:
    """Nothing but the events is to be remembered."""
