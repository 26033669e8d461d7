"""Statements written by hand: names and texts quoted, and run without a driver looking for parameters in them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, CursorResult

from guard.clock import SystemClock
from guard.errors import BusyError
from guard.shop._explain import GrantError
from guard.shop.connect import Shop

T = TypeVar("T")


def run(connection: Connection, sql: str) -> CursorResult[Any]:
    """Run one statement as it is; % and : in it mean nothing."""
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


def quoted(name: str) -> str:
    """Return a name as SQLite and PostgreSQL take it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def ticked(name: str) -> str:
    """Return a name as MariaDB takes it, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return a text as SQLite and PostgreSQL take it."""
    return "'" + text.replace("'", "''") + "'"


def refusal(table: str, column: str) -> str:
    """Return what the database says when it refuses a value that is not sealed, at most 128 characters."""
    return f"guard: {table}.{column}"[:60] + " takes only sealed values with their tokens"


def waiting(shop: Shop, connection: Connection) -> None:
    """Let statements of a connection wait for a table's lock as long as the shop's patience says, and no longer.

    On PostgreSQL until its transaction ends, on MariaDB (whose own patience is a day) until it is closed. SQLite's
    connections wait by themselves.
    """
    if shop.dialect == "postgresql":
        run(connection, f"SET LOCAL lock_timeout = '{shop.patience.lock.total_seconds() * 1000:.0f}ms'")
    elif shop.dialect == "mysql":
        connection.detach()  # the setting ends with it
        run(connection, f"SET SESSION lock_wait_timeout = {max(1, round(shop.patience.lock.total_seconds()))}")


def patiently(shop: Shop, what: str, step: Callable[[], T], holders: Callable[[], tuple[str, ...]]) -> T:
    """Return what `step` returns; try again where a lock was not given in time, as often as the shop's patience says.

    Raises BusyError with who is in the way, by `holders`, when it never was.
    """
    patience = shop.patience
    for _ in range(patience.tries - 1):
        try:
            return step()
        except BusyError:
            SystemClock().sleep(patience.rest)
    try:
        return step()
    except BusyError:
        who = holders()
        raise BusyError(
            f"{what}: others keep it locked in the shop's database at {shop.place}"
            + (f": {', '.join(who)}" if who else ""),
            hint="end what holds it, or wait for a quiet hour; then run the same command again",
        ) from None


@contextlib.contextmanager
def needing(grant: str) -> Iterator[None]:
    """Name `grant` in the hint when the database refuses what is done within, unless its own words tell which it is."""
    try:
        yield
    except GrantError as error:
        if not str(error.hint).startswith("GRANT"):
            error.hint = f"{grant}; docs/GRANTS.md lists the grants of each command"
        raise
