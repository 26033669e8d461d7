"""Values of sealed columns between the shop's code and its database, and `seal` for statements without a Session.

The mapper seals what a Session flushes. For Core, bulk inserts and bulk updates, where SQLAlchemy tells nobody about
single rows, `seal` marks the values of rows, and they are sealed when the statement is executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, overload

import sqlalchemy as sa
from sqlalchemy.exc import DontWrapMixin

from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.fields.codec import Codec
    from guard.fields.encrypted import Encrypted

Row = Mapping[str, Any]
Place = Mapping[str, object]
"""What names the place of a value: columns of its row, by their names, in the shop's own types."""


class SealedColumnError(ConfigError, DontWrapMixin):
    """The shop's code met a sealed column on a way by which its values cannot be sealed or read. Says which way can."""


class Clear:
    """A value on its way in: sealed for its place, with its tokens, when its statement is executed."""

    __slots__ = ("late", "patient", "place", "type", "value")

    def __init__(self, type_: Encrypted, value: object, place: Place, *, patient: bool = False) -> None:
        self.type = type_
        self.value = value
        self.place = place
        self.patient = patient
        """Whether somebody brings it to its place later, when the database has not named that yet."""
        self.late = False
        """Set when a placeholder went in its stead."""

    def __repr__(self) -> str:
        return f"<a value for {self.type.at}>"


class Ready:
    """What the driver is given for a value. Made while a statement is executed."""

    __slots__ = ("raw",)

    def __init__(self, raw: object) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return "<sealed>"


class Stored:
    """A value as it lies in the database. A query for a column gives it, as only the row's key opens it.

    `stored.open(key)` returns the value; whole objects (`select(Customer)`) have theirs in clear:

        for key, email in session.execute(select(Customer.id, Customer.email)):
            email.open(key)
    """

    __slots__ = ("codec", "raw", "type")

    def __init__(self, type_: Encrypted, codec: Codec, raw: object) -> None:
        self.type = type_
        self.codec = codec
        self.raw = raw

    def open(self, *place: object) -> Any:
        """Return the value in clear.

        `place`: the row's primary key, in the table's order; with bind = "subject" the key of the person. Raises
        TamperedError when the value does not belong there.
        """
        return self.type.opened(self, place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and (self.type.at, self.raw) == (other.type.at, other.raw)

    def __hash__(self) -> int:
        return hash((self.type.at, self.raw))

    def __repr__(self) -> str:
        return f"<{self.type.at} as it is stored>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{self!r} has no {name}: select the whole object, or open it with its row's key")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: open it first")


@overload
def seal(target: sa.Table | type[Any], rows: Row) -> dict[str, Any]: ...
@overload
def seal(target: sa.Table | type[Any], rows: Sequence[Row]) -> list[dict[str, Any]]: ...
def seal(target: sa.Table | type[Any], rows: Row | Sequence[Row]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return a row, or rows, for an INSERT or UPDATE of `target` (a table or mapped class), values marked to be sealed.

    Each row holds its whole key, as values are bound to it, under the names of columns for a table, of attributes for a
    class. Raises SealedColumnError when a part of the key is missing.

        connection.execute(insert(customer), seal(customer, [{"id": 7, "email": "anna@example.org"}]))
        session.execute(update(Customer), seal(Customer, [{"id": 7, "email": "anna@example.org"}]))
        row = seal(Customer, {"id": 7, "email": "anna@example.org"})
        session.execute(update(Customer).where(Customer.id == 7).values(email=row["email"]))
    """
    columns = _columns(target)
    return _marked(columns, rows) if isinstance(rows, Mapping) else [_marked(columns, row) for row in rows]


def _columns(target: sa.Table | type[Any]) -> Mapping[str, sa.Column[Any]]:
    found = target.columns if isinstance(target, sa.Table) else sa.inspect(target).columns
    return {name: column for name, column in found.items() if isinstance(column, sa.Column)}


def _marked(columns: Mapping[str, sa.Column[Any]], row: Row) -> dict[str, Any]:
    place = {columns[name].name: value for name, value in row.items() if name in columns}
    return {name: _mark(columns.get(name), value, place) for name, value in row.items()}


def _mark(column: sa.Column[Any] | None, value: object, place: Place) -> object:
    type_: Any = column.type if column is not None else None
    if value is None or not hasattr(type_, "require"):
        return value
    type_.require(place)
    return Clear(type_, value, place)
