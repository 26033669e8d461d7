"""The one place that draws randomness: the kernel's generator, never seeded, never reused."""

import os


def token(size: int) -> bytes:
    """Return `size` fresh random bytes."""
    return os.urandom(size)


def hex_token(size: int) -> str:
    """Return `size` fresh random bytes as 2 * `size` lower-case hex characters."""
    return os.urandom(size).hex()
