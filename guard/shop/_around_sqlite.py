"""What surrounds an SQLite database and keeps what was written: its logs, copies beside it, who has it open."""

import os
from collections.abc import Iterator
from pathlib import Path

from guard.shop.remains import Kind, Remains

_MAGIC = b"SQLite format 3\0"
_LOGS = ("-wal", "-journal")


def around(path: Path) -> Iterator[Remains]:
    """Yield what lies around the database at `path`, and who has it open on this host, as far as /proc shows."""
    for end in _LOGS:
        log = path.with_name(path.name + end)
        if (size := _size(log)) > 0:
            yield Remains(Kind.LOG, f"{log} ({size} bytes)", None, "guard fields finalize empties it")
    for copy in _copies(path):
        yield Remains(Kind.COPY, str(copy), None, "made before; delete it, or finalize it too")
    for pid in _holders(path):
        yield Remains(Kind.SESSION, f"process {pid} has the file open", None, "nothing, unless it reads an old state")


def _copies(path: Path) -> Iterator[Path]:
    """Yield the other databases beside it whose name begins like its own, without guard's eyes on what is in them."""
    ours = {path.name + end for end in ("", "-shm", *_LOGS)}
    for file in sorted(path.parent.glob(f"{_escaped(path.stem)}*")):
        if file.name not in ours and file.is_file() and not file.is_symlink() and (_is_database(file) or _is_log(file)):
            yield file


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _is_log(file: Path) -> bool:
    return file.name.endswith(_LOGS) and _size(file) > 0


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return True  # could not look: it may be one


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _holders(path: Path) -> Iterator[int]:
    there = path.stat()
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda each: int(each.name)):
        if int(process.name) != os.getpid() and _holds(process, there):
            yield int(process.name)


def _holds(process: Path, there: os.stat_result) -> bool:
    try:
        return any(os.path.samestat(link.stat(), there) for link in (process / "fd").iterdir())
    except OSError:  # it ended, or it is somebody else's
        return False
