"""A file of events of the shop, one JSON object in a line: read whole before any of it is taken, then in portions.

It is read where it lies, several times. So what is taken is compared with what was checked, portion by portion: a file
that changed meanwhile is not taken on. What cannot be read twice is copied first, to a file that has no name.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from guard.audit.told import LINE, NotToldError, Problem, Told, read
from guard.errors import ConfigError, InterlockError, UnavailableError

ONE: Final = 10_000
"""Lines of a file that is taken in one transaction."""

LINES: Final = 5_000
BYTES: Final = 1 << 24
"""Of a portion of a longer file: each is a transaction of some tenths of a second."""

SHOWN: Final = 20
"""Problems that are kept; of more only how many."""

_CHUNK: Final = 1 << 20

Problems = Callable[[Told], list[Problem]]
"""Says what is wrong with an event."""


@dataclass(frozen=True, slots=True)
class Input:
    """An opened file of events: how many lines it has, and the SHA-256 of its bytes."""

    file: IO[bytes]
    lines: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Portion:
    """Lines that are taken together: those behind `after`, up to and with `upto`."""

    after: int
    upto: int
    offset: int
    size: int
    digest: bytes
    """SHA-256 of its bytes."""


@dataclass(slots=True)
class Checked:
    """What a look at every line that is to be taken found."""

    portions: tuple[Portion, ...] = ()
    events: int = 0
    wrong: list[tuple[int, Problem]] = field(default_factory=list)
    """The first problems, each with its line."""
    more: int = 0
    """How many problems there are beside these."""


@contextmanager
def opened(path: Path, stdin: IO[bytes], folder: Path) -> Iterator[Input]:
    """Open a file, or standard input where `path` is "-", and read it once. `folder` is where copies lie.

    Raises ConfigError for a file that cannot be read, UnavailableError where a copy cannot be written.
    """
    with _file(path, stdin, folder) as file:
        digest, lines, last = sha256(), 0, b"\n"
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
        yield Input(file, lines + (last != b"\n"), digest.digest())


@contextmanager
def _file(path: Path, stdin: IO[bytes], folder: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        with _copied(stdin, folder) as copy:
            yield copy
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield file
            return
        with _copied(file, folder) as copy:  # a pipe is read once and gone
            yield copy


@contextmanager
def _copied(source: IO[bytes], folder: Path) -> Iterator[IO[bytes]]:
    """Give a copy, mode 0600, that nobody finds and that is gone with this process."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as copy:
            while chunk := source.read(_CHUNK):
                copy.write(chunk)
            copy.seek(0)
            yield copy
    except OSError as error:
        raise UnavailableError(f"cannot keep a copy in {folder}: {error.strerror}", hint="nothing was taken") from error


def check(given: Input, taken: int, problems: Problems, tell: Callable[[int], None]) -> Checked:
    """Look at every line behind the first `taken`. `tell` hears how many lines were looked at.

    Raises InterlockError when the file is not what it was when it was opened.
    """
    found, whole, cut = Checked(), sha256(), _Cut(taken, given.lines)
    for number, raw in _lines(given.file, whole.update):
        if number > taken:
            _look(found, number, raw, problems)
        cut.add(number, raw)
        if not number % 1000:
            tell(number)
    if whole.digest() != given.digest:
        raise _changed()
    found.portions = cut.ended()
    return found


def events(given: Input, portion: Portion) -> Iterator[tuple[int, Told]]:
    """Yield the events of a portion, each with its line. Raises InterlockError when it is not what was checked."""
    given.file.seek(portion.offset)
    raw = given.file.read(portion.size)
    if sha256(raw).digest() != portion.digest:
        raise _changed()
    for number, line in enumerate(raw.split(b"\n"), portion.after + 1):
        if line.strip():
            yield number, read(line)


def _changed() -> InterlockError:
    return InterlockError(
        "the file changed while it was read",
        hint="take in files that nobody writes to any more: what was taken of one is known again only while it stays",
    )


def _look(found: Checked, number: int, raw: bytes, problems: Problems) -> None:
    if not raw.strip():
        return
    try:
        wrong = problems(read(raw.rstrip(b"\n")))
    except NotToldError as error:
        wrong = list(error.problems)
    found.events += 1
    room = SHOWN - len(found.wrong)
    found.wrong += [(number, each) for each in wrong[:room]]
    found.more += len(wrong[room:])


def _lines(file: IO[bytes], take: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every line; of one that is too long the beginning. `take` gets all bytes."""
    file.seek(0)
    number = 0
    while raw := file.readline(LINE + 2):
        number += 1
        take(raw)
        more = raw
        while len(more) == LINE + 2 and not more.endswith(b"\n") and (more := file.readline(LINE + 2)):
            take(more)
        yield number, raw


class _Cut:
    """Cuts the lines behind the first `taken` into portions."""

    def __init__(self, taken: int, lines: int) -> None:
        self._after = self._upto = taken
        self._offset = self._size = 0
        self._digest = sha256()
        self._is_one = lines - taken <= ONE
        self._made: list[Portion] = []

    def add(self, number: int, raw: bytes) -> None:
        """Take in the next line."""
        if number <= self._after:
            self._offset += len(raw)
            return
        if not self._is_one and (number - self._after > LINES or (self._size and self._size + len(raw) > BYTES)):
            self._end()
        self._size += len(raw)
        self._upto = number
        self._digest.update(raw)

    def ended(self) -> tuple[Portion, ...]:
        """Return the portions."""
        self._end()
        return tuple(self._made)

    def _end(self) -> None:
        if self._size:
            self._made.append(Portion(self._after, self._upto, self._offset, self._size, self._digest.digest()))
        self._after, self._offset = self._upto, self._offset + self._size
        self._size, self._digest = 0, sha256()
