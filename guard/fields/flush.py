"""Objects of a Session: sealed for their rows as they are flushed, opened as they are loaded.

An attribute always holds its value in clear. Only between the mapper's events before and after a statement it holds the
value marked with its place; what a failed flush leaves so is put right when the Session rolls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstanceState, Mapper, Session, attributes, object_session

from guard.fields import sequences
from guard.fields.codec import Codec
from guard.fields.encrypted import Encrypted
from guard.fields.live import Live, View
from guard.fields.seal import Clear, SealedColumnError, Stored

_INFO = "guard.fields"
_NONE = object()


@dataclass(frozen=True, slots=True)
class _Way:
    """From an object to the bytes its values are bound to."""

    codec: Codec
    bound_by: tuple[str, ...]
    parts: tuple[tuple[str, int | None], ...]
    """For each column of the place its attribute, and where it stands in the object's identity."""
    bind: Callable[[Sequence[Any]], bytes]
    is_identity: bool
    """Whether the place is the identity as it is: the usual case, and worth a way of its own."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """An attribute that holds its value marked."""

    state: dict[str, Any]
    name: str
    clear: Clear

    def restore(self) -> None:
        """Put the value back in clear, if it is still marked."""
        if self.state.get(self.name) is self.clear:
            self.state[self.name] = self.clear.value


@dataclass(frozen=True, slots=True)
class _Late:
    """A value that went in as a placeholder, and the row it belongs to."""

    connection: Connection
    table: sa.Table
    key: Mapping[str, Any]
    column: str
    clear: Clear


@dataclass(slots=True)
class _Flush:
    """What one flush has marked, by the object's state; what it must still bring to its place; the keys it drew."""

    marked: dict[int, list[_Mark]] = field(default_factory=dict)
    late: list[_Late] = field(default_factory=list)
    drawn: dict[sa.Column[Any], list[Any]] = field(default_factory=dict)

    def end(self) -> list[_Late]:
        """Forget everything, put what is still marked back in clear, and return what waited for its place."""
        for marks in self.marked.values():
            for mark in marks:
                mark.restore()
        late = self.late
        self.marked, self.late, self.drawn = {}, [], {}
        return late


@cache
def watch_sessions() -> None:
    """Begin to listen to all Sessions, once a process."""
    event.listen(Session, "after_flush", _after_flush)
    event.listen(Session, "after_soft_rollback", _after_rollback)


def _after_flush(session: Session, _context: object) -> None:
    flush: _Flush | None = session.info.get(_INFO)
    if flush is not None:
        _place(flush.end())


def _after_rollback(session: Session, _transaction: object) -> None:
    flush: _Flush | None = session.info.get(_INFO)
    if flush is not None:
        flush.end()


def _place(late: list[_Late]) -> None:
    """Bring values to the rows whose keys are known now, one statement for all rows of a table and a set of columns."""
    rows: dict[tuple[Connection, sa.Table, tuple[Any, ...]], dict[str, Any]] = {}
    for each in late:
        row = rows.setdefault((each.connection, each.table, tuple(each.key.items())), dict(each.key))
        row[each.column] = each.clear
    groups: dict[tuple[Connection, sa.Table, tuple[str, ...]], list[dict[str, Any]]] = {}
    for (connection, table, _), row in rows.items():
        groups.setdefault((connection, table, tuple(row)), []).append(row)
    for (connection, table, _), found in groups.items():
        where = [column == sa.bindparam(_bind(column)) for column in table.primary_key]
        connection.execute(sa.update(table).where(*where), found)


def _bind(column: sa.Column[Any]) -> str:
    return f"guard_key_{column.key}"


class Watch:
    """Listens to the mapper of a class, for attributes of which each has a type of its own."""

    def __init__(self, class_: type[Any]) -> None:
        self.fields: dict[str, Encrypted] = {}
        self._ways: dict[Mapper[Any], _Way] = {}
        self._named: dict[tuple[Mapper[Any], str], dict[str, str]] = {}
        for name in ("before_insert", "before_update"):
            event.listen(class_, name, getattr(self, name), propagate=True)
        for name in ("after_insert", "after_update"):
            event.listen(class_, name, self.after, propagate=True)
        for name in ("load", "refresh", "refresh_flush"):
            event.listen(class_, name, getattr(self, name), propagate=True, raw=True)
        watch_sessions()

    # In ------------------------------------------------------------------------------------------------------------

    def before_insert(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        """Mark the values of a new object. Where its key comes from the database, it is drawn before."""
        state = attributes.instance_dict(target)
        flush = _flush_of(target)
        for name, type_ in self.fields.items():
            self._draw(mapper, connection, target, type_)
            if state.get(name) is None:
                _default(target, name, type_, connection)
            if state.get(name) is not None:
                self._mark(flush, mapper, target, name)

    def before_update(self, mapper: Mapper[Any], _connection: Connection, target: Any) -> None:
        """Mark the values that changed, and all of an object whose key changed: they are bound to it."""
        state = attributes.instance_dict(target)
        flush = _flush_of(target)
        for name, type_ in self.fields.items():
            moved = any(_changed(target, key) for key in self._attributes(mapper, type_).values())
            if moved:
                getattr(target, name)  # loads what is not there, by the key it still has
            if state.get(name) is not None and (moved or _changed(target, name)):
                if not _changed(target, name):
                    attributes.flag_modified(target, name)
                self._mark(flush, mapper, target, name)

    def after(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        """Put the values back in clear; note those whose row has its key only now."""
        state = attributes.instance_dict(target)
        flush = _flush_of(target)
        for mark in flush.marked.pop(id(state), ()):
            mark.restore()
            if mark.clear.late:
                flush.late.append(self._late(mapper, connection, state, mark))

    def _late(self, mapper: Mapper[Any], connection: Connection, state: Mapping[str, Any], mark: _Mark) -> _Late:
        type_ = mark.clear.type
        names = {column: mapper.get_property_by_column(column).key for column in type_.table.primary_key}
        place = {name: state.get(key) for name, key in self._attributes(mapper, type_).items()}
        key = {_bind(column): state[name] for column, name in names.items()}
        column = type_.column.key if type_.column is not None else ""
        return _Late(connection, type_.table, key, column, Clear(type_, mark.clear.value, place))

    def _mark(self, flush: _Flush, mapper: Mapper[Any], target: Any, name: str) -> None:
        state = attributes.instance_dict(target)
        type_ = self.fields[name]
        place = {column: getattr(target, key) for column, key in self._attributes(mapper, type_).items()}
        clear = Clear(type_, state[name], place, patient=True)
        flush.marked.setdefault(id(state), []).append(_Mark(state, name, clear))
        state[name] = clear

    def _draw(self, mapper: Mapper[Any], connection: Connection, target: Any, type_: Encrypted) -> None:
        """Give `target` the parts of its key that it lacks, where they can be had before it is inserted."""
        named = self._attributes(mapper, type_)
        if all(getattr(target, key) is not None for key in named.values()):
            return
        flush = _flush_of(target)
        for column in type_.table.primary_key:
            key = named.get(column.name)
            if key is None or getattr(target, key) is not None:
                continue
            if not flush.drawn.get(column):
                count = sum(isinstance(each, mapper.class_) for each in _session(target).new)
                flush.drawn[column] = sequences.next_values(connection, column, count)[::-1]
            if flush.drawn[column]:
                setattr(target, key, flush.drawn[column].pop())

    def _attributes(self, mapper: Mapper[Any], type_: Encrypted) -> dict[str, str]:
        """Return the attributes that name the place of a value, by their columns' names."""
        names = type_.key_names()
        found = self._named.get((mapper, type_.at))
        if found is None or tuple(found) != names:
            columns = {column.name: column for column in type_.table.columns}
            found = {name: mapper.get_property_by_column(columns[name]).key for name in names}
            self._named[mapper, type_.at] = found
        return found

    # Out -----------------------------------------------------------------------------------------------------------

    def load(self, state: InstanceState[Any], _context: object) -> None:
        """Open what was just loaded. This runs for every object of every query."""
        loaded = state.dict
        view: View | None = None
        place: tuple[tuple[str, ...], bytes] | None = None
        for name, type_ in self.fields.items():
            stored = loaded.get(name)
            if type(stored) is not Stored:
                if type(stored) is Clear and not stored.patient:  # a bulk update that the Session repeats on objects
                    loaded[name] = stored.value
                continue
            view = view or type_.keys.view()
            live, sealed = type_.settled(stored.raw, view)
            if not sealed:
                loaded[name] = stored.codec.load(stored.raw)
                continue
            if place is None or place[0] != live.bound_by:
                place = live.bound_by, self._bound(state, stored, live)
            loaded[name] = stored.codec.load(live.open(place[1], stored.raw))

    def refresh(self, state: InstanceState[Any], context: object, _names: object) -> None:
        """Open what was loaded again, or later than the rest."""
        self.load(state, context)

    refresh_flush = refresh

    def _bound(self, state: InstanceState[Any], stored: Stored, live: Live) -> bytes:
        identity = state.key[1] if state.key else ()
        way = self._ways.get(state.mapper)
        if way is None or way.codec is not stored.codec or way.bound_by != live.bound_by:
            way = self._ways[state.mapper] = _way(state.mapper, stored, live)
        if way.is_identity and identity:
            return way.bind(identity)
        loaded = state.dict
        place = [identity[at] if at is not None and identity else loaded.get(name, _NONE) for name, at in way.parts]
        if _NONE in place:
            raise SealedColumnError(
                f"{stored.type.at} is opened by {', '.join(live.bound_by)}, which this query does not load",
                hint="load it too: load_only(...) names every column it needs",
            )
        return way.bind(place)


def _way(mapper: Mapper[Any], stored: Stored, live: Live) -> _Way:
    columns = {column.name: column for column in stored.type.table.columns}
    keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    wanted = [mapper.get_property_by_column(columns[name]).key for name in live.bound_by]
    parts = tuple((key, keys.index(key) if key in keys else None) for key in wanted)
    return _Way(stored.codec, live.bound_by, parts, stored.type.binder(live, stored.codec.dialect), wanted == keys)


def _session(target: Any) -> Session:
    session = object_session(target)
    if session is None:
        raise LookupError("an object is flushed by its Session")
    return session


def _flush_of(target: Any) -> _Flush:
    found: _Flush = _session(target).info.setdefault(_INFO, _Flush())
    return found


def _changed(target: Any, name: str) -> bool:
    """Say whether an attribute holds another value than the database."""
    committed = attributes.instance_state(target).committed_state
    if name not in committed:
        return False
    return bool(committed[name] != attributes.instance_dict(target).get(name))


def _default(target: Any, name: str, type_: Encrypted, connection: Connection) -> None:
    """Give an attribute what the mapping says a new object has there, as nobody can seal it later."""
    value = getattr(target, name)
    if value is None and type_.column is not None and type_.column.default is not None:
        value = connection.scalar(type_.column.default)
    if value is not None:
        setattr(target, name, value)


def fields_of(class_: type[Any]) -> Iterator[tuple[str, sa.Column[Any]]]:
    """Yield the attributes of a mapped class that are columns of a table, without configuring any mapper."""
    for name, column in sa.inspect(class_).columns.items():
        if isinstance(column, sa.Column) and isinstance(column.table, sa.Table):
            yield name, column
