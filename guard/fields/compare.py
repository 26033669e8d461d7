"""What a sealed column may be compared with in SQL: values, by their tokens. All else is refused, aloud.

A query that silently finds nothing is the trap of sealed columns; so LIKE, ORDER BY, ranges and functions raise, in
every stage, before the first value is sealed: the shop's tests find them, not its customers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import types
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.operators import OperatorType

from guard.fields.live import Live
from guard.fields.seal import Clear, SealedColumnError, Stored
from guard.fields.store import Stage

if TYPE_CHECKING:
    from guard.fields.encrypted import Encrypted

Condition: TypeAlias = "sa.ColumnElement[bool]"

_EQUALS: Mapping[OperatorType, str] = {
    operators.eq: "==", operators.ne: "!=", operators.in_op: "in_", operators.not_in_op: "not_in",
}  # fmt: skip
_NULL = (operators.is_, operators.is_not)
_SAME = (operators.eq, operators.ne)
_NEGATED = (operators.ne, operators.not_in_op)
_ORDERS = (operators.desc_op, operators.asc_op, operators.nulls_first_op, operators.nulls_last_op)
_RANGES = (operators.lt, operators.le, operators.gt, operators.ge, operators.between_op, operators.not_between_op)


class Comparator(types.TypeDecorator.Comparator[Any]):
    """Turns == and in_ into a search for tokens; refuses every other operator and says why."""

    __slots__ = ()

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> sa.ColumnElement[Any]:
        """Return the condition of `op`. Raises SealedColumnError for what sealed values cannot be asked."""
        type_: Any = self.type
        if op in _NULL or (op in _SAME and (other[0] is None or _is_clause(other[0]))):
            return super().operate(op, *other, **kwargs)  # of two columns it is SQLAlchemy's own; in SQL it is refused
        if op not in _EQUALS:
            raise refused(type_.at, _named(op))
        return _equal(type_, self.expr, op, other[0])

    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> sa.ColumnElement[Any]:  # noqa: ARG002  # SQLAlchemy's
        """Raise SealedColumnError: what stands before a column is calculated with it."""
        type_: Any = self.type
        raise refused(type_.at, _named(op))


def refused(at: str, what: str) -> SealedColumnError:
    """Return the error for a question that sealed values do not answer."""
    return SealedColumnError(
        f"{what} on {at}: it is a sealed column, and the database sees only ciphertext",
        hint="search it with == or in_ where the catalog gives it an index; sort and filter the objects in Python",
    )


def _named(op: OperatorType) -> str:
    if op in _ORDERS:
        return "ORDER BY"
    if op in _RANGES:
        return "<, >, BETWEEN"
    name = getattr(op, "opstring", None) or getattr(op, "__name__", str(op)).removesuffix("_op")
    return "LIKE" if "like" in name or name in {"startswith", "endswith", "contains", "match"} else str(name)


def _equal(type_: Encrypted, expr: Any, op: OperatorType, value: Any) -> Condition:
    live = type_.keys.column(type_.at)
    if op in {operators.in_op, operators.not_in_op} and not _is_clause(value):
        value = list(value)
    _require(type_, live, expr, value)
    token = live.ready
    if token is None:
        found = _is(expr, expr.name, value, _Plain(type_, alone=True))
    else:
        found = _is(expr, token.name, value, _Token(type_, token.record.version))
        if live.stage is not Stage.STRICT:
            plain = _is(expr, expr.name, value, _Plain(type_))
            found = sa.or_(found, sa.and_(_beside(expr, token.name, types.LargeBinary()).is_(None), plain))
    if op not in _NEGATED:
        return found
    if token is not None and not token.exact:
        raise refused(type_.at, f"{_EQUALS[op]} by shortened tokens")
    return sa.not_(found)


def _require(type_: Encrypted, live: Live, expr: Any, value: Any) -> None:
    if live.index is None:
        raise SealedColumnError(
            f"{type_.at} is not searchable: the catalog gives it no index",
            hint='write index = "email" (or exact, phone, name, ...) in policies/catalog.toml, accept it, and run'
            " guard fields encrypt",
        )
    if live.stage.seals and live.ready is None:
        raise SealedColumnError(
            f"{type_.at} is not searchable yet: its index is not finished", hint="guard fields encrypt finishes it"
        )
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, Clear | Stored) or _is_clause(each) for each in values):
        raise SealedColumnError(
            f"{type_.at} is compared with values only, not with columns, parameters or subqueries",
            hint="give the value itself, and build the statement when it is used",
        )
    if not isinstance(getattr(expr, "table", None), sa.Table | sa.sql.selectable.Alias):
        raise SealedColumnError(
            f"{type_.at} is compared where its own table is selected from", hint="put the condition into the subquery"
        )


def _is_clause(value: Any) -> bool:
    return isinstance(value, sa.ClauseElement) or hasattr(value, "__clause_element__")


def _is(expr: Any, name: str, value: Any, type_: types.TypeEngine[Any]) -> Condition:
    """Return the condition that the column `name` of the same table is `value`, or one of them where it is a list."""
    column: sa.ColumnElement[Any] = _beside(expr, name, type_)
    if not isinstance(value, list):
        return column == sa.bindparam(None, value, type_=type_, unique=True)
    return column.in_(sa.bindparam(None, value, type_=type_, unique=True, expanding=True))


def _beside(expr: Any, name: str, type_: types.TypeEngine[Any]) -> Any:
    column = sa.column(name, type_)
    column.table = expr.table
    return column


class _Of(types.TypeDecorator[Any]):
    """A value that is compared with a column: made into what lies there when the statement is executed."""

    impl = types.LargeBinary

    def __init__(self, of: Encrypted) -> None:
        super().__init__()
        self.of = of

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return lambda value: None if value is None else self.made(value, dialect)

    def made(self, value: Any, dialect: Dialect) -> Any:
        raise NotImplementedError

    def stale(self) -> SealedColumnError:
        return SealedColumnError(
            f"a statement that looks for {self.of.at} was built before guard changed the column",
            hint="build statements when they are used, not once for the life of the process",
        )


class _Token(_Of):
    """A value, compared with the tokens of one version of the index key."""

    cache_ok = True

    def __init__(self, of: Encrypted, version: int) -> None:
        super().__init__(of)
        self.version = version

    def made(self, value: Any, dialect: Dialect) -> bytes | None:
        live = self.of.keys.column(self.of.at)
        token = next((each for each in live.tokens if each.record.version == self.version), None)
        if token is None:
            raise self.stale()
        return token.of.token(self.of.codec(dialect).sealable(value))


class _Plain(_Of):
    """A value, compared with what is not sealed yet. `alone`: nothing else is looked for."""

    cache_ok = True

    def __init__(self, of: Encrypted, alone: bool = False) -> None:
        super().__init__(of)
        self.alone = alone

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return self.of.load_dialect_impl(dialect)

    def made(self, value: Any, dialect: Dialect) -> Any:
        if self.alone and self.of.keys.column(self.of.at).stage.seals:
            raise self.stale()
        return self.of.codec(dialect).plain(value)
