"""Each type comes back as it was, and there is one way to write it."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto import plaintext
from guard.crypto.plaintext import Kind

NAIVE = datetime(2026, 1, 5, 9)  # shops store times without an offset

VALUES = {
    Kind.TEXT: st.text(),
    Kind.BYTES: st.binary(),
    Kind.INTEGER: st.integers(),
    Kind.DECIMAL: st.decimals(allow_nan=False, allow_infinity=False),
    Kind.DATE: st.dates(),
    Kind.DATETIME: st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    Kind.BOOLEAN: st.booleans(),
    Kind.FLOAT: st.floats(allow_nan=False),
}


def again(value: object, *, padded: bool = False) -> Any:
    kind, write = plaintext.writer(value, padded=padded)
    return plaintext.reader(kind, padded=padded)(write(value))


@given(st.data(), st.sampled_from(Kind), st.booleans())
def test_every_kind_comes_back_as_it_was(data: st.DataObject, kind: Kind, padded: bool) -> None:
    value = data.draw(VALUES[kind])
    found = again(value, padded=padded)
    assert plaintext.writer(value, padded=padded)[0] == kind
    assert found == value
    assert type(found) is type(value)


@given(st.datetimes(min_value=NAIVE.replace(year=2), max_value=NAIVE.replace(year=9998)), st.integers(-1439, 1439))
def test_an_aware_time_comes_back_as_the_same_moment_in_utc(naive: datetime, minutes: int) -> None:
    value = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert again(value) == value
    assert again(value).tzinfo is UTC


def test_a_naive_time_stays_naive() -> None:
    assert again(NAIVE).tzinfo is None


def test_a_time_outside_the_calendar_of_utc_is_refused() -> None:
    with pytest.raises(ValueError, match="before year 1"):
        again(datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))


def test_floats_keep_what_json_would_lose() -> None:
    assert math.isnan(again(math.nan))
    assert again(-math.inf) == -math.inf
    assert math.copysign(1, again(-0.0)) == -1


def test_a_long_decimal_keeps_all_its_digits() -> None:
    value = Decimal("0.1234567890123456789012345678901234567890")
    assert str(again(value)) == "0.1234567890123456789012345678901234567890"


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_scale_and_has_no_exponent(value: Decimal) -> None:
    found = again(value)
    assert found == value
    if value.as_tuple().exponent > 0:
        assert found.as_tuple().exponent == 0
    else:
        assert found.as_tuple() == value.as_tuple()


@pytest.mark.parametrize("text", ["12.50", "0.000", "-0.00", "1000", "-0"])
def test_a_price_comes_back_with_its_cents(text: str) -> None:
    assert str(again(Decimal(text))) == text


@pytest.mark.parametrize(
    "text", ["01.5", "+1", "1.", ".5", "1E+3", "1_000", " 1", "1\n", "\u0663", "NaN", "sNaN", "-Infinity", "", "x"]
)
def test_a_decimal_has_one_spelling(text: str) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        plaintext.reader(Kind.DECIMAL, padded=False)(text.encode())


def test_a_boolean_is_no_integer_and_a_time_no_date() -> None:
    assert plaintext.writer(True, padded=False)[0] == Kind.BOOLEAN
    assert plaintext.writer(NAIVE, padded=False)[0] == Kind.DATETIME
    assert plaintext.writer(date(2026, 1, 5), padded=False)[0] == Kind.DATE


def test_subclasses_and_buffers_are_written_as_what_they_are() -> None:
    class Size(IntEnum):
        SMALL = 3

    class Name(str):
        pass

    assert again(Size.SMALL) == 3
    assert again(Name("x")) == "x"
    assert again(bytearray(b"x")) == again(memoryview(b"x")) == b"x"


@pytest.mark.parametrize("value", [None, [], {}, object(), 1j, timedelta(1)])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be sealed"):
        plaintext.writer(value, padded=False)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), "\ud800"])
def test_what_a_type_cannot_write_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"number|surrogates"):
        again(value)


@given(st.binary(max_size=64))
def test_padding_hides_the_length_up_to_sixteen(raw: bytes) -> None:
    padded = plaintext.pad(raw)
    assert len(padded) == (len(raw) // 16 + 1) * 16
    assert plaintext.unpad(padded) == raw


@given(st.binary(max_size=64))
def test_only_its_own_padding_is_read(raw: bytes) -> None:
    try:
        found = plaintext.unpad(raw)
    except ValueError:
        return
    assert plaintext.pad(found) == raw


@pytest.mark.parametrize("kind", [8, 15])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="not a valid Kind"):
        plaintext.reader(kind, padded=False)
