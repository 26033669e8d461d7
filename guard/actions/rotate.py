"""A new version of a key: made, backed up with state, and only then used; after that the old values are moved to it.

docs/decisions says why a key that no backup holds seals nothing. Each step is found by the next run: it goes on with a
version that waits, and with a column that still holds values under an older one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from guard import faults
from guard.actions import _uses as uses
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.state import save, save_keys
from guard.crypto import life
from guard.errors import ConfigError, GuardError, InterlockError
from guard.events import Activity, Ending, Event, Level
from guard.fields import lease
from guard.fields.choice import named
from guard.fields.store import Stage

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.crypto.keyring import Key, KeyInfo
    from guard.fields import Swept
    from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. `made`: False when it went on with one that was interrupted."""

    purpose: str
    id: str
    version: int
    made: bool
    at: str | None = None
    """The column, "Table.Column"."""
    moved: int = 0
    """Values that were sealed or given tokens anew."""
    left: int = 0
    """Values, or token columns, that still are under older versions."""
    vkey: str | None = None
    """The verifier key of the ledger from now on, where that is what changed."""


@dataclass(frozen=True, slots=True)
class _Rotation:
    """What is to be rotated, and how far an earlier run came."""

    current: KeyInfo
    waiting: KeyInfo | None
    at: str | None
    older: int
    """Values, or token columns, under older versions of the key."""
    sweeps: bool

    @property
    def goes_on(self) -> bool:
        """Whether the newest version is in use already, and only old values are left to move."""
        return self.waiting is None and self.older > 0


_SEALS = "from then on it seals what is new; older versions still open"
_SIGNS = "from then on it signs the ledger; the old one signs the entry that says so, and nothing after it"


def purpose_of(app: App, what: str) -> str:
    """Return the purpose that a person means: a purpose itself, or the key of "Table.Column".

    Raises ConfigError for a column the catalog does not have or want sealed, InterlockError for one that is sealed for
    each person.
    """
    if "." not in what and all(column.table != what for column in app.catalog.column):
        return what
    column = named(app.catalog, what)
    if column.bind == "subject":
        raise InterlockError(
            f"{what} is sealed with each person's own key, which is not rotated", hint="guard keys shred ends one"
        )
    purpose = f"column/{column.id}/tight" if column.tight else f"column/{column.id}"
    if all(key.purpose != purpose for key in app.keyring.list()):
        raise ConfigError(f"{what} has no key: it is not to be sealed", hint="guard keys list shows which have one")
    return purpose


def _plan(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for."""
    purpose = purpose_of(app, str(args["what"]))
    found = _looked(app, purpose, is_later=args.get("later") is True)
    facts: dict[str, Json] = {"purpose": purpose, "from": f"{found.current.id:010x}", "goes_on": found.goes_on}
    return Plan(_lines(found), facts, found)


def _looked(app: App, purpose: str, *, is_later: bool) -> _Rotation:
    versions = [key for key in app.keyring.list() if key.purpose == purpose]
    current = next((key for key in versions if key.state == "current"), None)
    if current is None:
        raise ConfigError(f"there is no key for {purpose}", hint=_near(app, purpose))
    life.require_rotated(purpose)
    waiting = next((key for key in versions if key.state == "waiting"), None)
    column_id = uses.column_of(purpose)
    if column_id is None:
        return _Rotation(current, waiting, None, 0, sweeps=False)
    at, older = uses.under_others(app, column_id, current)
    if is_later and older and waiting is None:
        raise InterlockError(
            f"the last rotation of {purpose} is not finished: {older} of {at} are under older versions",
            hint="guard fields encrypt finishes it; rotate after that",
        )
    return _Rotation(current, waiting, at, older, sweeps=_seals(app, column_id) and not is_later)


def _near(app: App, purpose: str) -> str:
    """Return what was meant, or all that could be."""
    known = {key.purpose for key in app.keyring.list() if key.purpose.startswith(life.ROTATED)}
    names = {at: f"column/{number}" for number, at in uses.names(app).items()}
    may = sorted({*(at for at, each in names.items() if {each, f"{each}/tight"} & known), *known})
    near = difflib.get_close_matches(purpose, may, 1)
    return f"did you mean {near[0]}?" if near else f"keys that are rotated: {', '.join(may)}"


def _seals(app: App, column_id: int) -> bool:
    """Tell whether a column is sealed or about to be. Raises InterlockError while it is put back into plain text."""
    record = next((each for each in app.fields.records() if each.column_id == column_id), None)
    if record is not None and record.stage is Stage.OPENING:
        raise InterlockError(
            f"{record.at} is being put back into plain text", hint="guard fields decrypt goes on with it"
        )
    return record is not None and record.stage.seals


def _lines(found: _Rotation) -> tuple[str, ...]:
    key = found.current
    what = f"{key.purpose} ({found.at})" if found.at else key.purpose
    lines = []
    if found.goes_on:
        lines.append(f"go on with the rotation of {what} to version {key.version}, which was interrupted")
    else:
        version = found.waiting.version if found.waiting else key.version + 1
        lines.append(f"make version {version} of {what}, seal it to the recovery kit, and back guard's state up")
        lines.append(_SIGNS if key.purpose == "ledger" else _SEALS)
    what = "tokens" if key.purpose.startswith("index/") else "values"
    if found.sweeps:
        lines.append(f"{what} under older versions are made anew, in place, while the shop goes on")
    elif found.at:
        lines.append(f"{what} under older versions stay as they are until the next `guard fields encrypt`")
    return tuple(lines)


def _rotate(app: App, task: Task, passphrase: str | None = None) -> Outcome[Rotated]:
    found: _Rotation = task.plan.payload  # type: ignore[assignment]  # _plan put it there
    key = app.keyring.by_id(found.current.id) if found.goes_on else _renewed(app, task, found, passphrase)
    swept = _swept(app, task, found) if found.sweeps and found.at else None
    left = swept.left if swept else _left(app, key)
    done = Rotated(
        key.purpose,
        f"{key.id:010x}",
        key.version,
        not found.goes_on,
        found.at,
        swept.rows if swept else 0,
        left,
        app.ledger.vkey if key.purpose == "ledger" else None,
    )
    return Outcome(
        done,
        objects=(f"key {key.id:010x}", *([found.at] if found.at else [])),
        counts={"moved": done.moved, "left": left},
        facts={"purpose": key.purpose, "version": str(key.version)},
        remember=_remember(app, key, swept),
        ending=Ending.PARTLY if swept and left else Ending.DONE,
    )


def _left(app: App, key: Key) -> int:
    """Return how much of a column is under older versions of a key that was not swept for."""
    column_id = uses.column_of(key.purpose)
    return 0 if column_id is None else uses.under_others(app, column_id, app.keyring.info(key.id))[1]


def _swept(app: App, task: Task, found: _Rotation) -> Swept:
    """Move what is under older versions: values by a sweep of their own, tokens as `fields encrypt` makes them."""
    at, workers = str(found.at), int(str(task.args.get("workers") or 1))
    if found.current.purpose.startswith("index/"):
        plan = app.fields.plan((at,))
        return app.fields.encrypt(plan, task.run, task.progress, workers, lambda: save_keys(app, task))[0]
    return app.fields.rekey(at, task.run, task.progress, workers)


def _renewed(app: App, task: Task, found: _Rotation, passphrase: str | None) -> Key:
    """Return the next version, in use: made, in a backup of state, and current."""
    key = app.keyring.rotate(found.current.purpose)
    faults.point("keys.rotate.made")
    try:
        if key.purpose == "repository":
            app.backups.admit(key.version, key.material, passphrase)
        saved = app.backups.state_saved_at()
        # what was made just now is in no backup, whatever the clock of another host says of its own
        if found.waiting is None or saved is None or saved < app.keyring.info(key.id).made_at:
            save(app, task)
        faults.point("keys.rotate.saved")
        _activate(app, task, key)
    except GuardError as error:
        said = f"version {key.version} of {key.purpose} waits, unused; run the same command again when this is mended"
        error.hint = f"{said}: {error.hint}" if error.hint else said
        raise
    faults.point("keys.rotate.current")
    if key.purpose != "ledger":
        app.clock.sleep(lease.STALE)  # by then every process of the shop has seen the new version
    return key


def _activate(app: App, task: Task, key: Key) -> None:
    """Let the new version seal, on the record: its time is the one that later evidence counts from.

    That of the ledger signs this very commit, beside the old one: a kill leaves the one key or the other in force.
    """
    saved = app.backups.state_saved_at()
    event = Event(
        "keys.activate",
        Ending.DONE,
        task.who.id,
        app.new_run(),
        Activity.ENTITY_UPDATE,
        objects=(f"key {key.id:010x}",),
        facts={"purpose": key.purpose, "version": str(key.version)},
    )
    events = [event]
    if key.purpose == "ledger":
        events.insert(0, app.ledger.rekey(key.material, key.version).event(task.who.id, event.run))
    app.record(lambda tx: app.keyring.activate(tx, key.id, saved), *events)


def _remember(app: App, key: Key, swept: Swept | None) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        if swept is not None:
            app.fields.remember((swept,))(tx)
        if key.purpose == "totp":
            app.access.reseal(tx)

    return work


ROTATE: Action[Rotated] = Action(
    "keys.rotate", Level.PRIVILEGED, Activity.ENTITY_CREATE, _rotate, _plan, holds=("keys", "shop")
)
ROTATE_LATER: Action[Rotated] = replace(ROTATE, holds=("keys",))
"""Leaves old values to the next `fields encrypt`, so it waits for no sweep."""


def rotate_with(passphrase: str) -> Action[Rotated]:
    """Return `ROTATE_LATER` for the repositories' key, which also makes slots for `passphrase`."""
    return replace(ROTATE_LATER, work=lambda app, task: _rotate(app, task, passphrase))
