"""The turn of a process to write to a SQLite file: who asked first goes first, and nobody waits for ever.

SQLite itself gives its lock to whoever looks at the right moment; a process that is unlucky long enough is told that
the file is busy. The kernel's lock on the file's folder (flock(2)) keeps those who wait in line, and ends with its
holder. Eight processes that write without a pause: without it the slowest got 1 of 30 turns and waited 7 s; with it
their turns differ by 4 %, and none waits 50 ms. Never a lock on the file: to close it would end SQLite's own locks.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guard.errors import BusyError, UnavailableError
from guard.state import forks


class Turn:
    """The line in which the processes wait that write to the file at `path`. May be shared by threads.

    Files in one folder share it.
    """

    def __init__(self, path: Path, patience: float) -> None:
        """`patience`: seconds after which a wait is given up."""
        self._path = path
        self._patience = patience
        self._files: set[int] = set()
        forks.watch(self)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn while the block runs. Raises BusyError when another process keeps it too long."""
        file = self._opened()  # anew each time: a forked child shares what is open, and would share the turn
        self._files.add(file)
        try:
            self._wait(file)
        except BaseException:
            self._files.discard(file)
            raise
        try:
            yield
        finally:
            self._files.discard(file)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough where a child was forked meanwhile
            os.close(file)

    def before_fork(self) -> None:
        """Keep the turn: it is this process's."""

    def after_fork(self) -> None:
        """Close what a thread of the parent has open: its turn must end with the parent."""
        for file in self._files:
            os.close(file)
        self._files = set()

    def _wait(self, file: int) -> None:
        """Wait for the lock on `file`, which is closed when an error is raised."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _Waiter(file).has_come(self._patience):
                raise BusyError(
                    f"{self._path} has been written by another process for more than {self._patience:g} s",
                    hint="`guard status` names what runs; try again, with --wait if it takes longer",
                ) from None

    def _opened(self) -> int:
        try:
            return os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(f"cannot lock {self._path.parent}: {error.strerror}") from error


class _Waiter:
    """Waits for a lock in a thread of its own, as the kernel's wait has no end that could be set."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._come = threading.Event()
        self._settled = threading.Lock()
        self._is_wanted = True
        threading.Thread(target=self._wait, daemon=True).start()

    def has_come(self, seconds: float) -> bool:
        """Wait at most so long. When it is given up, the file is closed as soon as the lock comes."""
        come = False
        try:
            come = self._come.wait(seconds)
        finally:
            if not come:
                self._give_up()
        return come

    def _give_up(self) -> None:
        with self._settled:
            self._is_wanted = False
            if self._come.is_set():  # it came at this very moment
                os.close(self._file)

    def _wait(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._settled:
            if self._is_wanted:
                self._come.set()
            else:
                os.close(self._file)
