"""What the shop's schema says, in the same words for every database. Values only; the readers are beside this module.

Names are exactly those of the schema, blanks and quotes included. What a database does not tell is left empty, never
guessed.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from guard.errors import ConfigError


class Sort(StrEnum):
    """What a column holds, by its declared type. SQLite may hold anything anywhere; there it is an expectation."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BINARY = "binary"
    TIME = "time"
    BOOLEAN = "boolean"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ShopColumn:
    """One column. `type` is written as the database writes it, e.g. `character varying(60)` or `NVARCHAR(60)`."""

    name: str
    type: str
    sort: Sort
    nullable: bool = True
    length: int | None = None
    """The longest text it takes, in characters, where the database enforces one."""
    default: str | None = None
    generated: str | None = None
    """The expression of a generated column."""
    collation: str | None = None
    """A collation other than the type's own, quoted for SQL. MariaDB: always the column's."""
    folded: bool = False
    """Whether texts that differ only in case (or accents, or trailing blanks) count as equal here."""
    identity: bool = False
    """Whether the database numbers it: an identity column, AUTO_INCREMENT."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of this table refer to `to_columns` of `to_table`.

    `on_delete` and `on_update` are SQL's words: NO ACTION, RESTRICT, CASCADE, SET NULL, SET DEFAULT.
    """

    columns: tuple[str, ...]
    to_table: str
    to_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class Index:
    """An index other than the primary key's. `definition` is its SQL where the database tells it, else its name."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    definition: str
    """Holds the expressions and the condition of an index on expressions or a partial one."""
    condition: str | None = None
    """The WHERE of a partial index."""
    derived: bool = False
    """Whether a part of it is an expression or only the beginning of a column."""

    def is_on(self, column: str) -> bool:
        """Say whether it holds exactly this column, whole, of all rows."""
        return self.columns == (column,) and not self.condition and not self.derived


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint as SQL; PostgreSQL's EXCLUDE constraints too."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger; `sql` holds its definition and, where the body lies in a function, the body too."""

    name: str
    sql: str
    on_update: bool


@dataclass(frozen=True, slots=True)
class View:
    """A view that reads the table. `columns` are those it reads, empty where the database does not tell.

    Where guard's account may not see its definition, `sql` is empty, and it stands at every table.
    """

    name: str
    sql: str
    columns: tuple[str, ...] = ()
    stored: bool = False
    """Whether it keeps a copy of what it read: a materialized view."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `key` holds the primary key's columns in their order; empty when it has none.

    What guard added (token columns, their indexes, its triggers) is left out; the names of token columns are `tokens`.
    """

    name: str
    columns: tuple[ShopColumn, ...]
    key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    referred: tuple[tuple[str, ForeignKey], ...] = ()
    """The foreign keys of other tables (and its own) that point here, each with its table's name."""
    indexes: tuple[Index, ...] = ()
    checks: tuple[Check, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    views: tuple[View, ...] = ()
    trouble: str | None = None
    """Why its rows cannot be changed safely, e.g. a virtual table; None for an ordinary one."""
    tokens: tuple[str, ...] = ()
    strict: bool = False
    """Whether it is one of SQLite's STRICT tables, which take only values of the declared type."""
    without_rowid: bool = False
    unseen: tuple[str, ...] = ()
    """What guard's account may not see of it, each with the grant it lacks, e.g. "triggers (grant TRIGGER)"."""

    def find(self, name: str) -> ShopColumn | None:
        """Return the column called `name`, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def column(self, name: str) -> ShopColumn:
        """Return the column called `name`. Raises ConfigError when there is none."""
        if (found := self.find(name)) is None:
            raise ConfigError(
                f"the shop has no column {self.name}.{name}", hint="`guard data scan` shows what the schema has now"
            )
        return found


def split(at: str) -> tuple[str, str]:
    """Return the table and column of "Table.Column", which is split at its first dot."""
    table, dot, column = at.partition(".")
    if not (table and dot and column):
        raise ConfigError(f'"{at}" does not name a column', hint='write "Table.Column"')
    return table, column


def mentions(sql: str, name: str) -> bool:
    """Say whether `sql` holds `name` as a word of its own. Careful: a name in a text or comment counts too."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE) is not None
