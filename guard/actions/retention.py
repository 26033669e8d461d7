"""What guard does with rows that have outlived their purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.privacy import Retained, RetentionPlan


def _plan_run(app: App, args: Mapping[str, Json]) -> Plan:
    """Refuse a plan that is not what is due, before a code is asked for."""
    plan = app.retention.planned(str(args["plan"]))
    return Plan(plan.lines, {"plan": plan.digest, "rows": plan.rows}, plan, plan.over)


def _run(app: App, task: Task) -> Outcome[Retained]:
    plan: RetentionPlan = task.plan.payload  # type: ignore[assignment]  # _plan_run put it there
    done = app.retention.run(plan, task.run, task.progress)
    return Outcome(
        done,
        objects=tuple(dict.fromkeys(rule.table for rule in plan.rules)),
        counts={
            **done.rows,
            **{f"with them: {table}": count for table, count in done.children.items()},
            "passed": done.passed,
            "held": sum(rule.held for rule in plan.rules),
            "undated": sum(rule.undated for rule in plan.rules),
        },
        digests={"plan": plan.digest, "policy": plan.basis},
        facts={"resumed": "yes" if plan.resumed else "no"},
        remember=app.retention.remember(plan, task.run, done),
    )


RUN: Action[Retained] = Action(
    "retention.run",
    Level.PRIVILEGED,
    Activity.DATA_UPDATE,
    _run,
    _plan_run,
    holds=("shop",),
    standing=lambda app: app.retention.policy_bytes(),
)
