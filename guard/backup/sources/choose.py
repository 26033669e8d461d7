"""Turn what is configured into sources: the shop's database, guard's state, folders of files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guard.backup.snapshot import POLICIES
from guard.backup.sources import Source, Uncovered
from guard.backup.sources.files import FilesSource
from guard.backup.sources.sqlite import SqliteSource
from guard.backup.sources.state import state_source

SHOP = "shop"


@dataclass(frozen=True, slots=True)
class Configured:
    """What guard.toml says is to be backed up; relative paths start at `home`."""

    home: Path
    shop: Path | None
    """The shop's SQLite file; None for other databases."""
    dialect: str
    """The kind of the shop's database, in words for a person."""
    state: Path | Callable[[Path], None]
    """guard's own SQLite file; for a state in PostgreSQL, what writes such a file of it."""
    files: Sequence[str] = ()
    exclude: Sequence[str] = ()
    skip: Sequence[Path] = ()
    """Folders that are never backed up: repositories, guard's scratch."""
    policies: Path | None = None
    """The folder of guard's policies."""


def sources_of(configured: Configured) -> tuple[Source, ...]:
    """Return the sources in the order they are backed up. Names are unique and stay the same from run to run."""
    shop: Source = (
        SqliteSource(SHOP, configured.shop)
        if configured.shop is not None
        else Uncovered(SHOP, f"a shop in {configured.dialect} is not covered by this version")
    )
    out: list[Source] = [shop, state_source(configured.state)]
    if configured.policies is not None:
        out.append(FilesSource(POLICIES, configured.policies))
    taken = {each.name for each in out}
    for text in configured.files:
        path = configured.home / text
        name = _free_name(path.name or "files", taken)
        taken.add(name)
        out.append(FilesSource(name, path, configured.exclude, configured.skip))
    return tuple(out)


def _free_name(wanted: str, taken: set[str]) -> str:
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
