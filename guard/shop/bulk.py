"""Rewrite columns of a table batch by batch, the fastest way each database has, without losing an update.

A batch is read, changed while nothing is locked, and written in one short transaction: each row only while it still
holds, byte for byte, what was read. Rows somebody else was faster at are left as they are, and told.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from guard.shop.rows import Bound, Key, among, at_key, typed_keys, within

Old = tuple[Any, ...]
"""What a row held when it was read."""
New = tuple[Any, ...]
"""What it is to hold, one value for each of `Rewrite.sets`."""

Change = Callable[[Sequence[Key], Sequence[Old]], Sequence[New | None]]
"""Gives for each row of a batch what it is to hold; None leaves the row alone."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Set the columns `sets` in each row whose `column` is due, to what `change` gives.

    `change` is given the key in the order of `key`, then the value of `column` and, with `path`, the columns `person`
    of the table at its end; NULL where no row is there.
    """

    table: Table
    column: str
    sets: tuple[str, ...]
    key: tuple[str, ...]
    due: Due
    change: Change
    path: tuple[Step, ...] = ()
    person: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Found:
    """Rows, in the order of their keys."""

    keys: tuple[Key, ...]
    rows: tuple[Old, ...]
    """Value, person, more: see `Look`."""
    held: tuple[Old, ...]
    """What a row must still hold to be written: the value, and what leads to its person."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What one batch did, by places in `keys`: `missed` are those another writer was faster at, `left` those that
    `change` gave nothing for; both are as they were.
    """

    keys: tuple[Key, ...]
    missed: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """How many rows were rewritten."""
        return len(self.keys) - len(self.missed) - len(self.left)


class Writer(Protocol):
    """Writes rows of one job on one database; `told` are the columns compared."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None: ...

    def write(self, connection: Connection, keys: Sequence[Key], held: Sequence[Old], new: Sequence[New]) -> int:
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
        keys, held, beside = columns[:width], columns[width : width + told], columns[width + told :]
        given = tuple(zip(held[0], *beside, strict=True))
        return Found(
            typed_keys(self._look.table, keys), given, tuple(zip(*held, strict=True)) if beside or told > 1 else given
        )


class Rewriter:
    """Carries out one rewrite; its statements are built once. Belongs to one thread."""

    def __init__(self, shop: Shop, job: Rewrite, upto: Key | None = None) -> None:
        look = Look(job.table, job.column, job.key, job.due, job.path, job.person, upto=upto)
        self.job = job
        self.read = Reader(shop, look).read
        self._shop = shop
        self._writer: Writer = _WRITERS[shop.dialect](shop, job, look.told)
        self._triggered = any(trigger.on_update for trigger in job.table.triggers)

    def write(self, connection: Connection, found: Found, new: Sequence[New | None]) -> Changed:
        """Write what `change` gave for the rows found, in the caller's transaction.

        Raises InterlockError when a trigger of the shop changed what was written.
        """
        left = frozenset(place for place, values in enumerate(new) if values is None) if None in new else frozenset()
        places = [place for place in range(len(new)) if place not in left]
        if not places:
            return Changed(found.keys, left=left)
        given = [values for values in new if values is not None]
        keys, held = found.keys, found.held
        if left:
            keys, held = tuple(keys[place] for place in places), tuple(held[place] for place in places)
        hit = self._writer.write(connection, keys, held, given)
        missed = frozenset[int]()
        if hit != len(given) or self._triggered:
            now = self._now(connection, keys)
            missed = frozenset(
                place for place, key, values in zip(places, keys, given, strict=True) if now.get(key) != values
            )
            self._require_as_written(len(given) - hit, len(missed))
        return Changed(found.keys, missed, left)

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


def rewrite_batch(shop: Shop, connection: Connection, job: Rewrite, after: Key | None, size: int) -> Changed | None:
    """Rewrite the next `size` rows that are due behind `after`, inside the caller's transaction.

    None when none is left. Raises what `change` raises, InterlockError when a trigger of the shop changed a new value.
    """
    rewriter = Rewriter(shop, job)
    found = rewriter.read(connection, after, size)
    return None if found is None else rewriter.write(connection, found, job.change(found.keys, found.rows))


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
