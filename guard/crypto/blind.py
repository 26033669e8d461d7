"""Blind tokens: what a sealed column is searched by, and kept unique by, without being opened. FORMATS 3.

Equal normal forms give equal tokens, so a token says which rows are alike and nothing else to who has no index key. A
normaliser needs no extra library, so that a shop without one makes the same tokens as guard.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from unicodedata import category, decimal, normalize
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from guard.canon import decimal_text, parts
from guard.crypto import plaintext
from guard.crypto.plaintext import Kind
from guard.crypto.wrap import Key

__all__ = ["LONGEST", "NORMALISERS", "Tokenizer", "normal"]

LONGEST: Final = 16
"""Bytes of a token that keeps a column unique: two of 2^32 values meet with a chance of 2^-65."""

_u32 = struct.Struct(">I").pack


def normal(normaliser: str, value: object) -> bytes | None:
    """Return the normal form of `value`; None when there is nothing to search by: NULL, or nothing left of a text.

    Raises ValueError for an unknown normaliser, TypeError for a type that it does not take.
    """
    return None if value is None else _named(normaliser)(value)


class Tokenizer:
    """Makes the tokens of one column under one index key. May be shared by threads."""

    def __init__(self, store_id: UUID, column_id: int, normaliser: str, key: Key, size: int) -> None:
        if not 0 < size <= LONGEST:
            raise ValueError(f"a token has 1 to {LONGEST} bytes, not {size}")
        started = HMAC(key.material, SHA256())
        started.update(parts(b"guard/token1", store_id.bytes, _u32(column_id), normaliser.encode()))
        self._started = started.copy
        self._normal = _named(normaliser)
        self._size = size

    def token(self, value: object) -> bytes | None:
        """Return the token of `value`; None as for `normal`, and it raises as that does."""
        form = None if value is None else self._normal(value)
        if form is None:
            return None
        mac = self._started()
        mac.update(_u32(len(form)) + form)
        return mac.finalize()[: self._size]

    def tokens(self, values: Sequence[object]) -> list[bytes | None]:
        """Return the token of each value."""
        token = self.token
        return [token(value) for value in values]


def _named(normaliser: str) -> Callable[[Any], bytes | None]:
    try:
        return NORMALISERS[normaliser]
    except KeyError:
        raise ValueError(f"there is no normaliser {normaliser!r}") from None


def _exact(value: object) -> bytes:
    """Return the kind and the value: what the database holds for equal has one form, and each kind forms of its own."""
    if type(value) is str:
        return b"\x00" + value.encode()
    kind, write = plaintext.writer(value, padded=False)
    return bytes([kind]) + _EQUAL.get(kind, write)(value)


def _float(value: float) -> bytes:
    return struct.pack(">d", math.nan if math.isnan(value) else value + 0.0)  # -0.0 + 0.0 is 0.0


_EQUAL: Final[dict[Kind, Callable[[Any], bytes]]] = {
    Kind.DECIMAL: lambda value: decimal_text(value).encode(),  # 12.50 equals 12.5
    Kind.FLOAT: _float,
}


def _email(value: object) -> bytes:
    text = value if type(value) is str else _text(value)
    if text.isascii():
        return text.strip().lower().encode()
    return _settled(_fold, text).encode()


def _name(value: object) -> bytes | None:
    return _settled(_plain_name, _text(value)).encode() or None


def _phone(value: object) -> bytes | None:
    text = _EXTENSION.sub("", _ascii_digits(_text(value)))
    written = _TRUNK.sub("", text)
    digits = _NO_DIGIT.sub("", written)
    if _PLUS.match(written):
        form = "+" + digits
    else:
        whole = digits if digits.startswith("00") else _NO_DIGIT.sub("", text)
        # 00 is the international prefix that ITU-T E.164 recommends
        form = "+" + whole[2:] if whole.startswith("00") else whole
    return form.encode() if form.strip("+") else None


def _last4(value: object) -> bytes | None:
    return _settled(_last_letters, _text(value)).encode() or None


def _prefix(length: int, value: object) -> bytes | None:
    return _settled(lambda text: _fold(text)[:length].rstrip(), _text(value)).encode() or None


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} has this normal form only under the normaliser exact")
    return value


def _settled(step: Callable[[str], str], text: str) -> str:
    """Return what `step` no longer changes: some letters take two turns, and a form must be its own form."""
    while (again := step(text)) != text:
        text = again
    return text


def _fold(text: str) -> str:
    return normalize("NFKC", normalize("NFKC", text).casefold()).strip()


def _last_letters(text: str) -> str:
    return "".join([letter for letter in _fold(text) if category(letter)[0] in "LN"])[-4:]


def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = normalize("NFKC", text).casefold()
    return "".join([letter if (digit := decimal(letter, None)) is None else str(digit) for letter in folded])


class _Letters(dict[int, str | None]):
    """What each character of a name becomes: itself, a blank, or nothing."""

    def __missing__(self, code: int) -> str | None:
        kind = category(chr(code))
        if code in _APOSTROPHES or code in _MARKS or kind == "Cf":
            becomes = None
        else:
            becomes = " " if kind == "Cc" or kind[0] in "PSZ" else chr(code)
        self[code] = becomes
        return becomes


def _plain_name(text: str) -> str:
    letters = text.translate(_LETTERS)
    if not letters.isascii():
        letters = normalize("NFKD", letters).translate(_LETTERS)
    return " ".join(normalize("NFKC", letters.casefold()).split())


_APOSTROPHES: Final = frozenset(map(ord, "'`\u00b4\u02b9\u02bb\u02bc\u2018\u2019\u201b\u2032\uff07"))
_MARKS: Final = range(0x300, 0x370)
"""Accents of Latin, Greek and Cyrillic letters. The vowel signs of other scripts lie elsewhere, and stay."""
_LETTERS: Final = _Letters()

_NO_DIGIT: Final = re.compile(r"[^0-9]+")
_PLUS: Final = re.compile(r"[^0-9]*\+")
_TRUNK: Final = re.compile(r"\(\s*0\s*\)")
_EXTENSION: Final = re.compile(r"(?<=[0-9)])\s*(?:[;,]?\s*ext(?:ension|n)?[.:=]?\s*[0-9]{1,7}|[x#]\s*[0-9]{1,5})\s*$")

NORMALISERS: Final[dict[str, Callable[[Any], bytes | None]]] = {
    "exact": _exact,
    "email": _email,
    "phone": _phone,
    "name": _name,
    "last4": _last4,
    **{f"prefix:{length}": partial(_prefix, length) for length in range(1, 100)},
}
"""How a value is written before its token is made, by the name that the catalog uses."""
