"""Which snapshots still hold the shop, and until when."""

from datetime import UTC, datetime, timedelta

import pytest

from guard.backup import older
from guard.backup.results import Listed, Several
from guard.backup.snapshot import SnapshotId
from guard.config.backup import BackupPolicy, Keep
from guard.errors import UnavailableError
from guard.shop.remains import Kind

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def listed(name: str, days: int, *sources: str) -> Listed:
    return Listed("near", SnapshotId(name), NOW - timedelta(days=days), "whole", 1, 1, 1, sources, ())


def test_only_snapshots_that_hold_the_shop_and_are_older_count() -> None:
    found = Several(
        {"near": (listed("a", 3, "shop", "state"), listed("b", 2, "state"), listed("c", -1, "shop"))},
        {"far": UnavailableError("the bucket does not answer")},
    )
    copy, silent = older.copies(found, BackupPolicy(), NOW)
    assert (copy.kind, copy.place) == (Kind.BACKUP, "near: snapshot a of 2026-02-26 00:00 UTC")
    assert copy.until == NOW + timedelta(days=27)
    assert silent.unseen
    assert silent.place == "backups: store far: the bucket does not answer"


@pytest.mark.parametrize(
    ("keep", "days"),
    [(Keep(daily=7), 7), (Keep(daily=7, weekly=4), 28), (Keep(daily=30, weekly=4, monthly=6), 186)],
)
def test_the_longest_rule_counts(keep: Keep, days: int) -> None:
    assert older.until(NOW, BackupPolicy(keep=keep)) == NOW + timedelta(days=days)
