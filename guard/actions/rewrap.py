"""Wrap all keys anew: under a new key of keys (KEK), or the KEK under other roots. What is sealed does not change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.crypto import rewrap
from guard.errors import GuardError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many keys were wrapped anew, and what the KEK lies under now."""

    keys: int
    roots: tuple[str, ...]


def scrub_keys(app: App) -> None:
    """Clear what was wiped from the log of state's database too, where its old bytes would stay while others use it."""
    try:
        app.state.scrub("key", "key_root")
    except GuardError as error:
        _log.warning("old bytes of the key stay in the log of guard's state until it is emptied: %s", error)


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
        after=scrub_keys,
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
        after=scrub_keys,
    )


def _wrapped_keys(app: App) -> int:
    return sum(key.purpose != "kek" and key.state != "destroyed" for key in app.keyring.list())


REWRAP: Action[Rewrapped] = Action(
    "keys.rewrap", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _rewrap, _plan_rewrap, holds=("keys",)
)
REWRAP_ROOTS: Action[Rewrapped] = Action(
    "keys.rewrap.root", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _roots, _plan_roots, holds=("keys",)
)
