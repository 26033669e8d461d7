"""What sealing would do, what would stop working by it, and why it must not. Pure, from facts: nothing is opened here.

A refusal names what would be lost or broken, and the way out. Durations are estimates, and called so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from guard.config import Catalog, Column
from guard.errors import ConfigError, InterlockError
from guard.fields import effects
from guard.fields.facts import Around, Counts, Facts
from guard.fields.measure import about, amount, rewriting, roughly, sealed_size, sweeping
from guard.fields.outlook import Space, space_of, steps
from guard.fields.refusals import refusals, touches
from guard.shop.catalog import Sort
from guard.shop.remains import Remains

__all__ = [
    "ColumnPlan",
    "Counts",
    "Facts",
    "SealPlan",
    "Space",
    "chosen",
    "named",
    "plan_column",
    "plan_of",
    "sealed_size",
]

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


@dataclass(frozen=True, slots=True)
class SealPlan:
    """What `fields encrypt` would do. `missing` is what must exist first: a recovery kit, a backup of state."""

    columns: tuple[ColumnPlan, ...]
    missing: tuple[str, ...] = ()
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
        if self.missing:
            raise InterlockError(
                "\n".join(f"missing: {what}" for what in self.missing),
                hint="sealed data without a way back is lost data; make what is missing, then run this again",
            )


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
    )


def plan_of(found: Sequence[Facts], around: Around, now: datetime, missing: tuple[str, ...] = ()) -> SealPlan:
    """Return the whole plan for columns of one shop."""
    columns = tuple(map(plan_column, found))
    takes = sum((column.takes for column in columns), timedelta())
    space = space_of(found, sum(column.grows for column in columns), around)
    return SealPlan(
        columns,
        missing,
        tuple(steps(found, takes, space)),
        takes,
        space,
        around.backed_up,
        tuple(_backup(around, now)),
        around.remains,
    )


def chosen(catalog: Catalog, columns: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns named, each once; all that the catalog wants sealed when none is.

    Raises ConfigError, with the nearest name, for one the catalog lacks or does not want sealed.
    """
    if not columns:
        if not (wanted := catalog.encrypted()):
            raise ConfigError('the catalog has no column with protect = "encrypt"', hint="guard data scan")
        return wanted
    found = tuple(named(catalog, at) for at in dict.fromkeys(columns))
    for column in found:
        if column not in catalog.encrypted():
            raise ConfigError(
                f'{column.at} does not have protect = "encrypt" in the catalog',
                hint="write it in policies/catalog.toml, then guard data accept --from policies/catalog.toml",
            )
    return found


def named(catalog: Catalog, at: str) -> Column:
    """Return the column "Table.Column" of the catalog. Raises ConfigError, with the nearest name, when it has none."""
    if (column := catalog.find(at)) is not None:
        return column
    known = [each.at for each in catalog.column]
    if "." not in at:
        inside = [each.at for each in catalog.encrypted() if each.table == at]
        hint = f"its columns to be sealed: {', '.join(inside)}" if inside else "write Table.Column"
        raise ConfigError(f"{at} does not name a column", hint=hint)
    near = [each for each in known if each.lower() == at.lower()] or difflib.get_close_matches(at, known, 1)
    hint = f"did you mean {near[0]}?" if near else "guard data catalog lists what is"
    raise ConfigError(f"{at} is not in the catalog", hint=hint)


def _growth(facts: Facts) -> int:
    counts, column = facts.counts, facts.column
    if not counts.plain:
        return 0
    binary = facts.shop.sort is Sort.BINARY
    each = sealed_size(counts.size // counts.plain, tight=column.tight, binary=binary)
    inside = sum(touches(index, column.name) for index in facts.table.indexes)
    tokens = _TOKEN * counts.plain if column.index else 0
    return (each * counts.plain - counts.size) * (1 + inside) + tokens


def _takes(facts: Facts) -> timedelta:
    values = facts.counts.plain * (
        2 if facts.column.index and facts.fresh else 1
    )  # tokens are filled in a sweep of their own
    span = sweeping(facts.dialect, values, facts.seals)
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
    yield f"{column.at}: seal {column.seal} of {column.rows} rows ({column.nulls} NULL, {column.sealed} sealed already)"
    for label, texts in (
        ("does", column.does), ("stops", column.stops), ("refused", column.refusals), ("note", column.notes),
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
