"""Rows that carry a keyed digest of themselves: only guard can write one that is believed.

Who can write to state's database can still delete rows, or put back a row as it once was; docs/THREAT_MODEL.md says
what that gives. docs/FORMATS.md, section 8, says what is digested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Any

from sqlalchemy import Column, String, Table, delete, insert, select, update

from guard.canon import parts
from guard.errors import TamperedError
from guard.state.db import Tx

Digest = Callable[[str, bytes], str]
"""The keyring's keyed digest: domain and bytes in, 64 hex characters out."""

Row = Mapping[str, Any]


def seal_column() -> Column[str]:
    """Return the last column of a table whose rows are sealed."""
    return Column("seal", String(64), nullable=False)


class Sealed:
    """One table whose rows are believed only with their seal."""

    def __init__(self, table: Table, digest: Digest) -> None:
        self._table = table
        self._digest = digest

    def add(self, tx: Tx, **values: Any) -> None:
        """Store a new row; columns that are not given are empty."""
        tx.execute(insert(self._table).values(**self._sealed(values)))

    def find(self, tx: Tx, **equal: Any) -> list[Row]:
        """Return the rows whose columns equal what is given, by primary key.

        Raises TamperedError naming the table and key of a row that guard did not write.
        """
        query = select(self._table).order_by(*self._table.primary_key)
        for name, value in equal.items():
            query = query.where(self._table.c[name] == value)
        return [self._believed(row._asdict()) for row in tx.execute(query)]

    def change(self, tx: Tx, row: Row, **values: Any) -> bool:
        """Change `row` when it still is as it was read, and tell whether it was: an atomic compare-and-set."""
        new = self._sealed({**row, **values})
        same = [column == row[column.name] for column in self._table.primary_key]
        done = tx.execute(update(self._table).where(*same, self._table.c.seal == row["seal"]).values(**new))
        return done.rowcount == 1

    def drop_before(self, tx: Tx, column: str, value: str, **equal: Any) -> None:
        """Delete the rows whose `column` is less than `value`, and whose others equal what is given."""
        same = [self._table.c[name] == each for name, each in equal.items()]
        tx.execute(delete(self._table).where(self._table.c[column] < value, *same))

    def _sealed(self, values: Row) -> dict[str, Any]:
        bare = {column.name: values.get(column.name) for column in self._table.columns if column.name != "seal"}
        return {**bare, "seal": self._digest(self._table.name, parts(*map(_bytes, bare.values())))}

    def _believed(self, row: Row) -> Row:
        if not compare_digest(self._sealed(row)["seal"], row["seal"]):
            key = " ".join(str(row[column.name]) for column in self._table.primary_key)
            raise TamperedError(
                f"state: {self._table.name} {key} is not what guard wrote",
                hint="someone else wrote to state's database; keep a copy of it, then restore state from a backup",
            )
        return row


def _bytes(value: object) -> bytes:
    """Return a column's value as FORMATS 8 writes it: 00 for none, else 01 and the value."""
    match value:
        case None:
            return b"\x00"
        case bytes():
            return b"\x01" + value
        case bool():
            return b"\x01" + (b"1" if value else b"0")
        case _:
            return b"\x01" + str(value).encode()
