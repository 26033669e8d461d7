"""What may become of a key: which can be rotated, and which step follows which. Pure: values in, errors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from guard.crypto.store import Life, Row
from guard.errors import InterlockError

KEK = "kek"

ROTATED = ("column/", "index/", "totp", "ledger", "repository")
"""The purposes whose keys `rotate` makes new versions of: what the old one sealed or signed names it, or says where."""

_FIXED: Mapping[str, str] = {
    KEK: "`guard keys rewrap` makes a new one and wraps every key under it",
    "digest": "its digests stand in the ledger and guard rows of state; they cannot all be made again",
    "pseudonym": "a person's stand-in has to stay the same",
    "service": "nothing is sealed under it before the agent gives out credentials",
    "vault": "it only wraps the keys of epochs, of which every month has a new one",
}


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key.

    `state` is "current" for the version that seals, "old" for those that only open, "waiting" for one that no backup of
    state holds yet, "retired" for those that do not open any more, "destroyed" for those that are gone.
    """

    id: int
    purpose: str
    version: int
    made_at: datetime
    state: str
    recoverable: bool
    """Whether it is sealed to the recovery kit."""
    changed_at: datetime
    """Since when it is in this state."""

    @property
    def opens(self) -> bool:
        """Whether values that name it can be read: under one that waits too, where state came back from the backup that
        was made for it.
        """
        return self.state in {"current", "old", "waiting"}


def info(row: Row, sealing: int | None) -> KeyInfo:
    """Return what may be shown of a key; `sealing`: the id of its purpose's version that seals."""
    is_current = row.life is Life.ACTIVE and row.sheet.id == sealing
    state = "current" if is_current else "old" if row.life is Life.ACTIVE else row.life.value
    since = row.changed_at or row.made_at
    sheet = row.sheet
    return KeyInfo(sheet.id, sheet.purpose, sheet.version, row.made_at, state, row.recovery is not None, since)


def infos(rows: Sequence[Row]) -> tuple[KeyInfo, ...]:
    """Return what may be shown of all keys of a store."""
    by_version = sorted(rows, key=lambda row: row.sheet.version)
    newest = {row.sheet.purpose: row.sheet.id for row in by_version if row.life is not Life.WAITING}
    return tuple(info(row, newest.get(row.sheet.purpose)) for row in rows)


def require_rotated(purpose: str) -> None:
    """Raise InterlockError, saying why, for a purpose that has no next version."""
    if purpose.startswith(ROTATED):
        return
    why = _FIXED.get(purpose, "this guard knows no other version of it")
    raise InterlockError(f"the {purpose} key is not rotated: {why}")


def require_step(key: KeyInfo, to: Life) -> None:
    """Raise InterlockError when a key in this state may not be brought `to` the next one."""
    name = f"key {key.id:010x} ({key.purpose})"
    allowed = _STEPS[to]
    if key.purpose == KEK:
        raise InterlockError(f"{name} opens every other key", hint="guard keys rewrap makes a new one")
    if key.state in allowed:
        return
    hint = {
        "current": "guard keys rotate makes a new version first",
        "waiting": "guard keys rotate goes on with it",
        "old": "guard keys retire first",
        "retired": "guard keys retire --undo lets it open again",
        "destroyed": None,
    }[key.state]
    raise InterlockError(f"{name} is {key.state}, not {' or '.join(allowed)}", hint=hint)


def require_retired(key: KeyInfo) -> None:
    """Raise InterlockError when a key is not retired, and so cannot be called back."""
    if key.state != "retired":
        raise InterlockError(f"key {key.id:010x} ({key.purpose}) is {key.state}, not retired")


def require_unused(key: KeyInfo, uses: Sequence[str]) -> None:
    """Raise InterlockError naming what still needs a key."""
    if uses:
        hint = "guard fields encrypt moves what is left to the newest version"
        raise InterlockError(
            f"key {key.id:010x} ({key.purpose}) is still needed: {'; '.join(uses)}",
            hint=hint if key.purpose.startswith("column/") else None,
        )


_STEPS: Mapping[Life, tuple[str, ...]] = {
    Life.ACTIVE: ("waiting",),
    Life.RETIRED: ("old",),
    Life.DESTROYED: ("retired",),
}
