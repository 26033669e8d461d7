"""There is one way to write a thing as bytes, and only that way is read."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.canon import (
    KeyPart,
    all_key_bytes,
    column_key_bytes,
    decimal_text,
    json_bytes,
    key_bytes,
    parse_key,
    parts,
    plain_json_bytes,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "canonical_keys.json").read_text(encoding="utf-8"))
READERS: dict[str, Callable[[str], KeyPart]] = {"i": int, "s": str, "b": bytes.fromhex, "u": UUID, "d": Decimal}

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
PARTS = st.integers() | st.text() | st.binary() | st.uuids() | DECIMALS


@pytest.mark.parametrize("case", VECTORS["keys"], ids=lambda case: case["bytes"][:60])
def test_a_key_is_written_as_our_vectors_say(case: Any) -> None:
    key = tuple(READERS[tag](text) for part in case["key"] for tag, text in part.items())
    assert key_bytes(key).hex() == case["bytes"]
    assert parse_key(bytes.fromhex(case["bytes"])) == key


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["flaw"])
def test_a_flawed_key_is_refused(case: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_key(bytes.fromhex(case["bytes"]))


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_every_key_comes_back(key: list[KeyPart]) -> None:
    found = parse_key(key_bytes(key))
    assert found == tuple(key)
    assert list(map(type, found)) == list(map(type, key))


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS, min_size=1, max_size=3))
def test_two_keys_are_written_alike_only_when_they_are_alike(one: list[KeyPart], other: list[KeyPart]) -> None:
    alike = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    assert (key_bytes(one) == key_bytes(other)) == alike


@given(st.lists(st.tuples(st.integers()) | st.lists(PARTS, min_size=1, max_size=2).map(tuple), max_size=8))
def test_many_keys_are_written_as_each_alone(keys: list[tuple[KeyPart, ...]]) -> None:
    assert all_key_bytes(keys) == [key_bytes(key) for key in keys]
    numbers = [key for key in keys if len(key) == 1 and isinstance(key[0], int)]
    assert all_key_bytes(numbers) == [key_bytes(key) for key in numbers]


@given(st.lists(st.tuples(PARTS, st.integers(), PARTS), max_size=8), st.integers(1, 3))
def test_keys_are_written_alike_from_their_columns(keys: list[tuple[KeyPart, ...]], width: int) -> None:
    short = [key[-width:] for key in keys]
    assert column_key_bytes([[key[part] for key in short] for part in range(width)]) == [
        key_bytes(key) for key in short
    ]


@given(st.lists(st.integers(-(2**70), 2**70) | st.integers(-300, 300), max_size=8))
def test_whole_numbers_are_written_alike_from_a_column(numbers: list[int]) -> None:
    """Of one width or several, with and without a sign."""
    assert column_key_bytes([numbers]) == [key_bytes((number,)) for number in numbers]
    assert [parse_key(raw) for raw in column_key_bytes([numbers])] == [(number,) for number in numbers]


def test_a_boolean_is_no_key_among_many_either() -> None:
    with pytest.raises(TypeError):
        all_key_bytes([(1,), (True,)])
    with pytest.raises(TypeError):
        key_bytes((True,))


@given(st.binary(max_size=40))
def test_whatever_is_read_is_written_the_same(raw: bytes) -> None:
    try:
        found = parse_key(raw)
    except ValueError:
        return
    assert key_bytes(found) == raw


def test_a_key_has_1_to_255_parts() -> None:
    assert parse_key(key_bytes([0] * 255)) == (0,) * 255
    for count in (0, 256):
        with pytest.raises(ValueError, match=f"1 to 255 parts, not {count}"):
            key_bytes([0] * count)


@pytest.mark.parametrize("part", [True, 0.5, None, (1,), bytearray(b"x")], ids=repr)
def test_what_is_no_exact_key_is_refused(part: Any) -> None:
    with pytest.raises(TypeError):
        key_bytes([part])


def test_a_decimal_that_is_no_number_is_refused() -> None:
    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match="not a number that can be stored"):
            decimal_text(Decimal(text))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("-0.10", "-0.1"),
        ("0E+5", "0"),
        ("-0.00", "0"),
        ("1.00", "1"),
        ("0.1234567890123456789012345678901234567890", "0.123456789012345678901234567890123456789"),
    ],
)
def test_a_decimal_has_one_plain_notation(text: str, plain: str) -> None:
    assert decimal_text(Decimal(text)) == plain


@given(DECIMALS)
def test_equal_decimals_are_written_alike_and_lose_nothing(value: Decimal) -> None:
    assert Decimal(decimal_text(value)) == value
    assert decimal_text(Decimal(decimal_text(value))) == decimal_text(value)


def test_parts_tell_where_each_ends() -> None:
    assert parts() == b""
    assert parts(b"ab", b"") == b"\x00\x00\x00\x02ab\x00\x00\x00\x00"


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_two_lists_of_parts_never_give_the_same_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (parts(*one) == parts(*other)) == (one == other)


def test_json_is_canonical() -> None:
    assert (
        json_bytes({"b": 1, "a": ["é", None, True, 1.0, {"z": "\n"}]})
        == '{"a":["é",null,true,1,{"z":"\\n"}],"b":1}'.encode()
    )
    assert json_bytes({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), float("inf"), ["\ud800"]], ids=repr)
def test_what_json_cannot_hold_exactly_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_bytes(value)


TEXTS = st.text() | st.text('abc"\\/.,:[]{}0123456789\x7f\x00\n é😀', max_size=12) | st.from_regex(r"[0-9a-f]{32}")
PLAIN = st.recursive(
    st.none() | TEXTS | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(PLAIN)
def test_what_is_plain_is_written_as_everything_is(value: Any) -> None:
    assert plain_json_bytes(value) == json_bytes(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), [2**63], {"a": 10**17}])
def test_what_is_plain_has_no_integer_that_json_could_bend(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        plain_json_bytes(value)
