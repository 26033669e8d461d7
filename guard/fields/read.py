"""Reading and writing single sealed values, for the rooms that are handed these functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from guard.canon import KeyPart, key_bytes
from guard.crypto.stored import looks_sealed
from guard.crypto.subjects import SHREDDED
from guard.errors import InterlockError, TamperedError
from guard.fields.store import Stage
from guard.fields.value import Cell

Open = Callable[[Sequence[KeyPart], object], object]
"""Gives the value of a row: (key parts in the record's order, what is stored) -> value."""
Seal = Callable[[Sequence[KeyPart], object], object]
"""Gives what is to be stored for a row: (key parts, value) -> stored."""
WhosePerson = Callable[[Sequence[KeyPart]], bytes | None]
"""Gives the canonical key of the person a row is about; None when it leads to nobody."""


class Tokens(NamedTuple):
    """The token columns that have to be written with a value, and what goes into them."""

    names: tuple[str, ...] = ()
    make: Callable[[object], Sequence[object]] = lambda _: ()


@dataclass(frozen=True, slots=True)
class Reach:
    """A column, as single values of it are read and written."""

    cell: Cell
    stage: Stage
    whose: WhosePerson | None = None
    """Needed with `bind = "subject"`."""


def as_it_is(_: Sequence[KeyPart], value: object) -> object:
    """Return `value`: the column is not sealed."""
    return value


def opener(reach: Reach) -> Open:
    """Return the function that reads a column: values with their type, None where a person's key was shredded.

    What looks sealed must open, and a strict column refuses plaintext: both raise TamperedError.
    """
    cell = reach.cell

    def read(key: Sequence[KeyPart], stored: object) -> object:
        if looks_sealed(stored):
            [value] = cell.open_each(_bounds(reach, key), (stored,))
            return None if value is SHREDDED else value
        if reach.stage is Stage.STRICT and stored is not None:
            raise TamperedError(
                f"{cell.at} is finished, but a row of it holds plain text",
                hint="somebody wrote past the seal; guard fields verify counts such rows",
            )
        return cell.typed((stored,))[0]

    return read


def sealer(reach: Reach) -> Seal:
    """Return the function that prepares a value for a column: sealed from the moment its stage says so."""
    cell = reach.cell

    def write(key: Sequence[KeyPart], value: object) -> object:
        if value is None:
            return None
        if not reach.stage.seals:
            return cell.plain((value,))[0]
        return cell.seal_all(_bounds(reach, key), cell.typed((value,)))[0]

    return write


def tokens(reach: Reach) -> Tokens:
    """Return what goes into the token columns of a column with each value."""
    cell = reach.cell

    def make(value: object) -> Sequence[object]:
        return tuple(None for _ in cell.token_names) if value is None else cell.tokens(cell.typed((value,)))[0]

    return Tokens(cell.token_names, make)


def _bounds(reach: Reach, key: Sequence[KeyPart]) -> Sequence[bytes]:
    row = key_bytes(key)
    if reach.whose is None:
        return reach.cell.bounds((row,))
    person = reach.whose(key)
    if person is None:
        raise InterlockError(f"{reach.cell.at}: a row leads to no person, so there is no key for its value")
    return reach.cell.bounds((row,), (person,))
