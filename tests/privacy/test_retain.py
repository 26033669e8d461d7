from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config.retention import Limit
from guard.config.span import Span
from guard.privacy.retain import due, ends, latest, moment, over_limit

TIMES = st.datetimes(
    datetime(1971, 1, 1), datetime(2080, 12, 31), timezones=st.just(UTC)
)  # databases keep times without a zone
SPANS = st.builds(
    Span,
    st.integers(0, 240),
    st.integers(1, 5000).map(lambda days: timedelta(days=days)),
)
COUNTS = st.sampled_from(["date", "year end"])


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(TIMES, SPANS, COUNTS)
def test_due_exactly_at_the_end(since: datetime, keep: Span, count: str) -> None:
    end = ends(since, keep, count)
    assert end > since
    assert due(since, keep, count, end)
    assert not due(since, keep, count, end - timedelta(microseconds=1))


@given(TIMES, TIMES, SPANS, COUNTS)
def test_what_is_due_stays_due_and_the_bound_passes_nothing_by(
    since: datetime, now: datetime, keep: Span, count: str
) -> None:
    if due(since, keep, count, now):
        assert due(since, keep, count, now + timedelta(days=1))
        assert since <= latest(keep, now)


@pytest.mark.parametrize(
    ("since", "keep", "count", "end"),
    [
        ("2020-02-29", "1 year", "date", "2021-02-28"),
        ("2020-02-29", "4 years", "date", "2024-02-29"),
        ("2019-02-28", "1 year", "date", "2020-02-28"),
        ("2020-01-31", "1 month", "date", "2020-02-29"),
        ("2016-01-01T00:00:00", "10 years", "date", "2026-01-01"),
        ("2015-05-05", "10 years", "year end", "2026-01-01"),
        ("2015-12-31T23:59:59", "10 years", "year end", "2026-01-01"),
        ("2016-01-01", "10 years", "year end", "2027-01-01"),
        ("2020-12-01", "30 days", "date", "2020-12-31"),
    ],
)
def test_terms_are_calendar_terms(since: str, keep: str, count: str, end: str) -> None:
    assert ends(_at(since), Span.parse(keep), count) == _at(end)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1996-07-04 00:00:00.000", "1996-07-04"),
        ("2009-01-01 00:00:00", "2009-01-01"),
        ("2009-01-01", "2009-01-01"),
        (" 2009-01-01T10:00:00Z ", "2009-01-01T10:00:00"),
        ("2009-01-01T10:00:00+02:00", "2009-01-01T08:00:00"),
        ("20090101", "2009-01-01"),
        (20090101, "2009-01-01"),
        (1230768000, "2009-01-01"),
        (1230768000.0, "2009-01-01"),
        (1230768000000, "2009-01-01"),
        (date(2009, 1, 1), "2009-01-01"),
        (datetime(2009, 1, 1, 10), "2009-01-01T10:00:00"),  # databases keep times without a zone
    ],
    ids=repr,
)
def test_dates_are_understood_as_databases_keep_them(value: object, expected: str) -> None:
    assert moment(value) == _at(expected)


@pytest.mark.parametrize(
    "value",
    [None, "", "soon", "04.07.1996", "7/4/1996", "0000-00-00", "1900-01-01", "0001-01-01", date(1, 1, 1), 0, 1, 42,
     253402214400, "0001-01-01T00:00:00+02:00", -5, True, 2009, 99999999,
     float("inf"), float("nan"), 1e300, b"2009-01-01", "1404950400"],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_relied_on_is_no_date(value: object) -> None:
    assert moment(value) is None


LIMIT = Limit(share=0.01, times=3.0, floor=20)


@pytest.mark.parametrize(
    ("rows", "table", "before", "part"),
    [
        (0, 0, (), None),
        (20, 100, (), None),  # below the floor
        (21, 100, (), "1.0% of the table's 100"),
        (100, 10_000, (), None),
        (101, 10_000, (), "more than 1.0%"),
        (61, 100_000, (20,) * 30, "3 times the median of the last 30 days, 20"),
        (60, 100_000, (20,) * 30, None),
        (61, 100_000, (20,) * 6, None),  # less than a week of runs says nothing yet
        (50, 100_000, (0,) * 30, "median"),
    ],
)
def test_large_plans_wait_for_a_person(rows: int, table: int, before: tuple[int, ...], part: str | None) -> None:
    found = over_limit(rows, table, before, LIMIT)
    assert (found is None) == (part is None)
    assert part is None or part in str(found)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.lists(st.integers(0, 1000), max_size=40))
def test_more_rows_are_never_less_suspicious(rows: int, table: int, before: list[int]) -> None:
    if over_limit(rows, table, before, LIMIT):
        assert over_limit(rows + 1, table, before, LIMIT)


@pytest.mark.parametrize("count", ["date", "year end"])
@pytest.mark.parametrize(
    "value", ["9999-12-31", 99991231, datetime(9999, 12, 31)]
)  # databases keep times without a zone
def test_a_date_that_says_never_is_never_due(value: object, count: str) -> None:
    since = moment(value)
    assert since is not None
    assert not due(since, Span.parse("3 years"), count, datetime(2026, 1, 5, tzinfo=UTC))
