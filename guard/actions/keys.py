"""What guard does with its keys: list them, retire and destroy old versions, export one.

What still needs a key is asked for where it may lie: in the shop's columns, in the backup stores, in leases of the
shop's processes. What cannot be asked counts as needing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from guard import faults
from guard.actions import _uses as uses
from guard.actions._perform import Action, Outcome, Plan, Task, digest_of
from guard.actions.rewrap import scrub_keys
from guard.crypto import escrow, files, life
from guard.crypto.store import Life
from guard.errors import ConfigError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.crypto.keyring import KeyInfo


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as it is shown. `of`: "Table.Column" for the keys of a column and of its index."""

    id: str
    purpose: str
    of: str | None
    version: int
    made_at: datetime
    state: str
    since: datetime
    recoverable: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """A key in its new state."""

    id: str
    purpose: str
    version: int
    state: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A key sealed to somebody outside, and the file it lies in."""

    id: str
    purpose: str
    version: int
    recipient: str
    file: Path


def listed(app: App) -> tuple[Listed, ...]:
    """Return every key, in the order they were made."""
    names = uses.names(app)
    return tuple(
        Listed(
            f"{key.id:010x}",
            key.purpose,
            names.get(uses.column_of(key.purpose) or 0),
            key.version,
            key.made_at,
            key.state,
            key.changed_at,
            key.recoverable,
        )
        for key in app.keyring.list()
    )


def named(text: str) -> str:
    """Return a key's id as actions take it: 10 hex characters. Raises ConfigError for what is none."""
    try:
        number = int(text, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 40:
        raise ConfigError(f"{text} is not a key's id", hint="guard keys list shows them: up to ten hex digits")
    return f"{number:010x}"


def _key(app: App, args: Mapping[str, Json]) -> KeyInfo:
    return app.keyring.info(int(str(args["key"]), 16))


def _facts(key: KeyInfo) -> dict[str, Json]:
    return {"key": f"{key.id:010x}", "purpose": key.purpose, "version": key.version}


def _name(key: KeyInfo) -> str:
    return f"version {key.version} of {key.purpose} (key {key.id:010x})"


def _changed(key: KeyInfo, state: str) -> Changed:
    return Changed(f"{key.id:010x}", key.purpose, key.version, state)


# Retire, call back, destroy ------------------------------------------------------------------------------------------


def _plan_retire(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for."""
    key = _key(app, args)
    life.require_step(key, Life.RETIRED)
    life.require_unused(key, uses.all_of(app, key))
    return Plan((f"{_name(key)} opens nothing any more; `guard keys retire --undo` takes that back",), _facts(key))


def _retire(app: App, task: Task) -> Outcome[Changed]:
    """Leases first: once no process may seal under an older version, what is counted is final."""
    key = _key(app, task.args)
    life.require_unused(key, uses.all_of(app, key))
    faults.point("keys.retire.counted")
    return Outcome(
        _changed(key, "retired"),
        objects=(f"key {key.id:010x}",),
        facts={"purpose": key.purpose, "state": "retired"},
        remember=lambda tx: app.keyring.retire(tx, key.id, uses.within(app, key)),
    )


def _plan_undo(app: App, args: Mapping[str, Json]) -> Plan:
    key = _key(app, args)
    life.require_retired(key)
    return Plan((f"{_name(key)} opens again what names it; it still seals nothing",), _facts(key))


def _undo(app: App, task: Task) -> Outcome[Changed]:
    key = _key(app, task.args)
    return Outcome(
        _changed(key, "old"),
        objects=(f"key {key.id:010x}",),
        facts={"purpose": key.purpose, "state": "old"},
        remember=lambda tx: app.keyring.call_back(tx, key.id),
    )


def _plan_destroy(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan without counts: the plan must stay the same while it waits for its approval."""
    key = _key(app, args)
    life.require_step(key, Life.DESTROYED)
    life.require_unused(key, uses.all_of(app, key))
    lines = (
        f"{_name(key)} and its copy for the recovery kit are wiped",
        f"what was sealed under it opens no more; it was retired at {key.changed_at:%Y-%m-%d %H:%M} UTC, so backups of"
        " the shop from before that may hold such values",
        "backups of guard's state from before hold the key itself, until retention drops them",
    )
    return Plan(lines, _facts(key))


def _destroy(app: App, task: Task) -> Outcome[Changed]:
    key = _key(app, task.args)
    life.require_unused(key, uses.all_of(app, key))
    faults.point("keys.destroy.counted")
    return Outcome(
        _changed(key, "destroyed"),
        objects=(f"key {key.id:010x}",),
        facts={"purpose": key.purpose, "state": "destroyed"},
        remember=lambda tx: app.keyring.destroy(tx, key.id, uses.within(app, key)),
        after=scrub_keys,
    )


def _plan_cancel(app: App, args: Mapping[str, Json]) -> Plan:
    key = _key(app, args)
    request = _waiting(app, key)
    return Plan((f"the destruction of {_name(key)} is cancelled",), {**_facts(key), "request": request})


def _cancel(app: App, task: Task) -> Outcome[Changed]:
    key = _key(app, task.args)
    request = str(task.plan.facts["request"])
    return Outcome(
        _changed(key, key.state),
        objects=(f"key {key.id:010x}", request),
        remember=lambda tx: app.access.refuse(tx, request, task.who.id),
    )


def _waiting(app: App, key: KeyInfo) -> str:
    """Return the id of the request to destroy a key; its digest tells, for whoever asked. Raises ConfigError."""
    args: dict[str, Json] = {"key": f"{key.id:010x}"}
    for each in app.access.requests():
        if each.action == DESTROY.name and each.digest == digest_of(app, DESTROY.name, args, _facts(key), each.by):
            return each.id
    raise ConfigError(f"nobody asked to destroy key {key.id:010x}", hint="guard access requests lists what waits")


# Export --------------------------------------------------------------------------------------------------------------


def _plan_export(app: App, args: Mapping[str, Json]) -> Plan:
    key, recipient = _key(app, args), bytes.fromhex(str(args["recipient"]))
    app.keyring.seal_for(key.id, recipient)  # raises what would be raised tomorrow
    lines = (
        f"{_name(key)} is sealed to the public key {recipient.hex()} (fingerprint {escrow.fingerprint(recipient)})",
        f"into {args['to']}; whoever has the private half opens what this key sealed, without guard",
    )
    return Plan(lines, {**_facts(key), "recipient": recipient.hex()})


def _export(app: App, task: Task) -> Outcome[Exported]:
    key, recipient = _key(app, task.args), bytes.fromhex(task.text("recipient"))
    path = Path(task.text("to"))
    files.write_new(path, app.keyring.seal_for(key.id, recipient))
    faults.point("keys.export.written")
    return Outcome(
        Exported(f"{key.id:010x}", key.purpose, key.version, escrow.fingerprint(recipient), path),
        objects=(f"key {key.id:010x}",),
        facts={"purpose": key.purpose, "recipient": escrow.fingerprint(recipient)},
    )


_HOLDS = ("keys",)

RETIRE: Action[Changed] = Action(
    "keys.retire", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _retire, _plan_retire, holds=("keys", "shop")
)
UNDO_RETIRE: Action[Changed] = Action(
    "keys.retire.undo", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _undo, _plan_undo, holds=_HOLDS
)
DESTROY: Action[Changed] = Action(
    "keys.destroy", Level.DUAL, Activity.ENTITY_DELETE, _destroy, _plan_destroy, holds=("keys", "shop"), lasting=True
)
CANCEL: Action[Changed] = Action("keys.cancel", Level.ROUTINE, Activity.ENTITY_UPDATE, _cancel, _plan_cancel)
EXPORT: Action[Exported] = Action(
    "keys.export", Level.DUAL, Activity.ENTITY_READ, _export, _plan_export, holds=_HOLDS, lasting=True
)
