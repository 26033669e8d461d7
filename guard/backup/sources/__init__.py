"""What is backed up: trees of files, SQLite databases, guard's own state. A source yields names and opens contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from guard.backup.snapshot import SourceKind
from guard.backup.tree import Meta, What

Report = Callable[[bytes, str], None]
"""Called with a path relative to the source and why it could not be read as it was."""


@dataclass(frozen=True, slots=True)
class Found:
    """One name of a source, in tree order.

    Of files `read` opens the content, which must be closed again; without it the name is a socket, a pipe or a device.
    """

    path: bytes
    what: What
    meta: Meta
    size: int = 0
    target: bytes = b""
    read: Callable[[], BinaryIO] | None = None
    changed: Callable[[BinaryIO], bool] = lambda _: False
    """Asked after reading: whether the file is no longer what `meta` says."""
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A source that can be walked now, once for each store."""

    name: str
    kind: SourceKind
    walk: Callable[[Report], Iterator[Found]] = lambda _: iter(())
    why: str | None = None
    """Why it cannot be backed up; None when it can."""
    rows: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()
    """What is wrong with all of it, though it can be read."""
    has_digest: bool = False
    """Whether it is one file whose digest goes into the manifest."""


class Source(Protocol):
    """Something to back up."""

    @property
    def name(self) -> str:
        """Its name: the folder it is restored to. Stays the same from run to run."""
        ...

    def ready(self, temp: Path) -> AbstractContextManager[Ready]:
        """Make it readable at one moment; copies lie in `temp` and go away at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A source this version cannot back up. It is in every snapshot, so that nobody believes it was saved."""

    name: str
    why: str

    @contextmanager
    def ready(self, temp: Path) -> Iterator[Ready]:  # noqa: ARG002  # nothing is copied
        """Say why it is not covered."""
        yield Ready(self.name, "uncovered", why=self.why)
