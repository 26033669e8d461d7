"""How a table of PostgreSQL is changed: in one transaction, under settings that texts depend on, waiting briefly."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard.shop._sql import needing, patiently, quoted, run, waiting
from guard.shop.catalog import Table
from guard.shop.connect import Shop

T = TypeVar("T")

_SETTINGS = (
    "search_path = pg_catalog",  # so that types and defaults are told with their schema
    "datestyle = 'ISO, YMD'",
    "timezone = 'UTC'",
    "intervalstyle = 'postgres'",
    "extra_float_digits = 1",
    "statement_timeout = 0",
)
"""What texts of typed values depend on, the same on the way there and back."""
_HOLDERS = """
SELECT DISTINCT a.pid, a.usename FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table)
ORDER BY a.pid LIMIT 5
"""
OWNER = "guard's account must own the table for that while: GRANT the role that owns it"


def qualified(shop: Shop, name: str) -> str:
    """Return the name of a table, index or function with its schema."""
    return f"{quoted(shop.schema or 'public')}.{quoted(name)}"


def holders(shop: Shop, table: Table) -> tuple[str, ...]:
    """Return whose processes hold a lock on the table."""
    with shop.read() as connection:
        rows = connection.execute(sa.text(_HOLDERS), {"schema": shop.schema, "table": table.name}).all()
    return tuple(f"process {pid} of {user or 'another account'}" for pid, user in rows)


def locked(shop: Shop, table: Table, step: Callable[[Connection], T], grant: str = OWNER) -> T:
    """Do `step` in one transaction under the settings texts depend on; wait for locks as the shop's patience says."""

    def attempt() -> T:
        with _changing(shop) as connection:
            return step(connection)

    with needing(grant):
        done = patiently(shop, f"the table {table.name}", attempt, lambda: holders(shop, table))
    shop.forget()
    return done


@contextlib.contextmanager
def _changing(shop: Shop) -> Iterator[Connection]:
    with shop.begin() as connection:
        for setting in _SETTINGS:
            run(connection, f"SET LOCAL {setting}")
        waiting(shop, connection)
        yield connection


@contextlib.contextmanager
def standing(shop: Shop) -> Iterator[Connection]:
    """Give a connection of its own in autocommit: it waits for locks as the shop's patience says, and runs for long."""
    with shop.bare() as connection:
        connection.detach()  # the settings end with it
        run(connection, f"SET lock_timeout = '{shop.patience.lock.total_seconds() * 1000:.0f}ms'")
        run(connection, "SET statement_timeout = 0")
        yield connection
