"""The calendar: at which moments a job is due. Pure; UTC in, UTC out.

Rules live in a zone, slots in UTC. A daily time that the clock skips (spring) is taken with the offset from before the
change, so 02:30 becomes 03:30; one that comes twice (autumn) is taken the first time. Each local day has one slot.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Daily:
    """Each day at `at` by the clocks of `zone`."""

    at: time
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Every:
    """Every `step`, counted from the epoch, so that no run shifts the next."""

    step: timedelta


Spec = Daily | Every


def due_slots(spec: Spec, last: datetime, now: datetime) -> Iterator[datetime]:
    """Yield the slots after `last` up to and including `now`, oldest first, as UTC times."""
    return _daily(spec, last, now) if isinstance(spec, Daily) else _every(spec.step, last, now)


def _daily(spec: Daily, last: datetime, now: datetime) -> Iterator[datetime]:
    newest = last.astimezone(UTC)
    day = newest.astimezone(spec.zone).date() - _DAY  # a skipped time falls on a later hour, at most a day on
    while (slot := datetime.combine(day, spec.at, spec.zone).astimezone(UTC)) <= now:
        if slot > newest:  # a zone that skipped a whole day gives one moment to two dates
            yield slot
            newest = slot
        day += _DAY


def _every(step: timedelta, last: datetime, now: datetime) -> Iterator[datetime]:
    slot = EPOCH + ((last - EPOCH) // step + 1) * step
    while slot <= now:
        yield slot
        slot += step
