"""Time-based one-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds), as values: nothing is stored or asked here.

The only module that imports pyotp. Its own `verify` is not used: it stops at the earliest step that matches. Should one
code stand for two steps of the window (once in a million), taking the earliest would leave the later one to be used
again; here the latest match counts, and every step up to it is spent.
"""

from __future__ import annotations

import re
from base64 import b32encode
from datetime import datetime
from hmac import compare_digest

import pyotp

from guard.crypto import random

DIGITS = 6
STEP_SECONDS = 30
WINDOW = 1
"""Steps before and after the expected one that are taken: clocks differ and fingers are slow (RFC 6238, 5.2)."""

DRIFT = 1
"""Steps that an authenticator's clock may be found off, ahead or behind, and still be followed (RFC 6238, 6)."""

_SECRET_BYTES = 20
"""160 bit, as long as SHA-1's output (RFC 4226, section 4, R6)."""

_CODE = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """Return a fresh secret of 160 bit as 32 base32 characters."""
    return b32encode(random.token(_SECRET_BYTES)).decode()


def uri(secret: str, label: str, issuer: str) -> str:
    """Return the otpauth:// text that authenticator apps scan."""
    return pyotp.TOTP(secret).provisioning_uri(name=label, issuer_name=issuer)


def step_at(at: datetime) -> int:
    """Return the number of whole 30-second steps since 1970."""
    return int(at.timestamp()) // STEP_SECONDS


def code_at(secret: str, at: datetime) -> str:
    """Return the code that an authenticator shows at `at`: for the demo and for tests, which have no phone."""
    return _code(secret, step_at(at))


def looks_like_code(text: str) -> bool:
    """Tell whether `text` is six ASCII digits."""
    return _CODE.fullmatch(text) is not None


def match(secret: str, code: str, at: datetime, drift: int = 0) -> int | None:
    """Return the latest step that `code` stands for of the window around `at`, moved by `drift`; None for none."""
    return _latest(secret, (code,), step_at(at) + drift)


def match_pair(secret: str, first: str, second: str, at: datetime) -> int | None:
    """Return the step of `second` when the two codes are consecutive and `second` is of the window around `at`."""
    return _latest(secret, (first, second), step_at(at))


def drifted(drift: int, step: int, at: datetime) -> int:
    """Return the drift to expect after a code of `step` was taken at `at`: one nearer to it, within `DRIFT`."""
    off = step - step_at(at)
    toward = (off > drift) - (off < drift)
    return max(-DRIFT, min(DRIFT, drift + toward))


def _latest(secret: str, codes: tuple[str, ...], middle: int) -> int | None:
    if not all(map(looks_like_code, codes)):
        return None
    found = None
    for last in range(middle - WINDOW, middle + WINDOW + 1):
        expected = "".join(_code(secret, last - back) for back in range(len(codes) - 1, -1, -1))
        if compare_digest(expected, "".join(codes)):  # all steps are compared, so the time tells nothing
            found = last
    return found


def _code(secret: str, step: int) -> str:
    return pyotp.HOTP(secret, digits=DIGITS).at(step)
