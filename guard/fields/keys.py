"""The field keys of a process of the shop: `FieldKeys`, opened once, right for as long as the process lives.

A look at state that is older than a second is renewed before a key is used, so stages and rotations are seen at once. A
forked child (gunicorn with preload) opens everything anew. May be shared by threads.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.engine import make_url

from guard.client import Agent
from guard.clock import Clock, SystemClock
from guard.config import Catalog, Column, Protect, load_settings
from guard.crypto import xaes
from guard.crypto.blind import Tokenizer
from guard.crypto.keyring import Keyring
from guard.crypto.random import hex_token
from guard.errors import BusyError, ConfigError, DeniedError, GuardError, InterlockError, UnavailableError
from guard.events import Activity, Ending, Event, PrincipalId, RunId
from guard.fields import lease as leases
from guard.fields import store
from guard.fields.cells import Keys
from guard.fields.lease import Lease
from guard.fields.leased import Leased, elsewhere
from guard.fields.live import Live, Token, View
from guard.fields.person import owner
from guard.fields.store import IndexRecord, Record, Stage
from guard.state import State, Tx

if TYPE_CHECKING:
    from guard.app import App

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Given:
    """What a process of the shop is given by guard's app."""

    state: State
    keyring: Keyring
    clock: Clock
    who: PrincipalId
    catalog: Callable[[], Catalog]
    """The accepted catalog. Raises InterlockError while its file is another."""
    record: Callable[..., Any]
    """Writes state and ledger in one transaction, as `guard.app.App.record`."""
    cells: Callable[[], Keys]
    """Makes the cells of columns."""
    person: Callable[[str], tuple[str, ...]]
    """Gives the columns of a row of "Table.Column" that hold its person's key."""


class FieldKeys:
    """The columns that guard seals, for the shop's own code."""

    def __init__(self, open_: Callable[[], Given | Leased]) -> None:
        self._open = open_
        self._given: Given | Leased | None = None
        self._view: View | None = None
        self._catalog: Catalog | None = None
        self._lock = threading.RLock()
        self._inherited: list[Given | Leased | None] = []
        _ALL.add(self)

    @classmethod
    def open(
        cls, config: str | Path = "guard.toml", *, service: str = "shop", socket: str | Path | None = None
    ) -> FieldKeys:
        """Return the keys of the store that `config` sets up, used in the name of a service of policies/access.toml.

        Where the agent (`guard daemon`) is another OS user than this process, its keys are on lease from there; else
        guard is opened here. `socket`: the agent's, for a process that may not read `config`. Reads nothing yet: what
        is wrong with file or service is raised at first use, or by `check`.
        """
        path, at = Path(config).absolute(), None if socket is None else Path(socket)
        return cls(lambda: _opened(path, service, at))

    def check(self, *columns: str) -> None:
        """Open everything now, for a shop's start. Raises what is wrong, a column guard does not know included."""
        self.view()
        for at in columns:
            self.column(at)

    def column(self, at: str) -> Live:
        """Return the column "Table.Column" as it stands. Raises ConfigError when guard does not know it."""
        return self.view().columns.get(at) or self.again(at)

    def again(self, at: str) -> Live:
        """Return a column after a fresh look at state."""
        view, given = self._look(force=True), self._given
        if at not in view.columns and isinstance(given, Leased):
            given.agent.ask("lease", {"columns": [at]})  # raises why this service has it not
        return view.column(at)

    def view(self) -> View:
        """Return all columns as they stood at most a second ago.

        While state does not answer, the last view serves until its lease runs out. Raises UnavailableError or BusyError
        after that.
        """
        view, given = self._view, self._given
        return view if view is not None and given is not None and view.holds(given.clock.now()) else self._look()

    def fresh(self) -> View:
        """Return all columns as they stand now."""
        return self._look(force=True)

    def close(self) -> None:
        """Forget all keys; the next use opens them again."""
        with self._lock:
            if isinstance(self._given, Leased):
                self._given.agent.close()
            self._view = self._given = None

    def forked(self) -> None:
        """Begin anew in a forked child: connections, leases and opened keys are the parent's."""
        self._lock = threading.RLock()
        self._inherited.append(self._given)  # not closed here: that would end locks the parent relies on
        self._view = self._given = None

    def _look(self, *, force: bool = False) -> View:
        with self._lock:
            given = self._given = self._given or self._open()
            view, now = self._view, given.clock.now()
            if view is not None and not force and view.holds(now):
                return view  # another thread was here while this one waited
            try:
                looked = given.look(view, now) if isinstance(given, Leased) else self._fresh(given, view, now)
                self._view = fresh = looked
            except (UnavailableError, BusyError) as error:
                if view is None or not view.endures(now):
                    self._drop()
                    raise
                _log.warning("guard's state does not answer; going on with the keys of %s: %s", view.seen, error)
                self._view = fresh = replace(view, seen=now)
            except DeniedError:
                self._drop()
                raise
            return fresh

    def _drop(self) -> None:
        """Forget keys that may be used no longer."""
        self._view = None
        xaes.clear()

    def _fresh(self, given: Given, old: View | None, now: datetime) -> View:
        with given.state.read() as tx:
            mark = store.mark(tx)
            records, indexes = ((), ()) if old and old.mark == mark else (store.every(tx), store.indexes(tx))
        columns = old.columns if old and old.mark == mark else self._columns(given, records, indexes)
        view = View(mark, now, columns, old.lease if old else None)
        try:
            return replace(view, lease=_leased(given, view))
        except _MovedOnError:
            return self._fresh(given, old, now)

    def _columns(self, given: Given, records: Sequence[Record], indexes: Sequence[IndexRecord]) -> Mapping[str, Live]:
        try:
            self._catalog = given.catalog()
        except InterlockError:
            if self._catalog is None:
                raise
            _log.warning("policies/catalog.toml is not what was accepted; going on with what was")
        given.keyring.forget_ended()
        known = {record.column_id: record for record in records}
        wanted = {
            column.id: column
            for column in self._catalog.column
            if column.id in known or column.protect is Protect.ENCRYPT
        }
        return {
            column.at: _live(given, column, known.get(column.id), [each for each in indexes if each.column_id == id_])
            for id_, column in wanted.items()
        }


_ALL: WeakSet[FieldKeys] = WeakSet()


class _MovedOnError(Exception):
    """State changed between the look and the lease, and a lease names what state has then."""


def _forked() -> None:
    for keys in list(_ALL):
        keys.forked()


os.register_at_fork(after_in_child=_forked)


def _live(given: Given, column: Column, record: Record | None, indexes: Sequence[IndexRecord]) -> Live:
    tokens = tuple(_token(given, each) for each in indexes)
    if record is None or record.stage is Stage.PLAIN:
        return Live(column.at, column.bind, Stage.PLAIN, (), column.index, tokens)
    if record.stage is Stage.INDEXING:
        return Live(column.at, record.binding, record.stage, (), column.index, tokens)
    bound_by = record.key_columns if record.binding == "row" else ()
    if record.binding == "subject":
        bound_by = given.person(column.at)
    return Live(column.at, record.binding, record.stage, bound_by, column.index, tokens, given.cells().cell(record))


def _token(given: Given, record: IndexRecord) -> Token:
    key = given.keyring.by_id(record.key_id)
    return Token(record, Tokenizer(given.state.store_id, record.column_id, record.normaliser, key, record.size))


def _leased(given: Given, view: View) -> Lease | None:
    """Return a lease on what `view` seals with: the one it has, renewed where it is half over, or a new one."""
    held, keys = view.lease, view.keys()
    if not keys:
        return None
    if held is not None and held.keys == keys:
        if view.seen < held.until - leases.TERM / 2:
            return held
        if (renewed := given.state.write(lambda tx: leases.renew(tx, held, view.seen))) is not None:
            return renewed

    def work(tx: Tx) -> Lease:
        if store.mark(tx) != view.mark:
            raise _MovedOnError
        return leases.take(tx, given.who, keys, view.seen)

    names = tuple(sorted(live.at for live in view.columns.values() if live.keys))
    run = RunId(hex_token(16))
    taken = Event("fields.lease", Ending.DONE, given.who, run, Activity.ENTITY_READ, names, {"keys": len(keys)})
    lease: Lease = given.record(work, taken)
    return lease


def _give_back(app: App) -> None:
    """Return what the process had reserved for tight keys; one that is killed, or cannot say so, loses it."""
    with suppress(GuardError):
        if "budget" in app.__dict__:  # else nothing was sealed
            app.budget.give_back()


def _opened(config: Path, service: str, socket: Path | None) -> Given | Leased:
    """Return what the agent gives where it is another OS user's, or named; else guard's app in this process."""
    where = config.parent / load_settings(config).agent.socket if socket is None else socket
    if socket is not None or elsewhere(where):
        return Leased(Agent(where, service), SystemClock())
    app: App = importlib.import_module("guard.app").App.open(config)  # the door here is the shop's own code
    atexit.register(_give_back, app)
    return given_by(app, app.access.service(service).id)


def given_by(app: App, who: PrincipalId) -> Given:
    """Return what guard's app gives to a process that uses field keys in the name of `who`."""

    def person(at: str) -> tuple[str, ...]:
        column = app.catalog.find(at)
        if column is None:
            raise ConfigError(f"{at} is not in the catalog")
        way = owner(app.shop.tables(), app.catalog, column)
        if not way.path:
            return (way.subject.key,)
        if len(way.path) == 1 and way.path[0].to_columns == (way.subject.key,):
            return way.path[0].columns
        raise ConfigError(
            f"{at}: its person is {len(way.path)} tables away, too far for the shop's code to follow for every row",
            hint='use bind = "row" for it, or keep the person\'s key in its own table',
        )

    dialect = make_url(app.url(app.settings.shop.url)).get_backend_name()

    def cells() -> Keys:
        return Keys(app.state.store_id, app.keyring, dialect, app.budget, app.subjects)

    return Given(app.state, app.keyring, app.clock, who, lambda: app.catalog, app.record, cells, person)
