"""For the shop's own code: tell guard what the shop and its staff did with personal data.

    from guard.audit import Emitter

    log = Emitter.open("guard.toml")
    log.emit("order.read", class_="read", actor=staff, subject=("customer", 17), purpose="support")

Returns when the entry is safe on disk. While `guard daemon` serves its socket, it records what is told and this process
needs no key; else guard is opened here, where this process may. What could not be recorded raises: the shop decides
whether it goes on without a record. May be shared by threads; a forked child begins anew. docs/decisions/0019.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack
from weakref import WeakSet

import msgspec

from guard import canon, wire
from guard.audit.told import LINE
from guard.client import PATIENCE, Agent, AwayError
from guard.clock import SystemClock
from guard.config import load_settings
from guard.crypto.random import hex_token
from guard.errors import BusyError, ConfigError, GuardError, UnavailableError

Subject = tuple[str, int | str]
"""A person: the catalog's kind of subject, and the key of their row."""

_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")

_MOST: Final = 500
"""Events in one question to the agent."""

_ROOM: Final = wire.MOST - 200
"""Bytes of events in one question."""

_Opened = tuple[Callable[[Sequence[object]], list[int]], Callable[[], None]]
"""What records events where guard is opened in this process, and what closes it."""


class Members(TypedDict, total=False):
    """What an event may say beside what happened. All but `class_` may be left out."""

    class_: Literal["read", "update", "create", "delete", "export"]
    outcome: Literal["done", "denied", "failed"]
    actor: str
    """Who did it, by their name in the shop; stored as a stand-in. Left out: the shop itself."""
    subject: Subject | Sequence[Subject]
    """Whom it is about; each gets an entry of their own."""
    objects: Sequence[str]
    """Tables or columns of the catalog."""
    purpose: str
    """One that policies/audit.toml lists."""
    counts: Mapping[str, int]
    """Of rows, people or files."""
    details: Mapping[str, Any]
    """What is said in clear, as JSON; sealed for whom it is about, and erased with them."""
    at: datetime | str
    """When it happened; left out: now."""
    id: str
    """A text of the shop's own, never used for another event: told twice, it is recorded once."""


class UnrecordedError(UnavailableError):
    """Nobody could be told in time; whether it was recorded all the same may be unknown.

    `lines` holds the events as JSON lines, with their ids: to tell them again, or to have `guard audit ingest` take
    them in later, records each once.
    """

    def __init__(self, message: str, *, hint: str | None = None, lines: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.lines = lines


class Emitter:
    """Tells guard what happened in the shop, in the name of one service of policies/access.toml."""

    _known: Agent | None
    _local: _Opened | None

    def __init__(self, agent: Callable[[], Agent], embedded: Callable[[], _Opened]) -> None:
        self._agent = agent
        self._embedded = embedded
        self._inherited: list[_Opened | None] = []
        self._begin()
        _ALL.add(self)

    @classmethod
    def open(
        cls,
        config: str | Path = "guard.toml",
        *,
        service: str = "shop",
        socket: str | Path | None = None,
        patience: float = PATIENCE,
    ) -> Emitter:
        """Return the emitter of the store that `config` sets up. Reads nothing yet.

        `socket`: the agent's, for a process that may not read `config`. `patience`: seconds an event waits for an
        agent that restarts or is busy. Raises ConfigError for what can be no name of a service.
        """
        path = Path(config).absolute()
        if not _SERVICE.fullmatch(service):
            raise ConfigError("that is no name of a service", hint='policies/access.toml lists them, e.g. "shop"')

        def agent() -> Agent:
            where = path.parent / load_settings(path).agent.socket if socket is None else Path(socket)
            return Agent(where, service, patience)

        def embedded() -> _Opened:  # the door here is the shop's own code, so the room asks for the house
            opened: _Opened = importlib.import_module("guard.actions.tell").embedded(path, service)
            return opened

        return cls(agent, embedded)

    def emit(self, what: str, **event: Unpack[Members]) -> int:
        """Record one event and return the number of its entry, of the first where it names several people.

        Raises ConfigError for what is wrong with the event, DeniedError when the service may not, InterlockError for a
        person where there is no vault, UnrecordedError.
        """
        return self.emit_many([{"what": what, **event}])[0]

    def emit_many(self, events: Sequence[Mapping[str, Any]]) -> list[int]:
        """Record events, e.g. `{"what": "order.read", "class": "read", "objects": ["Customer.Email"]}`, in order.

        Returns the number of each one's entry. Those that fit into one message (500, and a MiB) stand and fall
        together. Raises what `emit` raises.
        """
        lines = [_line(each) for each in events]
        numbers: list[int] = []
        for some in _messages(lines):
            try:
                numbers += self._tell([msgspec.json.decode(line) for line in some])
            except (UnavailableError, BusyError) as error:
                left = b"".join(line + b"\n" for line in lines[len(numbers) :])
                raise UnrecordedError(f"not recorded: {error}", hint=error.hint, lines=left) from error
        return numbers

    def close(self) -> None:
        """Close what was opened; the next event opens it again."""
        with self._lock:
            agent, opened, self._known, self._local = self._known, self._local, None, None
        if agent is not None:
            agent.close()
        if opened is not None:
            opened[1]()

    def forked(self) -> None:
        """Begin anew in a forked child."""
        self._inherited.append(self._local)  # not closed here: that would end locks the parent relies on
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._known = self._local = None

    def _tell(self, events: list[Any]) -> list[int]:
        """Tell the agent; where there is none, record here; where that cannot be, wait for an agent."""
        agent = self._agent_of()
        if agent.is_there:
            try:
                return _asked(agent, events, patient=False)
            except AwayError:
                pass
        try:
            record, _ = self._opened()
        except GuardError as error:
            return self._waited(agent, events, error)
        return record(events)

    def _waited(self, agent: Agent, events: list[Any], why: GuardError) -> list[int]:
        try:
            return _asked(agent, events, patient=True)
        except AwayError as error:
            raise UnavailableError(
                f"{error}; and guard cannot be opened here: {why}",
                hint="start `guard daemon`; or let this account read guard's folder, if it is to hold the keys",
            ) from why

    def _agent_of(self) -> Agent:
        with self._lock:
            if self._known is None:
                self._known = self._agent()
            return self._known

    def _opened(self) -> _Opened:
        with self._lock:
            if self._local is None:
                self._local = self._embedded()
            return self._local


def _asked(agent: Agent, events: list[Any], *, patient: bool) -> list[int]:
    found = agent.ask("emit", {"events": events}, patient=patient)
    numbers = found.get("entries") if isinstance(found, dict) else None
    if not isinstance(numbers, list) or len(numbers) != len(events):
        raise UnavailableError("the agent's answer names other entries than it was told of")
    return numbers


def _line(event: Mapping[str, Any]) -> bytes:
    """Return an event as a line of JSON, with time and id. Raises ConfigError for what JSON cannot hold."""
    told = dict(event)
    if "class_" in told:
        told["class"] = told.pop("class_")
    told["subject"] = _subject(told.get("subject"))
    if isinstance(at := told.get("at"), datetime):
        told["at"] = at.isoformat()
    given = {name: value for name, value in told.items() if value is not None}
    made = {"at": SystemClock().now().isoformat(), "id": hex_token(16)} | given
    try:
        line = canon.json_bytes(made)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"an event is JSON: {error}", hint="write what is not as text, e.g. times and long numbers"
        ) from error
    if len(line) > LINE:
        raise ConfigError(
            f"an event of {len(line)} bytes is too long", hint=f"at most {LINE}; keep details in the shop"
        )
    return line


def _subject(given: Any) -> Any:
    """Return what was given as subject in the words of the schema: pairs become objects."""
    match given:
        case (str() as kind, int() | str() as key):
            return {"kind": kind, "key": key}
        case list() | tuple():
            return [_subject(each) for each in given]
        case _:
            return given


def _messages(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield lines in portions that fit into one message."""
    some: list[bytes] = []
    size = 0
    for line in lines:
        if some and (len(some) == _MOST or size + len(line) > _ROOM):
            yield some
            some, size = [], 0
        some.append(line)
        size += len(line) + 1
    if some:
        yield some


# The emitter of the process -------------------------------------------------------------------------------------------

_ALL: WeakSet[Emitter] = WeakSet()
_own: list[Emitter] = []


def emit(what: str, **event: Unpack[Members]) -> int:
    """Do as `Emitter.emit`, for the store of $GUARD_CONFIG or ./guard.toml; $GUARD_SOCKET may name the agent's."""
    return _emitter().emit(what, **event)


def emit_many(events: Sequence[Mapping[str, Any]]) -> list[int]:
    """Do as `Emitter.emit_many`, for the store that `emit` takes."""
    return _emitter().emit_many(events)


def _emitter() -> Emitter:
    if not _own:
        config, socket = os.environ.get("GUARD_CONFIG", "guard.toml"), os.environ.get("GUARD_SOCKET")
        _own.append(Emitter.open(config, socket=socket))
    return _own[0]


def _forked() -> None:
    for each in list(_ALL):
        each.forked()


os.register_at_fork(after_in_child=_forked)
