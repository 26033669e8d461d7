"""The shape of `policies/backup.toml`: how long backups are kept."""

from datetime import timedelta
from typing import Annotated

import msgspec

from guard.config.span import Span

Count = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days, weeks and months keep a snapshot: the last one of each. Days are UTC, weeks begin on Monday."""

    daily: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 30
    weekly: Count = 0
    monthly: Count = 0


class BackupPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `policies/backup.toml`."""

    keep: Keep = Keep()
    grace: Span = Span(rest=timedelta(days=7))
    """Written into a repository when it is made, and fixed from then on."""

    def __post_init__(self) -> None:
        if self.grace.months or self.grace.rest < timedelta(hours=1):
            raise ValueError("grace is counted in weeks, days and hours, and is at least 1 hour")
