"""Locks between processes: what no two runs may work on at once. The kernel lets go when a process dies."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from guard.clock import Clock
from guard.errors import BusyError, UnavailableError

_STEP = timedelta(milliseconds=100)


@contextmanager
def hold(folder: Path, names: Sequence[str], wait: timedelta, clock: Clock, what: str = "") -> Iterator[None]:
    """Hold the locks `names`, one file each in `folder`, while the block runs; `what` says what for.

    Waits up to `wait` in all. Raises BusyError naming the lock, the holder's pid and what it does.
    """
    left = wait
    with ExitStack() as held:
        for name in sorted(set(names)):  # one order for all, so that two runs never wait for each other
            file = _open(folder, name)
            held.callback(os.close, file)
            while not _taken(file):
                if left <= timedelta():
                    raise BusyError(_busy(file, name), hint="wait for it with --wait SECONDS")
                clock.sleep(min(_STEP, left))
                left -= _STEP
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {what}\n".encode(), 0)
        yield


def _open(folder: Path, name: str) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot lock {folder / name}: {error.strerror}") from error


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(file: int, name: str) -> str:
    pid, _, what = os.pread(file, 1000, 0).decode(errors="replace").strip().partition(" ")
    return f"{name} is busy: process {pid or 'unknown'} holds it" + (f" for {what}" if what else "")
