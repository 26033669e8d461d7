"""A place that keeps copies of what was written into the shop's database. Values only."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy.engine import Connection

from guard.errors import GuardError
from guard.shop._explain import GrantError, code
from guard.shop.connect import Shop


class Kind(StrEnum):
    """What keeps the copies."""

    LOG = "write-ahead log"
    ARCHIVE = "archive"
    SLOT = "replication slot"
    REPLICA = "replica"
    BINLOG = "binlog"
    STATEMENTS = "statement log"
    STATISTICS = "statistics"
    FILE = "file"
    COPY = "copy"
    BACKUP = "backup"
    SESSION = "session"
    DISK = "disk"
    UNSEEN = "could not look"
    """guard's account may not look there: `how` names the grant. It may hold anything."""


@dataclass(frozen=True, slots=True)
class Remains:
    """A place that may hold old values. `place` names it, `how` says when it goes and what to do.

    `until` is when it is gone by itself at the latest; None where nobody knows.
    """

    kind: Kind
    place: str
    until: datetime | None
    how: str

    @property
    def unseen(self) -> bool:
        """Whether guard could not look there."""
        return self.kind is Kind.UNSEEN

    @property
    def line(self) -> str:
        """In one line, for a person."""
        until = f", until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"{self.kind}: {self.place}{until}: {self.how}"


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What rewriting left: where old values may remain in the database itself, and its own mark of when they ended.

    `since` is a time of the server (PostgreSQL) or the name of a binlog (MariaDB); None where it could not be set.
    """

    remains: tuple[Remains, ...] = ()
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """One place to look at: what is there, how it is called, and the grant that looking needs."""

    find: Callable[[Connection], Iterable[Remains]]
    what: str
    grant: str


def look(shop: Shop, looks: Iterable[Look]) -> Iterator[Remains]:
    """Yield what each look finds; one that guard's account may not take is told as such, never passed over."""
    for each in looks:
        try:
            with shop.read() as connection:
                found = tuple(each.find(connection))
        except GrantError:
            yield unseen(each.what, each.grant)
        except GuardError as error:
            if code(error) not in _ABSENT:
                raise
            yield Remains(Kind.UNSEEN, each.what, None, "this server does not tell; look there yourself")
        else:
            yield from found


def unseen(what: str, grant: str) -> Remains:
    """Return the remains of a place guard's account may not look at."""
    return Remains(Kind.UNSEEN, what, None, f"guard's account may not look: GRANT {grant}")


_ABSENT = {"42883", "42P01", "42703", "55000", "1109", "1146", "1193", "1064"}
"""A function, table, column, variable or statement that an older server lacks, or (55000) one that is a standby."""

DISK = Remains(
    Kind.DISK,
    "blocks of the disk that the file system freed, and its snapshots",
    None,
    "only an encrypted disk whose key is destroyed, or the disk's destruction, clears them",
)
