"""What lets others act: standing approvals for services, approving and refusing what waits."""

from __future__ import annotations

import functools
import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import guard.actions
from guard.access import Approves
from guard.actions._perform import Action, Outcome, Plan, Task, digest_of
from guard.errors import ConfigError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx


@functools.cache
def declared() -> Mapping[str, Action[Any]]:
    """Return every action guard declares as a module's constant, by name. Imports all modules of actions."""
    modules = [
        importlib.import_module(f"guard.actions.{found.name}") for found in pkgutil.iter_modules(guard.actions.__path__)
    ]
    return {each.name: each for module in modules for each in vars(module).values() if isinstance(each, Action)}


def four_eyes(app: App) -> tuple[str, str] | None:
    """Return why dual actions do not take different people here, and what helps; None where they do."""
    needed = app.access.people_needed
    if needed == 1:
        why = "people = 1 below [dual] in policies/access.toml: one person alone does what is dual, a day after asking"
        return why, "people = 2, once there are two who may"
    short = app.access.too_few(sorted(name for name, each in declared().items() if each.level is Level.DUAL))
    if not short:
        return None
    why = f"dual actions take {needed} people, and fewer may ask for and approve: {', '.join(short)}"
    return why, "guard access add, e.g. with --role security; or people = 1 in policies/access.toml"


def _plan_grant(app: App, args: Mapping[str, Json]) -> Plan:
    name = str(args["what"])
    services = app.access.services_for(name)
    policy = _policy(app, name)
    if not services:
        raise ConfigError(
            f"no service may stand in for a person at {name}", hint="policies/access.toml: service.<name>.standing"
        )
    lines = (
        f"let {', '.join(services)} do {name} without a code, as long as its policy stays exactly as it is now",
        f"(the policy has {len(policy)} bytes, SHA-256 {hashlib.sha256(policy).hexdigest()})",
        f"end earlier approvals for {name}",
    )
    return Plan(lines, {"policy": app.access.policy_digest(name, policy)})


def _policy(app: App, name: str) -> bytes:
    """Return the bytes that an approval of the action `name` would cover."""
    known = {each.name: each.standing for each in declared().values() if each.standing is not None}
    standing = known.get(name)
    if standing is None:
        raise ConfigError(
            f"{name} is nothing a standing approval can be given for",
            hint=f"it can for: {', '.join(sorted(known)) or 'nothing'}",
        )
    return standing(app)


def _grant(app: App, task: Task) -> Outcome[str]:
    name, policy = task.text("what"), str(task.plan.facts["policy"])

    def remember(tx: Tx) -> None:
        app.access.give_standing(tx, name, policy, task.who.id)

    return Outcome(policy, objects=(name,), digests={"policy": policy}, remember=remember)


def _plan_approve(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan anew what was asked for, as it would be done now: that is what the approver sees and answers for."""
    asked, what = app.access.asked(str(args["request"]))
    facts = {"request": asked.id}
    if what is None:
        return Plan(facts=facts, approves=Approves(asked.id, asked.action, None))
    action = declared().get(asked.action)
    if action is None:
        raise ConfigError(f"this guard knows no action {asked.action}", hint=f"guard access refuse {asked.id}")
    plan = action.plan(app, what) if action.plan else Plan()
    digest = digest_of(app, action.name, what, plan.facts, asked.asked_by)
    by = next((each.name for each in app.access.people() if each.id == asked.asked_by), "nobody any more")
    head = f"approve that {asked.asked_by} ({by}) does {action.name}, asked for at {asked.asked_at:%Y-%m-%d %H:%M} UTC:"
    return Plan(
        (head, *plan.lines),
        {**facts, "digest": digest},
        subject=plan.subject,
        concerns=plan.concerns,
        approves=Approves(asked.id, asked.action, digest),
    )


def _approve(app: App, task: Task) -> Outcome[str]:
    approves = task.plan.approves
    if approves is None or approves.digest is None:
        raise TypeError("_plan_approve names what it approves")
    return Outcome(
        approves.action,
        objects=(approves.request, approves.action),
        digests={"asked": approves.digest},
        remember=lambda tx: app.access.approve(tx, approves, task.who.id, task.plan.concerns),
    )


def _plan_refuse(app: App, args: Mapping[str, Json]) -> Plan:
    found = app.access.request(str(args["request"]))
    return Plan((f"end {found.id}: {found.action}, {found.kind}, by {found.by}",), {"digest": found.digest})


def _refuse(app: App, task: Task) -> Outcome[None]:
    found = app.access.request(task.text("request"))
    return Outcome(
        None,
        objects=(found.id, found.action),
        facts={"was": found.kind},
        remember=lambda tx: app.access.refuse(tx, found.id, task.who.id),
    )


GRANT: Action[str] = Action("access.grant", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _grant, _plan_grant)
"""Lets services do one action under the policy as it is; its result is the policy's keyed digest."""

APPROVE: Action[str] = Action("access.approve", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _approve, _plan_approve)
"""Approves what somebody else asked for; its result is that action's name. Who might ask for that may do it."""

REFUSE: Action[None] = Action("access.refuse", Level.ROUTINE, Activity.ENTITY_UPDATE, _refuse, _plan_refuse)
"""Cancels what waits or ends a standing approval: no code, for whoever sees that something is wrong must be quick."""
