"""What is done to a statement of the shop before it is executed: values sealed, token columns filled, mistakes named.

Listens on SQLAlchemy's engines. A statement without sealed columns passes after one look at its kind.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import event, types
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import SQLCompiler

from guard.fields.compare import Comparator, refused
from guard.fields.seal import SealedColumnError
from guard.shop.brought import brought

if TYPE_CHECKING:
    from guard.fields.encrypted import Encrypted

Parameters: TypeAlias = "tuple[Any, Sequence[Mapping[str, Any]], Mapping[str, Any]]"

_lock = threading.Lock()
_known: WeakKeyDictionary[sa.Table, dict[str, Encrypted]] = WeakKeyDictionary()
_checked: WeakSet[SQLCompiler] = WeakSet()


@cache
def watch() -> None:
    """Begin to listen, once a process."""
    event.listen(Engine, "before_execute", _before_execute, retval=True)
    event.listen(Engine, "before_cursor_execute", _before_cursor)


def forget(table: sa.Table) -> None:
    """Look again which columns of `table` are sealed: their types were changed."""
    _known.pop(table, None)


class _Tokens(types.LargeBinary):
    """The token column `token`. PostgreSQL is told the type of what is bound, NULLs included."""

    render_bind_cast = True

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        """Return what is bound, told as coming with its value."""
        return brought(self.token, bindvalue)


def _before_execute(
    connection: Connection,
    statement: Any,
    multiparams: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    _options: Mapping[str, Any],
) -> Parameters:
    if not isinstance(statement, sa.Insert | sa.Update) or not isinstance(statement.table, sa.Table):
        return statement, multiparams, params
    table = _own(statement.table)
    sealed = _sealed(table)
    if not sealed:
        return statement, multiparams, params
    _refuse_copies(statement, sealed)
    statement = _with_values(connection, statement, table, sealed)
    if multiparams:
        return statement, _prepared(connection, table, sealed, multiparams), params
    return statement, multiparams, _prepared(connection, table, sealed, [params])[0] if params else params


def _own(table: sa.Table) -> sa.Table:
    """Return the table itself where the mapper hands in an annotated copy."""
    return table.metadata.tables.get(table.key, table)


def _sealed(table: sa.Table) -> dict[str, Encrypted]:
    """Return the sealed columns of a table by their keys in parameters."""
    if (found := _known.get(table)) is None:
        found = {column.key: cast("Encrypted", column.type) for column in table.columns if _is_sealed(column)}
        _known[table] = found
    return found


def _is_sealed(element: Any) -> bool:
    return getattr(getattr(element, "type", None), "comparator_factory", None) is Comparator


def _prepared(
    connection: Connection, table: sa.Table, sealed: Mapping[str, Encrypted], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the parameters of a statement with values sealed and tokens beside them."""
    out = [dict(row) for row in rows]
    for key in sealed.keys() & rows[0].keys():
        values, tokens = sealed[key].ready([row[key] for row in rows], connection.dialect)
        for row, value in zip(out, values, strict=True):
            row[key] = value
        for name, found in tokens.items():
            column = _token_column(table, name)
            for row, token in zip(out, found, strict=True):
                row[column.key] = token
    return out


def _token_column(table: sa.Table, name: str) -> sa.Column[Any]:
    """Return a token column of the shop's table, made known to SQLAlchemy when it is first written.

    It is in no SELECT of the whole table and in no CREATE TABLE: it is guard's, and comes and goes.
    """
    with _lock:
        if name not in table.columns:
            table.append_column(sa.Column(name, _Tokens(name), system=True, _omit_from_statements=True))
        return table.columns[name]


def _with_values(connection: Connection, statement: Any, table: sa.Table, sealed: Mapping[str, Encrypted]) -> Any:
    """Return a statement with what it was given by `.values()` sealed."""
    if any(sealed.keys() & {_key(statement, name) for name in row} for rows in statement._multi_values for row in rows):
        raise SealedColumnError(
            f"a list of rows in values() of {table.name}, which has sealed columns",
            hint="give the rows to execute(): connection.execute(insert(table), seal(table, rows))",
        )
    given = {key: (name, value) for name, value in (statement._values or {}).items()
             if (key := _key(statement, name)) in sealed}  # fmt: skip
    changed: dict[Any, Any] = {}
    for key, (name, value) in given.items():
        values, tokens = sealed[key].ready([_value(sealed[key], value)], connection.dialect)
        changed[name] = sa.bindparam(None, values[0], type_=sealed[key], unique=True)
        changed.update({_token_column(table, token): found[0] for token, found in tokens.items()})
    if changed and getattr(statement, "_maintain_values_ordering", False):
        raise SealedColumnError(f"ordered_values() of {table.name}, which has sealed columns", hint="use values()")
    return statement.values(changed) if changed else statement


def _key(statement: Any, name: Any) -> str:
    """Return the key of a column that `values()` names by itself, its key, or the attribute it is mapped to."""
    if not isinstance(name, str):
        return str(getattr(name, "key", name))
    mapper = statement._propagate_attrs.get("plugin_subject")
    column = getattr(mapper, "columns", {}).get(name) if mapper is not None else None
    return name if column is None else str(column.key)


def _value(type_: Encrypted, value: Any) -> Any:
    if isinstance(value, sa.BindParameter) and value.callable is None and not value.required:
        return value.value
    if isinstance(value, sa.Null):
        return None
    if not isinstance(value, sa.ClauseElement):
        return value
    raise SealedColumnError(
        f"{type_.at}: SQL cannot make a sealed value", hint="read the values, and write them with seal(table, rows)"
    )


def _refuse_copies(statement: Any, sealed: Mapping[str, Encrypted]) -> None:
    """Raise SealedColumnError for INSERT ... SELECT into sealed columns, and for upserts that overwrite them."""
    copied = [_key(statement, name) for name in getattr(statement, "_select_names", None) or ()]
    clause = getattr(statement, "_post_values_clause", None)
    update = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None) or {}
    pairs = update.items() if isinstance(update, Mapping) else update
    for name in (*copied, *(_key(statement, name) for name, _ in pairs)):
        if name in sealed:
            raise SealedColumnError(
                f"{sealed[name].at}: a value that is copied into another row does not open there",
                hint="read the rows, and write them with seal(table, rows) in statements of their own",
            )


def _before_cursor(
    _connection: Connection, _cursor: object, _statement: str, _parameters: object, context: Any, _many: bool
) -> None:
    compiled = getattr(context, "compiled", None)
    if not isinstance(compiled, SQLCompiler) or compiled in _checked:
        return
    _check(compiled.statement)
    _checked.add(compiled)


def _check(statement: Any) -> None:
    """Raise SealedColumnError where SQL would work with ciphertext: functions, sorting, grouping, casts."""
    for element in visitors.iterate(statement) if statement is not None else ():
        for what, column in _uses(element):
            if _is_sealed(column):
                raise refused(column.type.at, what)


def _uses(element: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(element, sa.sql.functions.FunctionElement):
        name = getattr(element, "name", "a function")
        yield from (() if name == "count" else ((f"{name}()", part) for part in element.clauses))
    elif isinstance(element, sa.BinaryExpression) and element.operator not in {operators.is_, operators.is_not}:
        yield from (("a comparison", part) for part in (element.left, element.right))
    elif isinstance(element, sa.Cast):
        yield "CAST", element.clause
    elif isinstance(element, sa.Select | sa.CompoundSelect):
        yield from (("ORDER BY", part) for part in element._order_by_clauses)
        yield from (("GROUP BY", part) for part in element._group_by_clauses)
        if isinstance(element, sa.Select) and element._distinct:
            yield from (("DISTINCT", part) for part in element._raw_columns)
