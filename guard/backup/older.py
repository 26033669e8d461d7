"""Which snapshots still hold the shop as it was, and until when retention keeps them. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from guard.backup.results import Listed, Several
from guard.backup.sources.choose import SHOP
from guard.config.backup import BackupPolicy
from guard.shop.remains import Kind, Remains

_HOW = (
    "retention keeps it until then if one is made and pruned each day, policies/backup.toml says how long; sealed packs"
    " that newer snapshots use too stay longer"
)


def copies(found: Several[tuple[Listed, ...]], policy: BackupPolicy, now: datetime) -> tuple[Remains, ...]:
    """Return the snapshots made up to `now` that hold the shop's database; a store that did not answer is named too."""
    listed = [each for several in found.done.values() for each in several if SHOP in each.sources and each.at <= now]
    return (*(_copy(each, policy) for each in listed), *map(silent, found.problems))


def last(found: Several[tuple[Listed, ...]]) -> datetime | None:
    """Return when the newest snapshot was begun that covers the shop's database; None without one."""
    listed = (each for several in found.done.values() for each in several)
    return max((each.at for each in listed if SHOP in each.sources and each.state != "late"), default=None)


def silent(why: str) -> Remains:
    """Return what is to be said of stores that could not be looked at."""
    return Remains(Kind.UNSEEN, f"backups: {why}", None, "guard backup list, once it answers")


def until(at: datetime, policy: BackupPolicy) -> datetime:
    """Return until when retention keeps a snapshot of `at` at the longest, if a backup is made and pruned each day."""
    keep = policy.keep
    return at + max(timedelta(days=keep.daily), timedelta(weeks=keep.weekly), timedelta(days=31 * keep.monthly))


def _copy(each: Listed, policy: BackupPolicy) -> Remains:
    place = f"{each.store}: snapshot {each.id} of {each.at:%Y-%m-%d %H:%M} UTC"
    return Remains(Kind.BACKUP, place, until(each.at, policy), _HOW)
