"""What becomes of people: taking them in, disabling, enabling, and a new second factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.errors import ConfigError, DeniedError
from guard.events import Activity, Level, PrincipalId

if TYPE_CHECKING:
    from guard.access import Held
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx

Codes = tuple[str, ...]
"""Recovery codes, to be shown this once."""


def _plan_add(app: App, args: Mapping[str, Json]) -> Plan:
    member = app.access.confirmed(str(args["person"]))
    person = member.person
    line = f"take in {person.name}, OS user {person.os_user}, as {person.role.value}"
    later = () if member.factor else ("let them enrol an authenticator themselves within 24 hours",)
    facts = {"name": person.name, "os_user": person.os_user, "role": person.role.value, "later": bool(later)}
    return Plan((line, *later), facts)


def _add(app: App, task: Task) -> Outcome[Codes]:
    member = app.access.confirmed(task.text("person"))
    return Outcome(
        member.recovery_codes,
        objects=(member.person.id,),
        facts={"role": member.person.role.value, **({} if member.factor else {"factor": "none yet"})},
        remember=lambda tx: app.access.admit(tx, member),
    )


def _plan_disable(app: App, args: Mapping[str, Json]) -> Plan:
    person = app.access.somebody(str(args["person"]))
    if not person.enabled:
        raise ConfigError(f"{person.id} is disabled already", hint="`guard access enable` lets them in again")
    app.access.require_other_owner(person.id)
    lines = (
        f"turn {person.name} ({person.id}, {person.role.value}) away from now on",
        _what_ends(app.access.held(person.id)),
        "what they have begun goes on to its end",
    )
    return Plan(lines, {"person": person.id}, concerns=person.id)


def _what_ends(held: Held) -> str:
    counted = {
        "codes that still allow something": held.grants,
        "requests they made": held.requests,
        "approvals of requests": held.approved,
        "standing approvals": held.approvals,
    }
    found = ", ".join(f"{what}: {count}" for what, count in counted.items() if count)
    return f"end what they hold: {found or 'nothing'}"


def _disable(app: App, task: Task) -> Outcome[None]:
    who = _concerned(task)
    return Outcome(
        None,
        objects=(who,),
        counts=asdict(app.access.held(who)),
        remember=lambda tx: app.access.disable(tx, who, task.who.id),
    )


def _concerned(task: Task) -> PrincipalId:
    who = task.plan.concerns
    if who is None:
        raise TypeError("this plan concerns nobody")
    return who


def _plan_enable(app: App, args: Mapping[str, Json]) -> Plan:
    person = app.access.somebody(str(args["person"]))
    late = app.access.is_late(person.id)
    if person.enabled and not late:
        raise ConfigError(f"{person.id} is enabled already", hint="`guard access list` shows how they stand")
    what = "enrol an authenticator themselves within 24 hours" if late else "in again, with the second factor they had"
    line = f"let {person.name} ({person.id}, {person.role.value}) {what}"
    return Plan((line,), {"person": person.id, "role": person.role.value, "late": late}, concerns=person.id)


def _enable(app: App, task: Task) -> Outcome[None]:
    who, late = _concerned(task), bool(task.plan.facts["late"])
    return Outcome(
        None,
        objects=(who,),
        facts={"factor": "none yet"} if late else {},
        remember=lambda tx: app.access.enable(tx, who, late=late),
    )


def _plan_reset(app: App, args: Mapping[str, Json]) -> Plan:
    person = app.access.somebody(str(args["person"]))
    app.access.require_other_owner(person.id)
    lines = (
        f"take the second factor and all recovery codes of {person.name} ({person.id}, {person.role.value}) away",
        _what_ends(replace(app.access.held(person.id), approvals=0)),
        f"let the OS user {person.os_user} enrol a new authenticator within 24 hours",
    )
    return Plan(lines, {"person": person.id, "os_user": person.os_user}, concerns=person.id)


def _reset(app: App, task: Task) -> Outcome[None]:
    who, held = _concerned(task), app.access.held(_concerned(task))
    return Outcome(
        None,
        objects=(who,),
        counts={"grants": held.grants, "requests": held.requests, "approved": held.approved},
        remember=lambda tx: app.access.reset(tx, who, task.who.id),
    )


def _plan_enrol(app: App, args: Mapping[str, Json]) -> Plan:
    person = app.access.confirmed(str(args["person"])).person
    return Plan((f"take codes of {person.name} from the new authenticator alone",), {"person": person.id})


def _enrol(app: App, task: Task) -> Outcome[Codes]:
    member = app.access.confirmed(task.text("person"))
    if member.person.id != task.who.id:
        raise DeniedError("everybody enrols their own authenticator", hint="run it as the OS user it is for")
    return Outcome(
        member.recovery_codes,
        objects=(member.person.id,),
        remember=lambda tx: app.access.renew(tx, member),
        after=lambda app: app.access.end_renewal(member.person.id),
    )


_RENEWED = {
    "authenticator": "let you enrol a new authenticator now; until then the old one counts",
    "recovery codes": "make new recovery codes for you; the old ones end",
}


def _plan_renew(_: App, args: Mapping[str, Json]) -> Plan:
    what = str(args["what"])
    return Plan((_RENEWED[what],), {"what": what})


def _renew(app: App, task: Task) -> Outcome[Codes]:
    who, what = task.who.id, task.text("what")
    if what == "authenticator":
        return Outcome((), objects=(who,), facts={"what": what}, after=lambda app: app.access.open_renewal(who))
    codes, digests = app.access.new_recovery_codes(who)

    def remember(tx: Tx) -> None:
        app.access.renew_recovery(tx, who, digests)

    return Outcome(codes, objects=(who,), facts={"what": what}, remember=remember)


ADD: Action[Codes] = Action("access.add", Level.PRIVILEGED, Activity.ENTITY_CREATE, _add, _plan_add)
"""Takes in a person whom `Access.confirm` has enrolled, or `expect` without a second factor; gives recovery codes."""

DISABLE: Action[None] = Action("access.disable", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _disable, _plan_disable)
"""Turns a person away, and ends what they hold."""

ENABLE: Action[None] = Action("access.enable", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _enable, _plan_enable)
"""Lets a person in again, or enrol after all who was taken in without an authenticator and let a day pass."""

RESET: Action[None] = Action("access.reset", Level.DUAL, Activity.ENTITY_UPDATE, _reset, _plan_reset)
"""Takes a person's second factor away: others do that together, for codes of the person's own are no more."""

ENROL: Action[Codes] = Action("access.enrol", Level.ROUTINE, Activity.ENTITY_UPDATE, _enrol, _plan_enrol)
"""Puts the authenticator that `Access.confirm` has proven in the place of the caller's; gives recovery codes.

No code is asked for: a reset, an owner who took the person in, or `RENEW` has opened it.
"""

RENEW: Action[Codes] = Action("access.renew", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _renew, _plan_renew)
"""With the old code: opens an enrolment in this process, or gives new recovery codes. Each does it for themselves."""
