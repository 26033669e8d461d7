"""Turn the write-ahead log of PostgreSQL over: begin a new file, give up old ones, overwrite what is kept for reuse.

A file that is given up is renamed and used again later; until then it holds what it held. Each switch fills the current
file to its end (with zeros) and goes on to the next, so as many switches as there are such files overwrite them all.
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guard import faults
from guard.clock import SystemClock
from guard.shop._explain import GrantError
from guard.shop._sql import run
from guard.shop.connect import Shop
from guard.shop.remains import Kind, Remains

_MOST = 1 << 30
"""Bytes that are overwritten at most: as many as max_wal_size, by default, lets be kept."""
_SIZE = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'"
_STALE = """
SELECT max(name) FROM pg_ls_waldir() WHERE length(name) = 24 AND modification < CAST(:since AS timestamptz)
"""
_NOW = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
_STEPS = (
    ("SELECT pg_switch_wal()", "EXECUTE ON FUNCTION pg_switch_wal()"),
    ("CHECKPOINT", "pg_checkpoint"),
    ("SELECT count(*) FROM pg_ls_waldir()", "pg_monitor"),
)


def turn_over(shop: Shop) -> tuple[str | None, tuple[Remains, ...]]:
    """Return from when on (a time of the server) nothing old was written, and what could not be done, with the grant.

    Without all grants the time is None: every file counts as old then.
    """
    for statement, grant in _STEPS:
        try:
            with shop.bare() as connection:
                run(connection, statement)
        except GrantError:
            how = f"GRANT {grant} TO guard's account and finalize again; the server does so by itself in time"
            return None, (Remains(Kind.LOG, "WAL, which could not be turned over", None, how),)
        faults.point("shop.scrub.log")
    with shop.bare() as connection:
        since = str(run(connection, "SELECT clock_timestamp()::text").scalar_one())
        SystemClock().sleep(timedelta(seconds=1.1))  # times of files are told in whole seconds
        _overwrite(connection, since)
    return since, ()


def most(connection: Connection) -> tuple[int, int]:
    """Return how many files are overwritten at most, and how many bytes each has."""
    size = int(run(connection, _SIZE).scalar_one())
    return max(1, _MOST // size), size


def _overwrite(connection: Connection, since: str) -> None:
    """Go on to a new file until every one that was not written `since` lies behind."""
    for _ in range(most(connection)[0]):
        before = str(run(connection, _NOW).scalar_one())
        last = connection.execute(sa.text(_STALE), {"since": since}).scalar()
        run(connection, "SELECT pg_logical_emit_message(false, 'guard', '')")  # a file without anything is not left
        run(connection, "SELECT pg_switch_wal()")
        faults.point("shop.scrub.overwritten")
        if last is None or str(last) <= before:
            return
