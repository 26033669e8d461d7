"""Lengths of time as policies write them: "30 days", "10 years", "72 hours"."""

import calendar
import re
from datetime import datetime, timedelta

_UNITS = ("year", "month", "week", "day", "hour", "minute")
_PART = re.compile(r"(\d+) (year|month|week|day|hour|minute)s?")


class Span:
    """A calendar length: months (years count 12) and an exact rest. Not a dataclass: msgspec would want a table."""

    __slots__ = ("months", "rest")

    def __init__(self, months: int = 0, rest: timedelta = timedelta()) -> None:
        self.months = months
        self.rest = rest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and (self.months, self.rest) == (other.months, other.rest)

    def __hash__(self) -> int:
        return hash((self.months, self.rest))

    def __repr__(self) -> str:
        return f"Span({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read e.g. "1 year 6 months". Raises ValueError for anything else, and for a length of zero."""
        found = _PART.findall(text)
        if " ".join(f"{number} {unit}" for number, unit in found) != re.sub(r"s\b", "", text) or not found:
            raise ValueError(f'expected a length such as "30 days" or "10 years", not {text!r}')
        of = dict.fromkeys(_UNITS, 0)
        for number, unit in found:
            of[unit] += int(number)
        rest = timedelta(weeks=of["week"], days=of["day"], hours=of["hour"], minutes=of["minute"])
        span = cls(of["year"] * 12 + of["month"], rest)
        if not span.months and not span.rest:
            raise ValueError("a length of zero")
        return span

    def after(self, at: datetime) -> datetime:
        """Return `at` plus this length; the day is cut to the end of a shorter month."""
        months = at.year * 12 + at.month - 1 + self.months
        year, month = divmod(months, 12)
        day = min(at.day, calendar.monthrange(year, month + 1)[1])
        return at.replace(year=year, month=month + 1, day=day) + self.rest

    def before(self, at: datetime) -> datetime:
        """Return `at` minus this length; the day is cut to the end of a shorter month."""
        months = at.year * 12 + at.month - 1 - self.months
        year, month = divmod(months, 12)
        day = min(at.day, calendar.monthrange(year, month + 1)[1])
        return at.replace(year=year, month=month + 1, day=day) - self.rest

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        hours, seconds = divmod(self.rest.seconds, 3600)
        minutes = seconds // 60
        shown = (("year", years), ("month", months), ("day", self.rest.days), ("hour", hours), ("minute", minutes))
        return " ".join(f"{number} {unit}{'s' if number != 1 else ''}" for unit, number in shown if number)
