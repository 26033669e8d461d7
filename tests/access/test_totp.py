"""Codes against the RFCs' own vectors, and which step a code stands for."""

from base64 import b32decode, b32encode
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.access import totp

RFC_SECRET = b32encode(b"12345678901234567890").decode()
HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
"""RFC 4226, appendix D."""
TOTP = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""RFC 6238, appendix B, SHA-1; ours are the last six of its eight digits."""
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
seconds = st.integers(1000, 4_000_000_000)


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


@pytest.mark.parametrize(("count", "code"), list(enumerate(HOTP)))
def test_codes_are_those_of_rfc_4226(count: int, code: str) -> None:
    assert totp.code_at(RFC_SECRET, at(count * 30)) == code


@pytest.mark.parametrize(("second", "code"), list(TOTP.items()))
def test_codes_are_those_of_rfc_6238(second: int, code: str) -> None:
    assert totp.code_at(RFC_SECRET, at(second)) == code[-6:]
    assert totp.match(RFC_SECRET, code[-6:], at(second)) == second // 30


@given(second=seconds, off=st.integers(-10, 10))
def test_a_code_is_taken_one_step_early_or_late_and_no_more(second: int, off: int) -> None:
    secret, now = totp.new_secret(), at(second)
    found = totp.match(secret, totp.code_at(secret, now + timedelta(seconds=30 * off)), now)
    if abs(off) <= 1:
        assert found is not None
        assert found >= second // 30 + off
    else:
        assert found is None or abs(found - second // 30) <= 1  # by chance, 3 in a million


@given(second=seconds, first=st.integers(-3, 2), second_=st.integers(-3, 2))
def test_two_codes_count_only_when_they_follow_each_other(second: int, first: int, second_: int) -> None:
    now = at(second)
    code1, code2 = (totp.code_at(RFC_SECRET, now + timedelta(seconds=30 * off)) for off in (first, second_))
    good = second_ == first + 1 and -1 <= second_ <= 1
    assert totp.match_pair(RFC_SECRET, code1, code2, now) == (second // 30 + second_ if good else None)


@given(second=seconds, off=st.integers(-10, 10), drift=st.sampled_from([-1, 0, 1]))
def test_three_codes_are_good_at_a_time_whatever_the_drift(second: int, off: int, drift: int) -> None:
    now = at(second)
    found = totp.match(RFC_SECRET, totp.code_at(RFC_SECRET, now + timedelta(seconds=30 * off)), now, drift)
    if abs(off - drift) <= 1:
        assert found is not None
        assert found >= second // 30 + off
    else:
        assert found is None or abs(found - second // 30 - drift) <= 1  # by chance, 3 in a million


@given(second=seconds, off=st.integers(-10, 10), drift=st.sampled_from([-1, 0, 1]))
def test_the_drift_moves_by_one_at_the_most_and_toward_the_code(second: int, off: int, drift: int) -> None:
    now = totp.drifted(drift, second // 30 + off, at(second))
    assert now in {-1, 0, 1}
    assert abs(now - drift) <= 1
    assert abs(off - now) <= abs(off - drift)


def test_a_pair_that_is_over_is_refused() -> None:
    secret = totp.new_secret()
    old = [totp.code_at(secret, NOON - timedelta(seconds=30 * back)) for back in (4, 3)]
    assert totp.match_pair(secret, *old, NOON) is None


def test_the_latest_step_counts_when_a_code_stands_for_two() -> None:
    """pyotp's own verify would give the earlier one, and the code could be used again at the later."""
    step, code = 910737, "911617"  # found by search: two steps of the RFC's secret with one code
    now = at(step * 30)
    assert totp.code_at(RFC_SECRET, now) == totp.code_at(RFC_SECRET, now + timedelta(seconds=30)) == code
    assert totp.match(RFC_SECRET, code, now) == step + 1
    assert pyotp.TOTP(RFC_SECRET).verify_and_get_timecode(code, for_time=now, valid_window=1) == step


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "abcdef", "12 456", "٤٩٢٠٣٩", "１２３４５６", "-12345", "1" * 5000]
)
def test_what_is_not_six_digits_matches_nothing(typed: str) -> None:
    assert totp.match(RFC_SECRET, typed, NOON) is None
    assert totp.match_pair(RFC_SECRET, typed, typed, NOON) is None


def test_a_secret_has_160_bit_and_is_new_each_time() -> None:
    made = {totp.new_secret() for _ in range(50)}
    assert len(made) == 50
    assert {len(b32decode(secret)) for secret in made} == {20}


def test_the_uri_is_what_authenticators_scan() -> None:
    assert totp.uri(RFC_SECRET, "Ada L.", "guard") == f"otpauth://totp/guard:Ada%20L.?secret={RFC_SECRET}&issuer=guard"
