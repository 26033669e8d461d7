"""A key for somebody outside: only the private half of the named public key opens it, as what it is."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from guard.canon import json_bytes, parts
from guard.crypto import escrow, recovery
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError
from guard.state import State

PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def opened(document: str, private: X25519PrivateKey, **other: object) -> bytes:
    """Open a document as FORMATS says, with HPKE alone."""
    says = json.loads(document) | other
    sealed = b64decode(says["sealed"])
    assert sealed[:4] == b"gk\x01\x05"
    info = parts(
        b"guard/gk1/export",
        UUID(says["store"]).bytes,
        bytes.fromhex(says["id"]),
        says["purpose"].encode(),
        says["version"].to_bytes(4, "big"),
        bytes.fromhex(says["recipient"]),
    )
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    return suite.decrypt(sealed[4:], private, info)


def test_the_holder_of_the_private_half_opens_it_without_guard(state: State, keyring: Keyring) -> None:
    key = keyring.ensure("column/17")
    document = keyring.seal_for(key.id, PUBLIC)
    assert opened(document, PRIVATE) == key.material
    says = json.loads(document)
    assert json_bytes(says).decode() + "\n" == document
    assert {name: says[name] for name in ("v", "what", "store", "id", "purpose", "version", "recipient")} == {
        "v": 1,
        "what": "guard exported key",
        "store": str(state.store_id),
        "id": "0000000008",
        "purpose": "column/17",
        "version": 1,
        "recipient": PUBLIC.hex(),
    }
    assert key.material.hex() not in document


def test_our_vector_opens(vectors: Callable[[str], Any]) -> None:
    case = vectors("wrapped_keys.json")["exports"]
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
    assert opened(case["document"], private).hex() == case["material"]


@pytest.mark.parametrize(
    "other",
    [
        {"store": str(UUID(int=8))},
        {"id": "0000000009"},
        {"purpose": "column/18"},
        {"version": 2},
        {"recipient": bytes(32).hex()},
    ],
    ids=lambda other: next(iter(other)),
)
def test_it_opens_as_nothing_else(keyring: Keyring, other: dict[str, object]) -> None:
    document = keyring.seal_for(keyring.ensure("column/17").id, PUBLIC)
    with pytest.raises(InvalidTag):
        opened(document, PRIVATE, **other)


def test_nobody_else_opens_it(keyring: Keyring) -> None:
    document = keyring.seal_for(keyring.ensure("column/17").id, PUBLIC)
    with pytest.raises(InvalidTag):
        opened(document, X25519PrivateKey.generate())


def test_a_retired_key_can_be_taken_out(state: State, keyring: Keyring) -> None:
    old = keyring.ensure("column/17")
    new = keyring.rotate("column/17")
    state.write(lambda tx: keyring.activate(tx, new.id, state.clock.now()))
    state.write(lambda tx: keyring.retire(tx, old.id, lambda _: ()))
    assert opened(keyring.seal_for(old.id, PUBLIC), PRIVATE) == old.material


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_point_to_which_everybody_has_the_key_is_refused(keyring: Keyring, point: bytes) -> None:
    with pytest.raises(ConfigError, match="nothing can be sealed to this public key"):
        keyring.seal_for(keyring.ensure("column/17").id, point)


@pytest.mark.parametrize("form", [PUBLIC.hex(), PUBLIC.hex().upper() + "\n", b64encode(PUBLIC).decode() + "\n"])
def test_a_public_key_is_read_in_hex_and_base64(tmp_path: Path, form: str) -> None:
    path = tmp_path / "escrow.pub"
    path.write_text(form)
    assert escrow.read_recipient(path) == PUBLIC
    assert escrow.fingerprint(PUBLIC) == recovery.kit_id(PUBLIC)


@pytest.mark.parametrize(
    "form",
    [b"", b"hunter2", PUBLIC, PUBLIC.hex().encode()[:-2], PUBLIC.hex().encode() * 2, b64encode(PUBLIC + b"x"), b"\xff"],
    ids=range(7),
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, form: bytes) -> None:
    path = tmp_path / "escrow.pub"
    path.write_bytes(form)
    with pytest.raises(ConfigError, match="does not hold an X25519 public key") as caught:
        escrow.read_recipient(path)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none: No such file"):
        escrow.read_recipient(tmp_path / "none")
