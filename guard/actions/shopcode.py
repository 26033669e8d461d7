"""Field keys and sealed values for the shop's code that runs as another OS user: what the agent's socket asks for.

A service gets the columns that policies/access.toml names for it, and nothing else of guard's keys. Keys of people, and
keys that seal within a budget, stay here: their values are sealed and opened in batches, all or none.
docs/FORMATS.md, section 12.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from guard import canon
from guard.actions._perform import Caller, Plan
from guard.actions._sealing import Batch, parsed_batch
from guard.actions.openings import OPEN, Openings
from guard.clock import stamp
from guard.crypto.envelope import is_tight
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Activity, Ending, Event, Level, Principal, PrincipalId, Role
from guard.fields.keys import FieldKeys, Given, given_by
from guard.fields.lease import TERM
from guard.fields.value import purpose

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.fields.live import Live, View
    from guard.state import Tx

LEASE, SEAL, TOKEN = "fields.lease", "fields.seal", "fields.token"
"""What policies/access.toml has to let a service do, beside `OPEN`."""

_QUIET = timedelta(hours=1)
"""A service that is refused the same again within it is not recorded again."""

_ASKED = 32
"""Selections of columns whose answer is kept: what the shop's programs ask for again and again."""


class ShopCode:
    """Seals, opens and lends for one app. May be shared by threads."""

    def __init__(self, app: App, openings: Openings) -> None:
        self.app = app
        self._openings = openings
        self._lock = threading.Lock()
        self._keys = FieldKeys(self._given)
        self._told: tuple[View, dict[tuple[str, ...], _Told]] | None = None
        self._lent: dict[PrincipalId, dict[str, datetime]] = {}
        self._refused: dict[tuple[PrincipalId, str], datetime] = {}

    def lease(self, who: Principal, args: Mapping[str, Any]) -> Json:
        """Return the columns of a service with their keys; only until when they are good where its `mark` still is."""
        self._require(who, LEASE)
        names = args.get("columns")
        if not (names is None or isinstance(names, list)):
            raise ConfigError("lease takes a list of columns, or none for all that the service has")
        view = self._keys.fresh()  # a look of a second ago, and one of as long in the shop, would be too old together
        if names is None:
            names = [at for at in view.columns if self.app.access.is_given(who, at)]
        columns = {at: self._column(who, LEASE, at, view) for at in sorted({str(each) for each in names})}
        with self._lock:
            told = self._telling(view, columns)
            self._lend(who, told, view.seen)
        until = stamp(view.seen + TERM if view.lease is None else view.lease.until)
        known = {"mark": told.mark, "until": until}
        return known if args.get("mark") == told.mark else known | told.answer

    def seal(self, who: Principal, args: Mapping[str, Any]) -> Json:
        """Return values as the column stores them, sealed where it is, and what its token columns get."""
        batch = self._batch(who, SEAL, args)
        return {"stage": batch.live.stage.value, "values": batch.sealed(), "tokens": batch.tokens()}

    def open(self, who: Principal, args: Mapping[str, Any]) -> Json:
        """Return stored values in clear, once it is recorded that they are."""
        batch = self._batch(who, OPEN, args)
        if not batch.is_explained:
            batch = self._batch(who, OPEN, args, self._keys.fresh())
        values, opened = batch.opened()
        if opened:
            self._openings.count(self.app, who.id, batch.live.at, opened)
        return {"values": values}

    def token(self, who: Principal, args: Mapping[str, Any]) -> Json:
        """Return the tokens that values are searched by, of each token column."""
        batch = self._batch(who, TOKEN, args, keyed=False)
        if batch.live.index is None:
            raise ConfigError(f"{batch.live.at} is not searchable: the catalog gives it no index")
        ready = batch.live.ready
        return {
            "stage": batch.live.stage.value,
            "tokens": batch.tokens(),
            "ready": None if ready is None else ready.name,
            "exact": ready is not None and ready.exact,
        }

    # Who may have what ------------------------------------------------------------------------------------------------

    def _batch(
        self, who: Principal, what: str, args: Mapping[str, Any], view: View | None = None, *, keyed: bool = True
    ) -> Batch:
        self._require(who, what)
        at = args.get("column")
        if not isinstance(at, str):
            raise ConfigError('a batch names its "column": "Table.Column"')
        live = self._column(who, what, at, view or self._keys.view())
        return parsed_batch(self.app, live, args, keyed=keyed)

    def _column(self, who: Principal, what: str, at: str, view: View) -> Live:
        """Return a column of a service. Raises DeniedError, the same whether there is one of this name or not."""
        if not self.app.access.is_given(who, at):
            error = DeniedError(
                f"the service {who.name} has no column {at[:100]}",
                hint=f'columns = ["Table.Column"] below [service.{who.name}] in policies/access.toml names what it has',
                reason="role",
            )
            self._note(who, what, error)
            raise error
        return view.columns.get(at) or self._keys.again(at)

    def _require(self, who: Principal, what: str) -> None:
        """Raise DeniedError when `who` may not do `what`."""
        try:
            self._allow(who, what)
        except DeniedError as error:
            self._note(who, what, error)
            raise

    def _allow(self, who: Principal, what: str) -> None:
        if who.role is not Role.SERVICE:
            raise DeniedError("sealed columns are for services", hint="a person runs guard itself", reason="role")
        try:
            self.app.access.allow(Caller(who), what, Level.ROUTINE, "", Plan(), None)
        except DeniedError as error:
            how = f'add "{what}" to routine below [service.{who.name}] in policies/access.toml'
            raise DeniedError(str(error), hint=how, reason=error.reason) from None

    def _note(self, who: Principal, what: str, error: DeniedError) -> None:
        """Record a refusal, each one's once an hour."""
        now = self.app.clock.now()
        with self._lock:
            before = self._refused.get((who.id, what))
            if before is not None and timedelta() <= now - before < _QUIET:
                return
            self._refused[who.id, what] = now
        facts = {"reason": str(error.reason)} if error.reason else {}
        run = self.app.new_run()
        try:
            self.app.record(_nothing, Event(what, Ending.DENIED, who.id, run, Activity.ENTITY_READ, facts=facts))
        except BaseException:
            with self._lock:
                self._refused.pop((who.id, what), None)
            raise

    # Leases -----------------------------------------------------------------------------------------------------------

    def _given(self) -> Given:
        """Return what field keys are made of here. That a service has them is recorded by `_lend`, not by the lease."""
        state = self.app.state
        return replace(given_by(self.app, GUARD), record=lambda work, *_: state.write(work))

    def _lend(self, who: Principal, told: _Told, now: datetime) -> None:
        """Record that a service has keys: when it first gets one of them, or again after its lease on it ran out."""
        lent = self._lent.setdefault(who.id, {})
        if any(key not in lent or not timedelta() <= now - lent[key] < TERM for key in told.keys):
            run, counts = self.app.new_run(), {"keys": len(told.keys)}
            self.app.record(
                _nothing, Event(LEASE, Ending.DONE, who.id, run, Activity.ENTITY_READ, told.columns, counts)
            )
        lent.update(dict.fromkeys(told.keys, now))

    def _telling(self, view: View, columns: Mapping[str, Live]) -> _Told:
        """Return what is told of columns; made once as long as they stay as they are."""
        if self._told is None or self._told[0].columns is not view.columns:
            self._told = view, {}
        kept, names = self._told[1], tuple(columns)
        if (found := kept.get(names)) is None:
            if len(kept) >= _ASKED:  # each is some KiB, and of a few columns there are many selections
                kept.clear()
            found = kept[names] = _told(self.app, view.mark, columns)
        return found


@dataclass(frozen=True, slots=True)
class _Told:
    """Columns as a process needs them, and the keys that they name."""

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    mark: str
    """Another one whenever anything of it is another."""
    answer: dict[str, Json]


def _told(app: App, mark: str, columns: Mapping[str, Live]) -> _Told:
    opening: dict[str, list[int]] = {}
    for each in app.keyring.list():
        if each.opens:
            opening.setdefault(each.purpose, []).append(each.id)
    told = {at: _told_column(live, opening) for at, live in columns.items()}
    names = sorted({name for each in told.values() for name in _named(each)})
    facts: dict[str, Json] = {"store": app.state.store_id.hex, "columns": told}
    made = sha256(canon.json_bytes({"mark": mark, "keys": names, **facts})).hexdigest()[:32]
    return _Told(tuple(told), tuple(names), made, facts | {"keys": {name: _told_key(app, name) for name in names}})


def _told_key(app: App, name: str) -> Json:
    key = app.keyring.by_id(int(name, 16))
    return {"purpose": key.purpose, "version": key.version, "material": b64encode(key.material).decode()}


def _told_column(live: Live, opening: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    spec = None if live.cell is None else live.cell.spec
    key = None if spec is None or spec.key is None or is_tight(spec.key) else spec.key
    opens = [] if spec is None or key is None else [
        each for tight in (False, True) for each in opening.get(purpose(spec.column_id, tight=tight), [])
    ]  # fmt: skip
    column_id = spec.column_id if spec is not None else next((each.record.column_id for each in live.tokens), 0)
    return {
        "id": column_id,
        "bind": live.bind,
        "stage": live.stage.value,
        "bound_by": list(live.bound_by),
        "index": live.index,
        "form": None if spec is None else spec.form.value,
        "key": None if key is None else f"{key.id:010x}",
        "opens": [f"{each:010x}" for each in sorted(opens)],
        "tokens": [
            {
                "name": each.name,
                "version": each.record.version,
                "normaliser": each.record.normaliser,
                "size": each.record.size,
                "unique": each.record.is_unique,
                "stage": each.record.stage.value,
                "key": f"{each.record.key_id:010x}",
            }
            for each in live.tokens
        ],
    }


def _named(column: Mapping[str, Any]) -> set[str]:
    """Return the ids of the keys that a told column names."""
    key = column["key"]
    return {*column["opens"], *([key] if key else []), *(each["key"] for each in column["tokens"])}


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
