"""A mirror of the vault in AWS KMS: one key for each epoch, deleted with it. docs/FORMATS.md, section 3.

What the key encrypted lies in its own description, so that the mirror is whole without state. Deletion takes effect at
the end of KMS's window of 7 days or more; until then an administrator of the account can call it off, which is seen.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime, timedelta
from typing import Final, Protocol

from guard.clock import Clock
from guard.errors import TamperedError, UnavailableError

_ALIAS: Final = "alias/guard/"
_CONTEXT: Final = "guard:object"
_WAITS: Final = (0, 1, 2, 4, 8)
"""Seconds between looks for what was just written: KMS is eventually consistent, by its documentation for seconds."""


class Cipher(Protocol):
    """One key. Real one: `guard.aws.KmsKey`."""

    def encrypt(self, plain: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        """Return (ciphertext, ARN of the key)."""
        ...

    def decrypt(self, sealed: bytes, context: dict[str, str]) -> bytes:
        """Return the plaintext. Raises TamperedError when it was not sealed by this key for this context."""
        ...


class Keys(Protocol):
    """The keys of an account by alias or ARN, each with an owner and a text beside it.

    Real one: `guard.aws_keys.KmsKeys`.
    """

    @property
    def where(self) -> str:
        """What a person calls this place."""
        ...

    def at(self, key: str) -> Cipher:
        """Return a key."""
        ...

    def make(self, alias: str, owner: str) -> str:
        """Make a key for `owner`, give it a free alias, and return its ARN."""
        ...

    def point(self, alias: str, arn: str) -> None:
        """Give a key a free alias."""
        ...

    def look(self, key: str, owner: str) -> tuple[str, str, datetime | None] | None:
        """Return (ARN, text, when it will be deleted); None when there is no key. Raises for somebody else's key."""
        ...

    def set_text(self, arn: str, text: str) -> None:
        """Put a text beside a key."""
        ...

    def delete(self, arn: str, window: timedelta) -> datetime:
        """Have a key deleted after `window`; return when."""
        ...

    def aliases(self, prefix: str) -> frozenset[str]:
        """Return the aliases with `prefix`."""
        ...


class KmsMirror:
    """Objects, each encrypted by a KMS key of its own. `window`: from deletion to its end, 7 to 30 days.

    A key is found by the ARN that state knows; by its alias only before there is one, or by a state that was restored.
    An alias is a name whoever may change it can point elsewhere: no key is touched that is not tagged with the object.
    """

    def __init__(self, name: str, keys: Keys, window: timedelta, clock: Clock) -> None:
        self._name = name
        self._keys = keys
        self.delay = window
        self._clock = clock

    @property
    def name(self) -> str:
        """Its name in guard.toml."""
        return self._name

    @property
    def where(self) -> str:
        """The region."""
        return self._keys.where

    @property
    def place(self) -> str:
        """The region; the account is in each key's ARN."""
        return self._keys.where

    def check(self) -> None:
        """Look whether KMS answers."""
        self._keys.aliases(f"{_ALIAS}look")

    def put(self, name: str, data: bytes, arn: str | None = None) -> str:
        """Make a key for the object, and keep what it encrypts; return the key's ARN.

        Raises TamperedError when it keeps another object, or the alias leads to a key that is not guard's.
        """
        alias = _ALIAS + name
        held = self._keys.look(arn or alias, name)
        if (there := self.get(name, arn)) is not None and held is not None:
            if there != data:
                raise TamperedError(f"{alias} in {self.where} keeps another object already")
            if self._keys.look(alias, name) is None:
                self._keys.point(alias, held[0])
            return held[0]
        arn = held[0] if held else self._keys.make(alias, name)
        sealed, _ = self._keys.at(arn).encrypt(data, {_CONTEXT: name})
        text = b64encode(sealed).decode()
        self._keys.set_text(arn, text)
        for seconds in _WAITS:
            self._clock.sleep(timedelta(seconds=seconds))
            if (seen := self._keys.look(arn, name)) and seen[1] == text:
                return arn
        raise UnavailableError(f"{self.where} does not give back yet what it was told", hint="try again in a minute")

    def get(self, name: str, arn: str | None = None) -> bytes | None:
        """Return an object; None when there is none, or its key is pending deletion."""
        held = self._keys.look(arn or _ALIAS + name, name)
        if held is None or held[2] is not None or not held[1]:  # no text: an interrupted `put`, nothing is kept
            return None
        try:
            sealed = b64decode(held[1], validate=True)
        except ValueError:
            raise TamperedError(f"{_ALIAS}{name} in {self.where} has a description guard did not write") from None
        return self._keys.at(held[0]).decrypt(sealed, {_CONTEXT: name})

    def names(self, prefix: str) -> frozenset[str]:
        """Return the names of the objects below `prefix`. Raises TamperedError for one that leads to another key."""
        names = [alias.removeprefix(_ALIAS) for alias in self._keys.aliases(_ALIAS + prefix)]
        found = {name: self._keys.look(_ALIAS + name, name) for name in names}
        return frozenset(name for name, held in found.items() if held is not None and held[2] is None)

    def delete(self, name: str, arn: str | None = None) -> datetime | None:
        """Schedule the deletion of the object's key, and return when it takes effect.

        None when its account says that there is no such key, or, without `arn`, no alias: then none was ever used.
        """
        held = self._keys.look(arn or _ALIAS + name, name)
        return held and (held[2] or self._keys.delete(held[0], self.delay))
