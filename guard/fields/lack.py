"""What has to exist before anything may be sealed: where it is missing, sealed data could be lost for good. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.errors import InterlockError


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing, and the command or deed that makes it."""

    what: str
    remedy: str
    by_backup: bool = False
    """Whether a backup of guard's state mends it: sealing makes one before its first value."""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def require_none(missing: Sequence[Lack | str]) -> None:
    """Raise InterlockError naming everything that is missing."""
    if missing:
        raise InterlockError(
            "\n".join(f"missing: {each}" for each in missing),
            hint="sealed data without a way back is lost data; make what is missing, then run this again",
        )
