"""Signed notes (C2SP signed-note): a text, and Ed25519 signatures that anybody can check with a one-line key."""

import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guard.errors import ConfigError, TamperedError

ED25519 = b"\x01"
"""The type of a plain signature's key; a cosignature's has another."""
_DASH = "\u2014"
_MOST_SIGNATURES = 100
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_BAD_NAME = re.compile(r"[\s+]")


class Signer:
    """Signs notes as `name` with the Ed25519 key of a 32-byte seed."""

    def __init__(self, seed: bytes, name: str) -> None:
        self.name = key_name(name)
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key().public_bytes_raw()

    def named(self, name: str) -> "Signer":
        """Return a signer with the same key and another name."""
        return Signer(self._private.private_bytes_raw(), name)

    @property
    def vkey(self) -> str:
        """The verifier key: `<name>+<hex key id>+<base64 of 01 | public key>`."""
        return self.verifier.vkey

    @property
    def verifier(self) -> "Verifier":
        """Checks what this signs."""
        return Verifier(self.name, id_of(self.name, self._public), self._private.public_key())

    def sign_note(self, text: str) -> str:
        """Return `text` as a note with this signature. Raises ValueError unless it is lines that end with a newline."""
        if not text.endswith("\n") or _CONTROL.search(text):
            raise ValueError("the text of a note is lines, each ended by a newline, without control characters")
        signed = id_of(self.name, self._public) + self._private.sign(text.encode())
        return f"{text}\n{_DASH} {self.name} {b64encode(signed).decode()}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Checks notes signed as `name` by one Ed25519 key."""

    name: str
    key_id: bytes
    public: Ed25519PublicKey = field(repr=False)

    @classmethod
    def from_vkey(cls, text: str) -> "Verifier":
        """Return the verifier of a vkey. Raises ConfigError when it is not one, or not for Ed25519."""
        try:
            name, key_id, body = text.strip().split("+", 2)
            public = public_of(key_name(name), key_id, a2b_base64(body, strict_mode=True))
        except ValueError:
            raise ConfigError(
                "this is not an Ed25519 verifier key",
                hint="it is one line: name+key id+base64, as `guard init` prints it",
            ) from None
        return cls(name, bytes.fromhex(key_id), public)

    @property
    def raw(self) -> bytes:
        """The public key, 32 bytes: what is the same under every name."""
        return self.public.public_bytes_raw()

    @property
    def vkey(self) -> str:
        """The verifier key, one line: `<name>+<hex key id>+<base64 of 01 | public key>`."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ED25519 + self.raw).decode()}"

    def named(self, name: str) -> "Verifier":
        """Return the verifier of the same key under another name."""
        return Verifier(key_name(name), id_of(name, self.public.public_bytes_raw()), self.public)

    def open_note(self, note: str) -> str:
        """Return the text that this key signed, ended by a newline. Signatures of other keys are passed over.

        Raises TamperedError when the note is malformed, when this key's signature is wrong, or when there is none.
        """
        text, signatures = split_note(note)
        for name, key_id, signature in signatures:
            if (name, key_id) != (self.name, self.key_id):
                continue
            try:
                self.public.verify(signature, text.encode())
            except InvalidSignature:
                raise TamperedError(f"the signature of {self.name} on this note is wrong") from None
            return text
        raise TamperedError(f"this note is not signed by {self.name}")


def sign_note(text: str, signers: Sequence[Signer]) -> str:
    """Return `text` as a note signed by all of `signers`, in their order."""
    notes = [each.sign_note(text) for each in signers]
    return notes[0] + "".join(note.removeprefix(f"{text}\n") for note in notes[1:])


def split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Return a note's text and its signatures as (name, key id, signature); nothing is verified.

    Raises TamperedError when it is not a note.
    """
    head, blank, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    ended = lines.pop() == ""
    if not (blank and ended and 0 < len(lines) <= _MOST_SIGNATURES) or _CONTROL.search(note):
        raise TamperedError("this is not a signed note")
    try:
        note.encode()
        return head + "\n", [_signature(line) for line in lines]
    except ValueError:
        raise TamperedError("this is not a signed note") from None


def public_of(name: str, key_id: str, raw: bytes, kind: bytes = ED25519) -> Ed25519PublicKey:
    """Return the key whose type and bytes are `raw`. Raises ValueError when it is not one of this kind, name and id."""
    if raw[:1] != kind or key_id != id_of(name, raw[1:], kind).hex():
        raise ValueError("not an Ed25519 key of this name")
    return Ed25519PublicKey.from_public_bytes(raw[1:])


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, name, body = line.split(" ")
    raw = a2b_base64(body, strict_mode=True)
    if dash != _DASH or len(raw) < 5 or b64encode(raw).decode() != body:  # unused bits of its last character are zero
        raise ValueError
    return key_name(name), raw[:4], raw[4:]


def id_of(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """Return the id of a key: 4 bytes of a hash of its name, type and public key (C2SP signed-note)."""
    return sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def key_name(name: str) -> str:
    """Return a name that a key can have. Raises ValueError for any other."""
    if not name or _BAD_NAME.search(name):
        raise ValueError("a key name is not empty and has no space and no plus")
    return name
