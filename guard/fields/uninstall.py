"""The way out: everything in plain text again, and nothing of guard left in the shop's database.

It may end anywhere and be begun again. It does not touch guard's own folder: backups from before need what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard import faults
from guard.errors import InterlockError
from guard.events import Progress, RunId, silent
from guard.fields import store
from guard.fields.count import count
from guard.fields.store import Filling, IndexRecord, Record, Stage
from guard.shop import Shop
from guard.shop.leftovers import Leftover, drop, leftovers, statement

if TYPE_CHECKING:
    from guard.fields import Fields


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column that guard changed: how many of its values are sealed now, and the type it gets back."""

    at: str
    stage: Stage
    sealed: int
    original: str | None


@dataclass(frozen=True, slots=True)
class UninstallPlan:
    """What guard put into the shop's database, and what taking it out does."""

    columns: tuple[Sealed, ...]
    things: tuple[Leftover, ...]
    halves: tuple[str, ...] = ()
    """What was begun and has to be brought to an end first, each with the way."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the plan in words."""
        return (
            *(_line(column) for column in self.columns),
            *(f"drop the {thing}" for thing in self.things),
            "leave guard's own folder as it is: backups from before open with what is in it",
            *(f"refused: {half}" for half in self.halves),
        )

    def require(self) -> None:
        """Raise InterlockError while something is half done."""
        if self.halves:
            raise InterlockError("\n".join(self.halves), hint="nothing was changed; bring these to an end first")


@dataclass(frozen=True, slots=True)
class Uninstalled:
    """What was taken out. `notes`: what could not be given back or dropped, each with the reason or the way."""

    columns: tuple[str, ...]
    values: int
    """Values that were opened by this run."""
    dropped: tuple[Leftover, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaving:
    """Takes guard out of the shop of `fields`."""

    fields: Fields

    def plan(self) -> UninstallPlan:
        """Return what there is to take out. Changes nothing."""
        shop = self.fields.shop
        shop.tables(fresh=True)
        with self.fields.state.read() as tx:
            indexes = store.indexes(tx)
        records = self._sealed()
        halves = [half for record in records if (half := next(_halves(shop, record, indexes), None))]
        columns = [Sealed(each.at, each.stage, self._count(each), each.original_type) for each in records]
        return UninstallPlan(tuple(columns), leftovers(shop), tuple(halves))

    def run(self, run: RunId, progress: Progress = silent) -> Uninstalled:
        """Open every sealed column, drop all that is guard's, and look again.

        Goes on where an interrupted run stopped. Raises InterlockError for what is half done, for values that the shop
        keeps sealing, and for what comes back; TamperedError when a value does not open.
        """
        self.plan().require()
        fields, values, notes = self.fields, 0, list[str]()
        names = tuple(record.at for record in self._sealed())
        for name in names:
            [swept] = fields.decrypt((name,), run, progress)
            fields.state.write(fields.remember((swept,)))
            faults.point("fields.uninstall.opened")
            if swept.left:
                raise InterlockError(
                    f"{name}: {swept.left} values are still sealed",
                    hint="end the processes of the shop that seal, then run guard uninstall again",
                )
            values += swept.rows
            notes += [swept.note] if swept.note else []
        dropped, kept = clear(fields.shop, progress)
        return Uninstalled(names, values, dropped, (*notes, *kept))

    def _sealed(self) -> tuple[Record, ...]:
        return tuple(record for record in self.fields.records() if record.stage is not Stage.PLAIN)

    def _count(self, record: Record) -> int:
        table_name, _, name = record.at.partition(".")
        table = self.fields.shop.tables().get(table_name)
        if table is None or table.find(name) is None:
            return 0
        with self.fields.shop.read() as connection:
            return count(self.fields.shop, connection, table, name).sealed


def _halves(shop: Shop, record: Record, indexes: Sequence[IndexRecord]) -> Iterator[str]:
    """Yield what keeps a column from being opened now; the first is enough."""
    table_name, _, name = record.at.partition(".")
    table = shop.tables().get(table_name)
    if table is None or table.find(name) is None:
        yield f"{record.at} is sealed, but the shop has no such column; renamed? guard data rename {record.at} NEW"
    elif record.binding == "row" and set(record.key_columns) != set(table.key):
        yield f"{record.at} is bound to a key that {table_name} no longer has; guard fields rebind {table_name}"
    elif record.stage in {Stage.INDEXING, Stage.SEALING}:
        yield (
            f"{record.at} is half sealed; guard fields encrypt {record.at} goes on where it stopped, "
            f"guard fields decrypt {record.at} goes back"
        )
    elif record.stage is not Stage.OPENING and any(
        index.column_id == record.column_id and index.stage is not Filling.READY for index in indexes
    ):
        yield f"the index key of {record.at} is being rotated; guard keys rotate goes on where it stopped"


def clear(shop: Shop, tell: Progress) -> tuple[tuple[Leftover, ...], tuple[str, ...]]:
    """Drop everything of guard's from the schema, and look again.

    Returns what was dropped, and for each thing that guard's account may not drop the statement for whoever may. Raises
    InterlockError when something comes back. To be called when no value is sealed any more.
    """
    found, kept = leftovers(shop), list[Leftover]()
    for number, thing in enumerate(found):
        tell("schema", number, len(found))
        if not drop(shop, thing):
            kept.append(thing)
    faults.point("fields.uninstall.cleared")
    if left := [thing for thing in leftovers(shop) if thing not in kept]:
        raise InterlockError(
            f"still in the shop's schema: {', '.join(map(str, left))}",
            hint="somebody makes it anew: end what works with guard there, then run guard uninstall again",
        )
    notes = (
        f"guard's account may not drop the {thing}; whoever owns it can: {statement(shop, thing)}" for thing in kept
    )
    return tuple(thing for thing in found if thing not in kept), tuple(notes)


def _line(column: Sealed) -> str:
    back = f", and give it its type {column.original} back" if column.original else ""
    return f"put {column.at} back into plain text: {column.sealed} values are sealed{back}"
