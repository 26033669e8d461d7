"""What changes who may do what: taking a person in, standing approvals, refusing what waits."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import guard.actions
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.errors import ConfigError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx


def declared() -> Mapping[str, Action[Any]]:
    """Return every action guard declares as a module's constant, by name. Imports all modules of actions."""
    modules = [
        importlib.import_module(f"guard.actions.{found.name}") for found in pkgutil.iter_modules(guard.actions.__path__)
    ]
    return {each.name: each for module in modules for each in vars(module).values() if isinstance(each, Action)}


def _plan_add(app: App, args: Mapping[str, Json]) -> Plan:
    person = app.access.confirmed(str(args["person"])).person
    line = f"take in {person.name}, OS user {person.os_user}, as {person.role.value}"
    return Plan((line,), {"name": person.name, "os_user": person.os_user, "role": person.role.value})


def _add(app: App, task: Task) -> Outcome[tuple[str, ...]]:
    member = app.access.confirmed(task.text("person"))
    return Outcome(
        member.recovery_codes,
        objects=(member.person.id,),
        facts={"role": member.person.role.value},
        remember=lambda tx: app.access.admit(tx, member),
    )


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


ADD: Action[tuple[str, ...]] = Action("access.add", Level.PRIVILEGED, Activity.ENTITY_CREATE, _add, _plan_add)
"""Takes in a person whom `Access.confirm` has enrolled; its result is their recovery codes."""

GRANT: Action[str] = Action("access.grant", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _grant, _plan_grant)
"""Lets services do one action under the policy as it is; its result is the policy's keyed digest."""

REFUSE: Action[None] = Action("access.refuse", Level.ROUTINE, Activity.ENTITY_UPDATE, _refuse, _plan_refuse)
"""Cancels what waits or ends a standing approval: no code, for whoever sees that something is wrong must be quick."""
