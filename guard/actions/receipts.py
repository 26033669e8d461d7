"""Receipts of shredding: what is dead since when, and the steps that are left in live stores; each is taken and noted.

The key goes first, in one transaction with the receipt. What else has to be done is done by the same run, the next one
or the daily job.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from guard import faults
from guard.audit.persons import CLASS
from guard.backup.erasures import Effect
from guard.canon import key_bytes, parse_key
from guard.clock import stamp
from guard.crypto.receipts import Death
from guard.crypto.subjects import Person
from guard.errors import ConfigError, GuardError
from guard.events import RunId
from guard.fields import store
from guard.fields.person import parsed, ways
from guard.fields.store import Record, Stage
from guard.fields.unlink import linked, unlink
from guard.shop.progress import Bracket

if TYPE_CHECKING:
    from guard.app import App
    from guard.crypto.vault_store import Receipt

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
class Finished:
    """Receipts after their steps were taken, and the steps that failed."""

    receipts: tuple[Receipt, ...]
    failed: Mapping[str, GuardError]


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
    person = None if kind is None or key is None else person_of(app, kind, key)
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
            ledger = {CLASS} if CLASS in effect.columns else set()
            for class_ in sorted({each.class_ for each in known if each.class_} | ledger):
                yield Person(kind, bytes.fromhex(effect.key)), class_


def _step(app: App, step: str, waiting: Sequence[Receipt], run: RunId) -> Mapping[str, int]:
    if step == LOG:
        ledger = ("ledger_payload", "ledger_person") if any(each.class_ == CLASS for each in waiting) else ()
        app.state.scrub("subject_key", "shred_receipt", *ledger)
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
    records = records_of(app, receipt.kind, (receipt.class_,))
    with app.state.read() as tx:
        indexes = store.indexes(tx)
    if not any(index.column_id == record.column_id for index in indexes for record in records):
        return 0
    places = linked(records, indexes, ways(app.shop.tables(fresh=True), app.catalog, records))
    return unlink(app.shop, Bracket(run, f"shred {receipt.id}"), places, part)


def _effect(app: App, receipt: Receipt) -> Effect:
    subject = app.catalog.subject[receipt.kind]
    columns = sorted(record.at for record in records_of(app, receipt.kind, (receipt.class_,)))
    columns += [CLASS] if receipt.class_ == CLASS else []
    key = app.shredder.who(receipt).key.hex()
    return Effect(effect="shred", table=subject.table, key=key, columns=tuple(columns))


def records_of(app: App, kind: str, classes: Sequence[str]) -> list[Record]:
    """Return the columns that are sealed under keys of persons of a kind, for some classes."""
    with app.state.read() as tx:
        known = store.every(tx)
    return [each for each in known if each.subject == kind and each.class_ in classes and each.stage is not Stage.PLAIN]


def person_of(app: App, kind: str, text: str) -> Person:
    """Return the person of a kind whose key an operator typed. Raises ConfigError when there can be none."""
    subject = app.catalog.subject.get(kind)
    if subject is None:
        near = difflib.get_close_matches(kind, app.catalog.subject, 1)
        known = ", ".join(sorted(app.catalog.subject)) or "none"
        hint = f"did you mean {near[0]}?" if near else f"there are: {known}"
        raise ConfigError(f"the catalog has no subject {kind}", hint=hint)
    return Person(kind, key_bytes((parsed(app.shop.table(subject.table), subject.key, text),)))


def steps_of(app: App) -> tuple[str, ...]:
    """Return the steps that a new receipt has left."""
    return LOG, TOKENS, *(f"{REGISTER}{name}" for name in app.backups.stores)
