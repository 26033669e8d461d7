"""Look people up in the ledger, and open what it says of them in clear. Both are recorded before anything is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.receipts import person_of
from guard.audit import Query
from guard.audit.persons import CLASS, Persons, actor
from guard.audit.reveal import Revealed, reveal
from guard.canon import Json, parse_key
from guard.clock import parse
from guard.crypto.subjects import Person
from guard.errors import ConfigError, InterlockError
from guard.events import Activity, Level
from guard.fields.person import Owner, rows_of

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit import Entry

_PSEUDONYM = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger calls somebody."""

    subject: str | None
    """Their pseudonym; None when it names them nowhere, or has forgotten them."""
    forgotten_at: datetime | None
    """When it last forgot them."""


def whom(text: str) -> tuple[str, str] | str:
    """Return the pseudonym in what an operator typed, or kind and key. Raises ConfigError when it is neither."""
    if _PSEUDONYM.fullmatch(text):
        return text
    kind, colon, key = text.partition(":")
    if not colon or not kind or not key:
        raise ConfigError(
            "a subject is a pseudonym of 32 hex characters, or KIND:KEY",
            hint="e.g. customer:4711, where customer is a [subject] of the catalog and 4711 what its key column holds",
        )
    return kind, key


def actors(app: App, text: str) -> tuple[str, str]:
    """Return the principal with this id, and the stand-in of who has this name in the shop."""
    return text, actor(app.keyring, text)


def _plan_find(app: App, args: Mapping[str, Json]) -> Plan:
    person = person_of(app, str(args["kind"]), str(args["key"]))
    return Plan(payload=person, subject=_persons(app).pseudonym_of(person))


def _find(app: App, task: Task) -> Outcome[Found]:
    person: Person = task.plan.payload  # type: ignore[assignment]  # _plan_find put it there
    receipts = [each.at for each in app.shredder.receipts(person) if each.class_ == CLASS]
    found = Found(task.plan.subject, max(receipts, default=None))
    if found == Found(None, None) and not _is_in_shop(app, person):
        raise ConfigError(
            f"no {person.kind} of the shop has this key, and the ledger names nobody by it",
            hint=f"is it what {app.catalog.subject[person.kind].key} of the shop's table holds?",
        )
    word = "yes" if found.subject else "forgotten" if found.forgotten_at else "no"
    return Outcome(found, facts={"kind": person.kind, "found": word})


def _is_in_shop(app: App, person: Person) -> bool:
    subject, (part,) = app.catalog.subject[person.kind], parse_key(person.key)
    with app.shop.read() as connection:
        table = app.shop.table(subject.table)
        return bool(rows_of(app.shop, connection, table, Owner(person.kind, subject, ()), part))


def _plan_reveal(app: App, args: Mapping[str, Json]) -> Plan:
    _persons(app)
    found = app.ledger.list(_query(args), int(str(args["limit"])))
    saying = [each for each in found if each.payload is not None]
    if not saying:
        raise ConfigError(
            "no entry that fits says anything of a person", hint="without --payloads the entries are listed"
        )
    people = sorted({each.subject for each in saying if each.subject})
    many = "1 person" if len(people) == 1 else f"{len(people)} people"
    entries = "1 entry says" if len(saying) == 1 else f"{len(saying)} entries say"
    facts: Mapping[str, Json] = {
        "entries": len(saying), "people": len(people), "first": saying[0].n, "last": saying[-1].n
    }  # fmt: skip
    lines = (f"open what {entries} in clear of {many}: entries {saying[0].n} to {saying[-1].n}",)
    return Plan(lines, facts, found, subject=people[0] if len(people) == 1 else None)


def _reveal(app: App, task: Task) -> Outcome[list[Revealed]]:
    found: tuple[Entry, ...] = task.plan.payload  # type: ignore[assignment]  # _plan_reveal put it there
    revealed = reveal(app.state, _persons(app), found)
    said = [each.entry for each in revealed if each.said is not None]
    counts = {
        "entries": len(said),
        "people": len({each.subject for each in said}),
        "erased": sum(each.erased for each in revealed),
    }
    return Outcome(revealed, counts=counts)


def _query(args: Mapping[str, Json]) -> Query:
    """Return which entries are meant; times are texts, `who` is a list."""
    given = {name: str(value) for name, value in args.items() if value is not None}
    who = args.get("who")
    return Query(
        since=parse(given["since"]) if "since" in given else None,
        until=parse(given["until"]) if "until" in given else None,
        who=tuple(map(str, who)) if isinstance(who, list | tuple) else None,
        what=given.get("what"),
        outcome=given.get("outcome"),
        run=given.get("run"),
        subject=given.get("subject"),
    )


def _persons(app: App) -> Persons:
    if app.persons is None:
        raise InterlockError(
            "the ledger names nobody: there is no vault", hint="runbooks/shredding.md says how to set one up"
        )
    return app.persons


FIND: Action[Found] = Action("audit.find", Level.ROUTINE, Activity.DATA_READ, _find, _plan_find)
"""Looks up what the ledger calls somebody, by their key in the shop."""

REVEAL: Action[list[Revealed]] = Action(
    "audit.reveal", Level.PRIVILEGED, Activity.DATA_READ, _reveal, _plan_reveal, reads=True
)
"""Opens what entries say of people in clear."""
