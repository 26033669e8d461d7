"""What changes an incident. The ledger gets its id and its times; title and reason only within a keyed digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guard import canon
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.clock import stamp
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.breach import Opening, Record
    from guard.canon import Json


def _plan_open(app: App, args: Mapping[str, Json]) -> Plan:
    return Plan(("open an incident and start its clocks",), payload=app.breaches.opening(args))


def _open(app: App, task: Task) -> Outcome[str]:
    opening: Opening = task.plan.payload  # type: ignore[assignment]  # what _plan_open put there
    record = app.breaches.open(opening, task.who.id)
    return _written(app, record, {"detected": stamp(opening.detected), "aware": stamp(opening.aware)})


def _plan_correct(app: App, args: Mapping[str, Json]) -> Plan:
    was = app.breaches.find(str(args["incident"])).aware
    return Plan((f"set aware to {args['aware']}; it was {stamp(was)}",), {"was": stamp(was)})


def _correct(app: App, task: Task) -> Outcome[str]:
    record = app.breaches.correct(task.text("incident"), task.text("aware"), task.text("reason"), task.who.id)
    return _written(app, record, {"aware": stamp(record.aware)})


def _written(app: App, record: Record, facts: Mapping[str, str]) -> Outcome[str]:
    digest = app.digest("breach.record", canon.json_bytes(record.as_json()))
    return Outcome(
        record.incident,
        objects=(record.incident,),
        digests={"record": digest},
        facts=facts,
        remember=lambda tx: app.breaches.remember(tx, record),
    )


OPEN = Action("breach.open", Level.ROUTINE, Activity.INCIDENT, _open, plan=_plan_open)
"""Open an incident: title, detected, aware, reason, occurred (or None). Its result is the incident's id."""

AWARE = Action("breach.aware", Level.PRIVILEGED, Activity.INCIDENT, _correct, plan=_plan_correct)
"""Correct since when we knew: incident, aware, reason. Privileged, for it moves what the law counts from."""
