"""All statements of this room: samples and due rows of the shop, and what state remembers of catalogs and retention."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.canon import KeyPart
from guard.clock import parse, stamp
from guard.privacy.detect.evidence import LONGEST, Sample
from guard.privacy.rules import Path, Treatment
from guard.shop import Shop, ShopColumn, Table
from guard.shop.brought import brought
from guard.shop.catalog import Sort
from guard.shop.rows import typed_key
from guard.state import METADATA, Tx

Key = tuple[KeyPart, ...]
ShopConnection = Connection
"""A connection in a transaction of the shop."""

# What state remembers -----------------------------------------------------------------------------------------------

COLUMN = sa.Table(
    "privacy_column",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False, unique=True),
)
"""Every column id that was ever given, and to which column. Rows are never deleted: no id is given twice."""

PLAN = sa.Table(
    "privacy_plan",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("as_of", sa.Text, nullable=False),
    sa.Column("basis", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)
"""Retention plans that were begun. `basis` is the digest of policy and catalog they rest on."""

TREATED = sa.Table(
    "privacy_treated",
    METADATA,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("row_count", sa.Integer, nullable=False),
)
"""How many rows each run treated by each rule; the median of 30 days comes from here."""


@dataclass(frozen=True, slots=True)
class BegunPlan:
    """A retention plan that was begun: the day it was made for, what it rests on, whether it was finished."""

    as_of: datetime
    basis: str
    done: bool


def column_ids(tx: Tx) -> dict[str, int]:
    """Return the ids that were given, by "Table.Column"."""
    return {row.at: row.id for row in tx.execute(sa.select(COLUMN))}


def give_ids(tx: Tx, ids: Mapping[str, int]) -> None:
    """Remember new ids. Fails when one was given before: ids are never used again."""
    if ids:
        tx.execute(sa.insert(COLUMN), [{"id": number, "at": at} for at, number in ids.items()])


def move_ids(tx: Tx, moved: Mapping[int, str], given_up: Iterable[int]) -> None:
    """Remember columns under their new names. An id that is given up keeps its row, under a name no column can have."""
    for number, at in [*((number, f"-{number}") for number in given_up), *moved.items()]:
        tx.execute(sa.update(COLUMN).where(COLUMN.c.id == number).values(at=at))


def begun_plan(tx: Tx, digest: str) -> BegunPlan | None:
    """Return the begun plan with this digest, or None."""
    row = tx.execute(sa.select(PLAN).where(PLAN.c.digest == digest)).first()
    return None if row is None else BegunPlan(parse(row.as_of), row.basis, row.done)


def begin_plan(tx: Tx, digest: str, as_of: datetime, basis: str) -> None:
    """Remember that a plan is being carried out; a plan begun before stays as it is."""
    if begun_plan(tx, digest) is None:
        tx.execute(sa.insert(PLAN).values(digest=digest, as_of=stamp(as_of), basis=basis, done=False))


@dataclass(frozen=True, slots=True)
class Treated:
    """How many rows a run treated at a time, by rule."""

    run: str
    at: datetime
    rows: Mapping[str, int]


def end_plan(tx: Tx, digest: str, done: Treated) -> None:
    """Remember that a plan was carried out, and how many rows each rule treated."""
    tx.execute(sa.update(PLAN).where(PLAN.c.digest == digest).values(done=True))
    rows = [
        {"run": done.run, "rule": rule, "at": stamp(done.at), "row_count": count} for rule, count in done.rows.items()
    ]
    if rows:
        tx.execute(sa.insert(TREATED), rows)


def history(tx: Tx, since: datetime) -> dict[str, list[int]]:
    """Return for each rule the rows of its runs since `since`."""
    found: dict[str, list[int]] = {}
    query = sa.select(TREATED.c.rule, TREATED.c.row_count).where(TREATED.c.at >= stamp(since)).order_by(TREATED.c.at)
    for rule, count in tx.execute(query):
        found.setdefault(rule, []).append(count)
    return found


# Samples of the shop ------------------------------------------------------------------------------------------------

_ENDS = 1000
"""Rows read from each end of a table before an empty column is searched for on its own."""


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How to sample: at most `most` distinct values; `is_sealed` tells which values are ciphertext."""

    is_sealed: Callable[[object], bool]
    most: int = 200


def samples(
    shop: Shop, connection: Connection, table: Table, columns: Sequence[str], size: SampleSize
) -> dict[str, Sample]:
    """Return distinct values of each of `columns`, from both ends of the table in the order of its key.

    Columns that are empty there are searched for values through the whole table.
    """
    if not columns:
        return {}
    clause = shop.clause(table)
    chosen = [_head(shop, table.column(name), clause.c[name]) for name in columns]
    keys = [clause.c[name] for name in table.key]
    rows = list(connection.execute(sa.select(*chosen).order_by(*keys).limit(_ENDS)).all())
    whole = len(rows) < _ENDS
    if keys and not whole:
        back = connection.execute(sa.select(*chosen).order_by(*(key.desc() for key in keys)).limit(_ENDS)).all()
        rows = [row for row in chain.from_iterable(zip_longest(rows, back)) if row is not None]
    found = {name: _sample((row[at] for row in rows), size) for at, name in enumerate(columns)}
    if whole:
        return found
    for name, sample in found.items():
        if not sample.rows:
            head = _head(shop, table.column(name), clause.c[name])
            query = sa.select(head).where(clause.c[name].is_not(None)).distinct().limit(size.most)
            found[name] = _sample(connection.execute(query).scalars(), size)
    return found


def _head(shop: Shop, column: ShopColumn, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the beginning of a value: whole books are not read to tell that they are books."""
    if column.sort is Sort.OTHER and shop.dialect != "sqlite":
        value = sa.cast(value, sa.Text)
    if shop.dialect == "sqlite":  # as bytes: one text that is not UTF-8 must not keep the others from being looked at
        value = sa.cast(value, sa.LargeBinary)
    return sa.func.substr(value, 1, LONGEST)


def _sample(values: Iterable[object], size: SampleSize) -> Sample:
    distinct: dict[str, None] = {}
    rows = sealed = 0
    for value in values:
        if value is None or value == "":
            continue
        rows += 1
        if size.is_sealed(value):
            sealed += 1
        elif len(distinct) < size.most:
            distinct[value.decode(errors="replace") if isinstance(value, bytes) else str(value)] = None
    return Sample(tuple(distinct), rows, sealed)


# Due rows of the shop -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be due: its key, the two dates that count as they are stored, and the values to treat."""

    key: Key
    since: object
    otherwise: object
    values: tuple[Any, ...]


def candidates(
    shop: Shop, connection: Connection, treatment: Treatment, keys: Sequence[Key] | None, bound: datetime | None = None
) -> Iterator[Candidate]:
    """Yield the rows of the rule's table in the order of their key, without those whose dates are surely after `bound`.

    With `keys` only those rows, locked against other writers until the transaction ends.
    """
    table = shop.clause(treatment.table).alias("t")
    key = [table.c[name] for name in treatment.table.key]
    since = _since(shop, treatment, table, keys)
    own = treatment.otherwise
    columns = [
        *key,
        since.value,
        table.c[own] if own else sa.null(),
        *(table.c[each.name] for each in treatment.treated),
    ]
    query = sa.select(*columns).select_from(since.source).order_by(*key)
    query = query.where(*(table.c[name] == value for name, value in treatment.rule.where.items()))
    if keys is not None:
        query = query.where(_among(key, keys))
        if shop.dialect != "sqlite":  # there BEGIN IMMEDIATE has locked everything
            # Locked first, read after: what was waited for (somebody's new order) counts.
            connection.execute(sa.select(*key).where(_among(key, keys)).with_for_update()).all()
    elif bound is not None:
        before = _not_after(shop, since.value, since.sort, bound)
        query = query.where(sa.or_(since.value.is_(None), before))
    width = len(key)
    if keys is None:
        connection = connection.execution_options(yield_per=1000)
    for row in connection.execute(query):
        yield Candidate(typed_key(treatment.table, row[:width]), row[width], row[width + 1], tuple(row[width + 2 :]))


@dataclass(frozen=True, slots=True)
class _Since:
    source: sa.FromClause
    value: sa.ColumnElement[Any]
    sort: Sort


def _since(shop: Shop, treatment: Treatment, table: sa.FromClause, keys: Sequence[Key] | None) -> _Since:
    path, column = treatment.since
    if not path.steps:
        return _Since(table, table.c[column], treatment.since_sort)
    joined = _joined(shop, path)
    names = treatment.table.key
    newest = sa.select(*(joined.last.c[name] for name in names), sa.func.max(joined.first.c[column]).label("since"))
    newest = newest.select_from(joined.source).group_by(*(joined.last.c[name] for name in names))
    if keys is not None:
        newest = newest.where(_among([joined.last.c[name] for name in names], keys))
    dates = newest.subquery("d")
    same = sa.and_(*(table.c[name] == dates.c[name] for name in names))
    return _Since(table.outerjoin(dates, same), dates.c.since, treatment.since_sort)


def _not_after(shop: Shop, value: sa.ColumnElement[Any], sort: Sort, bound: datetime) -> sa.ColumnElement[bool]:
    """Return a condition that holds for every row whose date is at or before `bound`, and for what is no date."""
    if shop.dialect == "sqlite":
        iso = value.op("GLOB", is_comparison=True)("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*")
        return sa.or_(value <= f"{bound:%Y-%m-%d}~", sa.not_(iso))
    return value <= bound if sort is Sort.TIME else sa.true()


@dataclass(frozen=True, slots=True)
class _Joined:
    source: sa.FromClause
    first: sa.FromClause
    last: sa.FromClause


def _joined(shop: Shop, path: Path) -> _Joined:
    """Join the tables of a path: from the one that refers, to the rule's own."""
    first: sa.FromClause = shop.clause(path.tables[0]).alias("p0")
    source, last = first, first
    for number, (step, table) in enumerate(zip(path.steps, path.tables[1:], strict=True), 1):
        there = shop.clause(table).alias(f"p{number}")
        pairs = zip(step.columns, step.to_columns, strict=True)
        source = source.join(there, sa.and_(*(last.c[mine] == there.c[theirs] for mine, theirs in pairs)))
        last = there
    return _Joined(source, first, last)


def _among(columns: Sequence[sa.ColumnElement[Any]], keys: Sequence[Key]) -> sa.ColumnElement[bool]:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return sa.tuple_(*columns).in_(keys)


def referring(shop: Shop, connection: Connection, path: Path, keys: Sequence[Key]) -> list[tuple[Key, Key | None]]:
    """Return which of the rows `keys` are referred to along `path`: (key of the row, key of the row that refers).

    The second is None where the referring table has no primary key.
    """
    joined = _joined(shop, path)
    last = [joined.last.c[name] for name in path.tables[-1].key]
    first = [joined.first.c[name] for name in path.tables[0].key]
    query = sa.select(*last, *first).select_from(joined.source).where(_among(last, keys))
    width = len(last)
    return [
        (typed_key(path.tables[-1], row[:width]), typed_key(path.tables[0], row[width:]) if first else None)
        for row in connection.execute(query)
    ]


def delete_referring(shop: Shop, connection: Connection, path: Path, keys: Sequence[Key]) -> int:
    """Delete the rows of the path's first table that lead to one of the rows `keys`; return how many."""
    clause = shop.clause(path.tables[0])
    rest = Path(path.tables[1:], path.steps[1:])
    joined = _joined(shop, rest)
    ends = sa.select(*(joined.first.c[name] for name in path.steps[0].to_columns)).select_from(joined.source)
    ends = ends.where(_among([joined.last.c[name] for name in rest.tables[-1].key], keys))
    mine = [clause.c[name] for name in path.steps[0].columns]
    inside = mine[0].in_(ends) if len(mine) == 1 else sa.tuple_(*mine).in_(ends)
    return connection.execute(sa.delete(clause).where(inside)).rowcount


def delete_rows(shop: Shop, connection: Connection, table: Table, keys: Sequence[Key]) -> int:
    """Delete the rows `keys`; return how many."""
    clause = shop.clause(table)
    return connection.execute(sa.delete(clause).where(_among([clause.c[name] for name in table.key], keys))).rowcount


def update_rows(
    shop: Shop,
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Key, Sequence[object]]],
) -> None:
    """Set `columns` of each row to its values."""
    clause = shop.clause(table)
    statement = sa.update(clause).where(
        *(clause.c[name] == sa.bindparam(f"k{at}") for at, name in enumerate(table.key))
    )
    values = {name: brought(name, sa.bindparam(f"v{at}")) for at, name in enumerate(columns)}
    statement = statement.values(values)
    connection.execute(
        statement,
        [
            {f"k{at}": part for at, part in enumerate(key)} | {f"v{at}": value for at, value in enumerate(values)}
            for key, values in rows
        ],
    )
