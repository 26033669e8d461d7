"""What `fields rebind` would do: which columns, from which key to which, and how their first values open."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guard.errors import ConfigError, InterlockError
from guard.events import Progress, RunId, silent
from guard.fields import store
from guard.fields.former import Former, read_map
from guard.fields.rebind import Binding, Rebound, Sampled, rebind_column, rebinding, sample
from guard.fields.store import Record, Stage
from guard.fields.sweep import Tools
from guard.shop import Table
from guard.shop import progress as progress_table
from guard.shop.rows import key_trouble
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: the table, and where its former key stands, in columns or in a file."""

    table: str
    was: tuple[str, ...] = ()
    map: Path | None = None


@dataclass(frozen=True, slots=True)
class RebindPlan:
    """What binding the values of one table anew does."""

    table: str
    key: tuple[str, ...]
    """The key rows have now."""
    records: tuple[Record, ...] = field(repr=False)
    former: Former = field(repr=False)
    file: bytes | None = field(repr=False, default=None)
    """The file of keys, as it was read."""
    samples: Mapping[str, Sampled] = field(default_factory=dict)
    """How the first sealed values of each column open."""
    stays: tuple[str, ...] = ()
    """Sealed columns of the table that are not bound to rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values are bound anew."""
        return tuple(record.at for record in self.records)

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the plan in words."""
        where = f"columns {', '.join(self.former.columns)}" if self.former.columns else "the file"
        return (
            *(
                f"bind the values of {record.at} to the key {', '.join(self.key)} of their rows; "
                f"the former key ({', '.join(record.key_columns)}) is taken from {where}"
                for record in self.records
            ),
            *(
                f"of the first {each.new + each.former + each.neither} sealed values of {at} {each.former} open under "
                f"the former key, {each.new} under the one they have now, {each.neither} under neither"
                for at, each in self.samples.items()
            ),
            *(f"leave {at}, which is not bound to rows" for at in self.stays),
            f"whoever can write {where} decides which value belongs to which row: make sure nobody else did",
        )


def plan_rebind(tools: Tools, records: Sequence[Record], wanted: Wanted) -> RebindPlan:
    """Return what binding the sealed values of a table to its present key would do. Changes nothing.

    Raises ConfigError for what cannot be meant, InterlockError when no value opens under either key, or when the table
    has no key that names a row.
    """
    table = _table(tools, wanted)
    mine = [
        record for record in records if record.at.partition(".")[0] == table.name and record.stage is not Stage.PLAIN
    ]
    bound = tuple(record for record in mine if record.binding == "row")
    if not bound:
        raise ConfigError(f"nothing in {table.name} is sealed for its rows", hint="guard fields status shows what is")
    if trouble := table.trouble or key_trouble(table):
        raise InterlockError(f"{table.name}: {trouble}; values cannot be bound to its rows")
    if mistakes := list(_mistakes(table, bound, mine, wanted)):
        raise ConfigError("\n".join(mistakes))
    file, former = None, Former(wanted.was)
    if wanted.map is not None:
        file, by_key = read_map(wanted.map, len(table.key), len(bound[0].key_columns))
        former = Former(by_key=by_key)
    samples = {record.at: sample(binding_of(tools, table, record, former)) for record in bound}
    for at, each in samples.items():
        if each.neither and not each.former and not each.new:
            raise InterlockError(
                f"{at}: none of the first {each.neither} sealed values opens under that key, or under the present one",
                hint="nothing was changed; where does the key stand that these rows had when it was sealed?",
            )
    stays = tuple(record.at for record in mine if record.binding != "row")
    return RebindPlan(table.name, table.key, bound, former, file, samples, stays)


def binding_of(tools: Tools, table: Table, record: Record, former: Former) -> Binding:
    """Return what is needed to bind one column anew."""
    return Binding(tools.shop, table, tools.keys.cell(record), record, former, tools.clock, tools.pace)


@dataclass(frozen=True, slots=True)
class Rebinding:
    """Plans and carries out what a changed primary key asks for."""

    tools: Tools
    records: tuple[Record, ...]

    def plan(self, wanted: Wanted) -> RebindPlan:
        """See `plan_rebind`."""
        return plan_rebind(self.tools, self.records, wanted)

    def run(self, plan: RebindPlan, run: RunId, progress: Progress = silent) -> tuple[Rebound, ...]:
        """Carry a plan out; what it returns goes to `remember`. Raises BusyError when rows stay locked."""
        tools = self.tools
        with tools.shop.begin() as connection:
            works = [rebinding(record.column_id) for record in plan.records]
            progress_table.announce(tools.shop, connection, run, works)
        table = tools.shop.table(plan.table)
        return tuple(
            rebind_column(binding_of(tools, table, record, plan.former), run, progress) for record in plan.records
        )

    def remember(self, done: Sequence[Rebound]) -> Callable[[Tx], None]:
        """Return the work that notes the key that values are bound to now."""

        def work(tx: Tx) -> None:
            for each in done:
                store.keep(tx, each.record)

        return work


def _table(tools: Tools, wanted: Wanted) -> Table:
    tables = tools.shop.tables(fresh=True)
    if (table := tables.get(wanted.table)) is None:
        near = difflib.get_close_matches(wanted.table, list(tables), 1)
        raise ConfigError(
            f"the shop has no table {wanted.table}",
            hint=f"did you mean {near[0]}?" if near else "where it was renamed: guard data rename OLD NEW",
        )
    return table


def _mistakes(table: Table, bound: Sequence[Record], mine: Sequence[Record], wanted: Wanted) -> Iterator[str]:
    if bool(wanted.was) == (wanted.map is not None):
        yield "say where the former key stands: --was COLUMN,COLUMN or --map FILE.csv"
    sealed = {record.at.partition(".")[2] for record in mine}
    for name in wanted.was:
        if table.find(name) is None:
            near = difflib.get_close_matches(name, [column.name for column in table.columns], 1)
            yield f"{table.name} has no column {name}" + (f"; did you mean {near[0]}?" if near else "")
        elif name in sealed:
            yield f"{table.name}.{name} is sealed itself, so it holds no key that could be read"
    keys = {record.key_columns for record in bound}
    if len({len(key) for key in keys}) > 1:
        yield f"the columns of {table.name} were sealed for keys of different widths: {'; '.join(map(', '.join, keys))}"
    elif wanted.was and len(wanted.was) != len(next(iter(keys))):
        first = next(iter(keys))
        yield f"the former key has {len(first)} parts, in this order: {', '.join(first)}; not {len(wanted.was)}"
