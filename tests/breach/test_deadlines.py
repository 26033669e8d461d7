"""72 hours are 72 hours, on both sides of a change of the clock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.breach.deadlines import Urgency, deadline
from guard.config import load_policy
from guard.config.breach import BreachPolicy, BreachRule

AWARE = datetime(2026, 1, 5, 9, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
moments = st.datetimes(
    datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.sampled_from([UTC, BERLIN])
)  # hypothesis adds the zone


@pytest.mark.parametrize(
    ("hours", "urgency", "left"),
    [
        (0, Urgency.OK, 72.0),
        (47.99, Urgency.OK, 24.0),
        (48, Urgency.SOON, 24.0),
        (71, Urgency.SOON, 1.0),
        (72, Urgency.SOON, 0.0),
        (73, Urgency.OVERDUE, -1.0),
    ],
)
def test_a_deadline_is_near_on_its_last_day_and_over_after_its_last_moment(
    rule: BreachRule, hours: float, urgency: Urgency, left: float
) -> None:
    stands = deadline(rule, AWARE, AWARE + hours * HOUR)
    assert (stands.urgency, stands.hours_left) == (urgency, left)


def test_one_microsecond_after_72_hours_it_is_overdue(rule: BreachRule) -> None:
    stands = deadline(rule, AWARE, AWARE + 72 * HOUR + timedelta(microseconds=1))
    assert (stands.urgency, stands.hours_left) == (Urgency.OVERDUE, -0.1)


def test_in_autumn_the_wall_clock_would_be_an_hour_late(rule: BreachRule) -> None:
    aware = datetime(2026, 10, 24, 10, 15, tzinfo=BERLIN)
    due = deadline(rule, aware, aware).due
    assert due.astimezone(BERLIN).isoformat() == "2026-10-27T09:15:00+01:00"
    assert due < (aware + 72 * HOUR).astimezone(UTC)


def test_in_spring_the_wall_clock_would_be_an_hour_early(rule: BreachRule) -> None:
    aware = datetime(2026, 3, 28, 10, 15, tzinfo=BERLIN)
    assert deadline(rule, aware, aware).due.astimezone(BERLIN).isoformat() == "2026-03-31T11:15:00+02:00"


@given(aware=moments)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_deadline_is_always_exactly_72_elapsed_hours_away(rule: BreachRule, aware: datetime) -> None:
    stands = deadline(rule, aware, aware)
    assert stands.due.timestamp() - aware.timestamp() == 72 * 3600
    assert stands.left == 72 * HOUR


@pytest.mark.parametrize(
    ("hours", "last", "following"),
    [(0, None, 24), (24, 24, 48), (65.9, 60, 66), (70, 70, 72), (72, 72, None), (100, 72, None)],
)
def test_reminders_come_closer_together(
    rule: BreachRule, hours: float, last: int | None, following: int | None
) -> None:
    stands = deadline(rule, AWARE, AWARE + hours * HOUR)
    assert stands.reminded == (None if last is None else last * HOUR)
    assert stands.next_reminder == (None if following is None else AWARE + following * HOUR)


def test_the_default_policy_is_72_hours_to_the_authority() -> None:
    policy = load_policy(Path(__file__).parents[2] / "policies", "breach", BreachPolicy)
    assert [(rule.id, rule.within.rest, rule.trigger) for rule in policy.rule] == [("gdpr-33-1", 72 * HOUR, "aware")]
    assert [span.rest / HOUR for span in policy.rule[0].remind] == [24, 48, 60, 66, 70, 72]
