"""What guard does with its keys: new versions, retiring and destroying old ones, wrapping all anew, exporting one.

What still needs a key is asked for where it may lie: in the shop's columns, in the backup stores, in leases of the
shop's processes. What cannot be asked counts as needing it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard import faults
from guard.actions import _uses as uses
from guard.actions._perform import Action, Outcome, Plan, Task, digest_of
from guard.crypto import escrow, files, life, rewrap
from guard.crypto.store import Life
from guard.errors import ConfigError, GuardError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.crypto.keyring import KeyInfo
    from guard.state import Tx


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changed:
    """A key in its new state."""

    id: str
    purpose: str
    version: int
    state: str


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many keys were wrapped anew, and what the KEK lies under now."""

    keys: int
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A key sealed to somebody outside, and the file it lies in."""

    id: str
    purpose: str
    version: int
    recipient: str
    file: Path


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
        after=_scrub,
    )


def _scrub(app: App) -> None:
    """Clear what was wiped from the log of state's database too, where its old bytes would stay while others use it."""
    try:
        app.state.scrub("key", "key_root")
    except GuardError as error:
        _log.warning("old bytes of the key stay in the log of guard's state until it is emptied: %s", error)


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


# Wrap anew -----------------------------------------------------------------------------------------------------------


def _plan_rewrap(app: App, _: Mapping[str, Json]) -> Plan:
    kek = app.keyring.current("kek")
    count = _wrapped_keys(app)
    lines = (
        f"make version {kek.version + 1} of the KEK and wrap {count} keys under it, in one transaction",
        f"it lies under {', '.join(app.roots.names)}, as the old one did",
        "what is sealed in the shop and in backups does not change; backups of state keep the old KEK",
    )
    return Plan(lines, {"kek": f"{kek.id:010x}"})


def _rewrap(app: App, _: Task) -> Outcome[Rewrapped]:
    kek, under = rewrap.next_kek(app.keyring.ring)
    count = _wrapped_keys(app)

    def remember(tx: Tx) -> None:
        rewrap.rewrap(app.keyring.ring, tx, kek, under)

    return Outcome(
        Rewrapped(count, app.roots.names),
        objects=(f"key {kek.id:010x}",),
        counts={"keys": count, "roots": len(under)},
        remember=remember,
        after=_scrub,
    )


def _plan_roots(app: App, args: Mapping[str, Json]) -> Plan:
    different = rewrap.missing(app.keyring.ring)
    lines = [f"wrap the KEK under the roots that guard.toml names: {', '.join(app.roots.names)}", *different]
    if args.get("new_passphrase") is True:
        lines.append("root: a new passphrase is asked for twice")
    lines.append("roots that it does not name open nothing of this state any more; older backups of it they still open")
    return Plan(tuple(lines), {"roots": list(app.roots.names), "different": list(different)})


def _roots(app: App, task: Task) -> Outcome[Rewrapped]:
    under = rewrap.under_named(app.keyring.ring, new_passphrase=task.args.get("new_passphrase") is True)
    return Outcome(
        Rewrapped(1, app.roots.names),
        objects=("kek", "root"),
        counts={"roots": len(under)},
        facts={f"root {number}": each.origin.kind for number, each in enumerate(under, 1)},
        remember=lambda tx: rewrap.replace_roots(app.keyring.ring, tx, under),
        after=_scrub,
    )


def _wrapped_keys(app: App) -> int:
    return sum(key.purpose != "kek" and key.state != "destroyed" for key in app.keyring.list())


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
    "keys.destroy", Level.DUAL, Activity.ENTITY_DELETE, _destroy, _plan_destroy, holds=("keys", "shop")
)
CANCEL: Action[Changed] = Action("keys.cancel", Level.ROUTINE, Activity.ENTITY_UPDATE, _cancel, _plan_cancel)
REWRAP: Action[Rewrapped] = Action(
    "keys.rewrap", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _rewrap, _plan_rewrap, holds=_HOLDS
)
REWRAP_ROOTS: Action[Rewrapped] = Action(
    "keys.rewrap.root", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _roots, _plan_roots, holds=_HOLDS
)
EXPORT: Action[Exported] = Action("keys.export", Level.DUAL, Activity.ENTITY_READ, _export, _plan_export, holds=_HOLDS)
