"""guard's triggers on PostgreSQL. Their functions look at the row only when they run: a type may change under them."""

from collections.abc import Sequence
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
    """See `guard.shop.alter.follow`."""
    clear = "\n".join(
        f"    IF NEW.{token} IS NOT DISTINCT FROM OLD.{token} THEN NEW.{token} := NULL; END IF;"
        for token in map(quoted, tokens)
    )
    body = (
        f"BEGIN\n  IF {_changed(table, column)} AND NOT {sealed(table, column, 'NEW.')} THEN\n"
        f"{clear}\n  END IF;\n  RETURN NEW;\nEND"
    )
    _install(shop, table, names.trigger("follow", table.name, column), "UPDATE", body)


def fence(shop: Shop, table: Table, column: str, tokens: Sequence[str], *, plain: bool = False) -> None:
    """See `guard.shop.alter.fence`."""
    named = [quoted(token) for token in tokens]
    touched = " OR ".join([_changed(table, column), *(f"NEW.{token} IS DISTINCT FROM OLD.{token}" for token in named)])
    seal = [] if plain else [f"NOT {sealed(table, column, 'NEW.')}"]
    wrong = " OR ".join([*seal, *(f"NEW.{token} IS NULL" for token in named)])
    name = names.trigger("fence", table.name, column)
    refuse = (
        f"RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = {literal(name)},\n"
        f"      MESSAGE = {literal(refusal(table.name, column))};\n  END IF;\n"
    )
    # "fence" runs before "follow", which would empty these tokens: what lags behind counts as missing
    lag = " OR ".join(f"NEW.{token} IS NOT DISTINCT FROM OLD.{token}" for token in named)
    lags = (
        f"{_changed(table, column)} AND NOT {sealed(table, column, 'NEW.')} AND ({lag})" if plain and lag else "false"
    )
    body = (
        f"BEGIN\n  IF TG_OP = 'UPDATE' THEN\n    IF NOT ({touched}) THEN RETURN NEW; END IF;\n"
        f"    IF NEW.{quoted(column)} IS NOT NULL AND {lags} THEN\n    {refuse}  END IF;\n"
        f"  IF NEW.{quoted(column)} IS NOT NULL AND ({wrong}) THEN\n    {refuse}  RETURN NEW;\nEND"
    )
    _install(shop, table, name, "INSERT OR UPDATE", body)


def unguard(shop: Shop, table: Table, column: str) -> None:
    """See `guard.shop.alter.unguard`."""

    def step(connection: Connection) -> None:
        there = {trigger.name for trigger in triggers(connection, shop, table)}
        for kind in ("follow", "fence"):
            name = names.trigger(kind, table.name, column)
            if name in there:
                run(connection, f"DROP TRIGGER {quoted(name)} ON {qualified(shop, table.name)}")
            run(connection, f"DROP FUNCTION IF EXISTS {qualified(shop, name)}()")
            faults.point("shop.unguard.dropped")

    locked(shop, table, step)


def guards(shop: Shop, table: Table, column: str) -> frozenset[str]:
    """See `guard.shop.alter.guards`."""
    with shop.read() as connection:
        there = {trigger.name for trigger in triggers(connection, shop, table) if trigger.enabled in {"O", "A"}}
    return frozenset(kind for kind in ("follow", "fence") if names.trigger(kind, table.name, column) in there)


def _install(shop: Shop, table: Table, name: str, when: str, body: str) -> None:
    """Make or replace a trigger. The function alone is replaced where the trigger stands: that needs no table lock.

    It runs ALWAYS: else sessions with session_replication_role = replica, as loaders use it, would pass it by.
    """
    function, place = qualified(shop, name), qualified(shop, table.name)

    def step(connection: Connection) -> None:
        there = {trigger.name: trigger for trigger in triggers(connection, shop, table)}
        if name not in there or there[name].body != body:
            run(
                connection,
                f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {literal(body)}",
            )
        faults.point("shop.trigger.function")
        if name not in there:
            run(
                connection,
                f"CREATE TRIGGER {quoted(name)} BEFORE {when} ON {place} FOR EACH ROW EXECUTE FUNCTION {function}()",
            )
        if name not in there or there[name].enabled != "A":
            run(connection, f"ALTER TABLE {place} ENABLE ALWAYS TRIGGER {quoted(name)}")

    locked(shop, table, step, f"GRANT CREATE ON SCHEMA {shop.schema}; {OWNER}")


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
