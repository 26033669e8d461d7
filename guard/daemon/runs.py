"""Commands of people who are other OS users: `guard` as a process of the agent's own user, on the caller's terminal.

Who calls is the kernel's word, handed to the process on a pipe. Of the caller it gets three descriptors, the words
behind `guard` and the name of a terminal; of the agent its environment, folder and configuration. docs/FORMATS.md,
section 12.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guard import canon, wire
from guard.canon import Json
from guard.daemon.socket import Takeover
from guard.errors import BusyError, ConfigError, Exit, GuardError, UnavailableError
from guard.wire import GarbledError

_SERVED: Final = "guard.cli.served"
"""The module that the process runs; it is a program of its own, the agent imports nothing of it."""

_WORDS, _BYTES = 1000, 60_000
"""Of a command line; the bytes fit into a pipe that nobody reads yet (pipe(7): 65,536)."""

_OWN: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "GUARD_CONFIG"}
    | {"_GUARD_COMPLETE", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "OLDPWD", "PWD"}
)
"""Variables of the agent's environment that are about the agent, or about its own terminal."""

_TERMINALS: Final = frozenset(
    {"xterm", "xterm-256color", "xterm-kitty", "xterm-ghostty", "alacritty", "foot", "konsole", "linux", "screen"}
    | {"screen-256color", "tmux", "tmux-256color", "rxvt-unicode", "rxvt-unicode-256color", "vt100", "wezterm", "dumb"}
)
_TERMINAL: Final = "xterm"
"""What any other is taken for. A caller's own word reaches no variable of the agent's process."""


@dataclass(frozen=True, slots=True)
class Most:
    """How many commands may run at once, and how long one that is to end may take. Spans are seconds."""

    of_one: int = 4
    in_all: int = 16
    wait: float = 10.0
    """For the descriptors, and for a frame to come whole."""
    interrupted: float = 5.0
    """From SIGINT to SIGTERM: a step of most works is done by then."""
    terminated: float = 3.0
    """From SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the OS user by the kernel's word."""

    uid: int
    os_user: str


class Runs:
    """The commands under way. May be shared by threads."""

    def __init__(self, config: Path, most: Most = Most()) -> None:
        """Run commands on the shop of this guard.toml."""
        self._config = config.absolute()
        self._most = most
        self._lock = threading.Lock()
        self._by_uid: Counter[int] = Counter()
        self._wakers: set[int] = set()
        self._stopping = False

    def take(self, caller: Caller, args: Mapping[str, Any]) -> Takeover:
        """Return what runs a command for `caller` on their connection. Raises ConfigError for what is none."""
        argv, cwd, term = args.get("argv"), args.get("cwd", "/"), args.get("term")
        if not isinstance(argv, list) or len(argv) > _WORDS or not all(_is_word(each) for each in (*argv, cwd)):
            raise ConfigError(f"run takes argv, a list of at most {_WORDS} texts, and cwd, a text")
        given: dict[str, Json] = {"os_user": caller.os_user, "config": str(self._config), "argv": argv, "cwd": cwd}
        line = canon.json_bytes(given) + b"\n"
        if len(line) > _BYTES:
            raise ConfigError("the command line is too long for the agent", hint="give fewer at once")
        environment = self._environment(term, plain=args.get("plain") is True)
        return Takeover(lambda line_: self._go(line_, caller.uid, line, environment))

    def stop(self) -> None:
        """End what is under way: SIGINT to each, then SIGTERM, then SIGKILL."""
        with self._lock:
            self._stopping = True
            for each in self._wakers:
                os.eventfd_write(each, 1)

    def _go(self, caller: socket.socket, uid: int, line: bytes, environment: Mapping[str, str]) -> Json:
        with self._place(uid) as waker:
            try:
                caller.settimeout(self._most.wait)
                wire.send(caller, {"ok": {"send": 3}})
                with _received(caller) as given:
                    child, lifeline = self._start(given, line, environment)
            except OSError as error:
                raise GarbledError(f"no command was started: {type(error).__name__}") from error
            try:
                code, ended = _Watch(caller, child, waker, self._most).until_over()
            finally:
                os.close(lifeline)
        return {"exit": _exit_code(code, ended=ended)}

    @contextmanager
    def _place(self, uid: int) -> Iterator[int]:
        """Count a run while the block lasts; give what wakes it when the agent stops. Raises BusyError."""
        with self._lock:
            if self._stopping:
                raise UnavailableError("the agent stops", hint="try again when it runs again")
            if self._by_uid[uid] >= self._most.of_one or self._by_uid.total() >= self._most.in_all:
                whose = "of yours " if self._by_uid[uid] >= self._most.of_one else ""
                raise BusyError(f"as many commands {whose}run as the agent lets", hint="wait for one of them to end")
            waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._by_uid[uid] += 1
            self._wakers.add(waker)
        try:
            yield waker
        finally:
            with self._lock:
                self._by_uid[uid] -= 1
                self._by_uid += Counter()  # forgets who has none
                self._wakers.discard(waker)
            os.close(waker)

    def _start(
        self, given: Sequence[int], line: bytes, environment: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start the process; return it, and the end of the pipe whose closing ends it too."""
        out, into = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread, and of the new process:
        try:  # it lets Ctrl-C in as soon as it can tell of it
            child = subprocess.Popen(  # noqa: S603  # words of our own; the caller's go through the pipe
                [sys.executable, "-P", "-m", _SERVED, str(out)],
                stdin=given[0],
                stdout=given[1],
                stderr=given[2],
                env=environment,
                cwd=self._config.parent,
                pass_fds=(out,),
                start_new_session=True,
                # Naming a user makes Python fork, not vfork: closing a descriptor may hang, where its file system is a
                # program of the caller's, and between vfork and exec the whole agent would hang with it.
                user=os.geteuid(),
            )
        except BaseException:
            os.close(into)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(out)
        with suppress(BrokenPipeError):  # it has ended already, and its exit code says how
            os.write(into, line)
        return child, into

    def _environment(self, term: object, *, plain: bool) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OWN}
        kept["TERM"] = term if isinstance(term, str) and term in _TERMINALS else _TERMINAL
        return kept | ({"NO_COLOR": "1"} if plain else {})


class _Watch:
    """One running command: passes interrupts on, and ends it when whoever called is gone or the agent stops."""

    def __init__(self, caller: socket.socket, child: subprocess.Popen[bytes], waker: int, most: Most) -> None:
        self._caller = caller
        self._child = child
        self._waker = waker
        self._most = most
        self._next: list[tuple[float, signal.Signals]] = []
        self._half = b""
        self._whole_by: float | None = None
        """When the frame that has begun has to be whole."""
        self._ended = False

    def until_over(self) -> tuple[int, bool]:
        """Return how the process ended, as subprocess tells it, and whether it was ended by us."""
        over = os.pidfd_open(self._child.pid)
        poll = select.poll()
        for each in (over, self._waker, self._caller.fileno()):
            poll.register(each, select.POLLIN)
        try:
            while over not in (ready := {number for number, _ in poll.poll(self._patience())}):
                if self._waker in ready:
                    poll.unregister(self._waker)
                    self._end()
                if (self._caller.fileno() in ready and not self._passed_on()) or self._is_late():
                    poll.unregister(self._caller.fileno())
                    self._whole_by = None
                    self._end()
                self._go_further()
        finally:
            os.close(over)
        self._signal(signal.SIGKILL)  # what it has left behind; its own number is taken until it is waited for
        return self._child.wait(), self._ended

    def _patience(self) -> float | None:
        """Return after how many milliseconds the next signal, or the rest of a frame, is due."""
        due = [at for at, _ in self._next[:1]] + ([] if self._whole_by is None else [self._whole_by])
        return max(min(due) - time.monotonic(), 0) * 1000 + 1 if due else None

    def _is_late(self) -> bool:
        return self._whole_by is not None and self._whole_by <= time.monotonic()

    def _passed_on(self) -> bool:
        """Pass on what the caller says, without waiting for more. False where they are gone, or say what is nothing."""
        try:
            some = self._caller.recv(1 << 12)  # there is some, or an end: poll has said so
            self._half += some
            while (frame := self._frame()) is not None:
                if wire.unpack(frame).get("op") != "interrupt":
                    return False
                self._signal(signal.SIGINT)
        except (OSError, GarbledError):
            return False
        if self._half and self._whole_by is None:
            self._whole_by = time.monotonic() + self._most.wait
        return bool(some)

    def _frame(self) -> bytes | None:
        """Return the body of the next frame, or None where it is not whole yet. Raises GarbledError."""
        if len(self._half) < wire.HEAD or len(self._half) < (end := wire.HEAD + wire.length(self._half[: wire.HEAD])):
            return None
        body, self._half, self._whole_by = self._half[wire.HEAD : end], self._half[end:], None
        return body

    def _end(self) -> None:
        if self._ended:
            return
        self._ended, now = True, time.monotonic()
        self._signal(signal.SIGINT)
        later = now + self._most.interrupted
        self._next = [(later, signal.SIGTERM), (later + self._most.terminated, signal.SIGKILL)]

    def _go_further(self) -> None:
        while self._next and self._next[0][0] <= time.monotonic():
            self._signal(self._next.pop(0)[1])

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and its own children, as a terminal would."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _exit_code(code: int, *, ended: bool) -> int:
    """Return the exit code to tell. Raises GuardError for a process that somebody else has killed."""
    if code >= 0:
        return code
    if ended or code == -signal.SIGINT:
        return Exit.INTERRUPTED
    raise GuardError(
        f"the process that worked for you was ended by signal {-code}", hint="`guard status` says what it left open"
    )


@contextmanager
def _received(caller: socket.socket) -> Iterator[list[int]]:
    """Give the three descriptors that come next, closed afterwards. Raises GarbledError, ConfigError, OSError."""
    said, given, flags, _ = socket.recv_fds(caller, 1, 3, socket.MSG_CMSG_CLOEXEC)  # the kernel drops a fourth
    try:
        if not said:
            raise GarbledError("whoever asked is gone")
        if len(given) != 3 or flags & socket.MSG_CTRUNC:
            raise GarbledError("a run takes three descriptors")
        for number, each in enumerate(given):
            _require_usable(each, "standard " + ("input", "output", "error")[number], writes=number > 0)
        yield given
    finally:
        for each in given:
            os.close(each)


def _require_usable(descriptor: int, what: str, *, writes: bool) -> None:
    mode, flags = os.fstat(descriptor).st_mode, fcntl.fcntl(descriptor, fcntl.F_GETFL)
    kinds = (stat.S_ISREG, stat.S_ISCHR, stat.S_ISFIFO, stat.S_ISSOCK)
    wrong = os.O_RDONLY if writes else os.O_WRONLY
    if flags & os.O_PATH or not any(kind(mode) for kind in kinds) or flags & os.O_ACCMODE == wrong:
        raise ConfigError(f"the agent cannot use this as {what}", hint="a terminal, a file, a pipe or /dev/null")
