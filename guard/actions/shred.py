"""Shred the data of people, class by class: their key is wiped, and a receipt says what is dead since when.

For one person a code is enough; for several it takes two people and a day. What a law or a hold still wants kept is
refused by name. The
key goes first, in one transaction with the receipt; what else has to be done in live stores is in the receipt, and is
done by this run, the next one or the daily job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from guard import faults
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.receipts import Shown, finish, person_of, records_of, shown, steps_of
from guard.audit.persons import CLASS
from guard.canon import Json, KeyPart, parse_key
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person
from guard.errors import ConfigError, GuardError, InterlockError, UnavailableError
from guard.events import Activity, Ending, Level
from guard.fields.person import rows_of, ways

if TYPE_CHECKING:
    from guard.app import App
    from guard.crypto.vault_store import Receipt
    from guard.shop.rows import Key

_LEDGER = "what the ledger says of them goes too; its entries stay, and nobody is told any more whom they are about"


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was shredded, a receipt for each person and class, and what failed on the way."""

    receipts: tuple[Shown, ...]
    failed: Mapping[str, GuardError]


@dataclass(frozen=True, slots=True)
class _Wanted:
    person: Person
    classes: tuple[str, ...]


def refuse(app: App, kind: str, keys: Sequence[str], classes: Sequence[str]) -> None:
    """Raise what `keys shred` would raise before a code is asked for: ConfigError, InterlockError."""
    _plan(app, {"kind": kind, "keys": list(keys), "classes": list(classes)})


def _plan(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse what has to be kept before a code is asked for."""
    kind = str(args["kind"])
    wanted = _wanted(app, args)
    if reasons := [reason for each in wanted for reason in _reasons(app, each)]:
        raise InterlockError(
            "\n".join(dict.fromkeys(reasons)), hint="nothing was shredded; retract the hold, or wait for the term"
        )
    classes = sorted({name for each in wanted for name in each.classes})
    columns = sorted(record.at for record in records_of(app, kind, classes))
    people = f"one {kind}" if len(wanted) == 1 else f"{len(wanted)} of {kind}"
    lines = (
        f"shred {', '.join(classes)} of {people}: {', '.join(columns) or 'no column'}",
        *((_LEDGER,) if CLASS in classes else ()),
        "what is sealed under these keys is never read again; backups of state hold them until the epoch ends",
    )
    persons: list[Json] = [app.subjects.person_digest(each.person).hex() for each in wanted]
    # Who is written about while the plan waits gets a key of class ledger: what was asked for is the same.
    asked: list[Json] = [name for name in classes if name != CLASS or args.get("classes")]
    facts: Mapping[str, Json] = {"kind": kind, "persons": persons, "classes": asked}
    return Plan(lines, facts, wanted, subject=_pseudonym(app, wanted))


def _pseudonym(app: App, wanted: Sequence[_Wanted]) -> str | None:
    """Return what the ledger calls the one person who is meant. None is drawn for it: that would outlive the shredding.

    Raises UnavailableError, before anything is shredded, where the vault does not tell whom the ledger has to forget.
    """
    if len(wanted) != 1 or app.persons is None:
        return None
    try:
        return app.persons.pseudonym_of(wanted[0].person)
    except UnavailableError:
        if CLASS in wanted[0].classes:
            raise
        return None


def _wanted(app: App, args: Mapping[str, Json]) -> tuple[_Wanted, ...]:
    keys, classes = args["keys"], args.get("classes") or ()
    if isinstance(keys, str) or not isinstance(keys, Sequence) or isinstance(classes, str):
        raise TypeError("arguments keys and classes are lists of texts")
    if not isinstance(classes, Sequence):
        raise TypeError("argument classes is a list of texts")
    named = tuple(map(str, classes))
    people = [person_of(app, str(args["kind"]), str(key)) for key in dict.fromkeys(keys)]
    found = [_Wanted(person, tuple(dict.fromkeys(named)) or _classes(app, person)) for person in people]
    for number, each in enumerate(found, 1):
        alive = app.subjects.classes(each.person)
        known = {receipt.class_ for receipt in app.shredder.receipts(each.person)}
        lost = [name for name in each.classes if name not in {*alive, *known}]
        if lost or not each.classes:
            whom = f"this {each.person.kind}" if len(found) == 1 else f"{each.person.kind} {number} of {len(found)}"
            raise ConfigError(
                f"{whom} has no key for class {lost[0]}" if lost else f"{whom} has no key of their own",
                hint='nothing of theirs was sealed with bind = "subject"; is it the right key?',
            )
    return tuple(found)


def _classes(app: App, person: Person) -> tuple[str, ...]:
    receipts = app.shredder.receipts(person)
    return tuple(sorted({*app.subjects.classes(person), *(each.class_ for each in receipts)}))


def _reasons(app: App, wanted: _Wanted) -> Iterator[str]:
    """Yield why a person's data of a class must be kept. A class already shredded is looked at all the same."""
    (part,) = parse_key(wanted.person.key)
    for name in wanted.classes:
        rows = _rows(app, wanted.person.kind, name, part)
        if name == CLASS and not rows:
            continue  # what laws want of the ledger is in its entries, and these stay
        for reason in app.reasons_to_keep(name, rows):
            yield f"class {name}: {reason}"


def _rows(app: App, kind: str, class_: str, part: KeyPart) -> dict[str, list[Key]]:
    """Return the keys of the rows about a person that hold columns of a class, by table."""
    tables, records = app.shop.tables(fresh=True), records_of(app, kind, (class_,))
    leading = ways(tables, app.catalog, records)
    by_table = {record.at.partition(".")[0]: leading[record.column_id] for record in records}
    with app.shop.read() as connection:
        found = {name: rows_of(app.shop, connection, tables[name], way, part) for name, way in by_table.items()}
    return {name: keys for name, keys in found.items() if keys}


def _shred(app: App, task: Task) -> Outcome[Shredded]:
    wanted: tuple[_Wanted, ...] = task.plan.payload  # type: ignore[assignment]  # _plan put it there
    made: list[Receipt] = []
    pairs = [(each.person, name) for each in wanted for name in each.classes]
    for done, (person, name) in enumerate(pairs):
        task.progress("keys shredded", done, len(pairs))
        receipt = app.shredder.shred(Death(person, name, task.run, steps_of(app), who=task.who.id))
        faults.point("keys.shred.wiped")
        made += [receipt] if receipt else []
    known = [each for want in wanted for each in app.shredder.receipts(want.person) if each.class_ in want.classes]
    left = finish(app, [each for each in known if each.left], task.run)
    after = {each.id: each for each in (*known, *left.receipts)}
    return Outcome(
        Shredded(shown(app, after.values()), left.failed),
        objects=tuple(each.id for each in made),
        counts={"keys": len(made), "rows": sum(after[each.id].rows for each in made)},
        facts={"kind": wanted[0].person.kind, **_failures(left.failed)},
        ending=Ending.PARTLY if left.failed else Ending.DONE,
    )


def _failures(failed: Mapping[str, GuardError]) -> dict[str, str]:
    return {f"failed {name}": type(error).__name__ for name, error in failed.items()}


SHRED: Action[Shredded] = Action("keys.shred", Level.PRIVILEGED, Activity.DATA_DELETE, _shred, _plan, holds=("shop",))
"""Shreds one person's data of one class or more."""

SHRED_MANY: Action[Shredded] = replace(SHRED, name="keys.shred.many", level=Level.DUAL, lasting=True)
"""Shreds the data of several people: another person approves it, it waits a day, and can be cancelled meanwhile."""
