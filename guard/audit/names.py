"""The bytes of a person in the ledger: their pseudonym, and what an entry says of them (gp1, gp2). FORMATS 4.

Both are sealed under a key derived from the person's key of class `ledger`, and die with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from guard.canon import json_bytes, parts
from guard.crypto import random
from guard.crypto.wrap import KEY_SIZE, Key, id_bytes
from guard.errors import TamperedError

_PAYLOAD, _PERSON = b"gp\x01", b"gp\x02"
_NONCE = 12
_PSEUDONYM = 16


@dataclass(frozen=True, slots=True)
class Name:
    """A person as the ledger names them, and what seals and opens what it says of them."""

    id: int
    """Of the person's key."""
    pseudonym: bytes
    key: bytes
    """The person's canonical key."""
    cipher: AESGCM = field(repr=False)

    @property
    def subject(self) -> str:
        """The pseudonym as an entry has it."""
        return self.pseudonym.hex()


def cipher_of(store_id: UUID, key: Key) -> AESGCM:
    """Return the cipher for what the ledger holds about the person with this key."""
    derived = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=store_id.bytes, info=parts(b"guard/gp1"))
    return AESGCM(derived.derive(key.material))


def draw(key_id: int, person: bytes, cipher: AESGCM) -> Name:
    """Return a fresh pseudonym for the person with this canonical key."""
    return Name(key_id, random.token(_PSEUDONYM), person, cipher)


def seal_name(store_id: UUID, name: Name) -> bytes:
    """Return whose pseudonym it is, sealed."""
    return _sealed(_PERSON, name.cipher, name.pseudonym + name.key, _person_place(store_id, name.id))


def open_name(store_id: UUID, key_id: int, cipher: AESGCM, sealed: bytes) -> Name:
    """Return the name that was sealed for the person with this key. Raises TamperedError when it does not open."""
    raw = _opened(_PERSON, cipher, sealed, _person_place(store_id, key_id))
    if raw is None or len(raw) <= _PSEUDONYM:
        raise TamperedError(f"the name that the ledger has for key {key_id:010x} of a person is not what guard wrote")
    return Name(key_id, raw[:_PSEUDONYM], raw[_PSEUDONYM:], cipher)


def seal_payload(store_id: UUID, name: Name, details: Mapping[str, Any]) -> bytes:
    """Return what is said of a person, sealed. Raises ValueError when `details` are not JSON."""
    return _sealed(_PAYLOAD, name.cipher, json_bytes(details), _payload_place(store_id, name.pseudonym))


def open_payload(store_id: UUID, name: Name, sealed: bytes) -> Mapping[str, Any] | None:
    """Return what is said of a person; None when `sealed` is nothing that was said of them."""
    raw = _opened(_PAYLOAD, name.cipher, sealed, _payload_place(store_id, name.pseudonym))
    return None if raw is None else msgspec.json.decode(raw, type=dict[str, Any])


def _payload_place(store_id: UUID, pseudonym: bytes) -> bytes:
    return parts(b"guard/gp1", store_id.bytes, pseudonym)


def _person_place(store_id: UUID, key_id: int) -> bytes:
    return parts(b"guard/gp2", store_id.bytes, id_bytes(key_id))


def _sealed(magic: bytes, cipher: AESGCM, plain: bytes, place: bytes) -> bytes:
    nonce = random.token(_NONCE)
    return magic + nonce + cipher.encrypt(nonce, plain, place)


def _opened(magic: bytes, cipher: AESGCM, sealed: bytes, place: bytes) -> bytes | None:
    head = len(magic) + _NONCE
    if not sealed.startswith(magic):
        return None
    try:
        return cipher.decrypt(sealed[len(magic) : head], sealed[head:], place)
    except (InvalidTag, ValueError):
        return None
