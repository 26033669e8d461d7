"""The recovery kit: a private key in three printed shares, any two of which open every key guard ever made. FORMATS 3.

Only the public half stays with guard, so that a new key is sealed to the kit without anybody fetching a share.
"""

from __future__ import annotations

import re
from base64 import b32decode, b32encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from guard.crypto import files, random, shares
from guard.crypto.wrap import KEY_SIZE, MAGIC
from guard.errors import ConfigError, DeniedError, TamperedError

_PREFIX = "guard-share-1"
_SEALED = MAGIC + b"\x02"
_ENC = 32
_LENGTH = len(_SEALED) + _ENC + KEY_SIZE + 16
_SHARE = re.compile(
    rf"{_PREFIX}:(?P<kit>[0-9a-f]{{8}}):(?P<number>[1-3]):(?P<body>[a-z2-7]{{52}}):(?P<check>[0-9a-f]{{8}})"
)
_SHEET = """\
One of three shares of guard's recovery kit {kit}. Any two open every key of the store.
Keep each with another person or in another place, and none on the machine where guard runs.

{share}
"""
_HINT = "Type it as printed, or copy it from its file; letters may be small, spaces do not matter."
_suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Kit:
    """A new recovery kit: the public half that guard keeps, and the three shares that it must not."""

    public: bytes
    shares: tuple[str, str, str] = field(repr=False)

    @property
    def id(self) -> str:
        """The kit's id, 8 hex characters, which every share carries."""
        return kit_id(self.public)


@dataclass(frozen=True, slots=True)
class Share:
    """One printed share, read and checked."""

    kit: str
    number: int
    secret: bytes = field(repr=False)


def kit_id(public: bytes) -> str:
    """Return the id of the kit with this public key."""
    return sha256(public).hexdigest()[:8]


def new_kit() -> Kit:
    """Return a new kit. Its private key is not kept anywhere but in the shares."""
    secret = random.token(KEY_SIZE)
    public = public_of(secret)
    one, two, three = (
        printed(Share(kit_id(public), number, share))
        for number, share in zip(shares.NUMBERS, shares.split(secret), strict=True)
    )
    return Kit(public, (one, two, three))


def public_of(private: bytes) -> bytes:
    """Return the X25519 public key of a private one, 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def printed(share: Share) -> str:
    """Return a share as it is printed: kit, number, base32, and a check that finds a mistyped character."""
    text = f"{_PREFIX}:{share.kit}:{share.number}:{b32encode(share.secret).decode().rstrip('=')}"
    return f"{text}:{sha256(text.encode()).hexdigest()[:8]}"


def read_share(text: str) -> Share:
    """Return what a printed share says. Raises ConfigError when it was mistyped; the message does not repeat it."""
    found = _SHARE.fullmatch("".join(text.split()).lower())
    if found is None:
        raise ConfigError("this is not a recovery share", hint=_HINT)
    kit, number, body = found["kit"], int(found["number"]), found["body"].upper()
    share = Share(kit, number, b32decode(body + "===="))
    if printed(share).lower() != found[0]:
        raise ConfigError(f"recovery share {number} is mistyped: its check does not fit", hint=_HINT)
    return share


def combine(texts: Sequence[str]) -> bytes:
    """Return the kit's private key from two of its printed shares.

    Raises ConfigError when a share is mistyped, given twice, or of another kit than the other one.
    """
    read = [read_share(text) for text in texts]
    if len({share.kit for share in read}) > 1:
        kits = ", ".join(f"share {share.number} of kit {share.kit}" for share in read)
        raise ConfigError(f"these shares belong to different kits: {kits}")
    if len({share.number for share in read}) < 2:  # 2 of 3
        raise ConfigError("two different shares of the kit are needed", hint="each share carries its number, 1 to 3")
    first, second = ((share.number, share.secret) for share in read[:2])
    private = shares.join(first, second)
    if kit_id(public_of(private)) != read[0].kit:
        raise ConfigError("these shares do not belong together: their key is not the kit's")
    return private


def write_shares(kit: Kit, folder: Path) -> tuple[Path, ...]:
    """Write the three shares to three new files of mode 0600 in `folder`, and return them.

    Raises ConfigError when the folder is missing or cannot be written, InterlockError when one of the files exists.
    """
    paths = tuple(folder / f"guard-share-{kit.id}-{number}.txt" for number in shares.NUMBERS)
    for path, share in zip(paths, kit.shares, strict=True):
        files.write_new(path, _SHEET.format(kit=kit.id, share=share))
    return paths


def read_share_file(path: Path) -> str:
    """Return the share in a file, whatever text is around it. Raises ConfigError when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        lines = []
    found = [line.strip() for line in lines if line.strip().lower().startswith(f"{_PREFIX}:")]
    if len(found) != 1:
        raise ConfigError(f"{path} does not hold one recovery share")
    return found[0]


def seal_to(public: bytes, material: bytes, info: bytes) -> bytes:
    """Return a 32-byte key sealed to a kit's public key, bound to `info`."""
    return _SEALED + _suite.encrypt(material, X25519PublicKey.from_public_bytes(public), info)


def open_with(private: bytes, sealed: bytes, info: bytes) -> bytes:
    """Return the key that was sealed to this kit. Raises TamperedError when it does not open as what `info` says."""
    if not sealed.startswith(_SEALED) or len(sealed) != _LENGTH:
        raise TamperedError("this is not a recovery-sealed key")
    try:
        return _suite.decrypt(sealed[len(_SEALED) :], X25519PrivateKey.from_private_bytes(private), info)
    except (InvalidTag, ValueError):
        raise TamperedError("a recovery-sealed key does not open with this kit") from None


def belongs(private: bytes, public: bytes) -> None:
    """Raise DeniedError when the shares are of another kit than the one guard seals to."""
    if public_of(private) != public:
        raise DeniedError(
            f"these are shares of kit {kit_id(public_of(private))}; this store seals to kit {kit_id(public)}",
            hint="a newer kit replaced this one; find its shares",
        )
