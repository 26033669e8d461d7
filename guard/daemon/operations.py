"""What the agent does for whom it lets in. Who calls comes from the kernel, never from what is said."""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from guard import __version__
from guard.actions.openings import Openings
from guard.actions.shopcode import ShopCode
from guard.clock import stamp
from guard.daemon.runs import Caller, Runs
from guard.daemon.socket import Listener, Peer
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Activity, Ending, Event, Principal

if TYPE_CHECKING:
    from guard.actions.tell import Desk
    from guard.app import App
    from guard.canon import Json
    from guard.daemon.current import Current
    from guard.daemon.socket import Operation, Takeover
    from guard.state import Tx

_QUIET = timedelta(hours=1)
"""An OS user who is sent away again within it is not recorded again."""

_MOST = 1000
"""Events in one question."""

_OVERFLOW = Path("/proc/sys/kernel/overflowuid")
"""Who the kernel says is there when it is somebody of another user namespace: everybody, so nobody."""


class Operations:
    """What may be asked at the socket."""

    def __init__(self, current: Current, runs: Runs) -> None:
        self._current = current
        self._runs = runs
        self._refused: dict[int, datetime] = {}
        self._openings = Openings(self._app)
        current.before_close.append(self._openings.close)
        self._codes: WeakKeyDictionary[Desk, ShopCode] = WeakKeyDictionary()
        self._lock = threading.Lock()
        fields = {name: partial(self._fields, name) for name in ("lease", "seal", "open", "token")}
        self.table: Mapping[str, Operation] = {"ping": self._ping, "emit": self._emit, "run": self._run, **fields}
        """Every operation there is, by name."""

    def hello(self, peer: Peer) -> Json:
        """Say who a peer is. Raises DeniedError, recorded once an hour, for whom guard does not know."""
        with self._current.use() as desk:
            return {"who": self._caller(desk, peer).id, "guard": __version__}

    def _ping(self, peer: Peer, _: Mapping[str, Any]) -> Json:
        """Tell the time."""
        with self._current.use() as desk:
            self._caller(desk, peer)
            return {"at": stamp(desk.app.clock.now())}

    def _emit(self, peer: Peer, args: Mapping[str, Any]) -> Json:
        """Record events of the shop, all or none."""
        events = args.get("events")
        if not isinstance(events, list) or not 0 < len(events) <= _MOST:
            raise ConfigError(f"emit takes a list of 1 to {_MOST} events")
        with self._current.use() as desk:
            return {"entries": desk.tell(self._caller(desk, peer), events)}

    def _run(self, peer: Peer, args: Mapping[str, Any]) -> Takeover:
        """Run a command for a person. Raises DeniedError for a service: what those may do has operations of its own."""
        if peer.service is not None:
            raise DeniedError("a service runs no commands of people", hint="call without a service", reason="role")
        with self._current.use() as desk:
            self._caller(desk, peer)
        return self._runs.take(Caller(peer.uid, _os_user(peer.uid) or _nameless(peer.uid)), args)

    def _fields(self, op: str, peer: Peer, args: Mapping[str, Any]) -> Json:
        """Lend keys of columns to a service, or seal, open and make tokens for it."""
        with self._current.use() as desk:
            who = self._caller(desk, peer)
            with self._lock:
                if (code := self._codes.get(desk)) is None:
                    code = self._codes[desk] = ShopCode(desk.app, self._openings)
            does = {"lease": code.lease, "seal": code.seal, "open": code.open, "token": code.token}
            return does[op](who, args)

    @contextmanager
    def _app(self) -> Iterator[App]:
        with self._current.use() as desk:
            yield desk.app

    def _caller(self, desk: Desk, peer: Peer) -> Principal:
        """Return who calls, as the policy and the list of people have it now."""
        name = _os_user(peer.uid)
        try:
            own = name is not None and peer.uid == os.getuid()
            return desk.app.access.at_socket(name or _nameless(peer.uid), peer.service, own=own)
        except DeniedError:
            self._record(desk, peer.uid, name or _nameless(peer.uid))
            raise

    def _record(self, desk: Desk, uid: int, name: str) -> None:
        """Record that somebody was sent away."""
        app, now = desk.app, desk.app.clock.now()
        before = self._refused.get(uid)
        if before is not None and now - before < _QUIET:
            return
        self._refused[uid] = now
        digests = {"os_user": app.digest("OS user", name.encode())}
        facts = {"reason": "unknown", "via": "socket"}
        event = Event(
            "access.enter", Ending.DENIED, GUARD, app.new_run(), Activity.AUTHENTICATE, (), {}, digests, facts
        )
        try:
            app.record(_nothing, event)
        except BaseException:
            self._refused.pop(uid, None)
            raise


def listener(current: Current, config: Path | None = None) -> Listener:
    """Return what serves the socket of the app of now; where that lies is not changed while it serves.

    `config`: the guard.toml that commands of people are run with.
    """
    runs = Runs(config or current.app.home / "guard.toml")
    operations = Operations(current, runs)
    _ = current.app.access  # state, keys and ledger are opened by one thread, before many use them
    return Listener(current.app.agent_socket, operations.hello, operations.table, leave=runs.stop)


def _os_user(uid: int) -> str | None:
    """Return the OS user; None where the uid has no name, or may be anybody's."""
    try:
        is_anybody = uid == int(_OVERFLOW.read_text())
        return None if is_anybody else pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return None


def _nameless(uid: int) -> str:
    """Return what no OS user can be called."""
    return f"uid {uid}"


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
