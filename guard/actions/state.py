"""What guard does with its own state: back it up alone, bring an older one up to this guard's schema.

Bringing a lost state back is `guard.actions.lost`: there nobody is known and nothing can be recorded before it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Caller, Outcome, Task, perform
from guard.clock import Clock
from guard.errors import GuardError
from guard.events import Activity, Ending, Event, Level, Principal
from guard.state import Migration, migrate

if TYPE_CHECKING:
    from guard.app import App
    from guard.backup import Several, StoreRun
    from guard.canon import Json
    from guard.state import Tx

Migrate = Callable[[str, Clock], tuple[Migration, ...]]
"""Brings the state of a URL up to date, and returns the steps it took."""

WAIT = timedelta(minutes=10)
"""How long work that needs a backup of state waits for a backup that is running."""


def _stores(args: Mapping[str, Json]) -> tuple[str, ...]:
    stores = args.get("stores") or ()
    if isinstance(stores, str) or not isinstance(stores, list | tuple):
        raise TypeError("argument stores is a list of texts")
    return tuple(map(str, stores))


def _backup(app: App, task: Task) -> Outcome[Several[StoreRun]]:
    found = app.backups.run_state(_stores(task.args), task.progress)
    runs = tuple(found.done.values())
    return Outcome(
        found,
        objects=tuple(f"{each.store}/{each.snapshot}" for each in runs),
        counts={"bytes": sum(each.bytes for each in runs), "stored": sum(each.stored for each in runs)},
        facts={
            **{each.store: "read back" for each in runs},
            **{f"failed {name}": type(error).__name__ for name, error in found.failed.items()},
        },
        remember=lambda tx: app.backups.remember(tx, runs),
        ending=Ending.PARTLY if found.failed else Ending.DONE,
    )


BACKUP: Action[Several[StoreRun]] = Action(
    "state.backup", Level.ROUTINE, Activity.API_CREATE, _backup, holds=("repository",)
)
"""Backs guard's state up alone into the stores, and reads it back from each."""


def save(app: App, task: Task) -> Several[StoreRun]:
    """Back state up now, within another action's work, and read it back; at least one store has it then.

    For work that makes what must not be lost with state: a new key before it is used, keys wrapped anew before the old
    epoch goes. It is an action of its own in the ledger, by whom `task` is for. The caller holds no transaction and
    not "repository". Raises what `Backups.run_state` raises when no store has it.
    """
    return perform(app, Caller(task.who, progress=task.progress, wait=WAIT), BACKUP)


def save_keys(app: App, task: Task) -> None:
    """Do as `save` where state holds a key, of the store or of a person, that no backup of it does.

    Where guard.toml names no store, nothing is done: what asks for the backup refuses then, and says so.
    """
    if not app.backups.stores:
        return
    try:
        saved = app.backups.state_saved_at()
        if saved is None or saved < app.keyring.changed_at() or app.people_unsaved(saved)[0]:
            save(app, task)
    except GuardError as error:
        said = "no value was changed, as no backup holds the keys yet; run the same command again when this is mended"
        error.hint = f"{said}: {error.hint}" if error.hint else said
        raise


def bring_up(
    app: App, who: Callable[[], Principal], wait: timedelta = timedelta(), by: Migrate = migrate
) -> tuple[str, ...]:
    """Copy an older state, bring it up to this guard's schema and return what was done to it; nothing when it is new.

    It is recorded after it is done: before, there is no ledger this guard can write. `who` finds the person then.
    Raises InterlockError when state is newer than this guard.
    """
    with app.hold(("state",), wait, "state.migrate"):
        steps = by(app.url(app.settings.state.url), app.clock)
    if steps:
        done = Event(
            "state.migrate",
            Ending.DONE,
            who().id,
            app.new_run(),
            counts={"schema": steps[-1].version, "steps": len(steps)},
        )
        app.record(_nothing, done)
    return tuple(f"{step.version}: {step.what}" for step in steps)


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
