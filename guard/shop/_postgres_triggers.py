"""guard's triggers on PostgreSQL. Their functions look at the row only when they run: a type may change under them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.shop import names
from guard.shop._postgres_change import OWNER, locked, qualified
from guard.shop._sql import literal, quoted, refusal, run
from guard.shop.catalog import Sort, Table
from guard.shop.connect import Shop

_C = 'pg_catalog."C"'
_TRIGGERS = """
SELECT t.tgname AS name, t.tgenabled AS enabled, p.prosrc AS body, pg_get_functiondef(p.oid) AS function
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :table AND NOT t.tgisinternal AND left(t.tgname, 7) = 'guard__'
"""


def follow(shop: Shop, table: Table, column: str, tokens: Sequence[str]) -> None:
    """See `guard.shop.alter.follow`.

    Which columns an UPDATE names is known only by which triggers it fires. So a trigger for each token, the first in
    the alphabet, marks one that is named and stays the same by a byte more, which this one takes off again.
    """
    each = "\n".join(
        f"  IF NEW.{token} IS NOT DISTINCT FROM OLD.{token} THEN\n"
        f"    IF changed THEN NEW.{token} := NULL; END IF;\n"
        f"  ELSIF NEW.{token} = {_marked(f'OLD.{token}')} THEN NEW.{token} := OLD.{token};\n  END IF;"
        for token in map(quoted, tokens)
    )
    body = f"DECLARE changed boolean := {_changed(table, column)};\nBEGIN\n{each}\n  RETURN NEW;\nEND"
    wanted = [_Trigger(names.trigger("follow", table.name, column), "UPDATE", body)]
    for token in tokens:
        name, named = names.brought(table.name, column, token), quoted(token)
        mark = f"IF NEW.{named} = OLD.{named} THEN NEW.{named} := {_marked(f'NEW.{named}')}; END IF;"
        wanted.append(_Trigger(name, f"UPDATE OF {named}", f"BEGIN\n  {mark}\n  RETURN NEW;\nEND"))
    _install(shop, table, wanted, column)


def fence(shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool = False) -> None:
    """See `guard.shop.alter.fence`."""
    named = [quoted(token) for token in tokens]
    touched = " OR ".join(["changed", *(f"NEW.{token} IS DISTINCT FROM OLD.{token}" for token in named)])
    seal = [] if plain else [f"NOT {sealed(table, column, 'NEW.')}"]
    wrong = " OR ".join([*seal, *(f"NEW.{token} IS NULL" for token in named)])
    name = names.trigger("fence", table.name, column)
    refuse = (
        f"RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = {literal(name)},\n"
        f"      MESSAGE = {literal(refusal(table.name, column))};\n  END IF;\n"
    )
    # "fence" runs before "follow", which would empty these tokens: what lags behind counts as missing
    lag = " OR ".join(f"NEW.{token} IS NOT DISTINCT FROM OLD.{token}" for token in named)
    body = (
        f"DECLARE changed boolean;\nBEGIN\n  IF TG_OP = 'UPDATE' THEN\n    changed := {_changed(table, column)};\n"
        f"    IF NOT ({touched}) THEN RETURN NEW; END IF;\n"
        f"    IF NEW.{quoted(column)} IS NOT NULL AND changed AND ({lag}) THEN\n    {refuse}  END IF;\n"
        f"  IF NEW.{quoted(column)} IS NOT NULL AND ({wrong}) THEN\n    {refuse}  RETURN NEW;\nEND"
    )
    _install(shop, table, [_Trigger(name, "INSERT OR UPDATE", body)])


def unguard(shop: Shop, table: Table, column: str) -> None:
    """See `guard.shop.alter.unguard`."""
    kinds = [names.trigger(kind, table.name, column) for kind in ("follow", "fence")]

    def step(connection: Connection) -> None:
        there = [trigger.name for trigger in triggers(connection, shop, table)]
        for name in dict.fromkeys([*(each for each in there if names.is_brought(each, table.name, column)), *kinds]):
            _drop(connection, shop, table, name, standing=name in there)

    locked(shop, table, step)


def guards(shop: Shop, table: Table, column: str) -> frozenset[str]:
    """See `guard.shop.alter.guards`."""
    with shop.read() as connection:
        there = {trigger.name for trigger in triggers(connection, shop, table) if trigger.enabled in {"O", "A"}}
    return frozenset(kind for kind in ("follow", "fence") if names.trigger(kind, table.name, column) in there)


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger that runs before `when`: "UPDATE OF token"."""

    name: str
    when: str
    body: str


def _install(shop: Shop, table: Table, wanted: Sequence[_Trigger], followed: str | None = None) -> None:
    """Make or replace triggers, all in one transaction.

    With `followed` those that note other tokens of this column go.
    """

    def step(connection: Connection) -> None:
        there = {trigger.name: trigger for trigger in triggers(connection, shop, table)}
        for each in wanted:
            _make(connection, shop, table, each, there.get(each.name))
        for name in there.keys() - {each.name for each in wanted}:
            if followed is not None and names.is_brought(name, table.name, followed):
                _drop(connection, shop, table, name, standing=True)

    locked(shop, table, step, f"GRANT CREATE ON SCHEMA {shop.schema}; {OWNER}")


def _make(connection: Connection, shop: Shop, table: Table, wanted: _Trigger, there: Any) -> None:
    """Make one trigger, or bring the one that is `there` up to date: its function alone, which needs no table lock.

    It runs ALWAYS: else sessions with session_replication_role = replica, as loaders use it, would pass it by.
    """
    function, place, name = qualified(shop, wanted.name), qualified(shop, table.name), quoted(wanted.name)
    if there is None or there.body != wanted.body:
        text = literal(wanted.body)
        run(connection, f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {text}")
    faults.point("shop.trigger.function")
    if there is None:
        made = f"CREATE TRIGGER {name} BEFORE {wanted.when} ON {place}"
        run(connection, f"{made} FOR EACH ROW EXECUTE FUNCTION {function}()")
    if there is None or there.enabled != "A":
        run(connection, f"ALTER TABLE {place} ENABLE ALWAYS TRIGGER {name}")


def _drop(connection: Connection, shop: Shop, table: Table, name: str, *, standing: bool) -> None:
    if standing:
        run(connection, f"DROP TRIGGER {quoted(name)} ON {qualified(shop, table.name)}")
    run(connection, f"DROP FUNCTION IF EXISTS {qualified(shop, name)}()")
    faults.point("shop.unguard.dropped")


def _marked(token: str) -> str:
    return f"{token} OPERATOR(pg_catalog.||) '\\x00'::bytea"


def sealed(table: Table, column: str, row: str) -> str:
    """Return the condition "begins as a sealed value", never NULL for a value."""
    name = f"{row}{quoted(column)}"
    if table.column(column).sort is Sort.BINARY:
        return f"COALESCE(pg_catalog.substr({name}, 1, 2) = '\\x6731'::bytea, false)"
    return f"COALESCE(pg_catalog.left({name}::text, 3) = 'g1.', false)"


def _changed(table: Table, column: str) -> str:
    """Return the condition "the value is another, byte by byte"."""
    name = quoted(column)
    if table.column(column).sort is Sort.BINARY:
        return f"NEW.{name} IS DISTINCT FROM OLD.{name}"
    return f"NEW.{name}::text COLLATE {_C} IS DISTINCT FROM OLD.{name}::text COLLATE {_C}"


def reload(connection: Connection, shop: Shop, table: Table) -> None:
    """Make guard's trigger functions anew: sessions that ran them before the change expect the old type."""
    for trigger in triggers(connection, shop, table):
        run(connection, trigger.function)


def triggers(connection: Connection, shop: Shop, table: Table) -> Sequence[Any]:
    return connection.execute(sa.text(_TRIGGERS), {"schema": shop.schema, "table": table.name}).all()
