"""What the ledger says, put in order: entries joined to acts, acts found by name, columns with their state.

Pure: entries come in as plain values and nothing else is asked. What no entry says is not known here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Protocol

from guard.events import Ending


class EntryView(Protocol):
    """What a report reads of an entry of the ledger."""

    @property
    def n(self) -> int:
        """Its number, from 0 without gaps."""
        ...

    @property
    def at(self) -> datetime:
        """When it was written, aware."""
        ...

    @property
    def who(self) -> str:
        """The principal's id."""
        ...

    @property
    def what(self) -> str:
        """The action's name, such as "fields.encrypt"."""
        ...

    @property
    def run(self) -> str:
        """Joins the entries of one performed action."""
        ...

    @property
    def outcome(self) -> Ending:
        """How the action stands."""
        ...

    @property
    def objects(self) -> Sequence[str]:
        """Names of tables, columns, keys, snapshots."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers of rows, bytes, files."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Short words: a reason, a state, an origin."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """Hex digests."""
        ...


@dataclass(frozen=True, slots=True)
class Act:
    """One performed action: the entries of one run id, in order."""

    entries: tuple[EntryView, ...]

    @property
    def first(self) -> EntryView:
        """The entry it began with."""
        return self.entries[0]

    @property
    def last(self) -> EntryView:
        """The entry that says how it stands."""
        return self.entries[-1]

    @property
    def what(self) -> str:
        """The action's name."""
        return self.first.what

    @property
    def who(self) -> str:
        """Who acted."""
        return self.first.who

    @property
    def outcome(self) -> Ending:
        """How it stands; BEGUN means that no end was recorded."""
        return self.last.outcome

    @property
    def done(self) -> bool:
        """Whether it was carried out in full."""
        return self.outcome is Ending.DONE

    @property
    def refused(self) -> bool:
        """Whether it never began: denied, or the gate itself failed."""
        return self.outcome in {Ending.DENIED, Ending.GATE_FAILED}

    @property
    def unclear(self) -> bool:
        """Whether it began and broke off without naming what it had touched."""
        return not self.done and not self.refused and not self.last.objects

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its entries."""
        return tuple(entry.n for entry in self.entries)

    def names(self, name: str) -> bool:
        """Whether one of its entries names the object `name`."""
        return any(name in entry.objects for entry in self.entries)


def acts(entries: Iterable[EntryView]) -> tuple[Act, ...]:
    """Join entries by run id and action, in the order in which they began."""
    runs: dict[tuple[str, str], list[EntryView]] = {}
    for entry in entries:
        runs.setdefault((entry.run, entry.what), []).append(entry)
    return tuple(Act(tuple(each)) for each in runs.values())


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Evidence:
    """All entries up to a time that are at hand, and the part of them that a report is about.

    `entries` are in the order of their numbers; `at` is the time the report speaks for; its period begins at `since`.
    Below the number `minimum` retention has removed some.
    """

    entries: tuple[EntryView, ...]
    at: datetime
    since: datetime = EPOCH
    minimum: int = 0

    @cached_property
    def whole_since(self) -> datetime | None:
        """The time of the first entry from which on all are at hand; None when retention has removed none."""
        return next((each.at for each in self.entries if each.n >= self.minimum), self.at) if self.minimum else None

    @property
    def rekeys(self) -> tuple[EntryView, ...]:
        """The entries that changed the ledger's key."""
        return tuple(each for each in self.entries if each.what == REKEY)

    @cached_property
    def all_acts(self) -> tuple[Act, ...]:
        """What was done since the ledger began."""
        return acts(self.entries)

    @cached_property
    def period(self) -> tuple[Act, ...]:
        """What was done in the report's period, or reached into it."""
        return tuple(act for act in self.all_acts if act.last.at >= self.since)

    def acts(self, *names: str, ever: bool = False) -> tuple[Act, ...]:
        """Return acts of these names in the period, or `ever`; "fields.*" stands for all that begin with "fields."."""
        return tuple(act for act in (self.all_acts if ever else self.period) if matches(act.what, names))

    def last(self, *names: str, ever: bool = False, done: bool = False) -> Act | None:
        """Return the newest act of these names, only those carried out when `done`; None when there is none."""
        found = [act for act in self.acts(*names, ever=ever) if act.done or not done]
        return max(found, key=lambda act: act.last.n, default=None)

    def column(self, at: str) -> "ColumnState":
        """Return how the column "Table.Column" stands by what the ledger says of it."""
        said = [act for act in self.acts(*SEALS, *OPENS, *CHECKS, ever=True) if act.names(at) and not act.refused]
        said.sort(key=lambda act: act.last.n)
        changed = [act for act in said if act.what not in CHECKS]
        checked = [act for act in said if act.what in CHECKS]
        unclear = [act for act in self.acts(*OPENS, ever=True) if act.unclear]
        return ColumnState(
            at, changed[-1] if changed else None, checked[-1] if checked else None, unclear[-1] if unclear else None
        )


SEALS = ("fields.encrypt", "fields.rekey", "fields.rebind", "fields.finalize")
OPENS = ("fields.decrypt",)
CHECKS = ("fields.verify",)
REKEY = "audit.rekey"
BEATS = ("audit.heartbeat", "audit.anchor")
"""Acts that show that guard was alive, hour by hour."""

STAGES = {
    "plain": "opened again, plain text",
    "sealing": "sealing was begun, not finished",
    "sealed": "sealed",
    "strict": "sealed; plain text is refused",
    "opening": "opening was begun, not finished",
}
"""The stages that acts on columns record as facts, in words."""


@dataclass(frozen=True, slots=True)
class ColumnState:
    """The newest act that sealed or opened a column, the newest that checked it, and what throws doubt on both."""

    at: str
    changed: Act | None
    checked: Act | None
    unclear: Act | None = None
    """The newest opening that broke off without saying which columns it had touched."""

    @property
    def stage(self) -> str | None:
        """The stage the newest act left it in; None when nothing is known."""
        if self.changed is None:
            return None
        if (told := self.changed.last.facts.get(self.at)) is not None:
            return told
        if self.changed.what in SEALS:
            return "sealed" if self.changed.done else "sealing"
        return "plain" if self.changed.done else "opening"

    @property
    def sealed(self) -> bool:
        """Whether the last that was done to it left every value sealed, and nothing after it throws doubt on that."""
        return self.stage in {"sealed", "strict"} and not self.doubtful

    @property
    def doubtful(self) -> bool:
        """Whether an opening broke off after the last change, and no clean check came after it."""
        settled = [act.last.n for act in (self.changed, self.checked if self.clean else None) if act]
        return self.unclear is not None and self.unclear.last.n > max(settled, default=-1)

    @property
    def clean(self) -> bool:
        """Whether the newest check was done and found nothing wrong with it."""
        check = self.checked
        return check is not None and check.done and check.last.facts.get(self.at, "clean") == "clean"

    @property
    def word(self) -> str:
        """The state in words."""
        if self.doubtful and self.unclear is not None:
            return f"in doubt: an opening ended as {self.unclear.outcome} (entry {self.unclear.last.n}); verify it"
        return "no entry says that it was sealed" if self.stage is None else STAGES.get(self.stage, self.stage)


def matches(what: str, names: Collection[str]) -> bool:
    """Tell whether an action is one of `names`; "fields.*" stands for all that begin with "fields."."""
    return any(what == name or (name.endswith(".*") and what.startswith(name[:-1])) for name in names)
