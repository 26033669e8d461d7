"""Reading and writing single sealed values, for the rooms that are handed these functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from guard.canon import KeyPart, key_bytes
from guard.crypto.envelope import looks_sealed
from guard.errors import TamperedError
from guard.fields.store import Stage
from guard.fields.value import Cell

Open = Callable[[Sequence[KeyPart], object], object]
"""Gives the value of a row: (key parts in the record's order, what is stored) -> value."""
Seal = Callable[[Sequence[KeyPart], object], object]
"""Gives what is to be stored for a row: (key parts, value) -> stored."""


def as_it_is(_: Sequence[KeyPart], value: object) -> object:
    """Return `value`: the column is not sealed."""
    return value


def opener(cell: Cell, stage: Stage) -> Open:
    """Return the function that reads a column. A strict column refuses plaintext; what looks sealed must open."""

    def read(key: Sequence[KeyPart], stored: object) -> object:
        if isinstance(stored, str) and looks_sealed(stored):
            return cell.open(key_bytes(key), stored)
        if stage is Stage.STRICT and stored is not None:
            raise TamperedError(
                f"{cell.column.at} is finished, but a row of it holds plain text",
                hint="somebody wrote past the seal; guard fields verify counts such rows",
            )
        return stored

    return read


def sealer(cell: Cell, stage: Stage) -> Seal:
    """Return the function that prepares a value for a column: sealed unless the column is in plain text."""
    if stage in {Stage.PLAIN, Stage.OPENING}:
        return as_it_is

    def write(key: Sequence[KeyPart], value: object) -> object:
        return cell.seal(key_bytes(key), value) if isinstance(value, str) else value

    return write
