"""Write rows of MariaDB: an UPDATE for some hundred rows, which says for each key what it holds and what it is to hold.

One UPDATE joined with a JSON document of all rows was measured as well: it puts the rows into a temporary table first,
and takes 9 to 12 us of the server's time a row instead of 8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection

from guard.shop._sql import run, ticked
from guard.shop.brought import assigned
from guard.shop.catalog import Sort, Table

if TYPE_CHECKING:
    from guard.shop.bulk import Columns, Rewrite
    from guard.shop.connect import Shop

_ROWS: Final = 200
"""Rows of one statement: the server looks at half of them to find the one it is at."""
_SAFE: Final = re.compile(r"[A-Za-z0-9._-]*")
"""What no server takes for anything but itself: sealed texts, most keys."""


class Writer:
    """Writes rows that still hold what they held, byte for byte."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None:
        seconds = max(1, round(shop.patience.lock.total_seconds()))  # it holds other rows meanwhile; else it were 50 s
        self._wait = f"SET innodb_lock_wait_timeout = {seconds}"
        self._keys = tuple(map(ticked, job.key))
        place = (f"{ticked(shop.schema)}." if shop.schema else "") + ticked(job.table.name)
        sets = [f"{ticked(_named(name))} = {assigned(_named(name), '%s')}" for name in job.sets]
        kept = [_named(name) for name in job.keeps]
        sets += [f"{ticked(name)} = {assigned(name, ticked(name))}" for name in kept]
        same = " AND ".join(f"{_named(_exact(job.table, name))} = %s" for name in told)
        self._sql = f"UPDATE {_named(place)} FORCE INDEX (PRIMARY) SET {', '.join(sets)} WHERE %s AND {same}"  # noqa: S608  # quoted

    def write(self, connection: Connection, key: Columns, held: Columns, new: Columns) -> int:
        """See `guard.shop.bulk.Writer`."""
        run(connection, self._wait)
        driver: Any = connection.connection.driver_connection
        driver.encoders[_Written] = _Written.sql
        rows, fresh = ([_literals(column) for column in each] for each in (key, new))
        olds = [_literals(column, exact=True) for column in held]
        hit = 0
        for start in range(0, len(key[0]), _ROWS):
            part = slice(start, start + _ROWS)
            given = _Rows(self._keys, [column[part] for column in rows])
            pieces = [*(given.case(column[part]) for column in fresh), given.among()]
            pieces += [given.case(column[part]) for column in olds]
            hit += connection.exec_driver_sql(self._sql, tuple(map(_Written, pieces))).rowcount
        return hit


class _Written:
    """A piece of SQL, all of literals, on its way through the driver: as a parameter it is in no error and no log."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def sql(self, _: object) -> str:
        """Return it as it is; the driver's word for how a type is written."""
        return self.text


class _Rows:
    """The rows of one statement, told by their keys, which are given column by column as literals."""

    def __init__(self, names: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
        self._name = names[0]
        self._is_single = len(names) == 1
        self._whens: Sequence[str] = columns[0]
        if not self._is_single:
            self._whens = [
                " AND ".join([f"{name} = {part}" for name, part in zip(names, key, strict=True)])
                for key in zip(*columns, strict=True)
            ]

    def among(self) -> str:
        """Return the condition that a row is one of them."""
        if self._is_single:
            return f"{self._name} IN ({','.join(self._whens)})"
        return "(" + " OR ".join([f"({when})" for when in self._whens]) + ")"

    def case(self, values: Sequence[str]) -> str:
        """Return what each of them has among `values`."""
        whens = " ".join([f"WHEN {when} THEN {value}" for when, value in zip(self._whens, values, strict=True)])
        return f"CASE {self._name} {whens} END" if self._is_single else f"CASE {whens} END"


def _named(name: str) -> str:
    return name.replace("%", "%%")


def _exact(table: Table, name: str) -> str:
    """Return what compares byte by byte with `_literals(..., exact=True)`: no collation folds case or cuts blanks."""
    if table.column(name).sort is Sort.TEXT:
        return f"CAST(CONVERT({ticked(name)} USING utf8mb4) AS BINARY)"
    return ticked(name)


def _literals(column: Sequence[Any], *, exact: bool = False) -> list[str]:
    """Return values as SQL has them; texts that are to be compared exactly as their bytes."""
    if not exact and {type(value) for value in column} == {str} and _SAFE.fullmatch("".join(column)):
        return [f"'{value}'" for value in column]
    return [_literal(value, exact=exact) for value in column]


def _literal(value: Any, *, exact: bool) -> str:
    match value:
        case None:
            return "NULL"
        case int() | Decimal():
            return str(value)
        case bytes():
            return f"X'{value.hex()}'"
        case _:
            charset = "" if exact else "_utf8mb4 "
            return f"{charset}X'{str(value).encode().hex()}'"
