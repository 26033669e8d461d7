"""XAES-256-GCM (C2SP): AES-256-GCM with a 24-byte nonce, by deriving a subkey from the first half of it.

The nonce may be random for any number of values. One subkey serves all values that share the first half, so a batch
pays for one derivation. Source: c2sp.org/XAES-256-GCM, a NIST SP 800-108r1 KDF in counter mode over CMAC.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HALF = 12
"""Bytes of each half of the nonce."""

_BLOCK = 16
_CACHED_SUBKEYS = 4096
_CACHED_KEYS = 256


@lru_cache(_CACHED_KEYS)
def _schedule(key: bytes) -> tuple[Callable[[bytes], bytes], int]:
    """Return AES with `key` on whole blocks, and CMAC's subkey K1 as an integer."""
    if len(key) != 32:
        raise ValueError(f"an XAES-256-GCM key has 32 bytes, not {len(key)}")
    blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update  # noqa: S305  # CMAC is built from single blocks
    doubled = int.from_bytes(blocks(bytes(_BLOCK)), "big") << 1
    return blocks, (doubled ^ 0x87 if doubled >> 128 else doubled) & ((1 << 128) - 1)


def derive(key: bytes, half: bytes) -> bytes:
    """Return the AES-256-GCM subkey for the nonces that begin with `half` (12 bytes). `key` has 32 bytes."""
    if len(half) != HALF:
        raise ValueError(f"half a nonce has {HALF} bytes, not {len(half)}")
    blocks, k1 = _schedule(key)
    first = int.from_bytes(b"\x00\x01X\x00" + half, "big") ^ k1
    second = int.from_bytes(b"\x00\x02X\x00" + half, "big") ^ k1
    return blocks(first.to_bytes(_BLOCK, "big") + second.to_bytes(_BLOCK, "big"))


@lru_cache(_CACHED_SUBKEYS)
def subcipher(key: bytes, half: bytes) -> AESGCM:
    """Return AES-256-GCM under the subkey of `half`; it takes the second half of the nonce. Kept for the next call."""
    return AESGCM(derive(key, half))


@dataclass(slots=True)
class Process:
    """This process, as something that must not share a half nonce with another."""

    generation: int = 0
    """Raised in a forked child: what was drawn in an earlier generation belongs to the parent."""


PROCESS = Process()


def clear() -> None:
    """Drop every cached subkey, and with them the keys they were made from."""
    subcipher.cache_clear()
    _schedule.cache_clear()


def forget() -> None:
    """Drop every cached subkey and begin a new generation; runs by itself in a forked child."""
    PROCESS.generation += 1
    clear()


os.register_at_fork(after_in_child=forget)
