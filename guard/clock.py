"""The time, as a value that comes in from outside. All times are aware and UTC.

The one place that reads the system clock. Tests and the demo step a `SteppedClock`.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def sleep(self, span: timedelta) -> None:
        """Wait for `span`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the one place

    def sleep(self, span: timedelta) -> None:
        """Wait for `span`; returns at once when it is not positive."""
        time.sleep(max(0.0, span.total_seconds()))


class SteppedClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the time it was last stepped to."""
        return self._now

    def sleep(self, span: timedelta) -> None:
        """Step forward by `span` at once."""
        self.step(span)

    def step(self, span: timedelta) -> None:
        """Move by `span`; a negative one sets the clock back."""
        self._now += span


def stamp(at: datetime) -> str:
    """Return `at` as RFC 3339 in UTC with microseconds, e.g. 2026-11-22T17:30:00.000000Z."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> datetime:
    """Return the time in an RFC 3339 text with an offset.

    Raises ValueError for anything else, naive times included.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time without offset: {text!r}")
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"a time beyond the years 1 to 9999 in UTC: {text!r}") from error
