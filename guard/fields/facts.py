"""Everything a plan is made from, as values: schema, counts, sizes, what lies around the database. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from guard.config import Column
from guard.fields.spread import Spread
from guard.fields.store import Record, Stage
from guard.shop import ShopColumn, Size, Table
from guard.shop.disk import Disk
from guard.shop.graph import Step
from guard.shop.remains import Remains
from guard.shop.uses import Programs


@dataclass(frozen=True, slots=True)
class Counts:
    """What lies in a column now. `size` and `longest` are bytes of its plain values."""

    rows: int
    nulls: int
    plain: int
    sealed: int
    other: int = 0
    """Values of a type that cannot be sealed."""
    size: int = 0
    longest: int = 0
    keyless: int = 0
    """Rows with NULL in their primary key, which SQLite allows."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a column's type."""

    original: str
    """The type to go back to, as SQL."""
    becomes: str
    copies: bool
    """Whether every row is written anew under a lock, and not the schema alone."""
    room: int | None = None
    """The characters, or bytes, it takes then, where the database enforces that."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose the values of a column are, by `bind = "subject"`."""

    kind: str
    """The subject's name in the catalog."""
    path: tuple[Step, ...]
    """The joins that lead from a row to its person; empty in the person's own table."""
    missing: int
    """Rows from which they lead to nobody."""
    several: str | None = None
    """A join on the way that may lead to several rows, e.g. "orders by buyer"."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan for one column is made from. What is None is not known."""

    column: Column
    table: Table
    dialect: str
    counts: Counts
    record: Record | None = None
    change: Change | None = None
    """None where the type stays."""
    size: Size | None = None
    searched: str | None = None
    """The normaliser of the tokens it has now."""
    filled: bool = False
    """Whether each of its values has a token under the key of now."""
    spread: Spread | None = None
    """How its values spread under the normaliser of its index."""
    folds: bool = True
    """Whether that normaliser takes upper and lower case for equal."""
    unsealable: str | None = None
    """What the database says against changing the type."""
    person: Person | None = None
    vault: tuple[str, ...] = ()
    """What the vault of epoch keys lacks."""
    links: tuple[str, ...] = ()
    """The catalog's references that go through this column."""
    dependents: tuple[str, ...] = ()
    """What the database does not let the type be changed for, e.g. "policy own_rows"."""
    programs: Programs = field(default_factory=Programs)
    """The functions, procedures, events and triggers of the whole database."""
    locks_gaps: bool = False
    """Whether sealing locks more than the rows it writes: MariaDB with a binlog of statements."""
    budget: int | None = None
    """How many values the key of a tight column may still seal."""
    seals: timedelta | None = None
    """What sealing one value took just now."""

    @property
    def shop(self) -> ShopColumn:
        """The column in the shop's schema."""
        return self.table.column(self.column.name)

    @property
    def fresh(self) -> bool:
        """Whether nothing of it was sealed yet."""
        return self.record is None or self.record.stage is Stage.PLAIN

    @property
    def fill(self) -> int:
        """How many values, sealed ones too, get tokens in a sweep of their own before anything else is sealed."""
        return 0 if self.column.index is None or self.filled else self.counts.plain + self.counts.sealed


def _unknown() -> tuple[datetime | None, str | None]:
    return None, "nobody told guard of one"


@dataclass(frozen=True, slots=True)
class Outside:
    """What other rooms are asked for a plan. `vault`: what the vault of epoch keys lacks.

    `backup`: when the newest backup of the shop was begun, or why it is not known. `copies`: guard's own backups of the
    shop as it was until now, and until when each is kept.
    """

    vault: Callable[[], tuple[str, ...]] = tuple
    backup: Callable[[], tuple[datetime | None, str | None]] = _unknown
    copies: Callable[[], tuple[Remains, ...]] = tuple


@dataclass(frozen=True, slots=True)
class Around:
    """What lies around the database: other places a value goes to, the disk, the last backup."""

    remains: tuple[Remains, ...] = ()
    """Replicas, slots, archives, binary logs, server logs, copies: each with its name."""
    database: int | None = None
    """Bytes of an SQLite file."""
    disk: Disk | None = None
    """None where it cannot be seen."""
    backed_up: datetime | None = None
    """When the newest backup of the shop was begun."""
    backup: str | None = None
    """Why it is not known, or that there is none."""
