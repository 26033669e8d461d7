"""Keys at rest: a key wrapped under its parent, and the commitment that says which key it was (gk1, FORMATS 3)."""

import struct
from dataclasses import dataclass, field
from hmac import compare_digest
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guard.canon import parts
from guard.crypto import random
from guard.errors import TamperedError

KEY_SIZE = 32
ROOT_ID = 0
"""The key id of the root key, which is in no table."""

MAGIC = b"gk\x01"
_WRAPPED = MAGIC + b"\x01"
_NONCE = 12
_LENGTH = len(_WRAPPED) + _NONCE + KEY_SIZE + 16


def id_bytes(key_id: int) -> bytes:
    """Return a key id (u40) as its 5 bytes."""
    return key_id.to_bytes(5, "big")


@dataclass(frozen=True, slots=True)
class Key:
    """One version of one key, opened. Its material never shows in a repr."""

    id: int
    purpose: str
    version: int
    material: bytes = field(repr=False)


def binding(store_id: UUID, key: Key, parent: int) -> bytes:
    """Return what a wrapped key is bound to: store, id, purpose, version and parent."""
    return parts(
        b"guard/gk1", store_id.bytes, id_bytes(key.id), key.purpose.encode(), _u32(key.version), id_bytes(parent)
    )


def commitment(store_id: UUID, key: Key) -> bytes:
    """Return 32 bytes that name this key and no other; they do not tell the key."""
    info = parts(b"guard/gk1/commitment", id_bytes(key.id), key.purpose.encode(), _u32(key.version))
    return HKDF(algorithm=SHA256(), length=32, salt=store_id.bytes, info=info).derive(key.material)


def wrap(store_id: UUID, key: Key, parent: Key) -> bytes:
    """Return `key` encrypted under `parent`, bound to its place."""
    nonce = random.token(_NONCE)
    body = AESGCM(parent.material).encrypt(nonce, key.material, binding(store_id, key, parent.id))
    return _WRAPPED + nonce + body


def unwrap(store_id: UUID, wrapped: bytes, sheet: Key, parent: Key) -> Key:
    """Return the key of `wrapped`; `sheet` says which key it must be (its material is not looked at).

    Raises TamperedError when it does not open.
    """
    if not wrapped.startswith(_WRAPPED) or len(wrapped) != _LENGTH:
        raise TamperedError(f"key {sheet.id:010x} ({sheet.purpose}) is not a wrapped key")
    nonce, body = wrapped[len(_WRAPPED) :][:_NONCE], wrapped[len(_WRAPPED) + _NONCE :]
    try:
        material = AESGCM(parent.material).decrypt(nonce, body, binding(store_id, sheet, parent.id))
    except InvalidTag:
        raise TamperedError(f"key {sheet.id:010x} ({sheet.purpose}) does not open under its parent") from None
    return Key(sheet.id, sheet.purpose, sheet.version, material)


def mark(store_id: UUID, root: bytes) -> bytes:
    """Return 16 bytes by which state knows a local root key again; they do not tell the key."""
    return HKDF(algorithm=SHA256(), length=16, salt=store_id.bytes, info=parts(b"guard/gk1/root")).derive(root)


def check(store_id: UUID, key: Key, committed: bytes) -> Key:
    """Return `key` when it is the one that was committed to. Raises TamperedError when it is another."""
    if not compare_digest(commitment(store_id, key), committed):
        raise TamperedError(f"key {key.id:010x} ({key.purpose}) is not the key that was committed to")
    return key


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)
