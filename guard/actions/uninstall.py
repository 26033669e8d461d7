"""The way out: the shop's database without guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.events import Activity, Ending, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.fields.uninstall import Uninstalled


def _plan(app: App, _: Mapping[str, Json]) -> Plan:
    """Plan without counts: the plan must stay the same while it waits for its approval, and over an interruption."""
    found = app.fields.leaving.plan()
    found.require()
    return Plan(found.lines, {"columns": sorted(record.column_id for record in app.fields.records())})


def _uninstall(app: App, task: Task) -> Outcome[Uninstalled]:
    done = app.fields.leaving.run(task.run, task.progress)
    return Outcome(
        done,
        objects=done.columns,
        counts={"values": done.values, "dropped": len(done.dropped), "notes": len(done.notes)},
        ending=Ending.DONE,
    )


UNINSTALL: Action[Uninstalled] = Action(
    "shop.uninstall", Level.DUAL, Activity.DATA_DECRYPT, _uninstall, _plan, holds=("shop",)
)
