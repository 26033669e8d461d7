"""One key sealed to somebody outside: for escrow, or to take it to another place. FORMATS 3, exported key."""

from __future__ import annotations

import binascii
from base64 import b64encode
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from guard.canon import Json, json_bytes, parts
from guard.crypto.recovery import kit_id
from guard.crypto.wrap import KEY_SIZE, MAGIC, Key, id_bytes
from guard.errors import ConfigError

_SEALED = MAGIC + b"\x05"
_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def read_recipient(path: Path) -> bytes:
    """Return the X25519 public key in a file: 32 bytes, in hex or base64 on one line.

    Raises ConfigError when it cannot be read or is no such key.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        text = ""
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * KEY_SIZE else binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_SIZE:
        raise ConfigError(
            f"{path} does not hold an X25519 public key", hint="32 bytes in hex or base64, on one line, nothing else"
        )
    return raw


def fingerprint(recipient: bytes) -> str:
    """Return 8 hex characters by which two people can compare a recipient's key."""
    return kit_id(recipient)


def document(store_id: UUID, key: Key, commitment: bytes, recipient: bytes) -> str:
    """Return the document that holds `key` for the holder of `recipient`'s private half.

    Raises ConfigError when nothing can be sealed to that public key.
    """
    try:
        sealed = _SEALED + _suite.encrypt(
            key.material, X25519PublicKey.from_public_bytes(recipient), _info(store_id, key, recipient)
        )
    except ValueError:  # a point of small order: everybody could open what is sealed to it
        raise ConfigError("nothing can be sealed to this public key: it is not one of X25519") from None
    fields: Json = {
        "v": 1,
        "what": "guard exported key",
        "store": str(store_id),
        "id": f"{key.id:010x}",
        "purpose": key.purpose,
        "version": key.version,
        "commitment": commitment.hex(),
        "recipient": recipient.hex(),
        "sealed": b64encode(sealed).decode(),
    }
    return json_bytes(fields).decode() + "\n"


def _info(store_id: UUID, key: Key, recipient: bytes) -> bytes:
    version = key.version.to_bytes(4, "big")
    return parts(b"guard/gk1/export", store_id.bytes, id_bytes(key.id), key.purpose.encode(), version, recipient)
