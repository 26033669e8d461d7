"""What guard does with the recovery kit: make it, test it, and open the keys with it when every root is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guard import faults
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.crypto import kit as sealing
from guard.crypto import recovery, rewrap, roots, sheet
from guard.crypto.keyring import Keyring
from guard.errors import GuardError, TamperedError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx


@dataclass(frozen=True, slots=True)
class MadeKit:
    """A new recovery kit: its shares are here, or in the files that were asked for, and nowhere else."""

    kit: str
    keys: int
    shares: tuple[str, ...] = field(repr=False, default=())
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class TestedKit:
    """A recovery kit that opened `keys` keys: all there are; and the repositories in `stores`."""

    kit: str
    keys: int
    stores: tuple[str, ...] = ()
    shut: Mapping[str, str] = field(default_factory=dict)
    """Stores that it does not open, or that could not be asked, each with the reason."""


def _plan_make(app: App, _: Mapping[str, Json]) -> Plan:
    name = _kit_name(app)
    count = len([key for key in app.keyring.list() if key.state != "destroyed"])
    lines = [f"{count} keys are sealed to a new recovery kit, and so is what is backed up from now on."]
    if name != "none":
        lines.append(
            f"The shares of kit {name} open no later state. Backups made till now they still open, until"
            " `guard keys rotate repository` and the next backups."
        )
    return Plan(tuple(lines), {"kit": name, "keys": count})


def _kit_name(app: App) -> str:
    try:
        public = app.keyring.recovery_public()
    except TamperedError:  # a new kit is the remedy
        return "tampered"
    return "none" if public is None else recovery.kit_id(public)


def _make(app: App, task: Task) -> Outcome[MadeKit]:
    kit = recovery.new_kit()
    count = len([key for key in app.keyring.list() if key.state != "destroyed"])
    files = _write(app, task, kit)
    faults.point("keys.kit.written")

    def remember(tx: Tx) -> None:
        sealing.replace(app.keyring.ring, tx, kit.public)

    return Outcome(
        MadeKit(kit.id, count, () if files else kit.shares, files),
        objects=(f"kit {kit.id}",),
        counts={"keys": count},
        remember=remember,
    )


def _write(app: App, task: Task, kit: recovery.Kit) -> tuple[Path, ...]:
    if task.args["to"] is None:
        return ()
    folder = Path(task.text("to"))
    if task.args.get("print") is not True:
        return recovery.write_shares(kit, folder)
    return sheet.write_sheets(kit, folder, sheet.Owner(app.settings.name, app.state.store_id, app.clock.now()))


def recovery_test(private: bytes) -> Action[TestedKit]:
    """Return the action that opens every key, and every repository, with the kit's private key of two shares."""

    def work(app: App, _: Task) -> Outcome[TestedKit]:
        kit, count = recovery.kit_id(recovery.public_of(private)), sealing.prove(app.keyring.ring, private)
        opened, shut = _stores(app, private)
        return Outcome(
            TestedKit(kit, count, opened, shut),
            objects=(f"kit {kit}", *opened),
            counts={"keys": count, "stores": len(opened), "shut": len(shut)},
            remember=lambda tx: sealing.note_tested(app.keyring.ring, tx),
        )

    return Action("keys.recovery.test", Level.ROUTINE, Activity.ENTITY_READ, work)


def _stores(app: App, private: bytes) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the stores whose repository the kit opens, and why others stay shut."""
    opened, shut = [], {}
    for name in app.backups.stores:
        try:
            app.backups.by_recovery(name, private).newest(name)
            opened.append(name)
        except GuardError as error:  # of one store; the keys were proved all the same
            shut[name] = str(error)
    return tuple(opened), shut


def recover(app: App, private: bytes) -> None:
    """Open the app's keys with the kit's private key instead of a root.

    Raises DeniedError when the shares are of another kit, TamperedError when the KEK does not open.
    """
    app.keyring = Keyring.recover(app.state, private)


def _use(app: App, task: Task) -> Outcome[Path]:
    path = Path(task.text("to"))
    root = roots.new_file(path)
    faults.point("keys.root.written")
    return Outcome(
        path,
        objects=("kek", "root"),
        facts={"root": "file"},
        remember=lambda tx: rewrap.replace_by_key(app.keyring.ring, tx, root),
    )


RECOVERY_MAKE: Action[MadeKit] = Action(
    "keys.recovery.make", Level.PRIVILEGED, Activity.ENTITY_CREATE, _make, _plan_make, holds=("keys",)
)

RECOVERY_USE: Action[Path] = Action("keys.recovery.use", Level.OPEN, Activity.ENTITY_UPDATE, _use, holds=("keys",))
"""Open to every known person: two shares and state already open every key, so no other factor would hold them back."""
