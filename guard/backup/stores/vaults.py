"""Open the mirrors of the vault that guard.toml names. Backups never go there, nor are they taken of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from guard.clock import Clock
from guard.config import Secret, VaultSettings
from guard.crypto.mirrors import BucketMirror, FolderMirror, Mirror


@dataclass(frozen=True, slots=True)
class Around:
    """What mirrors are opened with. `copied`: folders that backups cover, or that hold state."""

    home: Path
    clock: Clock
    reveal: Callable[[Secret], str]
    copied: Sequence[Path]


def open_mirror(settings: VaultSettings, around: Around) -> Mirror:
    """Return a mirror; nothing is asked yet. Raises ConfigError for settings that cannot be."""
    match settings.kind:
        case "folder":
            return FolderMirror(settings.name, around.home / (settings.path or ""), around.copied)
        case "s3":
            return _bucket(settings, around)
        case "kms":
            return _kms(settings, around)


def _bucket(settings: VaultSettings, around: Around) -> Mirror:
    from guard.aws import Access, s3_client, versions_of  # noqa: PLC0415  # boto3 is loaded by shops that have a bucket
    from guard.backup.stores.s3 import S3Store  # noqa: PLC0415

    client, bucket = s3_client(Access.of(settings, around.reveal)), settings.bucket or ""
    store = S3Store(client, bucket, settings.prefix)
    return BucketMirror(settings.name, store, partial(versions_of, client, bucket, store.where))


def _kms(settings: VaultSettings, around: Around) -> Mirror:
    from guard.aws import Access  # noqa: PLC0415  # boto3 is loaded by shops that have a bucket or KMS
    from guard.aws_keys import kms_keys  # noqa: PLC0415  # boto3 is loaded by shops that have a bucket or KMS
    from guard.crypto.kms_mirror import KmsMirror  # noqa: PLC0415

    keys = kms_keys(Access.of(settings, around.reveal))
    return KmsMirror(settings.name, keys, timedelta(days=settings.window), around.clock)
