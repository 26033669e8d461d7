"""How each column that is to be sealed stands right now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ColumnStatus:
    """One column: its state, and what lies in it now.

    `trouble` says why it could not be looked at, or what stands on it that could spoil it.
    """

    at: str
    id: int
    state: str
    """plain, indexing (being prepared), sealing, sealed, strict (finished), opening (being decrypted)."""
    rows: int | None
    sealed: int | None
    plain: int | None
    nulls: int | None
    key: str | None
    """The id of the key that seals it, 10 hex digits."""
    verified_at: datetime | None
    trouble: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing of it lies there in plain text, and nothing is in the way of that."""
        return self.state in {"sealed", "strict"} and self.plain == 0 and self.trouble is None
