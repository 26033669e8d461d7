"""How a column stores a sealed value: as text or as bytes, each with a prefix and one spelling. FORMATS 2."""

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from typing import Final

from guard.errors import TamperedError

_TEXT_PREFIX: Final = "g1."
_BINARY_PREFIX: Final = b"g1"
_NOT_SEALED: Final = "a text that should be a sealed value is not one"


def to_text(sealed: bytes) -> str:
    """Return what a text column stores: "g1." and base64url without padding."""
    return to_texts((sealed,))[0]


def to_texts(sealed: Iterable[bytes]) -> list[str]:
    """Return `to_text` of each value, and fast."""
    return [_TEXT_PREFIX + b2a_base64(each).translate(_TO_URL, _DROPPED).decode() for each in sealed]


def from_text(stored: str) -> bytes:
    """Return the bare value of a text column. Raises TamperedError when it is not exactly what `to_text` writes."""
    left = (len(stored) - len(_TEXT_PREFIX)) % 4
    if not stored.startswith(_TEXT_PREFIX) or (left and stored[-1] not in _LAST[left]):
        raise TamperedError(_NOT_SEALED)
    try:
        return a2b_base64(stored[3:].encode("ascii").translate(_FROM_URL) + _FILL[left], strict_mode=True)
    except ValueError:
        raise TamperedError(_NOT_SEALED) from None


def to_binary(sealed: bytes) -> bytes:
    """Return what a binary column stores: bytes 67 31 and the value."""
    return _BINARY_PREFIX + sealed


def from_binary(stored: bytes) -> bytes:
    """Return the bare value of a binary column. Raises TamperedError when it does not begin as one."""
    raw = bytes(stored)
    if not raw.startswith(_BINARY_PREFIX):
        raise TamperedError("bytes that should be a sealed value are not one")
    return raw[2:]


def looks_sealed(value: object) -> bool:
    """Say whether a stored value begins as a sealed one. What does is ciphertext, and never plaintext."""
    if isinstance(value, str):
        return value.startswith(_TEXT_PREFIX)
    return isinstance(value, bytes | bytearray | memoryview) and bytes(value[:2]) == _BINARY_PREFIX


_TO_URL = bytes.maketrans(b"+/", b"-_")
_DROPPED = b"=\n"
"""What b2a_base64 writes at the end; to be told to leave the line's end out takes it longer."""
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_FILL = (b"", b"", b"==", b"=")
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")
"""The last characters whose unused bits are zero: any other would be a second text for the same bytes."""
