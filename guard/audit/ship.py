"""Entries as OCSF lines for a SIEM, in parts: whoever takes them says where the last part ended."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from guard.audit import proof, store
from guard.audit.chain import RESTART
from guard.audit.checkpoint import parse
from guard.audit.entry import read
from guard.audit.merkle import leaf_hash
from guard.audit.ocsf import Source, event
from guard.audit.store import Query
from guard.crypto.sign import split_note
from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from guard.events import Progress, silent
from guard.state import Tx

_MARK = re.compile(r"(?P<n>0|[1-9][0-9]{0,15})(?::(?P<digest>[0-9a-f]{8}))?")
_STEP: Final = 1000

Write = Callable[[bytes], object]
Sink = Callable[[], AbstractContextManager[Write]]
"""Opens where lines go; what was written is kept only if nothing raises."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last entry that was taken: its number, and the first 4 bytes of its leaf hash, hex, if they are known."""

    n: int
    digest: str | None = None

    @classmethod
    def read(cls, text: str) -> "Mark":
        """Return the mark in a text. Raises ConfigError when it is none."""
        found = _MARK.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} is not where an export ended", hint="it is what the export before said")
        return cls(int(found["n"]), found["digest"])

    def __str__(self) -> str:
        return str(self.n) if self.digest is None else f"{self.n}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Part:
    """Which entries are asked for; times include `since` and exclude `until`."""

    since: datetime | None = None
    until: datetime | None = None
    after: Mark | None = None
    """Where the part before ended."""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Shipped:
    """What was written, and where to go on."""

    entries: int
    first: int | None
    last: int | None
    next: Mark | None
    """The mark for the next part; None when nothing was ever taken."""
    more: bool
    """Whether entries that fit are left above the limit."""


def ship(tx: Tx, write: Write, part: Part, shop: str, progress: Progress = silent) -> Shipped:
    """Write the entries of a part, oldest first, as one OCSF event in JSON a line.

    Raises ConfigError when the part before ended behind the ledger's end, or before what retention has kept;
    InterlockError when the entry it ended at was another one, as after a restore of state.
    """
    size, note = proof.newest(tx)
    source = Source(parse(split_note(note)[0]).origin, shop)
    if part.after is not None:
        _check(tx, part.after, size)
    query = Query(part.since, part.until, after=part.after.n if part.after else None)
    first = last = None
    raw, count, more = b"", 0, False
    for n, leaf in store.leaves(tx, query, limit=None if part.limit is None else part.limit + 1):
        if count == part.limit:
            more = True
            break
        write(_line(n, leaf, source))
        first, last, raw, count = n if first is None else first, n, leaf, count + 1
        if not count % _STEP:
            progress("entries", count, part.limit)
    next_ = part.after if last is None else Mark(last, _digest(raw))
    return Shipped(count, first, last, next_, more)


@contextmanager
def to_file(path: Path) -> Iterator[Write]:
    """Open a new file that is there only once all of it is written.

    Raises InterlockError when there is one already, UnavailableError when it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    if path.exists():
        raise InterlockError(f"{path} is there already", hint="name another file, or --out - and >> to add to it")
    try:
        with fresh.open("wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # on a disk that is read only there is nothing, and that is an error too
            fresh.unlink(missing_ok=True)


def _line(n: int, leaf: bytes, source: Source) -> bytes:
    try:
        entry = read(bytes(leaf))  # text, which SQLite takes as well, is none
    except (TypeError, ValueError):
        raise TamperedError(
            f"ledger entry {n} is not an entry", hint="`guard audit verify` says what is wrong"
        ) from None
    return msgspec.json.encode(event(entry, source)) + b"\n"


def _digest(leaf: bytes) -> str:
    return leaf_hash(leaf)[:4].hex()


def _check(tx: Tx, after: Mark, size: int) -> None:
    """Compare where the part before ended with the ledger."""
    if after.n >= size:
        raise ConfigError(
            f"there is no entry {after.n}: the ledger holds 0 to {size - 1}",
            hint=f"after a restore of guard's state it can be shorter than before: `guard audit list --what {RESTART}`",
        )
    kept = proof.minimum(tx)
    if after.n + 1 < kept:
        raise ConfigError(
            f"entries {after.n + 1} to {kept - 1} were removed under retention before they were exported",
            hint=f"--after {kept - 1} goes on behind them",
        )
    found = next(iter(store.rows_from(tx, after.n, 1)))
    if after.digest is not None and found.n == after.n and _digest(found.leaf) != after.digest:
        begun = [n for n, _ in store.leaves(tx, Query(what=RESTART), newest=True) if n <= after.n]
        raise InterlockError(
            f"entry {after.n} is not the one at which the export before ended: guard's state was restored in between",
            hint=f"--after {begun[-1] - 1} takes all since then once more" if begun else proof.VERIFY,
        )
