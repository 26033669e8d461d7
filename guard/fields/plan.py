"""What sealing would do, what would stop working by it, and why it must not. Pure, from facts: nothing is opened here.

A refusal names what would be lost or broken, and the way out. Durations are estimates, and called so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from guard.errors import InterlockError
from guard.fields import effects
from guard.fields.facts import Around, Counts, Facts
from guard.fields.lack import Lack, require_none
from guard.fields.measure import about, amount, rewriting, roughly, sealed_size, sweeping
from guard.fields.outlook import Space, space_of, steps
from guard.fields.refusals import refusals, touches
from guard.shop.catalog import Sort
from guard.shop.remains import Remains

__all__ = ["ColumnPlan", "Counts", "Facts", "SealPlan", "Space", "plan_column", "plan_of", "sealed_size"]

_TOKEN = 40
"""Bytes a token takes in the row and in its index, heads included, about."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What sealing one column would do."""

    at: str
    id: int
    rows: int
    seal: int
    """Values to seal now."""
    sealed: int
    """Values that are sealed already."""
    nulls: int
    grows: int
    """Bytes the table and its indexes grow by, about."""
    widen: str | None
    """The type, as SQL, that is changed and given back by decrypting."""
    takes: timedelta = timedelta()
    """How long one worker needs: an estimate."""
    does: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    """What stops working."""
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fill: int = 0
    """Values that get tokens to be found by, in a sweep of its own."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at, each with the grant."""


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What `fields encrypt` would do."""

    columns: tuple[ColumnPlan, ...]
    missing: tuple[str, ...] = ()
    """What must exist first, in words: a recovery kit, a store. A backup of state is made where there is a store."""
    steps: tuple[str, ...] = ()
    """What is done, in this order, and what is left to do then."""
    takes: timedelta = timedelta()
    space: Space | None = None
    backed_up: datetime | None = None
    """When the newest backup of the shop was begun."""
    backup: tuple[str, ...] = ()
    """How old that is, or why it is not known."""
    remains: tuple[Remains, ...] = ()
    """Where else old values lie, and go to while they are sealed."""

    @property
    def refused(self) -> bool:
        """Whether anything is refused."""
        return bool(self.reasons)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason against the plan."""
        found = tuple(f"{column.at}: {reason}" for column in self.columns for reason in column.refusals)
        if self.space and self.space.lacks:
            need = amount(self.space.grows + self.space.meanwhile)
            found += (
                f"sealing takes about {need} on {self.space.disk}, where {amount(self.space.free or 0)} are free",
            )
        return found

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the plan in words, one thing a line."""
        return (
            *(line for column in self.columns for line in _block(column)),
            *_ending(self),
            *(f"missing: {what}" for what in self.missing),
        )

    def require(self) -> None:
        """Raise InterlockError, naming every reason, unless the plan may be carried out."""
        if self.reasons:
            raise InterlockError(
                "\n".join(self.reasons), hint="nothing was changed; guard fields plan shows the whole plan"
            )
        require_none(self.missing)


def plan_column(facts: Facts) -> ColumnPlan:
    """Return what sealing one column would do, with every reason against it."""
    counts = facts.counts
    return ColumnPlan(
        facts.column.at,
        facts.column.id,
        counts.rows,
        counts.plain,
        counts.sealed,
        counts.nulls,
        _growth(facts),
        facts.change.original if facts.change else None,
        _takes(facts),
        effects.does(facts),
        effects.stops(facts),
        refusals(facts),
        effects.notes(facts),
        facts.fill,
        effects.unseen(facts),
    )


def plan_of(found: Sequence[Facts], around: Around, now: datetime, lacks: Sequence[Lack] = ()) -> SealPlan:
    """Return the whole plan for columns of one shop, where `lacks` is not there yet."""
    columns = tuple(map(plan_column, found))
    takes = sum((column.takes for column in columns), timedelta())
    space = space_of(found, sum(column.grows for column in columns), around)
    return SealPlan(
        columns,
        tuple(str(each) for each in lacks if not each.by_backup),
        tuple(steps(found, takes, space, lacks)),
        takes,
        space,
        around.backed_up,
        tuple(_backup(around, now)),
        around.remains,
    )


def _growth(facts: Facts) -> int:
    counts, column = facts.counts, facts.column
    tokens = _TOKEN * (facts.fill or counts.plain) if column.index else 0
    if not counts.plain:
        return tokens
    binary = facts.shop.sort is Sort.BINARY
    each = sealed_size(counts.size // counts.plain, tight=column.tight, binary=binary)
    inside = sum(touches(index, column.name) for index in facts.table.indexes)
    return (each * counts.plain - counts.size) * (1 + inside) + tokens


def _takes(facts: Facts) -> timedelta:
    span = sweeping(facts.dialect, facts.counts.plain + facts.fill, facts.seals)
    if facts.change and facts.change.copies and facts.size and facts.fresh:
        span += rewriting(facts.dialect, facts.size.total)
    return span


def _backup(around: Around, now: datetime) -> Iterator[str]:
    if around.backed_up is not None:
        age = _ago(now - around.backed_up)
        yield f"the newest one of the shop is of {around.backed_up:%Y-%m-%d %H:%M} UTC, {age}"
    if around.backup is not None:
        yield around.backup


def _ago(span: timedelta) -> str:
    return f"{span.days} days old" if span >= timedelta(days=2) else f"{roughly(span)} old"


def _block(column: ColumnPlan) -> Iterator[str]:
    fill = f"; fill in tokens of {column.fill}" if column.fill else ""
    yield (
        f"{column.at}: seal {column.seal} of {column.rows} rows "
        f"({column.nulls} NULL, {column.sealed} sealed already){fill}"
    )
    for label, texts in (
        ("does", column.does), ("stops", column.stops), ("refused", column.refusals), ("note", column.notes),
        ("unseen", tuple(f"could not look at {what}" for what in column.unseen)),
    ):  # fmt: skip
        yield from (f"  {label + ':':<9}{text}" for text in texts)


def _ending(plan: SealPlan) -> Iterator[str]:
    if plan.steps:
        yield "In this order:"
        yield from (f"  {number}. {step}" for number, step in enumerate(plan.steps, 1))
        yield f"Takes {about(plan.takes)}: an estimate, by a sample sealed just now"
    if (space := plan.space) is not None:
        free = (
            f"; {amount(space.free)} are free on {space.disk}"
            if space.free is not None
            else "; what is free is unknown"
        )
        yield (
            f"Space: about {amount(space.grows)} for good, {amount(space.meanwhile)} meanwhile, "
            f"{amount(space.finalize)} while it is finished{free}"
        )
        if space.free is not None and not space.lacks and space.free < space.grows + space.finalize:
            yield "  note:    that is too little for guard fields finalize"
    yield from (f"Backup: {text}" for text in plan.backup)
    if plan.remains:
        yield "Old values also lie here, finalize or not:"
        yield from (f"  {each.line}" for each in plan.remains)
