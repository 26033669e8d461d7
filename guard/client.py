"""The agent's client: asks `guard daemon` to do what this process may not, or need not, do itself.

Imports neither the app nor SQLAlchemy, so that a program of the shop stays as light as it was. May be shared by
threads; a forked child connects anew.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from guard import wire
from guard.canon import Json
from guard.errors import BusyError, ConfigError, GuardError, InterlockError, UnavailableError
from guard.wire import GarbledError

PATIENCE: Final = 5.0
"""Seconds a call waits for an agent that does not answer, unless it is told otherwise."""

_FIRST, _LONGEST = 0.05, 0.5
"""Seconds between two tries, doubling."""

_KEPT: Final = 8
"""Connections kept for the next calls: more threads than that seldom call at once."""

_BROKEN = (OSError, EOFError, GarbledError)


class AwayError(UnavailableError):
    """Nobody serves the socket. Nothing was asked."""


class LostError(UnavailableError):
    """The agent went away while it was asked; whether it did what it was asked for is unknown."""


class Connection:
    """One conversation with the agent, one question at a time."""

    def __init__(self, path: Path, service: str | None, patience: float) -> None:
        """Connect and say hello.

        Raises OSError when nobody listens, InterlockError when somebody else does, DeniedError, ConfigError, BusyError.
        """
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.wait(patience)
            with wire.address(path) as where:
                self._wire.connect(where)
            _require_own(path, wire.uid_of(self._wire))
            hello: dict[str, Json] = {"op": "hello", "oldest": wire.OLDEST, "newest": wire.VERSION}
            self.met = self.ask(hello if service is None else hello | {"service": service})
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> None:
        """Wait for each answer at most so long from now on."""
        self._wire.settimeout(max(seconds, 0.01))

    def ask(self, question: Mapping[str, Json]) -> Any:
        """Return the agent's answer. Raises what the agent raised, and OSError, EOFError or GarbledError."""
        with suppress(BrokenPipeError, ConnectionResetError):  # an agent that ends a conversation says why first
            wire.send(self._wire, question)
        answer = wire.receive(self._wire)
        if "error" in answer:
            raise wire.raised(answer["error"])
        return answer.get("ok")

    def run(self, question: Mapping[str, Json]) -> int:
        """Ask for a run, pass the standard streams and Ctrl-C on, and return the exit code. Raises as `ask` does."""
        self.ask(question)
        with _streams() as streams:
            socket.send_fds(self._wire, [b"\0"], streams)
        self._wire.settimeout(None)
        with _passed_on(self._wire):
            answer = wire.receive(self._wire)
        if "error" in answer:
            raise wire.raised(answer["error"])
        code = answer["ok"].get("exit") if isinstance(answer.get("ok"), dict) else None
        if not isinstance(code, int):
            raise GarbledError("the agent does not say how the command ended")
        return code

    def close(self) -> None:
        """End the conversation."""
        self._wire.close()


class Agent:
    """The agent that listens at a path, as one OS user's service or person."""

    def __init__(self, path: Path, service: str | None = None, patience: float = PATIENCE) -> None:
        self.path = path
        self._service = service
        self._patience = patience
        self._free: list[Connection] = []
        self._lock = threading.Lock()
        _ALL.add(self)

    @property
    def is_there(self) -> bool:
        """Whether there is a socket; nobody need listen at it any more."""
        return self.path.is_socket()

    def hello(self) -> Any:
        """Return what the agent says of itself and of the caller. Raises AwayError when there is none."""
        try:
            connection = Connection(self.path, self._service, self._patience)
        except _BROKEN as error:
            raise self._away(error) from error
        connection.close()
        return connection.met

    def ask(self, op: str, args: Mapping[str, Json], *, patient: bool = False) -> Any:
        """Return the agent's answer to a question that does nothing twice: it is asked again where an answer was lost.

        Raises what the agent raised; AwayError when nobody listens and nothing was asked, at once unless `patient`;
        LostError when the agent went away and did not come back in time; BusyError.
        """
        question: dict[str, Json] = {"op": op, "args": args}
        until, pause = time.monotonic() + self._patience, _FIRST
        while True:
            try:
                return self._once(question, until)
            except AwayError as error:
                if not patient:
                    raise
                trouble: GuardError = error
            except LostError as error:
                trouble, patient = error, True
            except BusyError as error:
                trouble = error
            if time.monotonic() + pause > until:
                raise trouble
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    def _once(self, question: Mapping[str, Json], until: float) -> Any:
        """Ask on a connection of before, or on a new one where those have ended meanwhile."""
        broken: LostError | None = None
        while (kept := self._kept()) is not None:
            try:
                return self._on(kept, question, until)
            except LostError as error:
                broken = error
        try:
            made = Connection(self.path, self._service, until - time.monotonic())
        except _BROKEN as error:
            raise broken or self._away(error) from error
        return self._on(made, question, until)

    def _on(self, connection: Connection, question: Mapping[str, Json], until: float) -> Any:
        """Ask on a connection, and keep it where it is good for another question."""
        try:
            connection.wait(until - time.monotonic())
            answer = connection.ask(question)
        except _BROKEN as error:
            connection.close()
            raise self._lost(error) from error
        except GuardError:
            self._keep(connection)
            raise
        except BaseException:  # its answer would be taken for that to the next question
            connection.close()
            raise
        self._keep(connection)
        return answer

    def run(self, argv: Sequence[str]) -> int:
        """Let the agent run `guard ARGV` on this process's terminal, or whatever its standard streams are.

        Returns the exit code. Ctrl-C is passed on; the third one leaves the agent alone with it. Raises AwayError when
        nobody listens, LostError when the agent went away meanwhile, and what the agent raised.
        """
        cwd, term = _cwd(), os.environ.get("TERM")
        if any("\udc80" <= each <= "\udcff" for word in (*argv, cwd, term or "") for each in word):
            raise ConfigError("the agent takes words and folders in UTF-8 alone")
        args: dict[str, Json] = {
            "argv": list(argv),
            "term": term,
            "plain": bool(os.environ.get("NO_COLOR")),
            "cwd": cwd,
        }
        question: dict[str, Json] = {
            "op": "run",
            "args": {name: each for name, each in args.items() if each is not None},
        }
        try:
            connection = Connection(self.path, None, self._patience)
        except _BROKEN as error:
            raise self._away(error) from error
        try:
            return connection.run(question)
        except _BROKEN as error:
            raise LostError(
                f"the agent at {self.path} went away while it worked for you ({type(error).__name__})",
                hint="`guard status` says what is left open; the same command goes on",
            ) from error
        finally:
            connection.close()

    def close(self) -> None:
        """End all conversations; the next question begins one."""
        with self._lock:
            free, self._free = self._free, []
        for each in free:
            each.close()

    def forked(self) -> None:
        """Begin anew in a forked child: the connections are the parent's, and closing them here does not end them."""
        self._lock = threading.Lock()
        self.close()

    def _kept(self) -> Connection | None:
        with self._lock:
            return self._free.pop() if self._free else None

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if is_kept := len(self._free) < _KEPT:
                self._free.append(connection)
        if not is_kept:
            connection.close()

    def _away(self, error: Exception) -> AwayError:
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else str(error) or "it ended the conversation"
        )
        return AwayError(
            f"no agent answers at {self.path}: {why}",
            hint="start `guard daemon`, or correct agent.socket in guard.toml; `guard doctor` looks at it",
        )

    def _lost(self, error: Exception) -> LostError:
        return LostError(
            f"the agent at {self.path} did not answer in {self._patience:g} s ({type(error).__name__})",
            hint="`guard status` says whether `guard daemon` runs; asking the same again does nothing twice",
        )


@contextmanager
def _streams() -> Iterator[list[int]]:
    """Give the descriptors of the standard streams; /dev/null for one that is closed.

    Also for the input of a command in the background: the terminal is the shell's then, and nothing would stop a
    process of the agent's from reading what is typed there.
    """
    with ExitStack() as opened:

        def null(flags: int) -> int:
            made = os.open(os.devnull, flags | os.O_CLOEXEC)
            opened.callback(os.close, made)
            return made

        found = []
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            try:
                os.fstat(number)
                is_usable = number > 0 or not _in_background()
            except OSError:
                is_usable = False
            found.append(number if is_usable else null(flags))
        yield found


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it is gone
        return "/"


def _in_background() -> bool:
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # no terminal, or not the one this process belongs to
        return False


@contextmanager
def _passed_on(line: socket.socket) -> Iterator[None]:
    """Pass Ctrl-C on while the block runs; Ctrl-Z does nothing, since the command would go on reading the terminal."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    times = 0

    def interrupt(*_: object) -> None:
        nonlocal times
        times += 1
        if times > 2:
            raise KeyboardInterrupt
        with suppress(OSError):  # it has just ended, and its answer is on the way
            wire.send(line, {"op": "interrupt", "args": {}})

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTSTP)}
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_own(path: Path, uid: int) -> None:
    """Raise InterlockError when who listens is not whose folder it is: then somebody put a socket in its place."""
    owner = path.parent.stat().st_uid
    if uid not in {owner, 0}:
        raise InterlockError(
            f"at {path} listens uid {uid}, but its folder belongs to uid {owner}",
            hint="the folder of the socket belongs to the user of `guard daemon`, and nobody else may write there",
        )


_ALL: WeakSet[Agent] = WeakSet()


def _forked() -> None:
    for each in list(_ALL):
        each.forked()


os.register_at_fork(after_in_child=_forked)
