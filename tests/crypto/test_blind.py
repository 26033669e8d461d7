"""Equal values have equal tokens, and a normal form is its own normal form."""

import hashlib
import hmac
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.canon import parts
from guard.config.catalog import Normaliser
from guard.crypto import random
from guard.crypto.blind import NORMALISERS, Tokenizer, normal
from guard.crypto.wrap import Key

STORE = UUID("0d8f2b34-6f0e-4c55-8a11-7a5d9e2c3b41")
KEY = Key(10, "index/17/email", 1, bytes(range(32)))
NAIVE = datetime(2026, 1, 5, 9)  # shops store times without an offset

TEXTS = ("email", "phone", "name", "last4", "prefix:3", "prefix:20")
TRICKY = st.text(st.sampled_from("aA ß'´\u0301\u0345İıŉΣς\u200d\u00a0\u3000-.ｶﾞ\u1100\u1161ﬃ\u1e9e\u0390(0)+09x#;ext"))
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    st.booleans(),
    st.floats(),
)


def form(normaliser: str, value: object) -> str | None:
    found = normal(normaliser, value)
    return None if found is None else found.decode()


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_null_has_no_form(normaliser: str) -> None:
    assert normal(normaliser, None) is None


@given(st.sampled_from(TEXTS), st.text() | TRICKY)
def test_a_form_is_its_own_form(normaliser: str, text: str) -> None:
    found = form(normaliser, text)
    if found is not None:
        assert form(normaliser, found) == found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("normaliser", ["email", "phone", "name", "last4", "prefix:2"])
def test_every_character_settles(normaliser: str) -> None:
    for code in (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000):
        for text in (chr(code), f"a{chr(code)}b"):
            found = form(normaliser, text)
            assert found is None or form(normaliser, found) == found, hex(code)


@given(st.sampled_from(["email", "name"]), st.text(st.characters(max_codepoint=127)))
def test_the_short_way_of_ascii_is_the_long_way(normaliser: str, text: str) -> None:
    """A letter outside ASCII behind the text sends it the long way."""
    found = form(normaliser, f"{text}.é")
    plain = form(normaliser, f"{text}.e")
    assert found is not None
    assert plain is not None
    assert found.replace("é", "e") == plain


def test_every_normaliser_of_the_catalog_exists_and_no_other() -> None:
    meta = next(each for each in get_args(Normaliser) if isinstance(each, msgspec.Meta))
    assert meta.pattern is not None
    assert all(re.match(meta.pattern, name) for name in NORMALISERS)
    assert {"exact", "email", "phone", "name", "last4", "prefix:1", "prefix:99"} < set(NORMALISERS)
    assert len(NORMALISERS) == 5 + 99


@pytest.mark.parametrize("normaliser", ["prefix:0", "prefix:100", "prefix", "Email", "", "words"])
def test_an_unknown_normaliser_is_refused(normaliser: str) -> None:
    with pytest.raises(ValueError, match="there is no normaliser"):
        normal(normaliser, "x")
    with pytest.raises(ValueError, match="there is no normaliser"):
        Tokenizer(STORE, 17, normaliser, KEY, 16)


# exact ----------------------------------------------------------------------------------------------------------------


@given(VALUES, VALUES)
def test_distinct_kinds_never_share_a_form(one: Any, other: Any) -> None:
    alike = type(one) is type(other) and (one == other or (one != one and other != other))
    assert (normal("exact", one) == normal("exact", other)) is alike


@given(st.binary(max_size=9), st.sampled_from([str, int, float, Decimal]))
def test_bytes_never_look_like_another_kind(raw: bytes, kind: type) -> None:
    values = {str: "x", int: 5, float: 5.0, Decimal: Decimal(5)}
    assert normal("exact", raw) != normal("exact", values[kind])


def test_a_number_and_its_text_and_its_boolean_differ() -> None:
    forms = [normal("exact", value) for value in (1, "1", b"1", b"\x01", True, 1.0, Decimal(1))]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("12.50"), Decimal("12.5")),
        (Decimal("-0.00"), Decimal(0)),
        (Decimal("1E+3"), Decimal("1000.0")),
        (-0.0, 0.0),
        (float("nan"), -float("nan")),
        (datetime(2026, 1, 5, 10, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 5, 9, tzinfo=UTC)),
        (b"x", bytearray(b"x")),
        (b"x", memoryview(b"x")),
    ],
)
def test_what_a_database_holds_for_equal_has_one_form(one: object, other: object) -> None:
    assert normal("exact", one) == normal("exact", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x", "X"), ("x", "x "), ("é", "e\u0301"), (date(2026, 1, 5), NAIVE), (NAIVE, NAIVE.replace(tzinfo=UTC))],
)
def test_exact_changes_nothing_else(one: object, other: object) -> None:
    assert normal("exact", one) != normal("exact", other)


def test_an_empty_text_has_an_exact_form_and_an_email_form() -> None:
    """They keep the whole value, so that a unique column stays unique in it, too."""
    assert normal("exact", "") == b"\x00"
    assert normal("email", " ") == b""


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("-Infinity")])
def test_a_decimal_that_is_no_number_is_refused(value: Decimal) -> None:
    with pytest.raises(ValueError, match="not a number"):
        normal("exact", value)


@pytest.mark.parametrize("value", [[], object(), 1j])
def test_other_types_are_refused(value: object) -> None:
    for normaliser in NORMALISERS:
        with pytest.raises(TypeError):
            normal(normaliser, value)


@pytest.mark.parametrize("value", [b"x", True, 0.5, Decimal(1), date(2026, 1, 5)])
@pytest.mark.parametrize("normaliser", TEXTS)
def test_only_exact_takes_what_is_no_text(normaliser: str, value: object) -> None:
    with pytest.raises(TypeError, match="only under the normaliser exact"):
        normal(normaliser, value)


# texts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jane@example.com", "jane@example.com"),
        (" Jane@Example.COM\t\r\n", "jane@example.com"),
        ("\u00a0jane@example.com\u3000", "jane@example.com"),
        ("JANE＠example．com", "jane@example.com"),
        ("GRÜSSE@Straße.example", "grüsse@strasse.example"),
        ("Jane.Doe+shop@gmail.com", "jane.doe+shop@gmail.com"),
        ("JANE@ΣΊΣΥΦΟΣ.example", "jane@σίσυφοσ.example"),
    ],
)
def test_an_email(text: str, expected: str) -> None:
    assert form("email", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+49 30 1234567", "+49301234567"),
        ("+49 (0)30 / 123-45.67", "+49301234567"),
        ("(+49) 30 1234567", "+49301234567"),
        ("0049 30 1234567", "+49301234567"),
        ("00 49 ( 0 ) 30 1234567", "+49301234567"),
        ("＋４９ ３０ １２３４５６７", "+49301234567"),
        ("tel:+49-30-1234567;ext=12", "+49301234567"),
        ("+1 (555) 010-9999 x12", "+15550109999"),
        ("555-0100 Ext. 7", "5550100"),
        ("555-0100, extension 7", "5550100"),
        ("(555)#7", "555"),
        ("+49 30 1234567 mobile", "+49301234567"),
        ("030 1234567", "0301234567"),
        ("(0)30 1234567", "0301234567"),
        ("٠٣٠ ١٢٣", "030123"),
        (301234567, "301234567"),
        ("", None),
        ("n/a", None),
        ("+", None),
        ("00", None),
        ("x12", "12"),
    ],
)
def test_a_phone_number(text: object, expected: str | None) -> None:
    assert form("phone", text) == expected


@given(
    st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True),
    st.lists(st.sampled_from([" ", "-", ".", "/", "\u00a0"]), min_size=20, max_size=20),
)
def test_however_an_international_number_is_written_its_form_is_e_164(number: str, between: list[str]) -> None:
    digits = number[1:]
    written = "".join(digit + gap for digit, gap in zip(digits, between, strict=False))[:-1]
    for text in (number, f"+{written}", f"00{written}", f"tel:+{written};ext=5"):
        assert form("phone", text) == number


def test_a_national_number_is_another_than_the_international_one() -> None:
    """No region is assumed. FORMATS 3 says so."""
    assert form("phone", "030 1234567") != form("phone", "+49 30 1234567")


def test_forms_need_no_extra_library() -> None:
    """A shop without the extra `detect` makes the tokens that guard makes."""
    code = (
        "import sys; sys.modules['phonenumbers'] = None\n"
        "from guard.crypto.blind import normal; print(normal('phone', '+49 (0)30 1234567').decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "+49301234567\n", done.stderr


@pytest.mark.skipif(importlib.util.find_spec("phonenumbers") is None, reason="the extra detect is not installed")
def test_the_form_of_real_numbers_is_what_libphonenumber_says() -> None:
    """Of every region with an example number, written in three ways."""
    import phonenumbers

    seen = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        number = phonenumbers.example_number(region)
        if number is None:
            continue
        e_164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for way in (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.RFC3966):
            assert form("phone", phonenumbers.format_number(number, way)) == e_164, region
        seen += 1
    assert seen > 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Doe", "jane doe"),
        ("  Siobhán   O’Brien-Müller, Jr. ", "siobhan obrien muller jr"),
        ("O'BRIEN", "obrien"),
        ("O´Brien", "obrien"),
        ("OʼBrien", "obrien"),
        ("O`Brien", "obrien"),
        ("STRAßE", "strasse"),
        ("İğne", "igne"),
        ("Łukasz Ørsted", "łukasz ørsted"),
        ("Ёлкин", "елкин"),
        ("がんばる", "がんばる"),
        ("कृष्ण", "कृष्ण"),
        ("김\u3000철수", "김 철수"),
        ("D\u200dAngelo\u00ad", "dangelo"),
        ("ﬁ", "fi"),
        ("Jane\tDoe\n", "jane doe"),
        ("—", None),
        ("", None),
    ],
)
def test_a_name(text: str, expected: str | None) -> None:
    assert form("name", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111 1111 1111 1234", "1234"),
        ("DE89 3704 0044 0532 0130 0X", "300x"),
        ("42", "42"),
        (1234567, "4567"),
        ("１２３４５", "2345"),
        (" - ", None),
    ],
)
def test_the_last_four(text: object, expected: str | None) -> None:
    assert form("last4", text) == expected


@pytest.mark.parametrize(
    ("normaliser", "text", "expected"),
    [
        ("prefix:3", "Jane", "jan"),
        ("prefix:3", " Ja", "ja"),
        ("prefix:3", "ab cd", "ab"),
        ("prefix:2", "E\u0301é", "éé"),
        ("prefix:1", "ß", "s"),
        ("prefix:99", "x" * 120, "x" * 99),
        ("prefix:3", 12345, "123"),
        ("prefix:3", " ", None),
    ],
)
def test_a_prefix(normaliser: str, text: object, expected: str | None) -> None:
    assert form(normaliser, text) == expected


# tokens ---------------------------------------------------------------------------------------------------------------


@given(VALUES, st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_a_token_is_the_hmac_of_formats(value: Any, size: int, column: int) -> None:
    found = Tokenizer(STORE, column, "exact", KEY, size).token(value)
    wanted = normal("exact", value)
    assert wanted is not None
    data = parts(b"guard/token1", STORE.bytes, column.to_bytes(4, "big"), b"exact", wanted)
    assert found == hmac.digest(KEY.material, data, hashlib.sha256)[:size]


@given(st.lists(st.none() | st.text()))
def test_many_at_once_are_the_same_as_one_by_one(values: list[str | None]) -> None:
    tokenizer = Tokenizer(STORE, 17, "name", KEY, 16)
    assert tokenizer.tokens(values) == [tokenizer.token(value) for value in values]


def test_null_and_what_has_no_form_have_no_token() -> None:
    assert Tokenizer(STORE, 17, "phone", KEY, 16).tokens([None, "n/a", "1"])[:2] == [None, None]


def test_a_text_of_a_subclass_has_the_token_of_its_text() -> None:
    class Mail(str):
        pass

    for normaliser in ("exact", *TEXTS):
        tokenizer = Tokenizer(STORE, 17, normaliser, KEY, 16)
        assert tokenizer.token(Mail("Jane 5")) == tokenizer.token("Jane 5")


@pytest.mark.parametrize("changed", ["store", "column", "normaliser", "key"])
def test_tokens_of_another_store_column_normaliser_or_key_are_others(changed: str) -> None:
    arguments: dict[str, Any] = {"store": STORE, "column": 17, "normaliser": "email", "key": KEY}
    others = {"store": UUID(int=1), "column": 18, "normaliser": "exact", "key": Key(11, "", 2, random.token(32))}

    def token(names: dict[str, Any]) -> bytes | None:
        return Tokenizer(names["store"], names["column"], names["normaliser"], names["key"], 16).token("jane@a.example")

    assert token(arguments) != token(arguments | {changed: others[changed]})


@pytest.mark.parametrize("size", [0, -1, 17])
def test_a_token_has_one_to_sixteen_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 16 bytes"):
        Tokenizer(STORE, 17, "email", KEY, size)


def test_our_vectors(vectors: Callable[[str], Any]) -> None:
    read = vectors("sealed_values.json")
    key = Key(10, "", 1, bytes.fromhex(read["index_key"]))
    for case in read["forms"]:
        found = normal(case["normaliser"], READ[case["type"]](case["value"]))
        assert (None if found is None else found.hex()) == case["form"], case
    for case in read["tokens"]:
        tokenizer = Tokenizer(UUID(read["store_id"]), case["column"], case["normaliser"], key, case["size"])
        token = tokenizer.token(READ[case["type"]](case["value"]))
        assert (None if token is None else token.hex()) == case["token"], case


READ: dict[str, Callable[[Any], object]] = {
    "text": str,
    "bytes": bytes.fromhex,
    "integer": int,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "boolean": bool,
    "float": float.fromhex,
}
