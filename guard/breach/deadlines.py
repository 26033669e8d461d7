"""When a duty falls due, and how near that is. Pure; elapsed time in UTC, never the clock on the wall.

Regulation (EEC, Euratom) 1182/71, article 3: a period in hours runs through nights, Sundays and holidays.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from guard.config.breach import BreachRule


class Urgency(StrEnum):
    """How near a deadline is."""

    OK = "ok"
    SOON = "soon"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Deadline:
    """One duty of one incident, as it stands at one moment. All times are UTC."""

    rule: str
    to: str
    source: str
    started: datetime
    due: datetime
    left: timedelta
    """Until `due`; negative when it has passed."""
    urgency: Urgency
    reminded: timedelta | None
    """The last reminder that has come, as time since `started`; None before the first."""
    next_reminder: datetime | None

    @property
    def hours_left(self) -> float:
        """The hours until `due`, to a tenth, rounded so that time never looks longer than it is."""
        return (self.left // timedelta(minutes=6)) / 10


def deadline(rule: BreachRule, started: datetime, now: datetime) -> Deadline:
    """Return how `rule`, running since `started`, stands at `now`. It is overdue after its last moment, not at it."""
    start = started.astimezone(UTC)
    due = start + rule.within.rest
    reminders = sorted(span.rest for span in rule.remind)
    return Deadline(
        rule=rule.id,
        to=rule.to,
        source=rule.source,
        started=start,
        due=due,
        left=due - now.astimezone(UTC),
        urgency=_urgency(rule, due - now.astimezone(UTC)),
        reminded=max((after for after in reminders if start + after <= now), default=None),
        next_reminder=next((start + after for after in reminders if start + after > now), None),
    )


def _urgency(rule: BreachRule, left: timedelta) -> Urgency:
    if left < timedelta():
        return Urgency.OVERDUE
    return Urgency.SOON if left <= rule.soon.rest else Urgency.OK
