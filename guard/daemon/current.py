"""The app that requests are worked with: exchanged while some are under way, closed when the last of them is done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from guard.actions.tell import Desk

if TYPE_CHECKING:
    from guard.app import App


class Current:
    """The app of now. May be shared by threads."""

    def __init__(self, first: App) -> None:
        self.desk = Desk(first)
        self._first = first  # belongs to the caller, who closes it
        self._lock = threading.Lock()
        self._users: Counter[Desk] = Counter()
        self.before_close: list[Callable[[], None]] = []
        """What is left to be done when nobody asks any more, while the app is still open."""

    @property
    def app(self) -> App:
        """The app of now; whoever is not the one that exchanges it takes `use`."""
        return self.desk.app

    @contextmanager
    def use(self) -> Iterator[Desk]:
        """Give the desk of the app of now, which is not closed while the block runs."""
        with self._lock:
            desk = self.desk
            self._users[desk] += 1
        try:
            yield desk
        finally:
            with self._lock:
                self._users[desk] -= 1
                if not (left := self._users[desk]):
                    del self._users[desk]
                is_done = not left and desk is not self.desk
            if is_done:
                self._close(desk)

    def exchange(self, app: App) -> None:
        """Use `app` from now on."""
        with self._lock:
            old, self.desk = self.desk, Desk(app)
            is_done = not self._users[old]
        if is_done:
            self._close(old)

    def close(self) -> None:
        """Do what was left, and close the app of now, unless it is the first."""
        for work in self.before_close:
            work()
        self._close(self.desk)

    def _close(self, desk: Desk) -> None:
        if desk.app is not self._first:
            desk.app.close()
