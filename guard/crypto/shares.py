"""Shamir's secret sharing, 2 of 3, over GF(2^8): one share says nothing about the secret, any two give it back."""

from guard.crypto import random

NUMBERS = (1, 2, 3)
_POLYNOMIAL = 0x11B


def split(secret: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the shares 1, 2 and 3 of `secret`, each as long as it."""
    slope = random.token(len(secret))
    one, two, three = (
        bytes(byte ^ multiply(number, factor) for byte, factor in zip(secret, slope, strict=True)) for number in NUMBERS
    )
    return one, two, three


def join(first: tuple[int, bytes], second: tuple[int, bytes]) -> bytes:
    """Return the secret of two shares, each with its number. Raises ValueError when they are the same share."""
    (x1, y1), (x2, y2) = first, second
    if x1 == x2 or len(y1) != len(y2):
        raise ValueError("two different shares are needed")
    # Lagrange at 0 with two points: (y1 * x2 + y2 * x1) / (x1 + x2); minus and plus are both xor.
    below = inverse(x1 ^ x2)
    return bytes(multiply(multiply(a, x2) ^ multiply(b, x1), below) for a, b in zip(y1, y2, strict=True))


def multiply(left: int, right: int) -> int:
    """Return the product in GF(2^8) with polynomial 0x11b, the same steps for all values."""
    out = 0
    for bit in range(8):
        out ^= -(right >> bit & 1) & left
        left = (left << 1) ^ (-(left >> 7) & _POLYNOMIAL)
    return out


def inverse(value: int) -> int:
    """Return the element that multiplies `value` to 1: its 254th power."""
    out = 1
    for _ in range(254):
        out = multiply(out, value)
    return out
