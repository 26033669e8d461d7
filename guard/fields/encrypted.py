"""The type of a sealed column, for SQLAlchemy: what is bound to it, what comes back, what it is compared by.

A type never sees the row of a value. So values that are bound to their row come in marked with their place (`Clear`)
and go out as they are stored (`Stored`); the mapper does both for objects, `seal` for statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler
from sqlalchemy.types import TypeEngine

from guard.canon import key_bytes
from guard.crypto import random
from guard.crypto.stored import looks_sealed, to_binary, to_text
from guard.errors import ConfigError
from guard.fields import compare, statements
from guard.fields.codec import Codec
from guard.fields.keys import FieldKeys
from guard.fields.live import Live, View
from guard.fields.seal import Clear, Place, Ready, SealedColumnError, Stored
from guard.fields.store import Stage

T = TypeVar("T")

_NOT_MARKED = "Core and bulk statements: seal(table, rows); objects in a Session: protect(Class, keys, ...)"
_PLACEHOLDER = 47
"""Bytes a sealed empty text has: as long as it takes to be one."""


class _Raw(types.UserDefinedType[Any]):
    """What the driver takes and gives, untouched. In DDL it is the type that the shop declared."""

    cache_ok = True

    def __init__(self, plain: TypeEngine[Any]) -> None:
        self.plain = plain
        # where SQLAlchemy casts what it inserts (many rows with RETURNING, on PostgreSQL), it must not cut: VARCHAR
        self.length = None if isinstance(plain, types.LargeBinary) else 1

    @property
    def _type_affinity(self) -> type[TypeEngine[Any]]:
        return types.LargeBinary if self.length is None else types.String


@compiles(_Raw)
def _declared(element: _Raw, compiler: TypeCompiler, **kw: Any) -> str:
    return compiler.process(element.plain, **kw)


class Encrypted(types.TypeDecorator[Any]):
    """The type of the column that the catalog calls `at` ("Table.Column"), declared as `plain` in the database.

    Serves bind = "column" alone: `mapped_column(Encrypted("Customer.Token", keys, String(60)))`. For bind = "row" and
    "subject" `guard.fields.column.protect` puts it in place.
    """

    impl: Any = types.String
    cache_ok = True

    def __init__(self, at: str, keys: FieldKeys, plain: TypeEngine[Any] | type[TypeEngine[Any]] = types.String) -> None:
        self.at = at
        self.keys = keys
        self.plain: TypeEngine[Any] = types.to_instance(plain)
        self.impl = self.plain
        self.column: sa.Column[Any] | None = None
        self._codecs: WeakKeyDictionary[Dialect, Codec] = WeakKeyDictionary()
        statements.watch()

    comparator_factory = compare.Comparator

    # What SQLAlchemy asks -------------------------------------------------------------------------------------------

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:  # noqa: ARG002  # SQLAlchemy's signature
        """Return what values go through: nothing. This type does all of it."""
        return _Raw(self.plain)

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG002  # SQLAlchemy's signature
        """Return what gives the driver a value, and refuses one that is not marked."""
        return self._bound_value

    def _bound_value(self, value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not Ready:
            raise SealedColumnError(f"{self.at}: a bare value cannot be bound to a sealed column", hint=_NOT_MARKED)
        return value.raw

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002  # SQLAlchemy's signature
        """Return what refuses to write a value into the text of a statement."""

        def refuse(_: object) -> str:
            raise SealedColumnError(f"{self.at}: a value cannot be written into a statement's text", hint=_NOT_MARKED)

        return refuse

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002  # SQLAlchemy's
        """Return what gives the shop's code a value: with bind = "column" in clear, else as it is stored."""
        if dialect.is_async:
            raise ConfigError(
                f"{self.at}: field keys serve synchronous engines only",
                hint="let the shop's sealed tables be read and written by a synchronous Session in a thread",
            )
        codec = self.codec(dialect)
        if self.keys.column(self.at).bind == "column":
            return self._reader(codec)
        return lambda raw: None if raw is None else Stored(self, codec, raw)

    def _reader(self, codec: Codec) -> Callable[[Any], Any]:
        """Return what gives a value in clear that is bound to nothing but its column."""
        view, settled, load = self.keys.view, self.settled, codec.load

        def read(raw: Any) -> Any:
            if raw is None:
                return None
            live, sealed = settled(raw, view())
            return load(live.open(b"", raw) if sealed else raw)

        return read

    def compare_values(self, x: Any, y: Any) -> bool:
        """Say whether two values of the shop's code are equal; a marked one equals none."""
        return type(x) is not Clear and type(y) is not Clear and self.plain.compare_values(x, y)

    def _set_parent(self, parent: Any, outer: bool = False, **kw: Any) -> None:
        super()._set_parent(parent, outer=outer, **kw)
        self.column = parent

    # Places ---------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> sa.Table:
        """The table of its column. Raises SealedColumnError for a type that stands alone."""
        if self.column is None:
            raise SealedColumnError(f"{self.at}: the type of a sealed column cannot stand alone")
        return self.column.table

    def key_names(self) -> tuple[str, ...]:
        """Return the columns that name a place, as far as they are known: those of the key, or of the person."""
        live = self.keys.column(self.at)
        return live.bound_by if live.cell else () if live.bind == "column" else tuple(
            column.name for column in self.table.primary_key
        )  # fmt: skip

    def require(self, place: Place) -> None:
        """Raise SealedColumnError when `place` lacks a part of what a value is bound to."""
        if missing := [name for name in self.key_names() if place.get(name) is None]:
            raise SealedColumnError(
                f"{self.at}: a row without {', '.join(missing)} cannot be sealed",
                hint="give it in the row, or add objects to a Session, which knows when the database gives it",
            )

    def binder(self, live: Live, dialect: Dialect) -> Callable[[Sequence[Any]], bytes]:
        """Return what makes the bound bytes of a place, given by the values of `live.bound_by` in the shop's types."""
        if not live.bound_by:
            return lambda _: b""
        named = {column.name: column for column in self.table.columns}
        convert = [_to_driver(named[name].type, dialect) for name in live.bound_by]
        if not any(convert):
            return key_bytes
        return lambda values: key_bytes(
            [each(value) if each else value for each, value in zip(convert, values, strict=True)]
        )

    # In and out -----------------------------------------------------------------------------------------------------

    def codec(self, dialect: Dialect) -> Codec:
        """Return how values cross to a database."""
        if (found := self._codecs.get(dialect)) is None:
            found = self._codecs[dialect] = Codec(self.plain, dialect)
        return found

    def ready(self, values: Sequence[Any], dialect: Dialect) -> tuple[list[Any], dict[str, list[bytes | None]]]:
        """Return values as the driver takes them, and beside them what each token column gets, by its name."""
        live = self.keys.column(self.at)
        marked = [None if value is None else self._marked(value, live) for value in values]
        given = [each for each in marked if each is not None]
        codec = self.codec(dialect)
        clear = [codec.sealable(each.value) for each in given]
        raws = iter(self._sealed(live, given, clear, dialect) if live.stage.seals else self._plain(live, given, codec))
        tokens = {token.name: iter(token.of.tokens(clear)) for token in live.tokens}
        return (
            [None if each is None else Ready(next(raws)) for each in marked],
            {name: [None if each is None else next(found) for each in marked] for name, found in tokens.items()},
        )

    def _marked(self, value: Any, live: Live) -> Clear:
        if type(value) is Clear and value.type.at == self.at:
            return value
        if live.bind == "column" and not isinstance(value, Clear | Ready | Stored):
            return Clear(self, value, {})
        raise SealedColumnError(f"{self.at}: a bare value cannot be bound to a sealed column", hint=_NOT_MARKED)

    def _sealed(self, live: Live, given: Sequence[Clear], clear: list[Any], dialect: Dialect) -> list[object]:
        bound_of = self.binder(live, dialect)
        bounds, values, late = [], [], []
        for each, value in zip(given, clear, strict=True):
            place = [each.place.get(name) for name in live.bound_by]
            each.late = None in place
            if each.late and not each.patient:
                self.require(each.place)
            late.append(each.late)
            if not each.late:
                bounds.append(bound_of(place))
                values.append(value)
        sealed = iter(live.seal(bounds, values))
        return [_placeholder(value, live) if waits else next(sealed) for waits, value in zip(late, clear, strict=True)]

    def _plain(self, live: Live, given: Sequence[Clear], codec: Codec) -> list[object]:
        raws = [codec.plain(each.value) for each in given]
        if live.stage is not Stage.PLAIN and any(map(looks_sealed, raws)):
            raise SealedColumnError(
                f'{self.at}: a value that begins with "g1." cannot be stored before the column is sealed',
                hint="what begins so is taken for a sealed value: it is stored once the column is sealed",
            )
        return raws

    def opened(self, stored: Stored, place: Sequence[object]) -> Any:
        """Return a stored value in clear. Raises TamperedError when it does not belong to `place`."""

        live, sealed = self.settled(stored.raw, self.keys.view())
        if not sealed:
            return stored.codec.load(stored.raw)
        if len(place) != len(live.bound_by):
            raise SealedColumnError(f"{self.at} is opened by {', '.join(live.bound_by)}, in this order")
        return stored.codec.load(live.open(self.binder(live, stored.codec.dialect)(place), stored.raw))

    def settled(self, raw: object, view: View) -> tuple[Live, bool]:
        """Return the column as it stands, and whether the value is to be opened.

        What `view` cannot explain is decided by a fresh look. Raises TamperedError for plain text in a finished column.
        """
        sealed = looks_sealed(raw)
        live = view.columns.get(self.at)
        if live is None or not live.explains(sealed=sealed):
            live = self.keys.again(self.at)
            live.refuse(sealed=sealed)
        return live, sealed and live.cell is not None


def _placeholder(value: object, live: Live) -> object:
    """Return what looks sealed and opens nowhere, to stand in a row until the row's key is known. FORMATS 2."""
    raw = bytes([2, 0]) + bytes(5) + random.token(_PLACEHOLDER - 7)
    return to_binary(raw) if isinstance(value, bytes) and live else to_text(raw)


def _to_driver(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return how a part of a key becomes what the driver gives for it; None where it is the same."""
    if isinstance(type_, types.Uuid) and dialect.name in {"mariadb", "mysql"}:
        native = type_.native_uuid and dialect.supports_native_uuid
        return lambda value: str(UUID(str(value))) if native else UUID(str(value)).hex
    return type_.dialect_impl(dialect).bind_processor(dialect)
