"""What a whole plan comes to: its steps, the room it takes on the disk, the locks of finishing. Pure; estimates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from guard.fields.facts import Around, Facts
from guard.fields.measure import about, amount, rewriting


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes on the database's disk. Estimates, but for `free`."""

    grows: int
    """What stays: longer values, larger indexes, tokens."""
    meanwhile: int
    """What sealing takes besides, until the database has cleared it: old rows, its log."""
    finalize: int
    """What finishing takes besides, until it is done: a copy of the largest table, or of the file."""
    free: int | None
    disk: str = ""

    @property
    def lacks(self) -> bool:
        """Whether sealing does not fit on the disk."""
        return self.free is not None and self.free < self.grows + self.meanwhile


def space_of(found: Sequence[Facts], grows: int, around: Around) -> Space | None:
    """Return what sealing and finishing take on the disk; None where the database does not tell its sizes."""
    sizes = {facts.table.name: facts.size for facts in found if facts.size is not None}
    disk = (around.disk.free, str(around.disk.folder)) if around.disk else (None, "")
    if around.database is not None:  # SQLite: its file, and VACUUM's copies of it (sqlite.org/lang_vacuum.html)
        return Space(grows, 0, 2 * (around.database + grows), *disk)
    if not sizes:
        return None
    written = sum(facts.counts.plain and facts.size.table for facts in found if facts.size is not None)
    largest = max(size.total for size in sizes.values())
    return Space(grows, written, largest + grows, *disk)


def steps(found: Sequence[Facts], takes: timedelta, space: Space | None) -> Iterator[str]:
    """Yield what is done, in this order, and what is left to do then."""
    fresh = [facts for facts in found if facts.fresh]
    if changed := [facts.column.at for facts in fresh if facts.change]:
        yield f"change the type of {', '.join(changed)}"
    if indexed := [facts.column.at for facts in fresh if facts.column.index]:
        yield f"add and fill the tokens of {', '.join(indexed)}, while writers fill them too; then index them"
    values = sum(facts.counts.plain for facts in found)
    yield (
        f"seal {values} values column by column, in transactions of about 100 ms between which the shop writes: "
        f"{about(takes)} with one worker"
    )
    yield "look again for what the shop wrote in clear meanwhile, until nothing is left"
    yield "then guard fields verify opens each value and compares it with what was sealed"
    yield f"then guard fields finalize clears what is left of the old values: {_finalizing(found, space)}"


def _finalizing(found: Sequence[Facts], space: Space | None) -> str:
    dialect = found[0].dialect
    tables = {facts.table.name: facts.size for facts in found}
    copies = space.finalize if space else None
    need = f", and needs about {amount(copies)} free meanwhile" if copies is not None else ""
    span = _finalize_span(dialect, found, space)
    lasts = f", {about(span)} in all," if span is not None else ","
    how = {
        "sqlite": f"it writes the whole file anew (VACUUM){lasts} in which nobody writes",
        "postgresql": f"it writes {', '.join(tables)} anew (VACUUM FULL) under an exclusive lock{lasts} "
        "in which nobody reads or writes there",
        "mysql": f"it writes {', '.join(tables)} anew{lasts} with a short exclusive lock at begin and end",
    }
    return how[dialect] + need


def _finalize_span(dialect: str, found: Sequence[Facts], space: Space | None) -> timedelta | None:
    if space is None:
        return None
    if dialect == "sqlite":
        return rewriting(dialect, space.finalize // 2)
    sizes = {facts.table.name: facts.size for facts in found if facts.size is not None}
    return rewriting(dialect, sum(size.total for size in sizes.values()) + space.grows)
