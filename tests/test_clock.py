"""Times are aware, in UTC, written one way; and only the system clock looks at the machine's."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.clock import Clock, SteppedClock, SystemClock, parse, stamp

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_the_system_clock_tells_an_aware_time_in_utc_that_does_not_stand_still() -> None:
    clock: Clock = SystemClock()
    first = clock.now()
    clock.sleep(timedelta(microseconds=10))
    clock.sleep(timedelta(seconds=-1))
    assert first.tzinfo is UTC
    assert clock.now() > first


def test_a_stepped_clock_moves_only_when_told_to() -> None:
    clock = SteppedClock(NOON.astimezone(timezone(timedelta(hours=8))))
    assert clock.now() == clock.now() == NOON
    assert clock.now().tzinfo is UTC
    clock.step(timedelta(hours=1))
    clock.sleep(timedelta(minutes=1))
    assert clock.now() == NOON + timedelta(hours=1, minutes=1)
    clock.step(timedelta(days=-1))
    assert clock.now() < NOON


def test_a_stamp_has_six_digits_and_a_z() -> None:
    assert stamp(NOON) == "2026-01-05T12:00:00.000000Z"
    assert (
        stamp(datetime(2026, 1, 5, 1, 30, 0, 7, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-04T23:30:00.000007Z"
    )
    assert stamp(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00.000000Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_stamp_is_read_back(at: datetime) -> None:
    assert parse(stamp(at)) == at
    assert len(stamp(at)) == 27


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_stamps_sort_as_times_do(one: datetime, other: datetime) -> None:
    assert (stamp(one) < stamp(other)) == (one < other)


def test_an_offset_is_read_and_turned_into_utc() -> None:
    found = parse("2026-01-05T13:00:00+01:00")
    assert found == NOON
    assert found.tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-01-05T12:00:00", "2026-01-05", "noon", ""])
def test_a_time_without_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_beyond_the_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="beyond the years"):
        parse(text)
