"""What a whole plan comes to: its steps, the room it takes on the disk, the locks of finishing. Pure; estimates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from guard.fields.facts import Around, Facts
from guard.fields.lack import Lack
from guard.fields.measure import about, amount, rewriting, sweeping


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
    written = sum(_rewritten(facts) and facts.size.table for facts in found if facts.size is not None)
    largest = max(size.total for size in sizes.values())
    return Space(grows, written, largest + grows, *disk)


def steps(found: Sequence[Facts], takes: timedelta, space: Space | None, lacks: Sequence[Lack] = ()) -> Iterator[str]:
    """Yield what is done, in this order, and what is left to do then. `takes`: filling in tokens and sealing."""
    yield from _first(found, lacks)
    filling = sum((sweeping(facts.dialect, facts.fill, facts.seals) for facts in found), timedelta())
    if indexed := [facts for facts in found if facts.fill]:
        values = sum(facts.fill for facts in indexed)
        yield (
            f"add the tokens of {_names(indexed)}, which writers fill from then on, and fill in those of {values} "
            f"values: {about(filling)} with one worker; then index them"
        )
    if changed := [facts for facts in found if facts.fresh and facts.change]:
        yield f"change the type of {_names(changed)}"
    values = sum(facts.counts.plain for facts in found)
    if values or not indexed:
        yield (
            f"seal {values} values column by column, in transactions of about 100 ms between which the shop writes: "
            f"{about(takes - filling)} with one worker"
        )
        yield "look again for what the shop wrote in clear meanwhile, until nothing is left"
    yield "then guard fields verify opens each value and compares it with what was sealed"
    if values or not indexed:
        yield f"then guard fields finalize clears what is left of the old values: {_finalizing(found, space)}"


def _first(found: Sequence[Facts], lacks: Sequence[Lack]) -> Iterator[str]:
    """Yield what is done so that no value is sealed under a key that only guard's state holds."""
    bound = [facts for facts in found if facts.counts.plain and facts.column.bind == "subject"]
    whose = f"make a key for each person of {_names(bound)} that has none, and " if bound else ""
    saved = [each.what for each in lacks if each.by_backup]
    if bound or saved:
        yield f"{whose}back guard's state up and read it back: {'; '.join(saved) or 'it holds these keys then'}"


def _names(found: Sequence[Facts]) -> str:
    return ", ".join(facts.column.at for facts in found)


def _rewritten(facts: Facts) -> int:
    """Return how many rows are written anew, each of which leaves an old one until the database has cleared it."""
    return max(facts.counts.plain, facts.fill)


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
