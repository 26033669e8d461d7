"""Which values of a column still need work, as SQL: told by how they begin. What that means is not known here."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop


@dataclass(frozen=True, slots=True)
class Beginning:
    """A text that begins with one of `texts`, or bytes that begin with one of `binaries`; each set of one length."""

    texts: frozenset[str]
    binaries: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Due:
    """Values, NULL never, that begin as `begins` says, not as `unless` says, and lack the token `lacks`.

    What is None is not asked for.
    """

    begins: Beginning | None = None
    unless: Beginning | None = None
    lacks: str | None = None


def conditions(shop: Shop, table: Table, column: str, due: Due) -> list[sa.ColumnElement[bool]]:
    """Return what picks the rows of `table` whose `column` is due."""
    clause = shop.clause(table)
    found: list[sa.ColumnElement[bool]] = [clause.c[column].is_not(None)]
    if due.lacks is not None:
        found.append(clause.c[due.lacks].is_(None))
    if due.begins is not None:
        found.append(begin(shop, table, column, due.begins))
    if due.unless is not None:
        found.append(sa.not_(begin(shop, table, column, due.unless)))
    return found


def count_due(shop: Shop, connection: Connection, table: Table, column: str, due: Due) -> int:
    """Return how many values are due."""
    query = sa.select(sa.func.count()).select_from(shop.clause(table)).where(*conditions(shop, table, column, due))
    return int(connection.execute(query).scalar_one())


def begin(shop: Shop, table: Table, column: str, how: Beginning) -> sa.ColumnElement[bool]:
    """Return the condition "it begins so"; it is true or false for every value, byte by byte."""
    is_binary = table.column(column).sort is Sort.BINARY
    if shop.dialect == "sqlite":  # a column holds texts and bytes; a text never equals bytes there
        return _in_sqlite(shop, table, column, how)
    if shop.dialect == "postgresql" and not is_binary and len(how.texts) == 1:
        return sa.func.starts_with(sa.cast(shop.clause(table).c[column], sa.Text), next(iter(how.texts)))
    wanted: frozenset[Any] = how.binaries if is_binary else how.texts
    if shop.dialect == "mysql" and not is_binary:
        wanted = frozenset(text.encode() for text in how.texts)
    return _among(head(shop, table, column, _length(wanted)), wanted)


def head(shop: Shop, table: Table, column: str, length: int) -> sa.ColumnElement[Any]:
    """Return the first `length` characters of a text, or bytes of a binary value, told apart byte by byte.

    MariaDB gives those of a text as bytes: no collation folds them.
    """
    value: sa.ColumnElement[Any] = shop.clause(table).c[column]
    is_binary = table.column(column).sort is Sort.BINARY
    if shop.dialect == "postgresql" and not is_binary:
        return sa.collate(sa.func.substr(sa.cast(value, sa.Text), 1, length), "C")
    found = sa.func.substr(value, 1, length)
    return sa.cast(found, sa.BINARY) if shop.dialect == "mysql" and not is_binary else found


def _in_sqlite(shop: Shop, table: Table, column: str, how: Beginning) -> sa.ColumnElement[bool]:
    """Return the condition for a column of texts and bytes, without substr() where there is one beginning of each.

    substr() was measured to take as long as reading the row. GLOB tells upper from lower case, in a database of any
    encoding; where it looks at bytes too, those that begin as the text does begin as the bytes do.
    """
    value: sa.ColumnElement[Any] = shop.clause(table).c[column]
    if len(how.texts) == len(how.binaries) == 1:
        (text,), (raw,) = how.texts, how.binaries
        if text.encode().startswith(raw) and not set(text) & set("*?["):
            behind = raw[:-1] + bytes([raw[-1] + 1])  # the first bytes that do not begin so; none that we use end in ff
            return sa.or_(value.bool_op("GLOB")(f"{text}*"), sa.and_(value >= raw, value < behind))
    either = (_among(head(shop, table, column, _length(each)), each) for each in (how.texts, how.binaries))
    return sa.func.coalesce(sa.or_(*either), sa.false())  # its substr of no bytes is NULL


def _length(wanted: frozenset[Any]) -> int:
    return len(next(iter(wanted)))


def _among(first: sa.ColumnElement[Any], wanted: frozenset[Any]) -> sa.ColumnElement[bool]:
    return first == next(iter(wanted)) if len(wanted) == 1 else first.in_(sorted(wanted))
