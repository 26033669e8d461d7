"""Cosignatures (C2SP tlog-cosignature, cosignature/v1): a witness's Ed25519 signature, with its time, on a checkpoint.

One stands as a further signature line on the note of the log. It says: at that time this was the largest tree that the
witness had seen of the log, and all it saw before was a part of it.
"""

from base64 import b64encode
from binascii import a2b_base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guard.crypto.sign import id_of, key_name, public_of, split_note
from guard.errors import ConfigError, TamperedError

_TYPE: Final = b"\x04"
_DASH: Final = "\u2014"


class Cosigner:
    """Cosigns checkpoints as `name` with the Ed25519 key of a 32-byte seed."""

    def __init__(self, seed: bytes, name: str) -> None:
        """Raises ValueError for a name that no key can have."""
        if not name or "+" in name or any(each.isspace() or not each.isprintable() for each in name):
            raise ValueError("a key name is not empty and has no space and no plus")
        self.name = name
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key().public_bytes_raw()
        self._id = id_of(name, self._public, _TYPE)

    @property
    def vkey(self) -> str:
        """The verifier key: `<name>+<hex key id>+<base64 of 04 | public key>`."""
        return f"{self.name}+{self._id.hex()}+{b64encode(_TYPE + self._public).decode()}"

    @property
    def skey(self) -> str:
        """The secret itself, one line: `PRIVATE+KEY+<name>+<hex key id>+<base64 of 04 | seed>`."""
        return f"PRIVATE+KEY+{self.name}+{self._id.hex()}+{b64encode(_TYPE + self._seed).decode()}"

    @classmethod
    def from_skey(cls, text: str) -> "Cosigner":
        """Return the cosigner of a secret key. Raises ConfigError, which does not show it, when it is not one."""
        try:
            *_, name, _, body = text.strip().split("+", 4)  # base64 may hold more of them
            made = cls(a2b_base64(body, strict_mode=True)[1:], name)
        except ValueError:
            made = None
        if made is None or made.skey != text.strip():
            raise ConfigError("this is not the secret key of a witness")
        return made

    def cosign(self, text: str, at: datetime) -> str:
        """Return the signature line, with its newline, that says `text` was the newest checkpoint at `at`."""
        seconds = int(at.timestamp())
        signed = self._id + seconds.to_bytes(8, "big") + self._private.sign(_message(seconds, text))
        return f"{_DASH} {self.name} {b64encode(signed).decode()}\n"


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """Checks the cosignatures of one witness."""

    name: str
    key_id: bytes
    public: Ed25519PublicKey = field(repr=False)

    @classmethod
    def from_vkey(cls, text: str) -> "WitnessKey":
        """Return the verifier of a vkey of type 04. Raises ConfigError when it is not one."""
        try:
            name, key_id, body = text.strip().split("+", 2)
            public = public_of(key_name(name), key_id, a2b_base64(body, strict_mode=True), _TYPE)
        except ValueError:
            raise ConfigError(
                "this is not the verifier key of a witness (Ed25519, type 04)",
                hint="it is one line: name+key id+base64, as `guard audit witness` prints it",
            ) from None
        return cls(name, bytes.fromhex(key_id), public)

    def time_on(self, note: str) -> datetime | None:
        """Return when this witness cosigned a note, the latest time of several; None when it did not.

        Raises TamperedError when a cosignature under its name and key id is wrong, or this is not a note.
        """
        text, _ = split_note(note)
        times = [time for _, time in self._mine(note, text)]
        return max(times, default=None)

    def lines_for(self, note: str, answer: str) -> str:
        """Return the signature lines of this witness in `answer`, which is said to hold cosignatures on `note`.

        Lines of other keys are left out. Raises TamperedError when one is wrong, or there is none of this witness.
        """
        text, _ = split_note(note)
        found = "".join(line for line, _ in self._mine(f"{text}\n{answer}", text))
        if not found:
            raise TamperedError(f"there is no cosignature of {self.name} in the answer")
        return found

    def _mine(self, note: str, text: str) -> list[tuple[str, datetime]]:
        """Return (line, time) of each cosignature of this witness on a note, each verified."""
        body, signatures = split_note(note)
        if body != text:
            raise TamperedError("this is not a list of cosignatures")
        return [
            (f"{_DASH} {name} {b64encode(key_id + raw).decode()}\n", self._verified(raw, text))
            for name, key_id, raw in signatures
            if (name, key_id) == (self.name, self.key_id)
        ]

    def _verified(self, raw: bytes, text: str) -> datetime:
        seconds = int.from_bytes(raw[:8], "big")
        try:
            self.public.verify(raw[8:], _message(seconds, text))
            return datetime.fromtimestamp(seconds, UTC)
        except (InvalidSignature, ValueError, OverflowError, OSError):  # the last three: no time that a clock can show
            raise TamperedError(f"the cosignature of {self.name} on this note is wrong") from None


def join(note: str, lines: str) -> str:
    """Return `note` with further signature lines; of a key that stands there already the line that is there stays.

    Raises TamperedError when these are not a note and signature lines.
    """
    text, there = split_note(note)
    body, more = split_note(f"{text}\n{lines}")
    if body != text:
        raise TamperedError("these are not signature lines")
    known = {(name, key_id) for name, key_id, _ in there}
    for name, key_id, raw in more:
        if (name, key_id) not in known:
            known.add((name, key_id))
            note += f"{_DASH} {name} {b64encode(key_id + raw).decode()}\n"
    return note


def _message(seconds: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
