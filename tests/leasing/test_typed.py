"""Values in JSON with their types: what is written is read again, and nothing else is."""

import json
from datetime import UTC, date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto.subjects import SHREDDED
from guard.fields import typed

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(),
    st.integers(-(2**200), 2**200),
    st.binary(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda value: len(format(value, "f")) < 900),
    st.dates(),
    st.datetimes(),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()),
    st.just(SHREDDED),
)


@given(value=VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    found = typed.read(json.loads(json.dumps(typed.write(value))))
    assert (type(found), found) == (type(value), value)
    if isinstance(value, Decimal):
        assert format(found, "f") == format(value, "f")  # with its scale
    if isinstance(value, datetime):
        assert (found.tzinfo is None) is (value.tzinfo is None)


@given(told=st.recursive(st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_anything_else_is_refused(told: Any) -> None:
    try:
        found = typed.read(told)
    except typed.WrongValueError:
        return
    assert isinstance(told, str | dict)
    assert typed.read(typed.write(found)) == found


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, 1j])
def test_what_no_column_holds_is_not_written(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be told"):
        typed.write(value)


def test_times_with_offsets_are_told_in_utc() -> None:
    east = timezone(datetime(1, 1, 1, 2) - datetime(1, 1, 1))
    at = datetime(2026, 1, 5, 11, tzinfo=east)
    assert typed.write(at) == {"datetime": "2026-01-05T09:00:00.000000Z"}
    assert typed.read({"datetime": "2026-01-05T11:00:00+02:00"}) == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert typed.write(date(2026, 1, 5)) == {"date": "2026-01-05"}
