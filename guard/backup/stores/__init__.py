"""Places for a repository: a folder or an S3 bucket. A store knows names and bytes, nothing of what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from guard.errors import TamperedError


class MissingError(TamperedError):
    """An object that should be in the store is not there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a store: its name, its size in bytes, and when it was written, by the store's clock."""

    name: str
    size: int
    at: datetime


class Store(Protocol):
    """Objects by name, written once. All methods raise UnavailableError or DeniedError when the store fails."""

    @property
    def where(self) -> str:
        """What a person calls this place; holds no secret."""
        ...

    def now(self) -> datetime:
        """Return the store's time, aware, in UTC."""
        ...

    def put_if_absent(self, name: str, data: bytes | bytearray) -> bool:
        """Write an object whole and durably. False, and nothing changed, when there is another one of this name."""
        ...

    def get(self, name: str) -> bytes:
        """Return an object. Raises MissingError when there is none."""
        ...

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start`; fewer where the object ends. Raises MissingError."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with `prefix`, in the order of their names."""
        ...

    def size(self, name: str) -> int | None:
        """Return an object's size in bytes; None when there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; it is no error when there is none."""
        ...
