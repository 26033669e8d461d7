"""Where the agent's socket lies: a folder nobody else may write to, and a lock that says whether its agent lives."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from guard import wire
from guard.errors import BusyError, InterlockError, UnavailableError

FOLDER = 0o711
"""Everybody may reach the socket, nobody else may put another in its place, or list what is there."""

SOCKET = 0o666
"""Everybody may connect: who is let in, the kernel's word for their user decides."""

_WAITING = 1024
"""Callers the kernel keeps waiting to be let in."""


class Place:
    """The path of the socket. A socket whose agent has died is replaced, at once or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._socket: socket.socket | None = None
        self._made: int | None = None

    @property
    def socket(self) -> socket.socket:
        """The socket that listens. Raises RuntimeError before `take`."""
        if self._socket is None:
            raise RuntimeError("take the place first")
        return self._socket

    def take(self) -> None:
        """Listen at the path.

        Raises BusyError when somebody does already, InterlockError for a folder others may write to or a file that is
        no socket, UnavailableError when the folder cannot be made or written.
        """
        try:
            self._require_own_folder()
            self._hold()
            self._require_free()
            self._listen()
        except OSError as error:
            self.leave()
            raise UnavailableError(
                f"cannot listen at {self.path}: {error.strerror}",
                hint="agent.socket in guard.toml names a path in a folder of guard's own, on a local disk",
            ) from error
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Take the socket away, if it is still the one that was put there."""
        if self._socket is not None:
            self._socket.close()
        if self._made is not None:
            with suppress(OSError):
                if self.path.stat().st_ino == self._made:
                    self.path.unlink()
        if self._lock is not None:
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # closing is not enough where a child was forked meanwhile
            os.close(self._lock)
        self._socket = self._made = self._lock = None

    def _require_own_folder(self) -> None:
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(parents=True, mode=FOLDER)
            folder.chmod(FOLDER)  # whatever the umask
        found = folder.stat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise InterlockError(
                f"{folder} is not guard's alone: others could put a socket of theirs in the place of the agent's",
                hint=f"chown it to the user of `guard daemon` and chmod {FOLDER:o} it, or name another in agent.socket",
            )

    def _hold(self) -> None:
        self._lock = os.open(
            self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy() from None

    def _require_free(self) -> None:
        """Raise where something else than the socket of a dead agent lies there."""
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise InterlockError(f"{self.path} is no socket", hint="move it away, or name another path in agent.socket")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe,
            wire.address(self.path) as at,
        ):
            if not probe.connect_ex(at):
                raise self._busy()

    def _listen(self) -> None:
        """Put a listening socket in the place, in one step: nobody finds one that does not answer yet."""
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        fresh.unlink(missing_ok=True)
        try:
            with wire.address(fresh) as at:
                self._socket.bind(at)
            fresh.chmod(SOCKET)
            self._socket.listen(_WAITING)
            self._socket.setblocking(False)
            made = fresh.stat().st_ino
            fresh.rename(self.path)
            self._made = made
        finally:
            fresh.unlink(missing_ok=True)

    def _busy(self) -> BusyError:
        return BusyError(
            f"another agent listens at {self.path}", hint="give each `guard daemon` an agent.socket of its own"
        )
