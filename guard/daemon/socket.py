"""The agent's socket: lets in whom the kernel says it knows, and hands what they ask to threads. Bytes and limits only.

One thread moves bytes for all; what is asked is worked on beside it. Nobody waits for somebody else's half frame, idle
connection or slow work: what one OS user may take of connections, memory and threads is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from guard import faults, wire
from guard.canon import Json
from guard.daemon.place import Place
from guard.errors import BusyError, ConfigError, DeniedError, GuardError
from guard.wire import GarbledError

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: the OS user by the kernel's word, and the service it calls as, by its own."""

    uid: int
    service: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the callers may take. Spans are seconds."""

    connections: int = 512
    """In all; fewer where the process may not open as many files."""
    of_one: int = 128
    """Of one OS user. One more ends the connection of theirs that was idle for longest."""
    at_work: int = 32
    """Questions of one OS user that are worked on at once; others wait."""
    threads: int = 96
    small: int = 1 << 16
    """Bytes; longer frames of one OS user are read four at a time."""
    hello: float = 5.0
    frame: float = 10.0
    """For a length to come whole, a body to come whole, an answer to be taken."""
    idle: float = 300.0
    leave: float = 10.0
    """For what is worked on when the agent stops."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """The rest of a conversation is held by `go`, on the socket itself, in a thread of its own; then it ends.

    `go` returns the last answer; it raises GuardError, and OSError, EOFError or TimeoutError when nobody is there.
    """

    go: Callable[[socket.socket], Json]


Operation = Callable[[Peer, Mapping[str, Any]], "Json | Takeover"]
"""Does what a peer asks with its arguments. Runs in a thread of its own; raises GuardError."""


@dataclass(slots=True, eq=False)
class _Link:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    uid: int
    task: asyncio.Task[None] | None
    at_work: bool = False


class Listener:
    """Serves a Unix socket from a thread of its own, from `start` to `stop`."""

    def __init__(
        self,
        path: Path,
        hello: Callable[[Peer], Json],
        operations: Mapping[str, Operation],
        limits: Limits = Limits(),
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve at `path`. `hello` says who a peer is; it raises DeniedError for whom guard does not know.

        `leave` is called when the agent begins to stop: what took a conversation over ends it then.
        """
        self._place = Place(path)
        self._hello = hello
        self._operations = operations
        self._limits = limits
        self._leave = leave
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._links: set[_Link] = set()
        self._idle: OrderedDict[_Link, None] = OrderedDict()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen. Raises BusyError when another agent does, InterlockError, UnavailableError."""
        self._place.take()
        self._thread.start()
        self._ready.wait()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let nobody in any more, end what is worked on, and go."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._place.leave()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # it is raised again by `check`, in the daemon's own thread
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        limits = self._limits
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._at_work = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(limits.at_work))
        self._long = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(4))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = limits.connections if files == resource.RLIM_INFINITY else min(limits.connections, files // 2)
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="agent")
        server = await asyncio.start_unix_server(self._met, sock=self._place.socket, backlog=1024)
        self._ready.set()
        await self._stopping.wait()
        server.close()
        self._leave()
        working = [link.task for link in self._links if link.task is not None and link.at_work]
        for link in self._links:
            if link.task is not None and not link.at_work:
                link.task.cancel()
        if working:
            await asyncio.wait(working, timeout=limits.leave)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # One connection ---------------------------------------------------------------------------------------------------

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer, wire.uid_of(writer.get_extra_info("socket")), asyncio.current_task())
        self._links.add(link)
        try:
            self._make_room(link)
            await self._converse(link)
        except asyncio.CancelledError:
            _log.debug("uid %d: the agent stops", link.uid)
        except (OSError, EOFError, TimeoutError) as error:
            _log.debug("uid %d: %s", link.uid, type(error).__name__)
        except GuardError as error:
            _log.info("uid %d: %s", link.uid, error)
            with suppress(OSError, TimeoutError):
                await self._say(link, wire.pack(wire.failure(error)))
        finally:
            self._links.discard(link)
            writer.close()

    def _make_room(self, link: _Link) -> None:
        """Raise DeniedError for root; BusyError when there are too many, and none that may be ended for this one."""
        if link.uid == 0:
            raise DeniedError(
                "the agent takes no call from uid 0: root is everybody, so the record could not say who it was",
                hint="run the program as a user of its own",
            )
        own = [each for each in self._links if each.uid == link.uid]
        if len(own) > self._limits.of_one:
            self._end_idle(each for each in self._idle if each.uid == link.uid)
        elif len(self._links) > self._most:
            self._end_idle(self._idle)

    def _end_idle(self, idle: Any) -> None:
        longest = next(iter(idle), None)
        if longest is None:
            raise BusyError("the agent has as many callers as it takes, all at work", hint="try again")
        del self._idle[longest]
        self._links.discard(longest)
        longest.writer.close()

    async def _converse(self, link: _Link) -> None:
        hello = wire.unpack(await self._body(link, await self._head(link, self._limits.hello)))
        if hello.get("op") != "hello":
            raise GarbledError("a conversation begins with hello")
        version = wire.agreed(hello.get("oldest"), hello.get("newest"))
        service = hello.get("service")
        if not (service is None or isinstance(service, str)):
            raise GarbledError("a hello names a service, or none")
        peer = Peer(link.uid, service)
        known = await self._in_thread(link, lambda: self._hello(peer))
        await self._say(link, wire.pack({"ok": {"version": version, "you": known}}))
        while self._stopping is not None and not self._stopping.is_set():
            length = await self._head(link, self._limits.idle)
            if length <= self._limits.small:
                await self._exchange(link, peer, length)
                continue
            async with self._long[link.uid]:
                await self._exchange(link, peer, length)

    async def _exchange(self, link: _Link, peer: Peer, length: int) -> None:
        body = await self._body(link, length)
        faults.point("agent.asked")
        answer = await self._in_thread(link, lambda: _answer(lambda: self._do(peer, body)))
        if not isinstance(answer, bytes):
            await self._hand_over(link, answer)
        faults.point("agent.done")
        await self._say(link, answer)
        faults.point("agent.told")

    async def _hand_over(self, link: _Link, taken: Takeover) -> NoReturn:
        """Let a thread of its own go on with a conversation. Where it hangs with what it was given, nobody waits.

        Raises EOFError when it is over, for then the conversation is.
        """
        transport = link.writer.transport
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # one that reads, too
        transport.pause_reading()
        transport.set_write_buffer_limits(0)
        async with asyncio.timeout(self._limits.frame):
            await link.writer.drain()
        loop, over, wire_ = asyncio.get_running_loop(), asyncio.Event(), link.writer.get_extra_info("socket").dup()

        def go() -> None:
            with wire_:
                _go(wire_, taken, self._limits.frame)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(over.set)

        link.at_work = True
        threading.Thread(target=go, name="agent's run", daemon=True).start()
        await over.wait()
        raise EOFError

    async def _head(self, link: _Link, patience: float) -> int:
        """Return how long the next frame is. The connection is idle until its first byte comes."""
        self._idle[link] = None
        try:
            async with asyncio.timeout(patience):
                first = await link.reader.readexactly(1)
        finally:
            self._idle.pop(link, None)
        async with asyncio.timeout(self._limits.frame):
            return wire.length(first + await link.reader.readexactly(wire.HEAD - 1))

    async def _body(self, link: _Link, length: int) -> bytes:
        async with asyncio.timeout(self._limits.frame):
            return await link.reader.readexactly(length)

    async def _in_thread(self, link: _Link, work: Callable[[], T]) -> T:
        async with self._at_work[link.uid]:
            link.at_work = True
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            finally:
                link.at_work = False

    def _do(self, peer: Peer, body: bytes) -> Json | Takeover:
        question = wire.unpack(body)
        op, args = question.get("op"), question.get("args")
        operation = self._operations.get(op) if isinstance(op, str) else None
        if operation is None or not isinstance(args, dict):
            raise ConfigError(
                f"the agent does not know how to {op!r:.40}", hint=f"it can {', '.join(sorted(self._operations))}"
            )
        return operation(peer, args)

    async def _say(self, link: _Link, frame: bytes) -> None:
        link.writer.write(frame)
        async with asyncio.timeout(self._limits.frame):
            await link.writer.drain()


def _go(wire_: socket.socket, taken: Takeover, patience: float) -> None:
    wire_.settimeout(patience)
    try:
        answer = _answer(lambda: taken.go(wire_))
        assert isinstance(answer, bytes)  # noqa: S101  # who has taken over does not do it again
        wire_.settimeout(patience)
        wire_.sendall(answer)
    except (OSError, EOFError, TimeoutError) as error:
        _log.debug("who asked is gone: %s", type(error).__name__)


def _answer(work: Callable[[], Json | Takeover]) -> bytes | Takeover:
    """Return the frame that answers: what `work` returned, or the error it raised."""
    try:
        found = work()
        return found if isinstance(found, Takeover) else wire.pack({"ok": found})
    except Exception as error:  # noqa: BLE001  # it is told to whoever asked
        if not isinstance(error, GuardError):
            _log.exception("unexpected, in the agent")
        return wire.pack(wire.failure(error))
