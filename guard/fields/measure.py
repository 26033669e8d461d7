"""How large and how long: sizes of sealed values are exact, durations are estimates and called so. Pure."""

from __future__ import annotations

from datetime import timedelta

_OVERHEAD = 47
"""Bytes a sealed value has beyond its plaintext: head 7, half nonce 12, nonce 12, tag 16 (FORMATS 2)."""
_TIGHT = 35
"""Without the half nonce."""

_WRITE = {
    "sqlite": timedelta(microseconds=6),
    "postgresql": timedelta(microseconds=38),
    "mysql": timedelta(microseconds=62),
}
"""What writing one sealed value takes beyond sealing it, one worker on two cores: 115k, 23k and 14.5k values a second
in all, less what sealing took of it."""
_REWRITE = {"sqlite": 150e6, "postgresql": 100e6, "mysql": 60e6}
"""Bytes a second at which a table is written anew: VACUUM, VACUUM FULL and ALTER COLUMN TYPE, ALTER TABLE with copy,
measured on two cores with the table in memory (190, 100 to 115, 68 to 75 MB)."""
_UNKNOWN = timedelta(microseconds=3)
"""What sealing one value takes where it was not measured."""


def sealed_size(plain: int, *, tight: bool = False, binary: bool = False) -> int:
    """Return the characters a value of `plain` bytes takes when it is sealed; the bytes in a binary column."""
    size = plain + (_TIGHT if tight else _OVERHEAD)
    return 2 + size if binary else 3 + -(-size * 4 // 3)


def sweeping(dialect: str, values: int, sealing: timedelta | None) -> timedelta:
    """Return about how long one worker takes to write `values` values."""
    return values * (_WRITE[dialect] + (sealing or _UNKNOWN))


def rewriting(dialect: str, size: int) -> timedelta:
    """Return about how long `size` bytes take to be written anew."""
    return timedelta(seconds=size / _REWRITE[dialect])


def about(span: timedelta) -> str:
    """Return an estimate as people say it: "less than a second", "about 40 s"."""
    return "less than a second" if span < timedelta(seconds=1) else f"about {roughly(span)}"


def roughly(span: timedelta) -> str:
    """Return a duration as people say it: "40 s", "12 min", "3 h 20 min"."""
    seconds = round(span.total_seconds())
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 24 * 60 else f"{round(minutes / 60)} h"


def amount(size: int) -> str:
    """Return a number of bytes for people, e.g. "1.2 MiB"."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
