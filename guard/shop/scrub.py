"""Clear old values from the shop's own database: rows, indexes, statistics, free pages. The rest is only told."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from guard.shop import _scrub_mysql, _scrub_postgres, _scrub_sqlite
from guard.shop._postgres_wal import most
from guard.shop.connect import Shop
from guard.shop.remains import Kind, Remains, Scrubbed
from guard.shop.surroundings import surroundings

_Scrub = Callable[[Shop, Mapping[str, Sequence[str]]], Scrubbed]
_SCRUBS: Mapping[str, _Scrub] = MappingProxyType(
    {"sqlite": _scrub_sqlite.scrub, "postgresql": _scrub_postgres.scrub, "mysql": _scrub_mysql.scrub}
)


def costs(shop: Shop) -> tuple[str, ...]:
    """Say in words what `scrub` asks of a shop that runs, for whoever is to agree to it."""
    if shop.dialect == "sqlite":
        return ("write the whole file anew (VACUUM): nobody else writes meanwhile, and it needs twice its room",)
    if shop.dialect == "mysql":
        return (
            "write each table anew (ALTER TABLE ... FORCE), with a short exclusive lock at begin and end",
            "wait up to 30 seconds for the undo log, and begin a new binlog",
        )
    with shop.read() as connection:
        files, size = most(connection)
    return (
        "write each table anew (VACUUM FULL): nobody reads or writes it meanwhile",
        f"checkpoint, and overwrite up to {files} old files of WAL:"
        f" at most {files * size >> 20} MiB more for archive and replicas, if any",
    )


def scrub(shop: Shop, columns: Mapping[str, Sequence[str]]) -> tuple[Remains, ...]:
    """Write the tables of `columns` (names by table) anew, and their statistics; return where old values may remain.

    It may end anywhere: done again, it does all of it again. Nothing else is changed. Raises BusyError while others
    hold a table or read an old state of it, UnavailableError (a missing grant, named) where a table was not rewritten.
    """
    done = _SCRUBS[shop.dialect](shop, columns)
    around = surroundings(shop, done.since)
    return (*done.remains, *(each for each in around if each.kind is not Kind.SESSION))  # who is in the way was told
