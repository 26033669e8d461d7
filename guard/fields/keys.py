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

from guard.clock import Clock
from guard.config import Catalog, Column, Protect
from guard.crypto.blind import Tokenizer
from guard.crypto.keyring import Keyring
from guard.crypto.random import hex_token
from guard.errors import BusyError, ConfigError, GuardError, InterlockError, UnavailableError
from guard.events import Activity, Ending, Event, PrincipalId, RunId
from guard.fields import lease as leases
from guard.fields import store
from guard.fields.cells import Keys
from guard.fields.lease import Lease
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

    def __init__(self, open_: Callable[[], Given]) -> None:
        self._open = open_
        self._given: Given | None = None
        self._view: View | None = None
        self._catalog: Catalog | None = None
        self._lock = threading.RLock()
        self._inherited: list[Given | None] = []
        _ALL.add(self)

    @classmethod
    def open(cls, config: str | Path = "guard.toml", *, service: str = "shop") -> FieldKeys:
        """Return the keys of the store that `config` sets up, used in the name of a service of policies/access.toml.

        Reads nothing yet: what is wrong with file or service is raised at first use, or by `check`.
        """
        path = Path(config).absolute()
        return cls(lambda: _embedded(path, service))

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
        return self._look(force=True).column(at)

    def view(self) -> View:
        """Return all columns as they stood at most a second ago.

        While state does not answer, the last view serves until its lease runs out. Raises UnavailableError or BusyError
        after that.
        """
        view, given = self._view, self._given
        return view if view is not None and given is not None and view.holds(given.clock.now()) else self._look()

    def close(self) -> None:
        """Forget all keys; the next use opens them again."""
        with self._lock:
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
                self._view = fresh = self._fresh(given, view, now)
            except (UnavailableError, BusyError) as error:
                if view is None or not view.endures(now):
                    raise
                _log.warning("guard's state does not answer; going on with the keys of %s: %s", view.seen, error)
                self._view = fresh = replace(view, seen=now)
            return fresh

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


def _embedded(config: Path, service: str) -> Given:
    """Open guard's app in this process. The door here is the shop's own code, so the room asks for the house."""
    app: App = importlib.import_module("guard.app").App.open(config)
    atexit.register(_give_back, app)
    who = app.access.service(service)

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

    return Given(app.state, app.keyring, app.clock, who.id, lambda: app.catalog, app.record, cells, person)
