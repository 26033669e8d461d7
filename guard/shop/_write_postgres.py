"""Write rows of PostgreSQL: one UPDATE from arrays, each given as one text (`'{1,2}'::bigint[]`).

Arrays in PostgreSQL's binary form were measured as well: 5 to 10 % faster in all, but tied to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from guard.shop._sql import quoted
from guard.shop.catalog import Sort

if TYPE_CHECKING:
    from guard.shop.bulk import Columns, Rewrite
    from guard.shop.catalog import Table
    from guard.shop.connect import Shop


class Writer:
    """Writes rows that still hold what they held, byte for byte."""

    def __init__(self, shop: Shop, job: Rewrite, told: tuple[str, ...]) -> None:
        wait = f"SET LOCAL lock_timeout = {shop.patience.lock // _MILLISECOND}"  # it holds other rows meanwhile
        triggered = any(trigger.on_update for trigger in job.table.triggers)  # what one asks is planned as ever
        self._settings = "; ".join([wait, *(f"SET LOCAL enable_{way} = off" for way in _WAYS if not triggered)])
        names = (*job.key, *told, *job.sets)
        types = [_type(job.table, name) for name in names]
        self._listed = [_LISTED.get(kind, _plain) for kind in types]
        given = [f"g{place}" for place in range(len(names))]
        keys, olds = given[: len(job.key)], given[len(job.key) : len(job.key) + len(told)]
        news = given[len(names) - len(job.sets) :]
        where = [f"t.{quoted(name)} = g.{part}" for name, part in zip(job.key, keys, strict=True)]
        where += [f"{_exact(job.table, name)} = g.{part}" for name, part in zip(told, olds, strict=True)]
        sets = [f"{quoted(name)} = g.{part}" for name, part in zip(job.sets, news, strict=True)]
        sets += [f"{quoted(name)} = t.{quoted(name)}" for name in job.keeps]
        place = f"{quoted(shop.schema or 'public')}.{quoted(job.table.name)}"
        sql = f"UPDATE {place} AS t SET {', '.join(sets)} FROM unnest(\0) AS g({', '.join(given)})"  # noqa: S608  # quoted
        sql = f"{sql} WHERE {' AND '.join(where)}".replace("%", "%%")
        self._sql = sql.replace("\0", ", ".join(f"%s::{kind}[]" for kind in types))  # no name holds a zero byte

    def write(self, connection: Connection, key: Columns, held: Columns, new: Columns) -> int:
        """See `guard.shop.bulk.Writer`."""
        connection.exec_driver_sql(self._settings)
        arrays = tuple(listed(column) for listed, column in zip(self._listed, (*key, *held, *new), strict=True))
        return connection.exec_driver_sql(self._sql, arrays).rowcount


def _type(table: Table, name: str) -> str:
    found = table.find(name)
    if found is None:  # a token column
        return "bytea"
    return "text" if found.sort is Sort.TEXT else found.type


def _exact(table: Table, name: str) -> str:
    """Return what compares byte by byte: no collation folds case, no type cuts blanks."""
    found = table.column(name)
    return f't.{quoted(name)}::text COLLATE "C"' if found.sort is Sort.TEXT else f"t.{quoted(name)}"


def _plain(column: Iterable[object]) -> str:
    """Return an array of what has no signs of its own: numbers, UUIDs."""
    return "{" + ",".join(["NULL" if part is None else str(part) for part in column]) + "}"


def _texts(column: Iterable[Any]) -> str:
    return "{" + ",".join(["NULL" if text is None else _quoted(text) for text in column]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytes(column: Iterable[Any]) -> str:
    return "{" + ",".join(["NULL" if raw is None else f'"\\\\x{raw.hex()}"' for raw in column]) + "}"


_MILLISECOND = timedelta(milliseconds=1)
_WAYS = ("seqscan", "hashjoin", "mergejoin")
"""How PostgreSQL reads a whole table for each batch, where keys do not lie as the rows do (UUIDs, texts) and rows are
some hundred thousand. Measured there: 12 to 25 us of a row, 6 to 11 without; no difference where keys ascend.
"""
_LISTED: dict[str, Callable[[Iterable[Any]], str]] = {"text": _texts, "bytea": _bytes}
