"""The clock: one beat a second, and whatever is due by then.

`schedule` gives the beat and nothing else. Its own jobs would forget what they missed, drift, and die with the first
exception; all that is kept in state by the jobs room.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import schedule

from guard.actions.jobs import Ran, Watch, tick
from guard.daemon.notify import Notifier
from guard.errors import BusyError, GuardError, UnavailableError

if TYPE_CHECKING:
    from types import FrameType

    from guard.app import App

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


def serve(app: App, stop: Stop, tell: Callable[[Ran], None], reopen: Callable[[], App] | None = None) -> None:
    """Run what is due, once a second, until `stop` is asked for. What was missed before is caught up at once.

    `reopen` opens the app anew; it is called when a file of the configuration has changed. Raises BusyError when
    another daemon runs in this folder, and what a beat raises when it cannot go on.
    """
    notify = Notifier()
    clock = schedule.Scheduler()
    with app.hold(("daemon",), timedelta(), "guard daemon"):
        beat = Beat(app, Watch(lambda: stop.asked, tell, lambda: notify("WATCHDOG=1")), reopen)
        notify("READY=1")
        try:
            beat()
            clock.every(1).seconds.do(beat)
            while not stop.asked:
                clock.run_pending()
                beat.app.clock.sleep(REST)
        finally:
            notify("STOPPING=1")
            beat.close()


class Beat:
    """One tick, guarded: what may pass is waited out, what will not ends the daemon."""

    def __init__(self, app: App, watch: Watch, reopen: Callable[[], App] | None) -> None:
        self.app = app
        self._first = app
        self._watch = watch
        self._reopen = reopen
        self._read = _reading(app)
        self._failures = 0

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

    def close(self) -> None:
        """Close what was reopened; the first app belongs to the caller."""
        if self.app is not self._first:
            self.app.close()

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
        self.close()
        self.app = fresh


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
