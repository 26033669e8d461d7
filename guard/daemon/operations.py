"""What the agent does for whom it lets in. Who calls comes from the kernel, never from what is said."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guard import __version__
from guard.clock import stamp
from guard.daemon.socket import Listener, Peer
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Activity, Ending, Event, Principal

if TYPE_CHECKING:
    from guard.actions.tell import Desk
    from guard.canon import Json
    from guard.daemon.current import Current
    from guard.daemon.socket import Operation
    from guard.state import Tx

_QUIET = timedelta(hours=1)
"""An OS user who is sent away again within it is not recorded again."""

_MOST = 1000
"""Events in one question."""

_OVERFLOW = Path("/proc/sys/kernel/overflowuid")
"""Who the kernel says is there when it is somebody of another user namespace: everybody, so nobody."""


class Operations:
    """What may be asked at the socket."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._refused: dict[int, datetime] = {}
        self.table: Mapping[str, Operation] = {"ping": self._ping, "emit": self._emit}
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
        app.record(_nothing, event)


def listener(current: Current) -> Listener:
    """Return what serves the socket of the app of now; where that lies is not changed while it serves."""
    operations = Operations(current)
    _ = current.app.access  # state, keys and ledger are opened by one thread, before many use them
    return Listener(current.app.agent_socket, operations.hello, operations.table)


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
