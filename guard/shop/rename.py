"""A table or column that the shop calls otherwise now. Pure: what was called one thing is found under its new name."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from guard.errors import ConfigError, InterlockError
from guard.shop.catalog import Table


@dataclass(frozen=True, slots=True)
class Rename:
    """`table` is called `to_table` now; or its `column`, in a table that keeps its name, is called `to_column`."""

    table: str
    to_table: str
    column: str | None = None
    to_column: str | None = None

    @classmethod
    def parse(cls, old: str, new: str) -> "Rename":
        """Read "Table" and "Table", or "Table.Column" and "Table.Column". Raises ConfigError for anything else."""
        table, dot, column = old.partition(".")
        to_table, to_dot, to_column = new.partition(".")
        if old == new or dot != to_dot or not (table and to_table) or (dot and not (column and to_column)):
            raise ConfigError(
                f'"{old}" and "{new}" are not two names of one thing', hint="two tables, or two times Table.Column"
            )
        if dot and table != to_table:
            raise ConfigError(
                f"{old} and {new} are in different tables",
                hint=f"where the table has a new name too, begin with it: guard data rename {table} {to_table}",
            )
        return cls(table, to_table, column or None, to_column or None)

    @property
    def old(self) -> str:
        """What it was called."""
        return f"{self.table}.{self.column}" if self.column else self.table

    @property
    def new(self) -> str:
        """What it is called now."""
        return f"{self.to_table}.{self.to_column}" if self.to_column else self.to_table

    def at(self, at: str) -> str:
        """Return what the column "Table.Column" is called now."""
        table, _, column = at.partition(".")
        return f"{self.name(table)}.{self.part(table, column)}"

    def name(self, table: str) -> str:
        """Return what a table is called now."""
        return self.to_table if self.column is None and table == self.table else table

    def part(self, table: str, column: str) -> str:
        """Return what `column` of the table that was called `table` is called now."""
        return self.to_column or column if (table, column) == (self.table, self.column) else column

    def require(self, tables: Mapping[str, Table]) -> None:
        """Raise InterlockError while the schema has the old name, ConfigError when it lacks the new one."""
        if _has(tables, self.table, self.column):
            raise InterlockError(f"the shop still has {self.old}", hint="rename it in the shop first: guard follows")
        if not _has(tables, self.to_table, self.to_column):
            known = [f"{name}.{column.name}" for name, table in tables.items() for column in table.columns]
            near = difflib.get_close_matches(self.new, known if self.column else list(tables), 1)
            raise ConfigError(
                f"the shop has no {self.new}", hint=f"did you mean {near[0]}?" if near else "guard data catalog"
            )


def _has(tables: Mapping[str, Table], table: str, column: str | None) -> bool:
    found = tables.get(table)
    return found is not None and (column is None or found.find(column) is not None)
