"""Find what has outlived its purpose. Pure: values and `now` in, decisions out. Nothing here changes the shop."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Final

from guard.config.retention import CountFrom, Limit
from guard.config.span import Span

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Dates before it are stand-ins for "unknown" (1900-01-01, 0001-01-01), not dates a term could begin at."""

_EPOCH_FROM: Final = 100_000_000
_SECONDS_TO: Final = 100_000_000_000
_MILLISECONDS_FROM: Final = 1_000_000_000_000
"""Between the two lie the seconds of the years 5138 to 33658, which say "never", and milliseconds of 1973 to 2001."""
_SLACK: Final = timedelta(days=5)
"""Months end on different days (3), and a date may lie in another zone (1 on each side)."""
_MEDIAN_FROM: Final = 7


def ends(since: datetime, keep: Span, count: CountFrom) -> datetime:
    """Return when a term that begins with `since` is over; from then on the row is due."""
    if count == "year end":
        since = datetime(since.year + 1, 1, 1, tzinfo=UTC)
    return keep.after(since)


def due(since: datetime, keep: Span, count: CountFrom, now: datetime) -> bool:
    """Tell whether a row may no longer be kept at `now`: exactly at the end of its term it may not.

    A term that ends behind the calendar's last year never does: 9999-12-31 stands for "for ever".
    """
    try:
        return ends(since, keep, count) <= now
    except (ValueError, OverflowError):
        return False


def latest(keep: Span, now: datetime) -> datetime:
    """Return a time that no row due at `now` has a later date than."""
    return keep.before(now) + _SLACK


def moment(value: object) -> datetime | None:
    """Return the time a database value stands for, aware, in UTC; None when it is none that can be relied on.

    Takes dates, times (naive ones are UTC), ISO 8601 texts, whole numbers as YYYYMMDD or as seconds or milliseconds
    since 1970.
    """
    match value:
        case bool():
            return None
        case datetime():
            at = value
        case date():
            at = datetime(value.year, value.month, value.day, tzinfo=UTC)
        case str():
            return _of_text(value)
        case int() | float():
            return _of_number(value)
        case _:
            return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at if at >= EARLIEST else None


def _of_text(text: str) -> datetime | None:
    try:
        return moment(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):  # the second: behind the calendar's edge once it is in UTC
        return None


def _of_number(value: float) -> datetime | None:
    if 1970_01_01 <= value < _EPOCH_FROM and value == int(value):
        return _of_text(str(int(value)))
    if value < _EPOCH_FROM or _SECONDS_TO <= value < _MILLISECONDS_FROM:
        return None
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def over_limit(rows: int, table_rows: int, before: Sequence[int], limit: Limit) -> str | None:
    """Say why a plan of `rows` rows waits for a person; None when a standing approval is enough.

    `before` holds the rows of the runs of the last 30 days; their median counts from a week of runs on.
    """
    if rows <= limit.floor:
        return None
    if rows > limit.share * table_rows:
        return f"{rows} rows are more than {limit.share:.1%} of the table's {table_rows}"
    if len(before) >= _MEDIAN_FROM and rows > limit.times * (usual := median(before)):
        return f"{rows} rows are more than {limit.times:g} times the median of the last 30 days, {usual:g}"
    return None
