"""Shred the data of people, class by class: their key is wiped, and a receipt says what is dead since when.

One person needs a code, several a second one a day later. What a law or a hold still wants kept is refused by name. The
key goes first, in one transaction with the receipt; what else has to be done in live stores is in the receipt, and is
done by this run, the next one or the daily job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from guard import faults
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.backup.erasures import Effect
from guard.canon import Json, KeyPart, key_bytes, parse_key
from guard.clock import stamp
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person
from guard.errors import ConfigError, GuardError, InterlockError
from guard.events import Activity, Ending, Level, RunId
from guard.fields import store
from guard.fields.person import parsed, rows_of, ways
from guard.fields.store import Record, Stage
from guard.fields.unlink import linked, unlink
from guard.shop.progress import Bracket

if TYPE_CHECKING:
    from guard.app import App
    from guard.crypto.vault_store import Receipt
    from guard.shop.rows import Key

LOG, TOKENS, REGISTER = "log", "tokens", "register "
_LATE = ", which is over: guard run epoch"
LINKABLE = "blind tokens in old backups of the shop stay linkable until the index key is rotated"


@dataclass(frozen=True, slots=True)
class Shown:
    """A receipt as it is shown. Times are UTC."""

    id: str
    kind: str
    data_class: str
    live_at: datetime
    """Since when nothing in live stores opens it, but for processes that had its key open: those forget it in 60 s."""
    backups_at: datetime | None
    """Since when no backup of state opens it either; None: pending."""
    pending_until: datetime | None
    late: bool
    """Whether that is over, and the key of an epoch is still somewhere."""
    left: tuple[str, ...]
    """What is not done yet in live stores."""
    rows: int
    """Rows of the shop whose blind tokens were replaced."""
    note: str

    @property
    def line(self) -> str:
        """The receipt in one line of words."""
        done = (
            f"in all backups since {stamp(self.backups_at)}"
            if self.backups_at
            else f"in backups pending until {stamp(self.pending_until or self.live_at)}{_LATE * self.late}"
        )
        left = f"; still to do: {', '.join(self.left)}" if self.left else ""
        live = f"dead in live stores since {stamp(self.live_at)}"
        return f"{self.id}: {self.kind}, class {self.data_class}: {live}, {done}{left}"


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was shredded, a receipt for each person and class, and what failed on the way."""

    receipts: tuple[Shown, ...]
    failed: Mapping[str, GuardError]


@dataclass(frozen=True, slots=True)
class Finished:
    """Receipts after their steps were taken, and the steps that failed."""

    receipts: tuple[Receipt, ...]
    failed: Mapping[str, GuardError]


@dataclass(frozen=True, slots=True)
class _Wanted:
    person: Person
    classes: tuple[str, ...]


def shown(app: App, receipts: Iterable[Receipt]) -> tuple[Shown, ...]:
    """Return receipts as they stand now."""
    epochs = {epoch.id: epoch for epoch in app.vault.epochs()}
    out = []
    for each in receipts:
        fate = app.shredder.fate(each, epochs)
        when = (each.at, fate.dead_at, fate.until, fate.late)
        out.append(Shown(each.id, each.kind, each.class_, *when, each.left, each.rows, LINKABLE))
    return tuple(out)


def receipts(app: App, kind: str | None = None, key: str | None = None) -> tuple[Shown, ...]:
    """Return all receipts, or those of one person."""
    person = None if kind is None or key is None else _person(app, kind, key)
    return shown(app, app.shredder.receipts(person))


def finish(app: App, found: Sequence[Receipt], run: RunId) -> Finished:
    """Take the steps that are left for receipts; each is noted once it is done. What fails is named, and stays."""
    failed: dict[str, GuardError] = {}
    now = {each.id: each for each in found}
    for step in dict.fromkeys(step for each in found for step in each.left):
        waiting = [each for each in now.values() if step in each.left]
        try:
            rows = _step(app, step, waiting, run)
        except GuardError as error:
            failed[step] = error
            continue
        faults.point("keys.shred.step")
        now.update({each.id: each for each in app.shredder.did(waiting, step, rows)})
    return Finished(tuple(now.values()), failed)


def again(app: App) -> list[Death]:
    """Return what the stores' registers say was shredded, but lives: state came from a backup of before.

    A store that does not answer is passed over; each register holds all.
    """
    found: dict[tuple[Person, str], datetime] = {}
    for name in app.backups.stores:
        try:
            entries = app.backups.register(name).read()
        except GuardError:
            continue
        for entry in entries:
            for effect in entry.effects:
                found.update(dict.fromkeys(_shredded_by(app, effect), entry.at))
    return [
        Death(person, class_, "", (LOG, TOKENS), at)
        for (person, class_), at in found.items()
        if app.shredder.lives(person, class_, at)
    ]


def _shredded_by(app: App, effect: Effect) -> Iterator[tuple[Person, str]]:
    """Yield the persons and classes an effect of the register shredded."""
    if effect.effect != "shred":
        return
    for kind, subject in app.catalog.subject.items():
        if subject.table == effect.table:
            with app.state.read() as tx:
                known = [each for each in store.every(tx) if each.subject == kind and each.at in effect.columns]
            for class_ in sorted({each.class_ for each in known if each.class_}):
                yield Person(kind, bytes.fromhex(effect.key)), class_


def _step(app: App, step: str, waiting: Sequence[Receipt], run: RunId) -> Mapping[str, int]:
    if step == LOG:
        app.state.scrub("subject_key", "shred_receipt")
        return {}
    if step == TOKENS:
        return {each.id: _unlink(app, each, run) for each in waiting}
    _tell(app, step.removeprefix(REGISTER), waiting)
    return {}


def _tell(app: App, name: str, waiting: Sequence[Receipt]) -> None:
    """Enter receipts into a store's register, an entry a run, each with the time its first key was wiped.

    Not with the time of now: a key that was made since then is about somebody who came back, and must not be taken for
    the shredded one. So a store that learns late holds what the others hold. What it was told is not told again.
    """
    register = app.backups.register(name)
    known = {(each.at, each.effects) for each in register.read()}
    by_run: dict[str, list[Receipt]] = {}
    for each in sorted(waiting, key=lambda each: (each.at, each.id)):
        by_run.setdefault(each.run, []).append(each)
    for told in by_run.values():
        at, effects = told[0].at, tuple(_effect(app, each) for each in told)
        if (at, effects) not in known:
            register.append(effects, at)


def _unlink(app: App, receipt: Receipt, run: RunId) -> int:
    (part,) = parse_key(app.shredder.who(receipt).key)
    records = _records(app, receipt.kind, (receipt.class_,))
    with app.state.read() as tx:
        indexes = store.indexes(tx)
    if not any(index.column_id == record.column_id for index in indexes for record in records):
        return 0
    places = linked(records, indexes, ways(app.shop.tables(fresh=True), app.catalog, records))
    return unlink(app.shop, Bracket(run, f"shred {receipt.id}"), places, part)


def _effect(app: App, receipt: Receipt) -> Effect:
    subject = app.catalog.subject[receipt.kind]
    columns = sorted(record.at for record in _records(app, receipt.kind, (receipt.class_,)))
    key = app.shredder.who(receipt).key.hex()
    return Effect(effect="shred", table=subject.table, key=key, columns=tuple(columns))


def _records(app: App, kind: str, classes: Sequence[str]) -> list[Record]:
    """Return the columns that are sealed under keys of persons of a kind, for some classes."""
    with app.state.read() as tx:
        known = store.every(tx)
    return [each for each in known if each.subject == kind and each.class_ in classes and each.stage is not Stage.PLAIN]


def _plan(app: App, args: Mapping[str, Json]) -> Plan:
    """Plan; refuse what has to be kept before a code is asked for."""
    kind = str(args["kind"])
    wanted = _wanted(app, args)
    if reasons := [reason for each in wanted for reason in _reasons(app, each)]:
        raise InterlockError(
            "\n".join(dict.fromkeys(reasons)), hint="nothing was shredded; retract the hold, or wait for the term"
        )
    classes = sorted({name for each in wanted for name in each.classes})
    columns = sorted(record.at for record in _records(app, kind, classes))
    people = f"one {kind}" if len(wanted) == 1 else f"{len(wanted)} of {kind}"
    lines = (
        f"shred {', '.join(classes)} of {people}: {', '.join(columns) or 'no column'}",
        "what is sealed under these keys is never read again; backups of state hold them until the epoch ends",
    )
    persons: list[Json] = [app.subjects.person_digest(each.person).hex() for each in wanted]
    return Plan(lines, {"kind": kind, "persons": persons, "classes": list(classes)}, wanted)


def _wanted(app: App, args: Mapping[str, Json]) -> tuple[_Wanted, ...]:
    keys, classes = args["keys"], args.get("classes") or ()
    if isinstance(keys, str) or not isinstance(keys, Sequence) or isinstance(classes, str):
        raise TypeError("arguments keys and classes are lists of texts")
    if not isinstance(classes, Sequence):
        raise TypeError("argument classes is a list of texts")
    named = tuple(map(str, classes))
    people = [_person(app, str(args["kind"]), str(key)) for key in dict.fromkeys(keys)]
    found = [_Wanted(person, tuple(dict.fromkeys(named)) or _classes(app, person)) for person in people]
    for number, each in enumerate(found, 1):
        alive = app.subjects.classes(each.person)
        known = {receipt.class_ for receipt in app.shredder.receipts(each.person)}
        if lost := [name for name in each.classes if name not in {*alive, *known}] or (not each.classes and ["any"]):
            raise ConfigError(
                f"the {each.person.kind} named {number}. has no key for class {lost[0]}",
                hint='nothing of theirs was sealed with bind = "subject"; is it the right key?',
            )
    return tuple(found)


def _classes(app: App, person: Person) -> tuple[str, ...]:
    receipts = app.shredder.receipts(person)
    return tuple(sorted({*app.subjects.classes(person), *(each.class_ for each in receipts)}))


def _person(app: App, kind: str, text: str) -> Person:
    subject = app.catalog.subject.get(kind)
    if subject is None:
        known = ", ".join(sorted(app.catalog.subject)) or "none"
        raise ConfigError(f"the catalog has no subject {kind}", hint=f"there are: {known}")
    return Person(kind, key_bytes((parsed(app.shop.table(subject.table), subject.key, text),)))


def _reasons(app: App, wanted: _Wanted) -> Iterator[str]:
    """Yield why a person's data of a class must be kept. A class already shredded is looked at all the same."""
    (part,) = parse_key(wanted.person.key)
    for name in wanted.classes:
        for reason in app.reasons_to_keep(name, _rows(app, wanted.person.kind, name, part)):
            yield f"class {name}: {reason}"


def _rows(app: App, kind: str, class_: str, part: KeyPart) -> dict[str, list[Key]]:
    """Return the keys of the rows about a person that hold columns of a class, by table."""
    tables, records = app.shop.tables(fresh=True), _records(app, kind, (class_,))
    leading = ways(tables, app.catalog, records)
    by_table = {record.at.partition(".")[0]: leading[record.column_id] for record in records}
    with app.shop.read() as connection:
        found = {name: rows_of(app.shop, connection, tables[name], way, part) for name, way in by_table.items()}
    return {name: keys for name, keys in found.items() if keys}


def _shred(app: App, task: Task) -> Outcome[Shredded]:
    wanted: tuple[_Wanted, ...] = task.plan.payload  # type: ignore[assignment]  # _plan put it there
    made: list[Receipt] = []
    for done, (person, name) in enumerate([(each.person, name) for each in wanted for name in each.classes]):
        task.progress("keys shredded", done)
        receipt = app.shredder.shred(Death(person, name, task.run, _steps(app)))
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


def _steps(app: App) -> tuple[str, ...]:
    return LOG, TOKENS, *(f"{REGISTER}{name}" for name in app.backups.stores)


def _failures(failed: Mapping[str, GuardError]) -> dict[str, str]:
    return {f"failed {name}": type(error).__name__ for name, error in failed.items()}


SHRED: Action[Shredded] = Action("keys.shred", Level.PRIVILEGED, Activity.DATA_DELETE, _shred, _plan, holds=("shop",))
"""Shreds one person's data of one class or more."""

SHRED_MANY: Action[Shredded] = replace(SHRED, name="keys.shred.many", level=Level.DUAL)
"""Shreds the data of several people: it waits a day, and can be cancelled meanwhile."""
