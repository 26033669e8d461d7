"""The tables of state, its version, and how an older one is brought up to date."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, Text, select

from guard.errors import InterlockError

METADATA = MetaData()
"""All tables of state. Each room's `store.py` declares its own on it, with the room's prefix."""

VERSION = 1
"""The schema this program writes. A change of any room's tables raises it and adds a `Migration`."""

META = Table(
    "state_meta",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

COMMIT = Table(
    "state_commit",
    METADATA,
    Column("generation", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("token", Text, nullable=False),
    Column("at", Text, nullable=False),
)
"""The newest commits of the writer: tells whether one landed, and the latest time that was recorded."""


@dataclass(frozen=True, slots=True)
class Migration:
    """Brings a state from `version - 1` to `version`, inside one transaction."""

    version: int
    what: str
    apply: Callable[[Connection], None]


MIGRATIONS: tuple[Migration, ...] = ()
"""In order, without gaps, up to VERSION."""


def version_of(tx: Connection) -> int | None:
    """Return the schema's version; None when it has none."""
    found = tx.scalar(select(META.c.value).where(META.c.name == "schema"))
    return int(found) if found is not None and found.isdecimal() else None


def due(found: int, target: int, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """Return what leads from `found` to `target`, in order.

    Raises InterlockError when the state is newer than `target`, or a step is missing.
    """
    if found > target:
        raise InterlockError(
            f"state has schema {found}, this guard knows {target}", hint="use the guard that wrote it, or a newer one"
        )
    steps = {step.version: step for step in migrations}
    if missing := [number for number in range(found + 1, target + 1) if number not in steps]:
        raise InterlockError(f"this guard cannot bring state from schema {found} to {missing[0]}")
    return tuple(steps[number] for number in range(found + 1, target + 1))
