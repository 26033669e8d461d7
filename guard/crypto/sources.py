"""The roots that guard.toml may name, and how each is had: read, asked for, or reached in AWS KMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from guard.crypto import roots
from guard.crypto.kek import Kms, KmsRoot, LocalRoot, Root, UnderRoot, wrong_root
from guard.crypto.roots import Argon2Params, AwayError
from guard.errors import ConfigError

Ask = Callable[[str], str]
"""Asks a person for a secret; the text is the question."""

SHORTEST = 12
"""Characters of a new passphrase: below it a thief of state guesses it. NIST SP 800-63B-4 asks for 15 where it is alone
and 8 beside another factor; here each guess costs Argon2id besides."""

Found = tuple[Root, UnderRoot]


class Source(Protocol):
    """A root that guard.toml names. Real ones: key file, systemd credential, passphrase, AWS KMS."""

    @property
    def name(self) -> str:
        """Its place in guard.toml: "root" or "root.second"."""
        ...

    @property
    def what(self) -> str:
        """What it is, for a person."""
        ...

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
        """Return the root and what it wrapped; None when it wrapped none of `stored`.

        Raises AwayError when it is not at hand, UnavailableError, DeniedError or ConfigError when it cannot be had.
        """
        ...

    def make(self) -> Root:
        """Return the root for a KEK that it never wrapped; a key file that is not there is made."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A root key in a file."""

    name: str
    path: Path

    @property
    def what(self) -> str:
        """The file."""
        return f"key file {self.path}"

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
        """Return the root of the file."""
        return _local(LocalRoot(roots.read_file(self.path)), store_id, stored)

    def make(self) -> Root:
        """Return the root of the file, which is made when it is not there."""
        there = self.path.exists()
        return LocalRoot(roots.read_file(self.path) if there else roots.new_file(self.path))


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """A root key that systemd gives to the service."""

    name: str
    credential: str

    @property
    def what(self) -> str:
        """The credential."""
        return f"systemd credential {self.credential}"

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
        """Return the root of the credential."""
        return _local(self.make(), store_id, stored)

    def make(self) -> LocalRoot:
        """Return the root of the credential."""
        return LocalRoot(roots.read_credential(self.credential), "credential")


@dataclass(frozen=True, slots=True)
class PassphraseSource:
    """A root key from a passphrase: one that a person types, or that guard.toml says where to find."""

    name: str
    ask: Callable[[], Ask | None]
    """Returns who can be asked now; None where nobody can type."""
    written: Callable[[], str] | None = None
    what: str = "passphrase"
    _derived: dict[bytes, LocalRoot] = field(default_factory=dict, repr=False)
    """By salt: nobody is asked twice in one process."""

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
        """Return the root of the passphrase. Raises DeniedError for a wrong one."""
        for under in stored:
            if under.origin.argon2 is not None:
                found = _local(self._derive(under.origin.argon2), store_id, [under])
                if found is None:
                    raise wrong_root("this passphrase's root key does not open the KEK")
                return found
        return None

    def make(self) -> LocalRoot:
        """Return the root of a new passphrase, typed twice or found where guard.toml says."""
        text = self.written() if self.written else self._new(self._asking())
        if len(text) < SHORTEST:
            raise ConfigError(f"the passphrase has fewer than {SHORTEST} characters")
        params = Argon2Params()
        root = self._derived[params.salt] = LocalRoot(roots.from_passphrase(text, params), "passphrase", params)
        return root

    def _derive(self, params: Argon2Params) -> LocalRoot:
        if params.salt not in self._derived:
            text = self.written() if self.written else self._asking()("Passphrase")
            self._derived[params.salt] = LocalRoot(roots.from_passphrase(text, params), "passphrase", params)
        return self._derived[params.salt]

    def _new(self, ask: Ask) -> str:
        first = ask(f"New passphrase (at least {SHORTEST} characters)")
        if ask("Once more") != first:
            raise ConfigError("the two passphrases differ")
        return first

    def _asking(self) -> Ask:
        if (ask := self.ask()) is None:
            raise AwayError(
                "no terminal to ask for the passphrase",
                hint="run it on a terminal, or set root.passphrase = {file = } or {credential = } in guard.toml",
            )
        return ask


@dataclass(frozen=True, slots=True)
class KmsSource:
    """A root key in AWS KMS."""

    name: str
    kms: Callable[[], Kms]
    what: str

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:  # noqa: ARG002  # the seam's signature
        """Return the root; KMS is not called yet."""
        root = self.make()
        return next(((root, under) for under in stored if root.wraps(under.origin)), None)

    def make(self) -> KmsRoot:
        """Return the root."""
        return KmsRoot(self.kms())


@dataclass(frozen=True, slots=True)
class GivenSource:
    """A root key that the caller holds."""

    root: LocalRoot
    name: str = "root"
    what: str = "root key"

    def find(self, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
        """Return the root."""
        return _local(self.root, store_id, stored)

    def make(self) -> Root:
        """Return the root."""
        return self.root


def _local(root: LocalRoot, store_id: UUID, stored: Sequence[UnderRoot]) -> Found | None:
    return next(((root, under) for under in stored if root.wraps(store_id, under.origin)), None)
