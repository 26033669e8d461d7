import re
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.privacy.anonymize import METHODS, Way, same, treat
from guard.shop import ShopColumn
from guard.shop.catalog import Sort
from tests.privacy.conftest import keyed


def _way(method: str, category: str = "name", sort: Sort = Sort.TEXT, **more: object) -> Way:
    text_dates = bool(more.pop("text_dates", False))
    return Way(method, category, ShopColumn("c", sort.value, sort, **more), text_dates)  # type: ignore[arg-type]  # options


VALUES = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.from_regex(r"anon-[0-9a-f]{8,16}(@anon\.invalid)?", fullmatch=True),
    st.dates().map(str),
    st.datetimes().map(str),
)


@given(
    st.sampled_from(METHODS), VALUES, st.sampled_from(["name", "email"]), st.booleans(), st.sampled_from([None, 30, 60])
)
def test_the_second_time_changes_nothing(
    method: str, value: object, category: str, nullable: bool, length: int | None
) -> None:
    way = _way(method, category, nullable=nullable, length=length, text_dates=True)
    once = treat(way, value, keyed)
    assert same(once, treat(way, once, keyed))


@given(st.sampled_from(["year", "month", "constant", "null"]), st.one_of(st.dates(), st.datetimes()))
def test_dates_of_databases_too(method: str, value: date) -> None:
    way = _way(method, sort=Sort.TIME)
    once = treat(way, value, keyed)
    assert same(once, treat(way, once, keyed))


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        ("keep", "Berlin", "Berlin"),
        ("null", "Berlin", None),
        ("constant", "Berlin", "anonymized"),
        ("mask", "Berlin", "B***"),
        ("mask", "B", "***"),
        ("mask", "王伟", "王***"),
        ("postcode", "10115", "10"),
        ("year", "1980-02-03", "1980-01-01"),
        ("year", "1980-02-03 04:05:06.7", "1980-01-01 00:00:00.0"),
        ("month", "1980-02-03", "1980-02-01"),
        ("year", "1980", "1980"),
        ("year", "about 1980", None),
    ],
)
def test_methods(method: str, value: str, expected: str | None) -> None:
    assert treat(_way(method), value, keyed) == expected
    assert treat(_way(method), None, keyed) is None


def test_dates_are_cut_in_their_own_type() -> None:
    assert treat(_way("year", sort=Sort.TIME), date(1980, 2, 3), keyed) == date(1980, 1, 1)
    assert treat(_way("month", sort=Sort.TIME), datetime(1980, 2, 3, 4, 5), keyed) == datetime(
        1980, 2, 1
    )  # databases keep times without a zone


def test_what_is_no_date_does_not_stay_where_null_may_not_stand() -> None:
    assert treat(_way("year", nullable=False), "about 1980", keyed) == "anonymized"
    assert treat(_way("year", nullable=False, sort=Sort.TIME, text_dates=True), "1.2.80", keyed) == "1900-01-01"


@pytest.mark.parametrize(
    ("sort", "expected"), [(Sort.INTEGER, 0), (Sort.NUMBER, 0), (Sort.BINARY, b""), (Sort.BOOLEAN, False)]
)
def test_a_constant_fits_its_column(sort: Sort, expected: object) -> None:
    assert treat(_way("constant", sort=sort), 7, keyed) == expected
    assert treat(_way("constant", length=4), "long text", keyed) == "anon"


def test_pseudonyms_are_the_same_for_the_same_value_in_a_category() -> None:
    one, other = _way("pseudonym", "name"), _way("pseudonym", "name", length=60)
    assert treat(one, "Anna", keyed) == treat(other, "Anna", keyed) != treat(one, "Anne", keyed)
    assert treat(_way("pseudonym", "company"), "Anna", keyed) != treat(one, "Anna", keyed)
    assert re.fullmatch(r"anon-[0-9a-f]{12}", str(treat(one, "Anna", keyed)))


def test_a_pseudonym_of_an_address_stays_an_address_nobody_has() -> None:
    found = str(treat(_way("pseudonym", "email"), "anna@example.org", keyed))
    assert re.fullmatch(r"anon-[0-9a-f]{16}@anon\.invalid", found)


@given(st.text(min_size=1, max_size=50), st.integers(13, 80), st.sampled_from(["name", "email"]))
def test_pseudonyms_fit_their_column(value: str, length: int, category: str) -> None:
    way = _way("pseudonym", category, length=length)
    if way.trouble() is None:
        assert len(str(treat(way, value, keyed))) <= max(length, len(value))


@pytest.mark.parametrize(
    ("way", "part"),
    [
        (_way("shred"), "is not one of"),
        (_way("null", nullable=False), "must not be NULL"),
        (_way("pseudonym", sort=Sort.INTEGER), "does not fit"),
        (_way("year", sort=Sort.INTEGER), "does not fit"),
        (_way("pseudonym", length=12), "at least 13"),
        (_way("pseudonym", "email", length=25), "at least 26"),
        (_way("constant", generated="a || b"), "generated"),
    ],
)
def test_methods_that_do_not_fit_say_so(way: Way, part: str) -> None:
    assert part in str(way.trouble())


def test_dates_equal_their_midnight_and_types_count_otherwise() -> None:
    assert same(date(1980, 1, 1), datetime(1980, 1, 1))  # databases keep times without a zone
    assert not same(date(1980, 1, 2), datetime(1980, 1, 1))  # databases keep times without a zone
    assert not same("0", 0)
    assert same(0.0, 0)
    assert same(memoryview(b""), b"")
