"""The end of an epoch: the living are wrapped under the next key, state is backed up, the old key is deleted.

Only then is what was shredded dead in every backup. Each part may fail or be killed; the next run goes on where this
one stopped. Nothing is deleted before every store holds a backup of state, read back, with the living under the new
key: a store without it would be left with snapshots whose living open no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from guard import faults
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.receipts import again, finish
from guard.actions.state import save
from guard.crypto.epochs import ends, month
from guard.errors import GuardError, InterlockError, UnavailableError
from guard.events import Activity, Ending, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.crypto.vault_store import Epoch

GRACE = timedelta(days=3)
"""How long the end of an epoch may take before it is late: the nights of a weekend on which a mirror was away."""


@dataclass(slots=True)
class Turned:
    """What a turn did. `failed`: parts that must be done again, by what they were about."""

    epoch: str | None = None
    """The epoch that was begun."""
    rewrapped: int = 0
    ended: list[str] = field(default_factory=list)
    """Epochs whose living are all under a later one, in a backup."""
    deleted: list[str] = field(default_factory=list)
    """Epochs whose keys are in no mirror any more, or have a day on which they will not be."""
    copied: int = 0
    risen: int = 0
    """Keys that had been deleted, were there again, and were deleted again."""
    adopted: int = 0
    finished: int = 0
    """Receipts that an interrupted run had left."""
    again: int = 0
    """Keys that were shredded before, lived in a state that was restored, and were shredded again."""
    failed: dict[str, GuardError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epochs:
    """Where the epochs stand."""

    current: Epoch | None
    older: tuple[Epoch, ...]
    """Still in use, though there is a newer one: a turn was interrupted."""
    dying: tuple[Epoch, ...]
    """Closed, and still in a mirror."""
    is_over: bool
    """Whether the month of the current one is over."""


def epochs(app: App) -> Epochs:
    """Return where the epochs stand now."""
    now = app.clock.now()
    with app.state.read() as tx:
        current = app.vault.current(tx)
    known = app.vault.epochs()
    older = tuple(each for each in known if each.in_use and each != current)
    dying = tuple(each for each in known if each.ready_at and each.closed_at and not each.gone_at)
    return Epochs(current, older, dying, current is not None and current.name != month(now))


def is_due(app: App) -> bool:
    """Tell whether the daily job has something to do."""
    at = epochs(app)
    if at.is_over or at.older or at.dying or app.shredder.unfinished() or (at.current and again(app)):
        return True
    seen = app.vault.look() if at.current else ()
    return any(each.trouble or each.lacking or each.risen or each.unknown for each in seen)


def late(app: App) -> tuple[Epoch, ...]:
    """Return the epochs whose keys should have been deleted by now, and were not."""
    at, now = epochs(app), app.clock.now()
    pending = (*at.older, *at.dying, *((at.current,) if at.current and at.is_over else ()))
    return tuple(each for each in pending if ends(each.name) + GRACE <= now)


def _plan(app: App, _: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for what has nothing to do, or cannot be brought to its end."""
    at = epochs(app)
    if at.current is None:
        raise InterlockError(
            "there is no epoch to end: nothing is sealed under a person's key",
            hint='columns with bind = "subject" need a [[vault]]; runbooks/shredding.md says how',
        )
    if away := [f"mirror {seen.name}: {seen.trouble}" for seen in app.vault.look() if seen.trouble is not None]:
        raise InterlockError(
            "\n".join(away),
            hint="nothing was changed: an epoch ends in all mirrors; bring them back, then run it again",
        )
    ending = (*at.older, at.current)
    lines = (
        f"end epoch {', '.join(each.name for each in ending)}: wrap the keys of all living people anew",
        "back state up and read it back, then delete the old key in every mirror of the vault",
        "backups of state from before that open no person's data any more",
    )
    return Plan(lines, {"epochs": [f"{each.id:010x}" for each in ending]})


def _turn(app: App, task: Task, *, is_asked: bool) -> Outcome[Turned]:
    done = Turned()
    parts: Sequence[tuple[str, Callable[[], None]]] = (
        ("receipts", lambda: _finish(app, task, done)),
        ("mirrors", lambda: _mend(app, done)),
        ("begin", lambda: _begin(app, done, is_asked=is_asked)),
        ("end", lambda: _end(app, task, done)),
        ("delete", lambda: _delete(app, done)),
    )
    for name, part in parts:
        try:
            part()
        except GuardError as error:
            done.failed[name] = error
    return Outcome(
        done,
        objects=(*(f"epoch {name}" for name in done.ended), *(f"deleted {name}" for name in done.deleted)),
        counts={"keys": done.rewrapped, "copied": done.copied, "risen": done.risen, "adopted": done.adopted,
                "receipts": done.finished, "again": done.again},
        facts={**({"epoch": done.epoch} if done.epoch else {}),
               **{f"failed {name}": type(error).__name__ for name, error in done.failed.items()}},
        ending=Ending.PARTLY if done.failed else Ending.DONE,
    )  # fmt: skip


def _finish(app: App, task: Task, done: Turned) -> None:
    """Shred again what lives only because state was restored, and take the steps that interrupted shredding left."""
    for death in again(app) if epochs(app).current else ():
        done.again += app.shredder.shred(replace(death, run=task.run, who=task.who.id)) is not None
        faults.point("epoch.turn.again")
    if left := app.shredder.unfinished():
        found = finish(app, left, task.run)
        done.finished = sum(not each.left for each in found.receipts)
        done.failed.update(found.failed)


def _mend(app: App, done: Turned) -> None:
    if epochs(app).current is None:
        return
    mended = app.vault.mend()
    done.copied, done.risen, done.adopted = mended.copied, mended.deleted, mended.adopted
    done.failed.update({f"mirror {name}": error for name, error in mended.failed.items()})


def _begin(app: App, done: Turned, *, is_asked: bool) -> None:
    """Begin the next epoch when its month has begun or somebody asks, unless a turn is under way."""
    at = epochs(app)
    if at.current is not None and not at.older and (at.is_over or is_asked):
        done.epoch = app.vault.begin().name
        faults.point("epoch.turn.begun")


def _end(app: App, task: Task, done: Turned) -> None:
    """Wrap the living under the current epoch, have a backup say so, and close the older ones."""
    at = epochs(app)
    if at.current is None or not at.older:
        return
    done.rewrapped = app.subjects.rewrap(at.older, at.current, task.progress)
    app.subjects.prove(at.current)
    faults.point("epoch.turn.proved")
    saved = save(app, task)
    done.failed.update({f"store {name}": error for name, error in saved.failed.items()})
    if saved.failed:
        open_, without = ", ".join(each.name for each in at.older), ", ".join(saved.failed)
        raise UnavailableError(
            f"epoch {open_} stays open: no backup of state with the keys of the living is in store {without}",
            hint="bring the store back, or take it out of guard.toml; the job epoch goes on every night",
        )
    faults.point("epoch.turn.saved")
    app.subjects.close(at.older)
    faults.point("epoch.turn.closed")
    done.ended += [each.name for each in at.older]


def _delete(app: App, done: Turned) -> None:
    for epoch in epochs(app).dying:
        deleted = app.vault.delete(epoch)
        done.failed.update({f"mirror {name}": error for name, error in deleted.failed.items()})
        if not deleted.failed:
            done.deleted.append(epoch.name)
    app.subjects.forget()


TURN: Action[Turned] = Action(
    "keys.epoch",
    Level.ROUTINE,
    Activity.ENTITY_UPDATE,
    lambda app, task: _turn(app, task, is_asked=False),
    holds=("state",),
)
"""Ends the epoch when its month is over, and finishes what was left. Routine: nobody loses data but the shredded."""

TURN_NOW: Action[Turned] = Action(
    "keys.rewrap.epoch",
    Level.PRIVILEGED,
    Activity.ENTITY_UPDATE,
    lambda app, task: _turn(app, task, is_asked=True),
    _plan,
    holds=("state",),
)
"""Ends the epoch before its month is over, so that what was shredded is dead in all backups sooner."""
