"""What services open through the agent, for the ledger: the first batch at once, then a sum once a minute. FORMATS 4.

An entry for each batch would drown the ledger in a shop's ordinary reading. An entry is written before the values of
its batch are given; what is only counted is lost when the agent is killed, which is a minute at the most.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from guard.errors import GuardError
from guard.events import Activity, Ending, Event, PrincipalId

if TYPE_CHECKING:
    from guard.app import App
    from guard.state import Tx

OPEN = "fields.open"
"""The action, as policies/access.toml and the ledger call it."""

EACH = timedelta(minutes=1)
"""Between two entries about one service and column."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tally:
    """What was opened since the last entry, which was written at `told`."""

    values: int = 0
    batches: int = 0
    told: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        return self.told is None or not timedelta() <= now - self.told < EACH


class Openings:
    """Counts what is opened, by service and column. May be shared by threads."""

    def __init__(self, use: Callable[[], AbstractContextManager[App]]) -> None:
        """`use` gives the app of now, for what is recorded later."""
        self._use = use
        self._lock = threading.Lock()
        self._tallies: dict[tuple[PrincipalId, str], _Tally] = {}
        self._timer: threading.Timer | None = None

    def count(self, app: App, who: PrincipalId, at: str, values: int) -> None:
        """Count a batch that is about to be given. Raises what recording raises; then it is not to be given."""
        now = app.clock.now()
        with self._lock:
            tally = self._tallies.setdefault((who, at), _Tally())
            tally.values += values
            tally.batches += 1
            is_due = tally.is_due(now)
            if not is_due:
                self._later()
        if is_due:
            self._record(app, (who, at), now)

    def close(self) -> None:
        """Record what was only counted: nobody asks any more."""
        self._rest()
        self.flush()
        self._rest()

    def flush(self) -> None:
        """Record what was only counted."""
        with self._lock:
            self._timer = None
            left = [key for key, tally in self._tallies.items() if tally.batches]
        if not left:
            return
        with self._use() as app:
            for key in left:
                try:
                    self._record(app, key, app.clock.now())
                except GuardError as error:
                    _log.error("what %s opened of %s is not recorded yet: %s", *key, error)
                    with self._lock:
                        self._later()

    def _record(self, app: App, key: tuple[PrincipalId, str], now: datetime) -> None:
        with self._taken(key, now) as taken:
            if taken.batches:
                counts = {"values": taken.values, "batches": taken.batches}
                run = app.new_run()
                app.record(
                    _nothing, Event(OPEN, Ending.DONE, key[0], run, Activity.DATA_DECRYPT, (key[1],), counts=counts)
                )

    @contextmanager
    def _taken(self, key: tuple[PrincipalId, str], now: datetime) -> Iterator[_Tally]:
        """Give what is to be recorded; it is counted again where that fails."""
        with self._lock:
            taken = self._tallies[key]
            self._tallies[key] = _Tally(told=now)
        try:
            yield taken
        except BaseException:
            with self._lock:
                tally = self._tallies[key]
                tally.values, tally.batches = tally.values + taken.values, tally.batches + taken.batches
                tally.told = None
            raise

    def _rest(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(EACH.total_seconds(), self.flush)
            self._timer.daemon = True
            self._timer.start()


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
