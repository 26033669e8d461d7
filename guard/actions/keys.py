"""What guard does with its keys: make, test and use the recovery kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.crypto import recovery, roots
from guard.crypto.keyring import Keyring, Origin
from guard.errors import TamperedError
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
    """A recovery kit that opened `keys` keys: all there are."""

    kit: str
    keys: int


def _plan_make(app: App, _: Mapping[str, Json]) -> Plan:
    name = _kit_name(app)
    count = len(app.keyring.list())
    lines = [f"{count} keys are sealed to a new recovery kit."]
    if name != "none":
        lines.append(f"The shares of kit {name} open no later state; old backups of state they still open.")
    return Plan(tuple(lines), {"kit": name, "keys": count})


def _kit_name(app: App) -> str:
    try:
        public = app.keyring.recovery_public()
    except TamperedError:  # a new kit is the remedy
        return "tampered"
    return "none" if public is None else recovery.kit_id(public)


def _make(app: App, task: Task) -> Outcome[MadeKit]:
    kit = recovery.new_kit()
    count = len(app.keyring.list())
    files = recovery.write_shares(kit, Path(task.text("to"))) if task.args["to"] is not None else ()

    def remember(tx: Tx) -> None:
        app.keyring.replace_kit(tx, kit.public)

    return Outcome(
        MadeKit(kit.id, count, () if files else kit.shares, files),
        objects=(f"kit {kit.id}",),
        counts={"keys": count},
        remember=remember,
    )


def recovery_test(private: bytes) -> Action[TestedKit]:
    """Return the action that opens every key with the kit's private key, which comes from two shares."""

    def work(app: App, _: Task) -> Outcome[TestedKit]:
        kit, count = recovery.kit_id(recovery.public_of(private)), app.keyring.prove_kit(private)
        return Outcome(TestedKit(kit, count), objects=(f"kit {kit}",), counts={"keys": count})

    return Action("keys.recovery.test", Level.ROUTINE, Activity.ENTITY_READ, work)


def recover(app: App, private: bytes) -> None:
    """Open the app's keys with the kit's private key instead of the root key.

    Raises DeniedError when the shares are of another kit, TamperedError when the KEK does not open.
    """
    app.keyring = Keyring.recover(app.state, private)


def _use(app: App, task: Task) -> Outcome[Path]:
    path = Path(task.text("to"))
    root = roots.new_file(path)
    return Outcome(
        path,
        objects=("kek", "root"),
        facts={"root": "file"},
        remember=lambda tx: app.keyring.replace_root(tx, root, Origin("file")),
    )


RECOVERY_MAKE: Action[MadeKit] = Action(
    "keys.recovery.make", Level.PRIVILEGED, Activity.ENTITY_CREATE, _make, _plan_make, holds=("state",)
)

RECOVERY_USE: Action[Path] = Action("keys.recovery.use", Level.OPEN, Activity.ENTITY_UPDATE, _use, holds=("state",))
"""Open to every known person: two shares and state already open every key, so no other factor would hold them back."""
