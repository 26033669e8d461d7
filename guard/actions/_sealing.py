"""One batch of a column's values, as the shop's code tells them at the agent's socket: read, sealed, opened, tokens.

All of a batch or nothing. What is wrong is said with its place in the batch, never with the value.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID

from guard.canon import key_bytes
from guard.crypto.stored import looks_sealed
from guard.crypto.subjects import SHREDDED
from guard.errors import ConfigError, TamperedError
from guard.fields import store, typed
from guard.fields.kinds import Spelling, spelling_of
from guard.fields.store import Stage
from guard.shop.catalog import Sort

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json, KeyPart
    from guard.fields.live import Live
    from guard.fields.value import Cell
    from guard.shop import ShopColumn, Table

T = TypeVar("T")

MOST: Final = 10_000
"""Values in one batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Values of one column and what each is bound to; None stands for NULL."""

    live: Live
    bounds: Sequence[bytes]
    values: Sequence[Any]
    spelling: Spelling

    def sealed(self) -> list[Json]:
        """Return each value as the column stores it: sealed, or as it is where the column does not seal yet."""
        live, there = self.live, self._there(self.values)
        values = self._typed(there)
        if not live.stage.seals:
            self._require_plain(there)
            return [typed.write(value) for value in self.values]
        sealed = iter(self._each(lambda at: live.seal([self.bounds[i] for i in at], [values[i] for i in at]), there))
        return [None if value is None else typed.write(next(sealed)) for value in self.values]

    def tokens(self) -> dict[str, Json]:
        """Return for each token column what it gets for each value: base64, or None where there is nothing."""
        there = self._there(self.values)
        values = self._typed(there)
        out: dict[str, Json] = {}
        for token in self.live.tokens:
            of = token.of.token
            made = self._each(lambda at, of=of: [of(values[i]) for i in at], there)  # type: ignore[misc]  # bound now
            found = dict(zip(there, made, strict=True))
            out[token.name] = [_text(found.get(i)) for i in range(len(self.values))]
        return out

    @property
    def is_explained(self) -> bool:
        """Whether all that is stored can have been written as the column stands here; else a fresh look decides."""
        return all(self.live.explains(sealed=looks_sealed(self.values[i])) for i in self._there(self.values))

    def opened(self) -> tuple[list[Json], int]:
        """Return each value in clear, what never was sealed as it is, and how many were opened.

        Raises TamperedError for one that does not belong to its place, and for plain text in a finished column.
        """
        for i in self._there(self.values):
            self._refuse(i)
        sealed = [i for i in self._there(self.values) if looks_sealed(self.values[i])]
        out: list[object] = list(self.values)
        if not sealed or self.live.cell is None:
            return [typed.write(value) for value in out], 0
        cell = cast("Cell", self.live.cell)  # in guard's own process it is one
        found = self._each(
            lambda at: cell.open_each([self.bounds[i] for i in at], [self.values[i] for i in at]), sealed
        )
        for i, value in zip(sealed, found, strict=True):
            out[i] = value
        return [typed.write(value) for value in out], sum(value is not SHREDDED for value in found)

    # Inside -----------------------------------------------------------------------------------------------------------

    def _there(self, values: Sequence[object]) -> list[int]:
        return [i for i, value in enumerate(values) if value is not None]

    def _typed(self, there: Sequence[int]) -> dict[int, Any]:
        """Return values with the type that the sweep seals them with: drivers give numbers and times as texts, too."""
        return dict(zip(there, self.spelling.typed([self.values[i] for i in there]), strict=True))

    def _refuse(self, i: int) -> None:
        try:
            self.live.refuse(sealed=looks_sealed(self.values[i]))
        except TamperedError as error:
            raise TamperedError(f"value {i + 1}: {error}", hint=error.hint) from None

    def _require_plain(self, there: Sequence[int]) -> None:
        if self.live.stage is Stage.PLAIN:
            return
        for i in there:
            if looks_sealed(self.values[i]):
                raise ConfigError(
                    f'value {i + 1} of {self.live.at} begins with "g1.", and the column is not sealed yet',
                    hint="what begins so is taken for a sealed value: it is stored once the column is sealed",
                )

    def _each(self, work: Callable[[Sequence[int]], Sequence[T]], at: Sequence[int]) -> Sequence[T]:
        """Return what `work` makes of the values at these places; where it fails, say which is the first to."""
        try:
            return work(at)
        except (TypeError, ValueError, TamperedError):
            for i in at:
                self._alone(work, i)
            raise  # none fails alone

    def _alone(self, work: Callable[[Sequence[int]], object], i: int) -> None:
        try:
            work([i])
        except TamperedError as error:
            raise TamperedError(f"value {i + 1}: {error}", hint=error.hint) from None
        except (TypeError, ValueError):
            kind = type(self.values[i]).__name__
            raise ConfigError(
                f"value {i + 1}: a {kind} cannot be sealed or searched in {self.live.at}",
                hint="docs/FORMATS.md 12 says how values are told, and 3 what each index reads",
            ) from None


def parsed_batch(app: App, live: Live, args: Mapping[str, Any], *, keyed: bool = True) -> Batch:
    """Return the batch that was told; `keyed`: its values are bound to something.

    Raises ConfigError that names the first value or key that is wrong.
    """
    told = args.get("values")
    if not isinstance(told, list) or not 0 < len(told) <= MOST:
        raise ConfigError(f'"values" is a list of 1 to {MOST} values')
    values = [_read(live.at, i, each) for i, each in enumerate(told)]
    bounds: Sequence[bytes] = [b""] * len(values)
    if keyed and live.bind != "column":
        bounds = _bounds(app, live, args.get("keys"), len(values))
    return Batch(live, bounds, values, _spelling(app, live))


def _read(at: str, i: int, told: object) -> Any:
    try:
        value = typed.read(told)
    except typed.WrongValueError as error:
        raise ConfigError(f"value {i + 1} of {at}: {error}") from None
    if value is SHREDDED:
        raise ConfigError(f"value {i + 1} of {at} was shredded: there is nothing to seal or open")
    return value


def _bounds(app: App, live: Live, keys: object, count: int) -> list[bytes]:
    """Return what binds each value. Before a column is sealed nothing does: keys are asked for all the same."""
    if not isinstance(keys, list) or len(keys) != count:
        raise ConfigError(
            f'"keys" is a list of {count} keys, one for each value of {live.at}',
            hint="a key is the list of what the row's primary key holds; where values are bound to a person, of theirs",
        )
    if live.cell is None:
        return [b""] * count
    table = _table(app, live)
    read = [_reader(table.column(name), app.shop.dialect) for name in live.bound_by]
    names = ", ".join(live.bound_by)
    return [_bound(read, names, i, key) for i, key in enumerate(keys)]


def _bound(read: Sequence[Callable[[str], KeyPart]], names: str, i: int, key: object) -> bytes:
    if not isinstance(key, list) or len(key) != len(read):
        raise ConfigError(f"key {i + 1} is not a list of what lies in the row's {names}")
    if not all(isinstance(part, int | str) and not isinstance(part, bool) for part in key):
        raise ConfigError(f"key {i + 1}: each part is a whole number or a text; bytes are told in hex")
    try:
        return key_bytes([of(str(part)) for of, part in zip(read, key, strict=True)])
    except (ValueError, ArithmeticError):
        raise ConfigError(f"key {i + 1} holds what cannot lie in the row's {names}") from None


def _table(app: App, live: Live) -> Table:
    """Return the column's table, looked up anew where it is not known as it is."""
    name = live.at.partition(".")[0]
    known = app.shop.tables().get(name)
    if known is None or any(known.find(each) is None for each in live.bound_by):
        app.shop.tables(fresh=True)
    return app.shop.table(name)


def _reader(column: ShopColumn, dialect: str) -> Callable[[str], KeyPart]:
    """Return how a part of a key is read, as what the database's driver gives for it: so guard bound it."""
    if column.sort is Sort.INTEGER or (column.sort is Sort.NUMBER and dialect == "sqlite"):
        return _whole
    if column.type.lower() == "uuid" and dialect == "postgresql":
        return UUID
    if column.sort is Sort.NUMBER:
        return _decimal
    return bytes.fromhex if column.sort is Sort.BINARY else str


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError("no whole number of 64 bits")
    return int(text)


def _decimal(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return Decimal(text)


_WHOLE: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,100}(\.[0-9]{1,100})?", re.ASCII)


def _spelling(app: App, live: Live) -> Spelling:
    """Return how the database writes the column's values as texts, also while only its index is built."""
    if live.cell is not None:
        return live.cell.spec.spelling
    if not live.tokens:
        return Spelling()
    with app.state.read() as tx:
        record = store.find(tx, live.tokens[0].record.column_id)
    return Spelling() if record is None else spelling_of(app.shop.dialect, record.kind, record.original_type)


def _text(token: bytes | None) -> str | None:
    return None if token is None else b64encode(token).decode()
