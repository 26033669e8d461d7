"""The clock: one beat a second, and whatever is due by then.

`schedule` gives the beat and nothing else. Its own jobs would forget what they missed, drift, and die with the first
exception; all that is kept in state by the jobs room.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import schedule

from guard.actions.jobs import Ran, Watch, tick
from guard.daemon.current import Current
from guard.daemon.notify import Notifier
from guard.errors import BusyError, GuardError, UnavailableError

if TYPE_CHECKING:
    from types import FrameType

    from guard.app import App
    from guard.daemon.socket import Listener

REST = timedelta(milliseconds=250)
"""Between two looks at the clock and at the wish to stop."""

PATIENCE = 60
"""So many beats in a row may fail before the daemon gives up and leaves it to its supervisor: a minute."""

Reading = tuple[tuple[str, int, int], ...]
_log = logging.getLogger(__name__)


class Stop:
    """The wish to stop. A plain flag: nothing a signal handler could wait for."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """Ask for a stop; what is under way stops at its next step."""
        self.asked = True


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask for a stop while the block runs."""

    def handle(_: int, __: FrameType | None) -> None:
        stop.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(
    app: App,
    stop: Stop,
    tell: Callable[[Ran], None],
    reopen: Callable[[], App] | None = None,
    listen: Callable[[Current], Listener] | None = None,
) -> None:
    """Run what is due, once a second, until `stop` is asked for. What was missed before is caught up at once.

    `reopen` opens the app anew; it is called when a file of the configuration has changed. `listen` makes the socket
    that is served meanwhile. Raises BusyError when another daemon runs in this folder, what a beat raises when it
    cannot go on, and what ended the socket.
    """
    notify = Notifier()
    clock = schedule.Scheduler()
    with app.hold(("daemon",), timedelta(), "guard daemon"), ExitStack() as ending:
        current = Current(app)
        ending.callback(current.close)
        beat = Beat(current, Watch(lambda: stop.asked, tell, lambda: notify("WATCHDOG=1")), reopen)
        listener = None if listen is None else listen(current)
        if listener is not None:
            ending.callback(listener.stop)
            listener.start()
        ending.callback(notify, "STOPPING=1")
        notify("READY=1")
        beat()
        clock.every(1).seconds.do(beat)
        while not stop.asked:
            clock.run_pending()
            if listener is not None:
                listener.check()
            beat.app.clock.sleep(REST)


class Beat:
    """One tick, guarded: what may pass is waited out, what will not ends the daemon."""

    def __init__(self, current: Current, watch: Watch, reopen: Callable[[], App] | None) -> None:
        self._current = current
        self._watch = watch
        self._reopen = reopen
        self._read = _reading(current.app)
        self._failures = 0

    @property
    def app(self) -> App:
        """The app of now."""
        return self._current.app

    def __call__(self) -> None:
        """Run what is due now. Raises what cannot be waited out, and what could be but has not passed in PATIENCE."""
        try:
            self._follow_changes()
            tick(self.app, self.app.clock.now(), self._watch)
        except (BusyError, UnavailableError) as error:
            self._wait_out(error)
        except GuardError:
            raise
        except Exception as error:  # noqa: BLE001  # a beat that fails is not the end of the clock
            self._wait_out(error)
        else:
            self._failures = 0
            self._watch.alive()

    def _wait_out(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            _log.warning("%s: %s; going on for a minute", type(error).__name__, error)
        _log.debug("beat failed", exc_info=True)
        if self._failures >= PATIENCE:
            raise error

    def _follow_changes(self) -> None:
        """Open the app anew when its configuration has changed; keep the old one when the new one is wrong."""
        if self._reopen is None or (reading := _reading(self.app)) == self._read:
            return
        self._read = reading
        try:
            fresh = _checked(self._reopen())
        except GuardError as error:
            _log.error("the changed configuration is not used: %s", error)
            return
        self._current.exchange(fresh)


def _checked(app: App) -> App:
    """Return the app if what the daemon itself needs can be read. Raises GuardError after closing it."""
    try:
        _ = app.jobs, app.access
    except BaseException:
        app.close()
        raise
    return app


def _reading(app: App) -> Reading:
    """Return what tells whether a file of the configuration has changed: name, time and size of each."""
    files = sorted([*app.home.glob("*.toml"), *app.policies.glob("*.toml")])
    found = [(str(path), path.stat()) for path in files]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)
