"""What guard does with the shop's columns: seal, verify, finish, and open them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.state import save_keys
from guard.events import Activity, Ending, Level
from guard.shop.scrub import costs

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.fields import Check, Finished, Found, SealPlan, Swept


def _columns(args: Mapping[str, Json]) -> tuple[str, ...]:
    columns = args.get("columns") or ()
    if isinstance(columns, str) or not isinstance(columns, list | tuple):
        raise TypeError("argument columns is a list of texts")
    return tuple(map(str, columns))


def _plan_encrypt(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for."""
    plan = app.fields.plan(_columns(args))
    plan.require()
    columns: list[Json] = [
        {"at": each.at, "id": each.id, "seal": each.seal, "fill": each.fill, "widen": each.widen}
        for each in plan.columns
    ]
    return Plan(plan.lines, {"columns": columns}, plan)


def _encrypt(app: App, task: Task) -> Outcome[tuple[Swept, ...]]:
    plan: SealPlan = task.plan.payload  # type: ignore[assignment]  # _plan_encrypt put it there
    workers = int(str(task.args.get("workers") or 1))
    swept = app.fields.encrypt(plan, task.run, task.progress, workers, lambda: save_keys(app, task))
    return Outcome(
        swept,
        objects=tuple(each.at for each in swept),
        counts={**{each.at: each.rows for each in swept}, "left": sum(each.left for each in swept)},
        digests={each.at: each.record.digest for each in swept if each.record.digest},
        facts={each.at: each.record.stage.value for each in swept},
        remember=app.fields.remember(swept),
        ending=Ending.PARTLY if any(each.left for each in swept) else Ending.DONE,
    )


def _verify(app: App, task: Task) -> Outcome[tuple[Check, ...]]:
    checks = app.fields.verify(_columns(task.args), task.progress)
    return Outcome(
        checks,
        objects=tuple(check.at for check in checks),
        counts={
            "opened": sum(check.opened for check in checks),
            "plain": sum(check.plain for check in checks),
            "changed": sum(check.same is False for check in checks),
            **{name: count for name, count in _gone(checks).items() if count},
        },
        facts={check.at: "clean" if check.clean else "findings" for check in checks},
        remember=app.fields.verified(checks),
    )


def _gone(checks: tuple[Check, ...]) -> dict[str, int]:
    """Return the counts that most shops never see."""
    return {
        "shredded": sum(check.shredded for check in checks),
        "untold": sum(check.untold for check in checks),
    }


def _plan_finalize(app: App, args: Mapping[str, Json]) -> Plan:
    """Refuse what is not sealed before a code is asked for."""
    asked = tuple(app.fields.sealed(at)[0].at for at in _columns(args))
    names = asked or tuple(each.at for each in app.fields.status() if each.state in {"sealed", "strict"})
    lines = (
        f"finish {', '.join(names)}: plain text is refused from then on",
        *costs(app.fields.shop),
    )
    return Plan(lines, {"columns": list(names)})


def _finalize(app: App, task: Task) -> Outcome[Finished]:
    done = app.fields.finalize(_columns(task.args), task.progress)
    return Outcome(
        done,
        objects=tuple(check.at for check in done.columns),
        counts={
            **{check.at: check.opened for check in done.columns},
            "places": len(done.remains),
            "unseen": sum(place.unseen for place in done.remains),
        },
        facts={check.at: "strict" for check in done.columns},
        remember=app.fields.finished(done),
    )


def _search(app: App, task: Task) -> Outcome[Found]:
    """Search. The ledger learns where and how many; of the value no more than what the action's keyed digest holds."""
    found = app.fields.search(task.text("column"), task.text("value"))
    return Outcome(found, objects=(found.at,), counts={"rows": len(found.rows), "passed": found.passed})


def _plan_decrypt(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan without row counts: the plan must stay the same while it waits for its approval."""
    found = [app.fields.sealed(at) for at in _columns(args)]
    columns: list[Json] = [{"at": column.at, "id": column.id, "key": record.key_id} for column, record in found]
    return Plan(tuple(f"put {column.at} back into plain text" for column, _ in found), {"columns": columns})


def _decrypt(app: App, task: Task) -> Outcome[tuple[Swept, ...]]:
    swept = app.fields.decrypt(_columns(task.args), task.run, task.progress)
    return Outcome(
        swept,
        objects=tuple(each.at for each in swept),
        counts={**{each.at: each.rows for each in swept}, "left": sum(each.left for each in swept)},
        facts={each.at: each.record.stage.value for each in swept},
        remember=app.fields.remember(swept),
        ending=Ending.PARTLY if any(each.left for each in swept) else Ending.DONE,
    )


ENCRYPT: Action[tuple[Swept, ...]] = Action(
    "fields.encrypt", Level.PRIVILEGED, Activity.DATA_ENCRYPT, _encrypt, _plan_encrypt, holds=("shop",)
)
VERIFY: Action[tuple[Check, ...]] = Action("fields.verify", Level.ROUTINE, Activity.DATA_READ, _verify, holds=("shop",))
FINALIZE: Action[Finished] = Action(
    "fields.finalize", Level.PRIVILEGED, Activity.DATA_UPDATE, _finalize, _plan_finalize, holds=("shop",)
)
DECRYPT: Action[tuple[Swept, ...]] = Action(
    "fields.decrypt", Level.DUAL, Activity.DATA_DECRYPT, _decrypt, _plan_decrypt, holds=("shop",)
)
SEARCH: Action[Found] = Action("fields.search", Level.ROUTINE, Activity.DATA_READ, _search)
"""Finds the rows of a sealed column that hold a value: shows their keys, opens nothing to anybody."""
