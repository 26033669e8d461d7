"""Key slots: the master key for whoever holds a passphrase or the recovery kit, so that no state is needed."""

from __future__ import annotations

import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guard.backup.sealed import Sealing
from guard.canon import parts
from guard.crypto import recovery, roots
from guard.crypto.random import token
from guard.errors import DeniedError, TamperedError

PASSPHRASE: Final = "passphrase"  # noqa: S105  # the name of a kind
RECOVERY: Final = "recovery"
_HEAD: Final = struct.Struct(">4sB16sI")
_ARGON: Final = struct.Struct(">III16s")
_MAGIC: Final = b"grk1"
_TYPES: Final = {1: PASSPHRASE, 2: RECOVERY}
_CHECK_SIZE: Final = 32


def slot_name(kind: str, version: int, kit: str | None = None) -> str:
    """Return the name of the slot of `kind` for a version of the master key; a kit's slot carries its id."""
    return f"keys/{kind}-{kit}-{version}" if kit else f"keys/{kind}-{version}"


def named(name: str) -> tuple[str, int] | None:
    """Return the (kind, version of the master key) that a slot's name says; None for another object's name."""
    kind, _, rest = name.removeprefix("keys/").partition("-")
    number = rest.rpartition("-")[2]
    return (kind, int(number)) if kind in _TYPES.values() and number.isdecimal() else None


def passphrase_slot(sealing: Sealing, passphrase: str, params: roots.Argon2Params | None = None) -> tuple[str, bytes]:
    """Return (name, bytes) of a slot that this passphrase opens."""
    params = params or roots.Argon2Params()
    name = slot_name(PASSPHRASE, sealing.newest)
    head = _head(1, sealing) + _ARGON.pack(params.memory, params.passes, params.lanes, params.salt)
    nonce = token(12)
    key = roots.from_passphrase(passphrase, params)
    body = nonce + AESGCM(key).encrypt(nonce, _material(sealing), parts(head, name.encode()))
    return name, _checked(sealing, name, head + body)


def recovery_slot(sealing: Sealing, public: bytes) -> tuple[str, bytes]:
    """Return (name, bytes) of a slot that the recovery kit with this public key opens."""
    name = slot_name(RECOVERY, sealing.newest, recovery.kit_id(public))
    head = _head(2, sealing)
    body = recovery.seal_to(public, _material(sealing), parts(head, name.encode()))
    return name, _checked(sealing, name, head + body)


def kind_of(name: str, raw: bytes) -> str:
    """Return what opens this slot, "passphrase" or "recovery". Raises TamperedError when it is not a slot."""
    return _TYPES[_parsed(name, raw)[0]]


def open_passphrase(name: str, raw: bytes, passphrase: str) -> Sealing:
    """Return the repository's sealing by a passphrase. Raises DeniedError for a wrong one."""
    _, repository, version = _parsed(name, raw)
    memory, passes, lanes, salt = _ARGON.unpack(raw[_HEAD.size : _HEAD.size + _ARGON.size])
    head_size = _HEAD.size + _ARGON.size
    key = roots.from_passphrase(passphrase, roots.Argon2Params(salt, memory, passes, lanes))
    nonce, sealed = raw[head_size : head_size + 12], raw[head_size + 12 : -_CHECK_SIZE]
    try:
        master = AESGCM(key).decrypt(nonce, sealed, parts(raw[:head_size], name.encode()))
    except InvalidTag:
        raise DeniedError(f"this passphrase does not open {name}") from None
    return _opened(name, raw, Sealing(repository, {version: master}))


def open_recovery(name: str, raw: bytes, private: bytes) -> Sealing:
    """Return the repository's sealing by the recovery kit's private key. Raises DeniedError for another kit's."""
    _, repository, version = _parsed(name, raw)
    info = parts(raw[: _HEAD.size], name.encode())
    try:
        master = recovery.open_with(private, raw[_HEAD.size : -_CHECK_SIZE], info)
    except TamperedError:
        raise DeniedError(f"this recovery kit does not open {name}") from None
    return _opened(name, raw, Sealing(repository, {version: master}))


def check(sealing: Sealing, name: str, raw: bytes) -> None:
    """Raise TamperedError when a slot is not the one that the holder of the master key wrote."""
    _, repository, version = _parsed(name, raw)
    master = sealing.master(version)
    if master is None or repository != sealing.repository:
        raise TamperedError(f"{name}: is a slot of another key")
    if not hmac.compare_digest(_tag(sealing, master, name, raw[:-_CHECK_SIZE]), raw[-_CHECK_SIZE:]):
        raise TamperedError(f"{name}: was changed")


def _parsed(name: str, raw: bytes) -> tuple[int, bytes, int]:
    if len(raw) > _HEAD.size + _CHECK_SIZE:
        magic, kind, repository, version = _HEAD.unpack(raw[: _HEAD.size])
        body = len(raw) - _HEAD.size - _CHECK_SIZE
        if magic == _MAGIC and {1: _ARGON.size + 60, 2: 84}.get(kind) == body:
            return kind, repository, version
    raise TamperedError(f"{name}: is not a key slot")


def _head(kind: int, sealing: Sealing) -> bytes:
    return _HEAD.pack(_MAGIC, kind, sealing.repository, sealing.newest)


def _material(sealing: Sealing) -> bytes:
    master = sealing.master(sealing.newest)
    assert master is not None  # noqa: S101  # a Sealing holds its newest key
    return master


def _checked(sealing: Sealing, name: str, raw: bytes) -> bytes:
    return raw + _tag(sealing, _material(sealing), name, raw)


def _tag(sealing: Sealing, master: bytes, name: str, raw: bytes) -> bytes:
    key = sealing.derived("slot-check", master)
    return hmac.digest(key, parts(name.encode(), raw), "sha256")


def _opened(name: str, raw: bytes, sealing: Sealing) -> Sealing:
    check(sealing, name, raw)
    return sealing
