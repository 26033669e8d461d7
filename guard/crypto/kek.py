"""The KEK under its roots: a key on this machine or in a person's head, or a key that never leaves AWS KMS. FORMATS 3.

One KEK may lie under two roots, so that losing one of them loses nothing. A root is known again by what state remembers
of it, and is the only one that is tried on what it wrapped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Protocol
from uuid import UUID

from guard.crypto import wrap
from guard.crypto.roots import Argon2Params
from guard.crypto.wrap import KEY_SIZE, MAGIC, ROOT_ID, Key
from guard.errors import DeniedError, TamperedError

_BY_KMS = MAGIC + b"\x03"
_LONGEST = 6144
"""Bytes of a KMS ciphertext: the most that `Decrypt` takes. Source: AWS KMS API reference."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What state remembers of a root; it opens nothing."""

    kind: str = "file"
    """ "file", "credential", "passphrase" or "kms"."""
    mark: bytes | None = None
    """Names a local root key (`wrap.mark`); None for KMS."""
    argon2: Argon2Params | None = None
    """How a passphrase becomes the root key; None for the others."""
    kms_key: str | None = None
    """The KMS key as guard.toml named it when the KEK was wrapped."""
    kms_arn: str | None = None
    """The ARN that KMS answered with; an alias may point elsewhere one day."""


@dataclass(frozen=True, slots=True)
class UnderRoot:
    """The KEK as one root wrapped it."""

    origin: Origin
    wrapped: bytes


class Root(Protocol):
    """What wraps the KEK. Real ones: `LocalRoot`, `KmsRoot`."""

    def wrap(self, store_id: UUID, kek: Key) -> UnderRoot:
        """Return the KEK wrapped. Raises UnavailableError when the root does not answer."""
        ...

    def unwrap(self, store_id: UUID, wrapped: bytes, sheet: Key) -> Key:
        """Return the KEK that `sheet` names.

        Raises TamperedError or DeniedError when it does not open, UnavailableError when the root does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """A root key that guard holds in memory: of a key file, a systemd credential or a passphrase."""

    material: bytes = field(repr=False)
    kind: str = "file"
    argon2: Argon2Params | None = None

    def __post_init__(self) -> None:
        if len(self.material) != KEY_SIZE:
            raise ValueError(f"a root key has {KEY_SIZE} bytes, not {len(self.material)}")

    def wrap(self, store_id: UUID, kek: Key) -> UnderRoot:
        """Return the KEK wrapped as every other key is, its parent being key 0."""
        origin = Origin(self.kind, wrap.mark(store_id, self.material), self.argon2)
        return UnderRoot(origin, wrap.wrap(store_id, kek, self._key()))

    def unwrap(self, store_id: UUID, wrapped: bytes, sheet: Key) -> Key:
        """Return the KEK. Raises TamperedError when it does not open."""
        return wrap.unwrap(store_id, wrapped, sheet, self._key())

    def wraps(self, store_id: UUID, origin: Origin) -> bool:
        """Tell whether it is the root that `origin` remembers."""
        return origin.mark is not None and compare_digest(origin.mark, wrap.mark(store_id, self.material))

    def _key(self) -> Key:
        return Key(ROOT_ID, "root", 0, self.material)


class Kms(Protocol):
    """A symmetric key of AWS KMS. Real one: `guard.aws.KmsKey`."""

    @property
    def key(self) -> str:
        """Its ARN, id or alias, as guard.toml has it."""
        ...

    def encrypt(self, plain: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        """Return (ciphertext, ARN of the key). Raises UnavailableError, DeniedError or ConfigError."""
        ...

    def decrypt(self, sealed: bytes, context: dict[str, str]) -> bytes:
        """Return the plaintext. Raises TamperedError too, when it was not sealed by this key for this context."""
        ...


@dataclass(frozen=True, slots=True)
class KmsRoot:
    """A root key that stays in AWS KMS: the KEK goes there and comes back, bound to store, id, purpose and version."""

    kms: Kms

    def wrap(self, store_id: UUID, kek: Key) -> UnderRoot:
        """Return the KEK as KMS encrypted it."""
        sealed, arn = self.kms.encrypt(kek.material, context(store_id, kek))
        return UnderRoot(Origin("kms", kms_key=self.kms.key, kms_arn=arn), _BY_KMS + sealed)

    def unwrap(self, store_id: UUID, wrapped: bytes, sheet: Key) -> Key:
        """Return the KEK that KMS decrypted."""
        if not wrapped.startswith(_BY_KMS) or not len(_BY_KMS) < len(wrapped) <= len(_BY_KMS) + _LONGEST:
            raise TamperedError(f"key {sheet.id:010x} ({sheet.purpose}) is not a key wrapped by KMS")
        material = self.kms.decrypt(wrapped[len(_BY_KMS) :], context(store_id, sheet))
        if len(material) != KEY_SIZE:
            raise TamperedError(f"what KMS opens as key {sheet.id:010x} ({sheet.purpose}) is not a key")
        return Key(sheet.id, sheet.purpose, sheet.version, material)

    def wraps(self, origin: Origin) -> bool:
        """Tell whether it is the root that `origin` remembers: by the name in guard.toml, or by its own."""
        arn, name = origin.kms_arn or "", self.kms.key
        return origin.kind == "kms" and (name in (origin.kms_key, arn) or arn.endswith(f":key/{name}"))


def context(store_id: UUID, key: Key) -> dict[str, str]:
    """Return the encryption context: KMS refuses to decrypt under another one, and writes it to CloudTrail."""
    return {
        "guard:store": str(store_id),
        "guard:key": f"{key.id:010x}",
        "guard:purpose": key.purpose,
        "guard:version": str(key.version),
    }


def wrong_root(text: str = "this root key does not open the KEK") -> DeniedError:
    """Return the error for a root that is at hand, but is none of this store's."""
    return DeniedError(
        text, hint="give the key file or passphrase of this store; without it, use `guard keys recovery use`"
    )
