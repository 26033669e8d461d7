"""One column as its sealed values see it: what binds them, which key, and the digest of a value in its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from guard.canon import parts
from guard.config import Column
from guard.crypto.envelope import Binding, Opener, Place, Sealer, from_text, to_text
from guard.crypto.keyring import Key, Keyring
from guard.errors import ConfigError, TamperedError

PREFIX = "g1."
"""What every sealed text begins with."""

MODULUS = 1 << 256
_DOMAIN = "fields/value"


def purpose(column_id: int) -> str:
    """Return the keyring's purpose for a column's key."""
    return f"column/{column_id}"


@dataclass(frozen=True, slots=True)
class Cell:
    """Seals and opens the texts of one column, each in its row. Values are texts as the shop stores them."""

    column: Column
    sealer: Sealer
    opener: Opener
    take_digest: Callable[[str, bytes], str]

    @classmethod
    def of(cls, column: Column, store_id: UUID, keyring: Keyring) -> Cell:
        """Return the cell of a column whose key exists. Raises ConfigError for a binding that is not built."""
        if column.bind == "subject":
            raise ConfigError(
                f'{column.at}: bind = "subject" needs the vault of epoch keys, which this guard does not have',
                hint='use bind = "row"',
            )
        if not column.id:
            raise ConfigError(f"{column.at} has no id yet", hint="accept the catalog first: guard data accept")
        place = Place(store_id, column.id, Binding[column.bind.upper()])
        name = purpose(column.id)

        def key_of(key_id: int) -> Key:
            key = keyring.by_id(key_id)
            if key.purpose != name:
                raise LookupError(key_id)
            return key

        return cls(column, Sealer(place, keyring.current(name)), Opener(place, key_of), keyring.digest)

    def seal(self, row: bytes, text: str) -> str:
        """Return `text` as the shop stores it, sealed for the row whose canonical key is `row`."""
        return to_text(self.sealer.seal(text, self._bound(row)))

    def open(self, row: bytes, stored: str) -> str:
        """Return the text that was sealed for the row whose canonical key is `row`.

        Raises TamperedError, naming the column, when it was changed, moved from another row or column, or cut.
        """
        try:
            found = self.opener.open(from_text(stored), self._bound(row))
        except TamperedError as error:
            raise TamperedError(f"{self.column.at}: {error}", hint=_HINT) from None
        if not isinstance(found, str):
            raise TamperedError(f"{self.column.at}: a sealed value holds a {type(found).__name__}, not a text")
        return found

    def digest(self, row: bytes, text: str) -> int:
        """Return the keyed digest of `text` in a row, a number below 2^256 that adds up over rows. FORMATS 7."""
        return int(self.take_digest(_DOMAIN, parts(self.column.id.to_bytes(4, "big"), row, text.encode())), 16)

    def _bound(self, row: bytes) -> bytes:
        return b"" if self.column.bind == "column" else row


_HINT = "compare the row with a backup: guard backup restore --help"
