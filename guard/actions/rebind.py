"""What guard does when the shop changed primary keys: bind sealed values to the keys their rows have now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.events import Activity, Ending, Level
from guard.fields.rebind_plan import Wanted

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.fields.rebind import Rebound
    from guard.fields.rebind_plan import RebindPlan


def _plan(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for."""
    was, file = args.get("was") or (), args.get("map")
    if isinstance(was, str) or not isinstance(was, list | tuple):
        raise TypeError("argument was is a list of texts")
    wanted = Wanted(str(args["table"]), tuple(map(str, was)), Path(str(file)) if file else None)
    found = app.fields.rebinding.plan(wanted)
    facts: dict[str, Json] = {
        "columns": [record.column_id for record in found.records],
        "key": list(found.key),
        "was": list(found.former.columns),
        "map": app.digest("rebind map", found.file) if found.file is not None else None,
    }
    return Plan(found.lines, facts, found)


def _rebind(app: App, task: Task) -> Outcome[tuple[Rebound, ...]]:
    plan: RebindPlan = task.plan.payload  # type: ignore[assignment]  # _plan put it there
    rebinding = app.fields.rebinding
    done = rebinding.run(plan, task.run, task.progress)
    return Outcome(
        done,
        objects=plan.columns,
        counts={
            **{each.at: each.rows for each in done},
            "done before": sum(each.done for each in done),
            "unopened": sum(each.broken for each in done),
        },
        digests={each.at: each.record.digest for each in done if each.record.digest},
        remember=rebinding.remember(done),
        ending=Ending.PARTLY if any(each.broken for each in done) else Ending.DONE,
    )


REBIND: Action[tuple[Rebound, ...]] = Action(
    "fields.rebind", Level.PRIVILEGED, Activity.DATA_UPDATE, _rebind, _plan, holds=("shop",)
)
