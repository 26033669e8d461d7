"""Rewrite columns of a table batch by batch, the fastest way each database has, without losing an update.

A batch is read, changed while nothing is locked, and written in one short transaction: each row only while it still
holds, byte for byte, what was read. Rows somebody else was faster at are left as they are, and told.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from types import MappingProxyType
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.errors import GuardError, InterlockError
from guard.shop import _write_mysql, _write_postgres, _write_sqlite
from guard.shop.catalog import Table
from guard.shop.connect import Shop
from guard.shop.due import Due, conditions
from guard.shop.graph import Step
from guard.shop.names import tokens_of
from guard.shop.rows import Bound, Key, among, at_key, exact_parts, within

Old = tuple[Any, ...]
"""What a row held when it was read."""
New = tuple[Any, ...]
"""What it is to hold, one value for each of `Rewrite.sets`."""
Columns = Sequence[Sequence[Any]]
"""Values of rows, column by column: what a batch has a thousand times is best never taken apart."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Set the columns `sets` in each row whose `column` is due.

    With `path` the columns `person` of the table at its end are read as well; NULL where no row is there.
    """

    table: Table
    column: str
    sets: tuple[str, ...]
    key: tuple[str, ...]
    due: Due
    path: tuple[Step, ...] = ()
    person: tuple[str, ...] = ()

    @property
    def keeps(self) -> tuple[str, ...]:
        """The token columns that stay though the value changes: they are named, as they would be emptied else."""
        if self.column not in self.sets:
            return ()
        return tuple(name for name in tokens_of(self.column, self.table.tokens) if name not in self.sets)


@dataclass(frozen=True, slots=True)
class Look:
    """Read `column` of the rows that are due (of all rows: None) in the order of `key`, up to and with `upto`.

    Beside it the columns `person` of the table at the end of `path` (NULL where no row is there), and `more` columns.
    """

    table: Table
    column: str
    key: tuple[str, ...]
    due: Due | None = None
    path: tuple[Step, ...] = ()
    person: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    upto: Key | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """The columns of its own that a value and its person depend on."""
        return tuple(dict.fromkeys((self.column, *(self.path[0].columns if self.path else ()))))


@dataclass(frozen=True)
class Found:
    """Rows, one at least, in the order of their keys. Column by column; row by row where somebody asks for it."""

    key: Columns
    held: Columns
    """What a row must still hold to be written: the value, and what leads to its person."""
    beside: Columns = ()
    """Person, more: see `Look`."""

    def __len__(self) -> int:
        return len(self.held[0])

    @property
    def values(self) -> Sequence[Any]:
        """The value of each row."""
        return self.held[0]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The key of each row."""
        return tuple(zip(*self.key, strict=True))

    @cached_property
    def rows(self) -> tuple[Old, ...]:
        """Value, person, more of each row."""
        return tuple(zip(self.held[0], *self.beside, strict=True))

    @property
    def first(self) -> Key:
        """The key of the first row."""
        return tuple(part[0] for part in self.key)

    @property
    def last(self) -> Key:
        """The key of the last row."""
        return tuple(part[-1] for part in self.key)

    def cut(self, rows: int) -> "Found":
        """Return the first `rows` of them."""
        return Found(*([column[:rows] for column in each] for each in (self.key, self.held, self.beside)))


@dataclass(frozen=True, slots=True)
class Fresh:
    """What rows are to hold, column by column in the order of `Rewrite.sets`; rows at the places `left` stay."""

    columns: Columns
    left: frozenset[int] = frozenset()

    @classmethod
    def of(cls, rows: Sequence[New | None]) -> "Fresh":
        """Return what each row is to hold, given row by row; None leaves one alone."""
        left = frozenset(place for place, values in enumerate(rows) if values is None)
        return cls(list(zip(*(values for values in rows if values is not None), strict=True)), left)


@dataclass(frozen=True, slots=True)
class Changed:
    """What one batch did, by places in `found`: `missed` are those another writer was faster at, `left` those that
    there was nothing new for; both are as they were.
    """

    found: Found
    missed: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """How many rows were rewritten."""
        return len(self.found) - len(self.missed) - len(self.left)


class Writer(Protocol):
    """Writes rows of one job on one database; `told` are the columns compared."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None: ...

    def write(self, connection: Connection, key: Columns, held: Columns, new: Columns) -> int:
        """Write each row that still holds what it held; return how many did."""
        ...


class Reader:
    """Reads a table in batches; its statements are built once. Belongs to one thread."""

    def __init__(self, shop: Shop, look: Look) -> None:
        self._look = look
        self._first, self._behind = (_select(shop, look, behind=behind) for behind in (False, True))

    def read(self, connection: Connection, after: Key | None, size: int) -> Found | None:
        """Return the next `size` rows behind `after`; None when none is left.

        Raises InterlockError for a row whose key does not name it exactly.
        """
        values: dict[str, Any] = {"size": size}
        if after is not None:
            values.update({f"after{place}": part for place, part in enumerate(after)})
        statement = self._first if after is None else self._behind
        rows = _fetched(self._look, lambda: connection.execute(statement, values))
        if not rows:
            return None
        columns = list(zip(*rows, strict=True))
        width, told = len(self._look.key), len(self._look.told)
        key, held, beside = columns[:width], columns[width : width + told], columns[width + told :]
        return Found(exact_parts(self._look.table, key), held, beside)


class Rewriter:
    """Carries out one rewrite; its statements are built once. Belongs to one thread."""

    def __init__(self, shop: Shop, job: Rewrite, upto: Key | None = None) -> None:
        look = Look(job.table, job.column, job.key, job.due, job.path, job.person, upto=upto)
        self.job = job
        self.read = Reader(shop, look).read
        self._shop = shop
        self._writer: Writer = _WRITERS[shop.dialect](shop, job, look.told)
        self._triggered = any(trigger.on_update for trigger in job.table.triggers)

    def write(self, connection: Connection, found: Found, new: Fresh) -> Changed:
        """Write `new` into the rows found, in the caller's transaction.

        Raises InterlockError when a trigger of the shop changed what was written.
        """
        if not new.columns:
            return Changed(found, left=new.left)
        key, held, places = found.key, found.held, range(len(found))
        if new.left:
            stays = [place not in new.left for place in places]
            key, held = ([list(compress(column, stays)) for column in each] for each in (key, held))
        hit = self._writer.write(connection, key, held, new.columns)
        if hit == len(key[0]) and not self._triggered:
            return Changed(found, left=new.left)
        rows = zip(
            (place for place in places if place not in new.left),
            zip(*key, strict=True),
            zip(*new.columns, strict=True),
            strict=True,
        )
        now = self._now(connection, zip(*key, strict=True))
        missed = frozenset(place for place, row, values in rows if now.get(row) != values)
        self._require_as_written(len(key[0]) - hit, len(missed))
        return Changed(found, missed, new.left)

    def _now(self, connection: Connection, keys: Iterable[Key]) -> Mapping[Key, New]:
        """Return what the rows `keys` hold in this transaction."""
        clause = self._shop.clause(self.job.table)
        columns = [clause.c[name] for name in self.job.key]
        wanted = list(keys)
        found: dict[Key, New] = {}
        for start in range(0, len(wanted), _CHUNK):
            query = sa.select(*columns, *(clause.c[name] for name in self.job.sets))
            query = query.where(among(columns, wanted[start : start + _CHUNK]))
            for row in connection.execute(query).all():
                found[tuple(row[: len(columns)])] = tuple(row[len(columns) :])
        return found

    def _require_as_written(self, missed: int, other: int) -> None:
        """Raise when rows hold something else though they were written: a sealed text put into lower case is lost."""
        if other > missed:
            raise InterlockError(
                f"a trigger of the shop changes what guard writes into {self.job.table.name}.{self.job.column}",
                hint="nothing of this batch was kept; change or drop the trigger, then run the same command again",
            )


def person_query(shop: Shop, look: Look, key: Key) -> sa.Select[Any]:
    """Return the query for what names the person of the row `key`."""
    source, person = _joined(shop, look)
    clause = shop.clause(look.table)
    return sa.select(*person).select_from(source).where(*at_key([clause.c[name] for name in look.key], key))


def _joined(shop: Shop, look: Look) -> tuple[sa.FromClause, list[sa.ColumnElement[Any]]]:
    """Return the table with those its path leads through, and the columns that name the person."""
    source: sa.FromClause = shop.clause(look.table)
    last = source
    for number, step in enumerate(look.path, 1):
        there = shop.clause(shop.table(step.to_table)).alias(f"p{number}")
        pairs = zip(step.columns, step.to_columns, strict=True)
        source = source.outerjoin(there, sa.and_(*(last.c[mine] == there.c[theirs] for mine, theirs in pairs)))
        last = there
    return source, [last.c[name] for name in look.person]


def _select(shop: Shop, look: Look, *, behind: bool) -> sa.Select[Any]:
    clause = shop.clause(look.table)
    source, person = _joined(shop, look)
    keys = [clause.c[name] for name in look.key]
    after: Bound | None = None
    if behind:
        after = tuple(sa.bindparam(f"after{place}", type_=sa.types.NullType()) for place in range(len(keys)))
    return (
        sa.select(*keys, *(clause.c[name] for name in look.told), *person, *(clause.c[name] for name in look.more))
        .select_from(source)
        .where(*within(keys, after, look.upto))
        .where(*(conditions(shop, look.table, look.column, look.due) if look.due else ()))
        .order_by(*keys)
        .limit(sa.bindparam("size"))
    )


def _fetched(look: Look, execute: Callable[[], sa.CursorResult[Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of a query as the driver gives them: SQLAlchemy's own take three times as long to make."""
    try:
        result = execute()
        rows: list[tuple[Any, ...]] = list(result.cursor.fetchall())
        result.close()
    except _write_sqlite.ERRORS as error:
        if not str(error).startswith("Could not decode"):
            raise
        raise GuardError(
            f"{look.table.name}.{look.column} holds a text that is not UTF-8",
            hint="correct it in the shop, then run the same command again",
        ) from None
    return rows


_CHUNK = 500
"""Keys in one statement; SQLite takes 32766 parameters."""

_WRITERS: Mapping[str, type[Writer]] = MappingProxyType(
    {"sqlite": _write_sqlite.Writer, "postgresql": _write_postgres.Writer, "mysql": _write_mysql.Writer}
)
