"""What guard does with backups: make repositories, back up, bring back, verify, prune.

`run` and `verify` are routine: they follow guard.toml and take nothing but what to work on. So is a prune that follows
the policy and makes at most `MOST_DAYS` days disappear; a larger one is privileged, like making and restoring are.
docs/decisions/0003-prune-is-routine.md says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.errors import InterlockError
from guard.events import Activity, Ending, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.backup import Founded, PrunePlan, Restored, RestorePlan, Several, StoreRun, Verified
    from guard.canon import Json


MOST_DAYS = 10
"""A nightly prune drops one day; ten bridge a week and a half without one. More is what a changed policy would do."""


def _stores(args: Mapping[str, Json]) -> tuple[str, ...]:
    stores = args.get("stores") or ()
    if isinstance(stores, str) or not isinstance(stores, list | tuple):
        raise TypeError("argument stores is a list of texts")
    return tuple(map(str, stores))


def _ending(failed: Mapping[str, object], *, whole: bool = True) -> Ending:
    return Ending.DONE if whole and not failed else Ending.PARTLY


def _failures(failed: Mapping[str, object]) -> dict[str, str]:
    return {f"failed {name}": type(error).__name__ for name, error in failed.items()}


def _plan_init(app: App, args: Mapping[str, Json]) -> Plan:
    names = _stores(args) or app.backups.stores
    return Plan(tuple(f"make a repository in store {name}" for name in names), {"stores": list(names)})


def _init(app: App, task: Task, passphrase: str | None = None) -> Outcome[Several[Founded]]:
    found = app.backups.init(_stores(task.args), passphrase)
    made = [each for each in found.done.values() if each.made]
    return Outcome(
        found,
        objects=tuple(each.store for each in made),
        counts={"made": len(made)},
        facts=_failures(found.failed),
        ending=_ending(found.failed),
    )


def _run(app: App, task: Task) -> Outcome[Several[StoreRun]]:
    found = app.backups.run(_stores(task.args), progress=task.progress)
    runs = tuple(found.done.values())
    return Outcome(
        found,
        objects=tuple(f"{each.store}/{each.snapshot}" for each in runs),
        counts={
            "files": sum(each.files for each in runs),
            "bytes": sum(each.bytes for each in runs),
            "stored": sum(each.stored for each in runs),
            "problems": sum(len(each.problems) for each in runs),
        },
        facts={**{each.store: "partly" if each.partial else "whole" for each in runs}, **_failures(found.failed)},
        remember=lambda tx: app.backups.remember(tx, runs),
        ending=_ending(found.failed, whole=not any(each.partial for each in runs)),
    )


def _plan_restore(app: App, args: Mapping[str, Json]) -> Plan:
    plan = app.backups.plan_restore(str(args["store"]), str(args["snapshot"]), app.backups.wanted(args))
    lines = (
        f"restore {plan.files} files, {plan.bytes} bytes, of {', '.join(plan.sources)}",
        f"from snapshot {plan.snapshot[:12]} in store {args['store']} to {plan.wanted.to}",
        *(f"not in the snapshot: {each}" for each in plan.not_covered),
    )
    return Plan(lines, {"snapshot": plan.snapshot, "files": plan.files, "bytes": plan.bytes}, plan)


def _restore(app: App, task: Task) -> Outcome[Restored]:
    plan: RestorePlan = task.plan.payload  # type: ignore[assignment]  # _plan_restore put it there
    done = app.backups.restore(task.text("store"), plan, progress=task.progress)
    return Outcome(
        done,
        objects=(f"{task.text('store')}/{done.snapshot}",),
        counts={"files": done.files, "bytes": done.bytes, "databases": len(done.checks)},
    )


def _verify(app: App, task: Task) -> Outcome[Verified]:
    name = task.text("store")
    with app.state.read() as tx:
        expected = app.backups.known(tx, name)
    done = app.backups.verify(name, data=task.args.get("data") is True, expected=expected, progress=task.progress)
    return Outcome(
        done,
        objects=(name,),
        counts={
            "snapshots": done.snapshots,
            "packs": done.packs,
            "bytes": done.bytes,
            "findings": len(done.findings),
            "late": len(done.late),
        },
        facts={"read": "all data" if done.data else "structure", "found": "sound" if done.is_sound else "damage"},
        ending=Ending.DONE if done.is_sound else Ending.FAILED,
    )


def _plan_prune(app: App, args: Mapping[str, Json]) -> Plan:
    found = app.backups.plan_prune(_stores(args))
    facts: dict[str, Json] = {
        name: {"drop": list(each.dropped), "mark": len(each.to_mark), "delete": len(each.to_delete)}
        for name, each in found.done.items()
    }
    return Plan((*(_told(name, each) for name, each in found.done.items()), *found.problems), facts, found)


def _plan_small_prune(app: App, args: Mapping[str, Json]) -> Plan:
    plan = _plan_prune(app, args)
    planned: Several[PrunePlan] = plan.payload  # type: ignore[assignment]  # just put there
    for name, each in planned.done.items():
        if each.days_lost > MOST_DAYS:
            raise InterlockError(
                f"this would drop the backups of {each.days_lost} days from store {name}",
                hint="was the policy changed? guard backup prune --large does it with a code",
            )
    return plan


def _told(name: str, plan: PrunePlan) -> str:
    late = f"; {len(plan.late)} late ones are left for a person to look at" if plan.late else ""
    return (
        f"store {name}: keep {len(plan.kept)} snapshots, drop {len(plan.dropped)}; "
        f"mark {len(plan.to_mark)} packs ({plan.mark_bytes} bytes), "
        f"delete {len(plan.to_delete)} packs ({plan.delete_bytes} bytes){late}"
    )


def _prune(app: App, task: Task) -> Outcome[Several[PrunePlan]]:
    planned: Several[PrunePlan] = task.plan.payload  # type: ignore[assignment]  # _plan_prune put it there
    found = app.backups.prune(planned.done, task.progress)
    found = replace(found, failed={**planned.failed, **found.failed})
    plans = tuple(found.done.values())
    return Outcome(
        found,
        objects=tuple(found.done),
        counts={
            "dropped": sum(len(each.dropped) for each in plans),
            "marked": sum(len(each.to_mark) for each in plans),
            "deleted": sum(len(each.to_delete) for each in plans),
            "bytes": sum(each.delete_bytes for each in plans),
        },
        facts=_failures(found.failed),
        remember=lambda tx: app.backups.forget(tx, plans),
        ending=_ending(found.failed),
    )


_HOLDS = ("repository",)

INIT: Action[Several[Founded]] = Action(
    "backup.init", Level.PRIVILEGED, Activity.API_CREATE, _init, _plan_init, holds=_HOLDS
)
RUN: Action[Several[StoreRun]] = Action("backup.run", Level.ROUTINE, Activity.API_CREATE, _run, holds=_HOLDS)
RESTORE: Action[Restored] = Action("backup.restore", Level.PRIVILEGED, Activity.DATA_READ, _restore, _plan_restore)
VERIFY: Action[Verified] = Action("backup.verify", Level.ROUTINE, Activity.API_READ, _verify, holds=_HOLDS)
PRUNE: Action[Several[PrunePlan]] = Action(
    "backup.prune", Level.ROUTINE, Activity.API_DELETE, _prune, _plan_small_prune, holds=_HOLDS
)
PRUNE_LARGE: Action[Several[PrunePlan]] = replace(PRUNE, level=Level.PRIVILEGED, plan=_plan_prune)


def init_with(passphrase: str) -> Action[Several[Founded]]:
    """Return `INIT` that also makes a slot for `passphrase`, which so gets into no argument and no digest."""
    return replace(INIT, work=lambda app, task: _init(app, task, passphrase))
