"""The shape of `policies/schedule.toml`: which jobs run when, and how often a failed one is tried again."""

import re
from datetime import UTC, time, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from guard.config.span import Span

JobName = Literal["backup", "prune", "verify", "retention", "epoch", "ledger", "heartbeat"]
"""The jobs guard knows; `guard.actions.jobs` says what each does."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Retry(_Part, frozen=True, kw_only=True):
    """How a run that failed is tried again: `times` more, first after `first`, doubling up to `most`."""

    times: int = 0
    first: Span = Span.parse("5 minutes")
    most: Span = Span.parse("1 hour")

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError("times is 0 or more")
        if self.first.months or self.most.months:
            raise ValueError("a retry waits minutes, hours or days; months differ in length")


class JobRule(_Part, frozen=True, kw_only=True):
    """When one job runs. Exactly one of `daily`, `every`, `after` is set."""

    name: JobName
    daily: str | None = None
    """HH:MM in `zone`."""
    zone: str = "UTC"
    every: Span | None = None
    """Counted from midnight UTC of 1970-01-01, so it does not drift."""
    after: JobName | None = None
    """The slots of that job, each once that job's run of the slot has ended, well or not."""
    catch_up: Literal["latest", "none"] = "latest"
    retry: Retry = Retry()

    def __post_init__(self) -> None:
        if sum(rule is not None for rule in (self.daily, self.every, self.after)) != 1:
            raise ValueError("set exactly one of daily, every, after")
        if self.daily is not None:
            _clock_time(self.daily)
        if self.every is not None and self.every.months:
            raise ValueError("every takes minutes, hours or days; months differ in length")
        _zone(self.zone)

    @property
    def at(self) -> time:
        """The time of day of `daily`."""
        return _clock_time(self.daily or "")

    @property
    def tz(self) -> tzinfo:
        """The time zone of `daily`."""
        return _zone(self.zone)


class Schedule(_Part, frozen=True, kw_only=True):
    """The whole of `policies/schedule.toml`. Jobs that are due together run in the order they are listed."""

    job: tuple[JobRule, ...]
    lease: Span = Span.parse("10 minutes")
    """A run whose process shows no life for this long may be taken over."""

    def __post_init__(self) -> None:
        if self.lease.months:
            raise ValueError("the lease is minutes or hours; months differ in length")
        names = [rule.name for rule in self.job]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed twice: {', '.join(twice)}")
        for number, rule in enumerate(self.job):
            if rule.after is not None and rule.after not in names[:number]:
                raise ValueError(f"{rule.name} comes after {rule.after}, which must be listed before it")

    def find(self, name: str) -> JobRule | None:
        """Return the rule of a job, or None when the schedule does not hold it."""
        return next((rule for rule in self.job if rule.name == name), None)

    def timed(self, rule: JobRule) -> JobRule:
        """Return the rule that gives `rule` its slots: itself, or the start of its chain of `after`."""
        while rule.after is not None:
            rule = next(each for each in self.job if each.name == rule.after)
        return rule


def _clock_time(text: str) -> time:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f"daily takes HH:MM between 00:00 and 23:59, not {text!r}")
    return time.fromisoformat(text)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # there even where the machine has no time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}; take a name such as Europe/Berlin, or UTC") from error
