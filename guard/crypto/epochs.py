"""An epoch's key as a mirror of the vault holds it. docs/FORMATS.md, section 3. Knows no mirror and no table."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from guard.crypto import wrap
from guard.crypto.keyring import Keyring
from guard.crypto.vault_store import Epoch
from guard.crypto.wrap import MAGIC, Key
from guard.errors import TamperedError

_MAGIC: Final = MAGIC + b"\x04"
_HEAD: Final = struct.Struct(">4s5s5sI7s")
_WRAPPED: Final = 64
_COMMITMENT: Final = 32


def month(at: datetime) -> str:
    """Return the name of the epoch that a time lies in: its month in UTC."""
    return f"{at.astimezone(UTC):%Y-%m}"


def ends(name: str) -> datetime:
    """Return when the month of an epoch is over. Raises ValueError for a name that is no month."""
    begins = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return begins.replace(year=begins.year + begins.month // 12, month=begins.month % 12 + 1)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one store: their names, and how they are written and opened."""

    store_id: UUID
    keyring: Keyring

    @property
    def prefix(self) -> str:
        """What the names of this store's objects begin with; stores may share a place."""
        return f"epochs/{self.store_id.hex}/"

    def name(self, epoch: Epoch) -> str:
        """Return the name of an epoch's object."""
        return f"{self.prefix}{epoch.name}-{epoch.id:010x}"

    def write(self, epoch: Epoch, key: Key, parent: Key) -> bytes:
        """Return the object of an epoch: its key, wrapped under `parent`."""
        return _head(epoch) + wrap.wrap(self.store_id, key, parent) + epoch.commitment

    def open(self, epoch: Epoch, data: bytes | None, where: str) -> Key:
        """Return the key in an object. Raises TamperedError when it is not the one that state committed to."""
        if data is None or data[: _HEAD.size] != _head(epoch) or len(data) != _HEAD.size + _WRAPPED + _COMMITMENT:
            raise TamperedError(
                f"the vault's mirror {where} does not hold the key of epoch {epoch.name} where it should",
                hint="guard doctor looks at each mirror; take the object away, and `guard run epoch` copies another's",
            )
        sheet = Key(epoch.id, epoch.purpose, epoch.version, b"")
        wrapped = data[_HEAD.size : _HEAD.size + _WRAPPED]
        key = wrap.unwrap(self.store_id, wrapped, sheet, self.keyring.by_id(epoch.parent))
        wrap.check(self.store_id, key, data[-_COMMITMENT:])
        return wrap.check(self.store_id, key, epoch.commitment)

    def read(self, name: str, data: bytes | None, where: str, now: datetime) -> Epoch:
        """Return the epoch of an object that state does not know. Raises TamperedError when guard did not write it."""
        try:
            _, key_id, parent, version, month_ = _HEAD.unpack((data or b"")[: _HEAD.size])
            key, above = int.from_bytes(key_id, "big"), int.from_bytes(parent, "big")
            epoch = Epoch(key, month_.decode("ascii"), version, above, (data or b"")[-_COMMITMENT:], now)
            ends(epoch.name)
            self.open(epoch, data, where)
            if self.name(epoch) == name:
                return epoch
        except (struct.error, ValueError, TamperedError):
            pass
        raise TamperedError(
            f"the vault's mirror {where} holds {name}, which guard did not write", hint="find out who did; take it away"
        )


def _head(epoch: Epoch) -> bytes:
    key, parent = (number.to_bytes(5, "big") for number in (epoch.id, epoch.parent))
    return _HEAD.pack(_MAGIC, key, parent, epoch.version, epoch.name.encode())
