"""Recovery codes: ten words for the day the phone is lost, each usable once in place of a code."""

from __future__ import annotations

import re
from base64 import b32encode

from guard.canon import parts
from guard.crypto import random

HOW_MANY = 10
_BYTES = 10
"""80 bit: nobody guesses one, even without a limit on tries (NIST SP 800-63B asks for that limit below 64)."""

_CODE = re.compile(r"[A-Z2-7]{16}")


def new_codes() -> tuple[str, ...]:
    """Return ten fresh codes, each 16 base32 characters in groups of four."""
    return tuple(_new_code() for _ in range(HOW_MANY))


def looks_like_code(text: str) -> bool:
    """Tell whether `text`, without its hyphens, is a recovery code's 16 characters."""
    return _CODE.fullmatch(text) is not None


def digest_input(person: str, code: str) -> bytes:
    """Return what is digested in a code's stead (docs/FORMATS.md, section 8); hyphens, spaces and case do not count."""
    return parts(person.encode(), plain(code).encode())


def plain(typed: str) -> str:
    """Return what was typed without spaces and hyphens, in capitals."""
    return "".join(typed.split()).replace("-", "").upper()


def _new_code() -> str:
    text = b32encode(random.token(_BYTES)).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
