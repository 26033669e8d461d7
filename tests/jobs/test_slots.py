"""The calendar, by example at the turns of the clock and by property against a search through every minute."""

import itertools
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.jobs.slots import Daily, Every, due_slots

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia"))
FIRST = datetime(2008, 1, 1, tzinfo=UTC)
moments = st.integers(0, 22 * 365 * 24 * 60).map(lambda minutes: FIRST + timedelta(minutes=minutes))
day_times = st.times().map(lambda at: at.replace(second=0, microsecond=0))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_slot_is_due_at_its_moment_and_not_before() -> None:
    nightly = Daily(time(2), UTC)
    last = at("2026-01-05T02:00Z")
    assert list(due_slots(nightly, last, at("2026-01-06T01:59:59.999999Z"))) == []
    assert list(due_slots(nightly, last, at("2026-01-06T02:00Z"))) == [at("2026-01-06T02:00Z")]


def test_a_slot_that_is_known_is_not_given_again() -> None:
    nightly = Daily(time(2), UTC)
    assert list(due_slots(nightly, at("2026-01-06T02:00Z"), at("2026-01-06T23:00Z"))) == []


def test_each_missed_night_has_its_slot() -> None:
    slots = list(due_slots(Daily(time(2), UTC), at("2026-01-05T09:00Z"), at("2026-01-08T09:00Z")))
    assert slots == [at("2026-01-06T02:00Z"), at("2026-01-07T02:00Z"), at("2026-01-08T02:00Z")]


def test_a_time_that_spring_skips_runs_an_hour_later() -> None:
    slots = list(due_slots(Daily(time(2, 30), BERLIN), at("2026-03-28T12:00Z"), at("2026-03-30T12:00Z")))
    assert slots == [at("2026-03-29T03:30+02:00"), at("2026-03-30T02:30+02:00")]


def test_a_time_that_autumn_repeats_runs_once_and_the_first_time() -> None:
    slots = list(due_slots(Daily(time(2, 30), BERLIN), at("2026-10-24T12:00Z"), at("2026-10-26T12:00Z")))
    assert slots == [at("2026-10-25T02:30+02:00"), at("2026-10-26T02:30+01:00")]


def test_a_daemon_that_starts_between_the_two_autumn_hours_does_not_run_again() -> None:
    nightly = Daily(time(2, 30), BERLIN)
    assert list(due_slots(nightly, at("2026-10-25T02:30+02:00"), at("2026-10-25T03:00+01:00"))) == []


def test_a_day_that_a_country_skipped_gives_no_second_run() -> None:
    # Samoa had no 30 December 2011: it moved to the other side of the date line.
    nightly = Daily(time(2), ZoneInfo("Pacific/Apia"))
    slots = list(due_slots(nightly, at("2011-12-29T00:00Z"), at("2012-01-01T00:00Z")))
    assert slots == [at("2011-12-29T12:00Z"), at("2011-12-30T12:00Z"), at("2011-12-31T12:00Z")]


def test_hours_are_counted_from_midnight_utc_and_do_not_drift() -> None:
    slots = list(due_slots(Every(timedelta(hours=6)), at("2026-03-28T23:10Z"), at("2026-03-29T13:07Z")))
    assert slots == [at("2026-03-29T00:00Z"), at("2026-03-29T06:00Z"), at("2026-03-29T12:00Z")]


def test_hours_pass_evenly_through_a_change_of_the_clock() -> None:
    slots = list(due_slots(Every(timedelta(hours=1)), at("2026-10-25T00:00+02:00"), at("2026-10-26T00:00+01:00")))
    assert len(slots) == 25


def walked(at: time, zone: tzinfo, last: datetime, now: datetime) -> list[datetime]:
    """Read the clock on the wall at each minute: when it shows `at`, or would, had it not just been put forward."""
    found = []
    skipped, until = timedelta(), last
    minute = last - timedelta(days=1)
    while minute <= now:
        shown = minute.astimezone(zone)
        turned = shown.utcoffset() - (minute - timedelta(minutes=1)).astimezone(zone).utcoffset()
        if turned > timedelta():
            skipped, until = turned, minute + turned
        would_show = (shown - skipped).time() if minute < until else None
        if minute > last and ((shown.time() == at and not shown.fold) or would_show == at):
            found.append(minute)
        minute += timedelta(minutes=1)
    return found


near = st.builds(time, st.integers(0, 4), st.sampled_from([0, 15, 30, 59]))
turns = st.sampled_from(
    [at("2026-03-28T12:00Z"), at("2026-10-24T12:00Z"), at("2026-03-07T20:00Z"), at("2026-04-04T03:00Z")]
)


@settings(max_examples=60, deadline=None)
@given(st.one_of(near, day_times), st.sampled_from(ZONES), st.one_of(turns, moments), st.integers(0, 60 * 48))
def test_daily_slots_are_those_a_look_at_the_wall_clock_finds(
    at: time, zone: tzinfo, last: datetime, minutes: int
) -> None:
    now = last + timedelta(minutes=minutes)
    assert list(due_slots(Daily(at, zone), last, now)) == walked(at, zone, last, now)


@given(day_times, st.sampled_from(ZONES), moments, st.integers(1, 400))
def test_no_two_daily_runs_are_closer_than_the_largest_turn_of_a_clock(
    at: time, zone: ZoneInfo, last: datetime, days: int
) -> None:
    slots = list(due_slots(Daily(at, zone), last, last + timedelta(days=days)))
    apart = [after - before for before, after in itertools.pairwise(slots)]
    assert all(timedelta(hours=22) <= gap <= timedelta(hours=26) for gap in apart)


@given(
    st.one_of(
        st.builds(Daily, day_times, st.sampled_from(ZONES)),
        st.builds(Every, st.timedeltas(timedelta(minutes=1), timedelta(days=3))),
    ),
    moments,
    st.lists(st.integers(0, 3000), max_size=8),
)
def test_looking_often_finds_the_same_slots_as_looking_once(
    spec: Daily | Every, start: datetime, steps: list[int]
) -> None:
    now, last, often = start, start, []
    for step in steps:
        now += timedelta(minutes=step)
        found = list(due_slots(spec, last, now))
        often += found
        last = found[-1] if found else last
    assert often == list(due_slots(spec, start, now))


def test_the_offset_in_which_a_moment_is_written_does_not_matter() -> None:
    nightly, here = Daily(time(2), BERLIN), timezone(timedelta(hours=-7))
    last, now = at("2026-01-05T09:00Z"), at("2026-01-07T09:00Z")
    assert list(due_slots(nightly, last.astimezone(here), now.astimezone(here))) == list(due_slots(nightly, last, now))
