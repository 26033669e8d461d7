"""Change a table of SQLite for sealing: token columns, their indexes, guard's triggers. Types need no change there."""

from collections.abc import Callable, Sequence

from sqlalchemy.engine import Connection

from guard import faults
from guard.errors import InterlockError
from guard.shop import names
from guard.shop._collide import collide
from guard.shop._sql import literal, patiently, quoted, refusal, run
from guard.shop.catalog import Table
from guard.shop.connect import Shop

_BROUGHT = quoted(names.BROUGHT)


def original(shop: Shop, table: Table, column: str) -> str | None:  # noqa: ARG001  # any value fits any column
    """See `guard.shop.alter.original`."""
    return None


def widen(shop: Shop, table: Table, column: str, longest: int) -> None:
    """See `guard.shop.alter.widen`."""


def narrow(shop: Shop, table: Table, column: str, original: str) -> str | None:  # noqa: ARG001  # nothing was widened
    """See `guard.shop.alter.narrow`."""
    return None


def add_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.add_token`."""

    def step(connection: Connection) -> None:
        if not _has(connection, table, name):
            run(connection, f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(name)} BLOB")

    _locked(shop, table, step)


def drop_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.drop_token`."""

    def step(connection: Connection) -> None:
        for trigger, sql in _triggers(connection, table).items():
            if quoted(name) in sql:
                raise InterlockError(f"guard's trigger {trigger} still writes {table.name}.{name}")
        run(connection, f"DROP INDEX IF EXISTS {quoted(names.token_index(table.name, name))}")
        if _has(connection, table, name):
            run(connection, f"ALTER TABLE {quoted(table.name)} DROP COLUMN {quoted(name)}")

    _locked(shop, table, step)


def index_token(shop: Shop, table: Table, name: str, *, unique: bool) -> None:
    """See `guard.shop.alter.index_token`."""
    index = names.token_index(table.name, name)

    def step(connection: Connection) -> None:
        query = 'SELECT "unique" FROM pragma_index_list(?) WHERE name = ?'
        there = connection.exec_driver_sql(query, (table.name, index)).scalar()
        if there is not None and bool(there) == unique:
            return
        run(connection, f"DROP INDEX IF EXISTS {quoted(index)}")
        kind = "UNIQUE INDEX" if unique else "INDEX"
        run(connection, f"CREATE {kind} {quoted(index)} ON {quoted(table.name)} ({quoted(name)})")

    if unique:
        collide(shop, table, name)
    _locked(shop, table, step)
    faults.point("shop.index.built")


def follow(shop: Shop, table: Table, column: str, tokens: Sequence[str]) -> None:
    """See `guard.shop.alter.follow`. SQLite's triggers cannot change NEW: the row is written once more.

    Which columns an UPDATE names is known only by which triggers it fires, in no certain order but that BEFORE comes
    before AFTER: so the one notes a token that is named in a table, and the other looks there. What the row holds by
    then stays: another trigger may have changed the value, and its token was emptied for that. Of plain values no note
    is taken, it would be a copy: there a token comes along by being another.
    """
    value = quoted(column)
    kept = [f"({_other(token)} OR NEW.{quoted(token)} IS NULL OR EXISTS {_noted(token, value)})" for token in tokens]
    sets = ", ".join(
        f"{token} = CASE WHEN {stays} THEN {token} END" for token, stays in zip(map(quoted, tokens), kept, strict=True)
    )
    row = " AND ".join(f"{key} IS NEW.{key}" for key in map(quoted, table.key))  # a key of SQLite may hold NULL
    empty = f"UPDATE {quoted(table.name)} SET {sets} WHERE {row} AND NOT ({' AND '.join(kept)})"  # noqa: S608  # quoted
    forget = f"DELETE FROM {_BROUGHT} WHERE value IS NEW.{value}"  # noqa: S608  # quoted
    wanted = {
        names.trigger("follow", table.name, column): f"AFTER UPDATE OF {value} ON {quoted(table.name)}\n"
        f"WHEN {_changed(column)}\nBEGIN {empty}; {forget}; END"
    }
    for token in tokens:
        named = quoted(token)
        note = f"INSERT INTO {_BROUGHT} VALUES ({literal(token)}, NEW.{value})"  # noqa: S608  # quoted
        stays = f"NEW.{named} IS OLD.{named} AND NEW.{named} IS NOT NULL"
        wanted[names.brought(table.name, column, token)] = (
            f"BEFORE UPDATE OF {named} ON {quoted(table.name)}\n"
            f"WHEN {stays} AND {_changed(column)} AND {_sealed(column)}\nBEGIN {note}; END"
        )
    _install(shop, table, wanted, column)


def fence(shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool = False) -> None:
    """See `guard.shop.alter.fence`."""
    value, named = quoted(column), [quoted(token) for token in tokens]
    name = names.trigger("fence", table.name, column)
    seal = [] if plain else [f"NOT {_sealed(column)}"]
    wrong = " OR ".join([*seal, *(f"NEW.{token} IS NULL" for token in named)])
    changed = " OR ".join([_changed(column), *map(_other, tokens)])
    refuse = f"BEGIN SELECT RAISE(ABORT, {literal(refusal(table.name, column))}); END"
    on_update = names.trigger("fence_update", table.name, column)
    _install(
        shop,
        table,
        {
            name: f"BEFORE INSERT ON {quoted(table.name)}\nWHEN NEW.{value} IS NOT NULL AND ({wrong})\n{refuse}",
            on_update: f"BEFORE UPDATE OF {', '.join([value, *named])}"
            f" ON {quoted(table.name)}\nWHEN NEW.{value} IS NOT NULL AND ({changed}) AND ({wrong})\n{refuse}",
        },
    )


def unguard(shop: Shop, table: Table, column: str) -> None:
    """See `guard.shop.alter.unguard`."""
    kinds = {names.trigger(kind, table.name, column) for kind in ("follow", "fence", "fence_update")}

    def step(connection: Connection) -> None:
        for name in _triggers(connection, table):
            if name in kinds or names.is_brought(name, table.name, column):
                run(connection, f"DROP TRIGGER {quoted(name)}")
                faults.point("shop.unguard.dropped")
        query = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND instr(sql, ?)"
        if connection.exec_driver_sql(query, (names.BROUGHT,)).first() is None:
            run(connection, f"DROP TABLE IF EXISTS {_BROUGHT}")

    _locked(shop, table, step)


def guards(shop: Shop, table: Table, column: str) -> frozenset[str]:
    """See `guard.shop.alter.guards`."""
    with shop.read() as connection:
        there = _triggers(connection, table)
    needed = {"follow": ("follow",), "fence": ("fence", "fence_update")}
    return frozenset(
        kind
        for kind, parts in needed.items()
        if all(names.trigger(part, table.name, column) in there for part in parts)
    )


def _install(shop: Shop, table: Table, wanted: dict[str, str], followed: str | None = None) -> None:
    """Make or replace triggers, by name; with `followed` those that note other tokens of this column go."""
    made = {name: f"CREATE TRIGGER {quoted(name)} {sql}" for name, sql in wanted.items()}

    def step(connection: Connection) -> None:
        if followed is not None:
            run(connection, f"CREATE TABLE IF NOT EXISTS {_BROUGHT} (token TEXT, value)")
        there = _triggers(connection, table)
        old = {name for name in there if followed and names.is_brought(name, table.name, followed)}
        for name in [*made, *(old - made.keys())]:
            sql = made.get(name)
            if there.get(name) != sql:
                run(connection, f"DROP TRIGGER IF EXISTS {quoted(name)}")
                faults.point("shop.trigger.dropped")
                if sql is not None:
                    run(connection, sql)

    _locked(shop, table, step)


def _other(token: str) -> str:
    return f"NEW.{quoted(token)} IS NOT OLD.{quoted(token)}"


def _noted(token: str, value: str) -> str:
    return f"(SELECT 1 FROM {_BROUGHT} WHERE token = {literal(token)} AND value IS NEW.{value})"  # noqa: S608  # quoted


def _changed(column: str) -> str:
    """Return the condition "the value is another, byte by byte"."""
    value = quoted(column)
    return f"(NEW.{value} COLLATE BINARY IS NOT OLD.{value} OR typeof(NEW.{value}) <> typeof(OLD.{value}))"


def _sealed(column: str) -> str:
    """Return the condition "NEW begins as a sealed value", never NULL: the beginning of an empty blob is one."""
    value = f"NEW.{quoted(column)}"
    return (
        f"COALESCE(CASE typeof({value}) WHEN 'text' THEN substr({value}, 1, 3) = 'g1.'"
        f" WHEN 'blob' THEN substr({value}, 1, 2) = x'6731' END, 0)"
    )


def _triggers(connection: Connection, table: Table) -> dict[str, str]:
    """Return guard's triggers on a table, each with its SQL."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)", (table.name,)
    )
    return {name: sql for name, sql in rows if names.is_guards(name)}


def _has(connection: Connection, table: Table, name: str) -> bool:
    rows = connection.exec_driver_sql("SELECT name FROM pragma_table_xinfo(?)", (table.name,))
    return name in set(rows.scalars())


def _locked(shop: Shop, table: Table, step: Callable[[Connection], None]) -> None:
    """Do `step` in one transaction; all of SQLite is one lock, which the connection itself waits for."""

    def attempt() -> None:
        with shop.begin() as connection:
            step(connection)

    patiently(shop, f"the table {table.name}", attempt, tuple)
    shop.forget()
