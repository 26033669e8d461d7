"""Change a table of MariaDB for sealing: types, token columns, their indexes, guard's triggers.

Definitions are taken from SHOW CREATE TABLE and kept word for word for the way back.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.errors import ConfigError, GuardError, InterlockError
from guard.shop import names
from guard.shop._collide import collide
from guard.shop._explain import GrantError, code
from guard.shop._mysql_define import Definition, parse, widened
from guard.shop._sql import needing, patiently, refusal, run, ticked
from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop

T = TypeVar("T")

WHY_NOT: Mapping[str, str] = MappingProxyType(
    {
        "float": "MariaDB loses digits when it writes one as text; make it a double first",
        "bit": "MariaDB does not write one as text",
        **dict.fromkeys(
            ("point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometry",
             "geometrycollection", "vector"),
            "MariaDB does not write one as text",
        ),
    }
)  # fmt: skip
"""Types that cannot be made a text and back."""

_COPIED = "ALGORITHM = COPY"
"""Under a lock. Left to itself MariaDB (10.11) changes a collation while others write, and the indexes on it then lack
what these wrote: it marks them as corrupted, and every statement that uses one fails."""
_TOO_LONG, _TOO_WIDE, _NO_PREFIX, _TWICE = "1071", "1118", "1170", "1062"
_REASONS = {
    **dict.fromkeys(("1265", "1406"), "it holds values that are longer than {kind}, or are none"),
    **dict.fromkeys(("1264", "1292", "1366", "1411", "4025"), "it holds values that are no {kind}"),
    _TWICE: "two of its values are the same as {kind}, and it is unique",
}
"""Why values do not go back, by the error's number."""
_SETTINGS = (
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES'",  # what does not fit is an error
    "sql_quote_show_create = 1",
    "time_zone = '+00:00'",
    "max_statement_time = 0",
)
_COLUMN = """
SELECT character_set_name, collation_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = :table AND column_name = :column
"""
_BINARY = """
SELECT collation_name FROM information_schema.collations
WHERE character_set_name = :charset AND collation_name LIKE '%\\_bin' ORDER BY collation_name LIKE '%nopad%' DESC
"""
_INDEX = """
SELECT non_unique FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = :table AND index_name = :index
"""
_TRIGGERS = """
SELECT trigger_name, action_statement FROM information_schema.triggers
WHERE trigger_schema = DATABASE() AND event_object_table = :table AND trigger_name LIKE 'guard\\_\\_%'
"""
_HOLDERS = """
SELECT t.trx_mysql_thread_id, p.user FROM information_schema.innodb_trx t
JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.id <> CONNECTION_ID()
ORDER BY t.trx_started LIMIT 5
"""


def original(shop: Shop, table: Table, column: str) -> str | None:
    """See `guard.shop.alter.original`."""
    with changing(shop) as connection:
        found = _definition(connection, table, column)
    return None if found.fits(2**24) else found.sql


def widen(shop: Shop, table: Table, column: str, longest: int) -> None:
    """See `guard.shop.alter.widen`."""

    def step(connection: Connection) -> None:
        found = _definition(connection, table, column)
        if found.fits(longest):
            return
        collation = connection.execute(sa.text(_BINARY), {"charset": found.charset or "ascii"}).scalar()
        change = f"ALTER TABLE {ticked(table.name)} {_COPIED}, MODIFY COLUMN {ticked(column)} "
        try:
            run(connection, change + widened(found, column, longest, collation))
        except sa.exc.DBAPIError as error:
            if code(error) != _TOO_WIDE:
                raise
            run(connection, change + widened(found, column, longest, collation, blob=True))
        faults.point("shop.widen.altered")

    try:
        _locked(shop, table, step, "ALTER")
    except GuardError as error:
        if code(error) in {_TOO_LONG, _TOO_WIDE, _NO_PREFIX}:
            raise InterlockError(
                f"{table.name}.{column}: a sealed value of {longest} characters does not fit into its row or its index",
                hint="drop the index on it, or shorten what it holds",
            ) from None
        raise


def narrow(shop: Shop, table: Table, column: str, original: str) -> str | None:
    """See `guard.shop.alter.narrow`."""

    def step(connection: Connection) -> str | None:
        found = _definition(connection, table, column)
        if found.sql == original:
            return None
        if not (found.is_text or found.is_binary):
            return f"it is a {found.type} by now, which guard did not make it"
        if left := _count(connection, table, _sealed(column, "", binary=found.is_binary)):
            return f"{left} of its values are still sealed"
        limit = re.match(r"(?:var)?(char|binary)\((\d+)\)", original)
        measure = "CHAR_LENGTH" if limit and limit[1] == "char" else "LENGTH"
        if limit and _count(connection, table, f"{measure}({ticked(column)}) > {limit[2]}"):  # blanks would be cut
            return f"it holds values that are longer than {limit[0]}"
        run(connection, f"ALTER TABLE {ticked(table.name)} {_COPIED}, MODIFY COLUMN {ticked(column)} {original}")
        faults.point("shop.narrow.altered")
        return None

    try:
        return _locked(shop, table, step, "ALTER")
    except GuardError as error:
        if (why := _REASONS.get(code(error))) is None:
            raise
        return why.format(kind=original.partition(" ")[0])


def add_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.add_token`."""

    def step(connection: Connection) -> None:
        if not _has(connection, table, name):
            run(connection, f"ALTER TABLE {ticked(table.name)} ADD COLUMN {ticked(name)} VARBINARY(16) NULL INVISIBLE")

    _locked(shop, table, step, "ALTER")


def drop_token(shop: Shop, table: Table, name: str) -> None:
    """See `guard.shop.alter.drop_token`."""

    def step(connection: Connection) -> None:
        for trigger, body in _triggers(connection, table).items():
            if ticked(name) in body:
                raise InterlockError(f"guard's trigger {trigger} still writes {table.name}.{name}")
        if _has(connection, table, name):
            run(connection, f"ALTER TABLE {ticked(table.name)} DROP COLUMN {ticked(name)}")

    _locked(shop, table, step, "ALTER")


def index_token(shop: Shop, table: Table, name: str, *, unique: bool) -> None:
    """See `guard.shop.alter.index_token`."""
    index = names.token_index(table.name, name)

    def step(connection: Connection) -> None:
        there = connection.execute(sa.text(_INDEX), {"table": table.name, "index": index}).scalar()
        if there is not None and bool(there) != unique:
            return
        drop = f"DROP INDEX {ticked(index)}, " if there is not None else ""
        kind = "UNIQUE INDEX" if unique else "INDEX"
        run(connection, f"ALTER TABLE {ticked(table.name)} {drop}ADD {kind} {ticked(index)} ({ticked(name)})")

    if unique:
        collide(shop, table, name)
    try:
        _locked(shop, table, step, "ALTER, INDEX")
    except GuardError as error:
        if code(error) == _TWICE:
            collide(shop, table, name)
        raise
    faults.point("shop.index.built")


def follow(shop: Shop, table: Table, column: str, tokens: Sequence[str]) -> None:
    """See `guard.shop.alter.follow`.

    A trigger of MariaDB does not know which columns an UPDATE names. So who writes a token assigns it to a user
    variable of its name as well, in the same statement (`guard.shop.brought`), and each row takes that up again.
    """
    each = "".join(
        f"  IF NEW.{token} <=> OLD.{token} AND NOT (NEW.{token} <=> CAST(@{token} AS BINARY)) AND changed THEN\n"
        f"    SET NEW.{token} = NULL;\n  END IF;\n  SET @{token} = NULL;\n"
        for token in map(ticked, tokens)
    )
    body = f"BEGIN\n  DECLARE changed BOOLEAN DEFAULT {_changed(column)};\n{each}END"
    fence = names.trigger("fence_update", table.name, column)
    _install(shop, table, [_Trigger(names.trigger("follow", table.name, column), "UPDATE", body, "PRECEDES", fence)])


def fence(shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool = False) -> None:
    """See `guard.shop.alter.fence`. It comes behind the trigger that empties tokens, and refuses what lacks one."""
    value, tokens = ticked(column), [ticked(token) for token in tokens]
    seal = [] if plain else [f"NOT {_sealed_now(table, column)}"]
    wrong = " OR ".join([*seal, *(f"NEW.{token} IS NULL" for token in tokens)])
    changed = " OR ".join([_changed(column), *(f"NOT (NEW.{token} <=> OLD.{token})" for token in tokens)])
    said = refusal(table.name, column).replace("\\", "\\\\").replace("'", "''")
    refuse = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{said}';"
    on_insert, on_update = (
        f"BEGIN\n  IF NEW.{value} IS NOT NULL AND ({refused}) THEN\n    {refuse}\n  END IF;\nEND"
        for refused in (wrong, f"({changed}) AND ({wrong})")
    )
    behind = names.trigger("follow", table.name, column)
    update = _Trigger(names.trigger("fence_update", table.name, column), "UPDATE", on_update, "FOLLOWS", behind)
    _install(shop, table, [_Trigger(names.trigger("fence", table.name, column), "INSERT", on_insert), update])


def unguard(shop: Shop, table: Table, column: str) -> None:
    """See `guard.shop.alter.unguard`."""

    def step(connection: Connection) -> None:
        there = _triggers(connection, table)
        for kind in ("follow", "fence", "fence_update"):
            if (name := names.trigger(kind, table.name, column)) in there:
                run(connection, f"DROP TRIGGER {ticked(name)}")
                faults.point("shop.unguard.dropped")

    _locked(shop, table, step, "TRIGGER")


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


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger that runs before `when`; where the trigger `other` stands, it "FOLLOWS" or "PRECEDES" it."""

    name: str
    when: str
    body: str
    order: str = ""
    other: str = ""


def _install(shop: Shop, table: Table, wanted: Sequence[_Trigger]) -> None:
    """Make or replace triggers. One that stands as it should is left alone."""

    def step(connection: Connection) -> None:
        there = _triggers(connection, table)
        for each in wanted:
            if there.get(each.name) != each.body:
                place = f"BEFORE {each.when} ON {ticked(table.name)} FOR EACH ROW"
                order = f" {each.order} {ticked(each.other)}" if each.other in there else ""
                run(connection, f"CREATE OR REPLACE TRIGGER {ticked(each.name)} {place}{order}\n{each.body}")
                faults.point("shop.trigger.made")

    _locked(shop, table, step, "TRIGGER")


def _sealed_now(table: Table, column: str) -> str:
    return _sealed(column, "NEW.", binary=table.column(column).sort is Sort.BINARY)


def _sealed(column: str, row: str, *, binary: bool) -> str:
    """Return the condition "begins as a sealed value", never NULL for a value."""
    value = f"{row}{ticked(column)}"
    if binary:
        return f"COALESCE(LEFT({value}, 2) = x'6731', FALSE)"
    return f"COALESCE(CAST(LEFT(CONVERT({value} USING utf8mb4), 3) AS BINARY) = x'67312E', FALSE)"


def _changed(column: str) -> str:
    """Return the condition "the value is another, byte by byte"; the collation knows no case."""
    value = ticked(column)
    return f"NOT (CAST(NEW.{value} AS BINARY) <=> CAST(OLD.{value} AS BINARY))"


def _definition(connection: Connection, table: Table, column: str) -> Definition:
    """Return a column's definition, character set and collation always told, though they be the table's own."""
    row = connection.execute(sa.text(_COLUMN), {"table": table.name, "column": column}).first()
    if row is None:
        raise InterlockError(f"the shop has no column {table.name}.{column} any more")
    create = str(tuple(run(connection, f"SHOW CREATE TABLE {ticked(table.name)}").one())[1])
    return replace(parse(create, column), charset=row[0], collation=row[1])


def _count(connection: Connection, table: Table, condition: str) -> int:
    query = f"SELECT COUNT(*) FROM {ticked(table.name)} WHERE {condition}"  # noqa: S608  # quoted
    return int(run(connection, query).scalar_one())


def _has(connection: Connection, table: Table, name: str) -> bool:
    return connection.execute(sa.text(_COLUMN), {"table": table.name, "column": name}).first() is not None


def _triggers(connection: Connection, table: Table) -> dict[str, str]:
    """Return guard's triggers on a table, each with its body."""
    rows = connection.execute(sa.text(_TRIGGERS), {"table": table.name})
    return {str(row.trigger_name): str(row.action_statement) for row in rows}


def holders(shop: Shop) -> tuple[str, ...]:
    """Return whose connections have a transaction open, as far as guard's account may see."""
    try:
        with shop.read() as connection:
            rows = connection.execute(sa.text(_HOLDERS)).all()
    except GrantError:
        return ()
    return tuple(f"connection {number} of {user}" for number, user in rows)


def _locked(shop: Shop, table: Table, step: Callable[[Connection], T], grant: str) -> T:
    """Do `step` on a connection with settings of its own; wait for locks as the shop's patience says."""

    def attempt() -> T:
        with changing(shop) as connection:
            return step(connection)

    with needing(f"GRANT {grant} ON {ticked(table.name)}"):
        done = patiently(shop, f"the table {table.name}", attempt, lambda: holders(shop))
    shop.forget()
    return done


@contextlib.contextmanager
def changing(shop: Shop) -> Iterator[Connection]:
    """Give a connection of its own in autocommit: strict, in UTC, waiting for locks as the shop's patience says."""
    seconds = max(1, round(shop.patience.lock.total_seconds()))
    waits = (f"lock_wait_timeout = {seconds}", f"innodb_lock_wait_timeout = {seconds}")
    with shop.bare() as connection:
        if not getattr(connection.dialect, "is_mariadb", False):
            raise ConfigError("guard seals on MariaDB, not on MySQL", hint="move the shop to MariaDB 10.6 or newer")
        connection.detach()  # the settings end with it
        run(connection, f"SET SESSION {', '.join((*_SETTINGS, *waits))}")
        yield connection
