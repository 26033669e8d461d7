"""An anchor in an S3 bucket with Object Lock: what lies there cannot be written over or deleted before its time.

The lock protects versions, not names. Of each name the first version counts; whoever puts a later one there, or a
delete marker, has tried to hide it, and that is told.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from typing import TYPE_CHECKING, Final

from guard import faults
from guard.audit.anchors import FIRST, NOTHING, Known
from guard.audit.walk import tampered
from guard.aws import NoObjectError, ObjectExistsError, talking_to
from guard.clock import Clock
from guard.config.span import Span
from guard.errors import InterlockError, TamperedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY: Final = re.compile(r"(?:([0-9a-f]{16})/)?([0-9]{20})\.checkpoint")
_HIDDEN: Final = "the first version still stands, and counts; find out who else may write to this bucket"


MOST: Final = 64 * 1024
"""Bytes of an object; a checkpoint has some hundreds."""


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of an object."""

    key: str
    id: str
    at: datetime
    size: int
    digest: str
    """ETag: MD5 of what guard puts there."""


@dataclass(frozen=True, slots=True)
class BucketAnchor:
    """Keeps each checkpoint as an object, named as in a folder, in compliance mode for `lock` from now on."""

    name: str
    client: S3Client = field(repr=False)
    bucket: str
    prefix: str
    """Ends with a slash, or is empty."""
    lock: Span
    clock: Clock

    weak = False
    witness = None

    @property
    def where(self) -> str:
        """The bucket and prefix."""
        return f"bucket {self.bucket}/{self.prefix}".rstrip("/")

    def create(self) -> None:
        """Look that the bucket locks: it has to be made with Object Lock, which guard does not do."""
        if wrong := self.check():
            raise InterlockError(f"{self._me}: {wrong[0]}", hint="runbooks/anchors.md")

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> None:  # noqa: ARG002  # read back
        """Put the checkpoint there, locked, on the condition that there is none of its name, and look at its lock.

        Raises TamperedError when there is another one, InterlockError when the bucket does not lock it.
        """
        key = self.prefix + (f"{size:020d}.checkpoint" if log == FIRST else f"{log}/{size:020d}.checkpoint")
        there = self._first(key)
        if there is None:
            there = self._put_new(key, note.encode())
        elif self._get(there) != note.encode():
            raise TamperedError(f"anchor {self.name} holds another checkpoint of size {size}")
        self._require_locked(there)

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:  # noqa: ARG002  # it is read itself
        """Return the note of the largest size of each log, in its first version.

        Raises TamperedError when a name has a later version or a delete marker, or an object is not what its name says.
        """
        last: dict[str, tuple[int, _Version]] = {}
        for version in self._versions(self.prefix):
            if found := _KEY.fullmatch(version.key.removeprefix(self.prefix)):
                log, size = found[1] or FIRST, int(found[2])
                last[log] = max(last.get(log, (size, version)), (size, version), key=lambda each: each[0])
        return {log: self._note(size, version) for log, (size, version) in last.items()}

    def time_of(self, note: str) -> None:
        """Nobody signs here."""

    def check(self, known: Known = NOTHING) -> Sequence[str]:  # noqa: ARG002  # as above
        """Look whether the bucket can be read and locks what is put there."""
        self.newest()
        return () if self._locks() else ("the bucket has no Object Lock",)

    @property
    def _me(self) -> str:
        return f"anchor {self.name} at {self.where}"

    def _locks(self) -> bool:
        try:
            with talking_to(self._me):
                found = self.client.get_object_lock_configuration(Bucket=self.bucket)
        except NoObjectError:
            return False
        return found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    def _put_new(self, key: str, data: bytes) -> _Version:
        """Put an object that is not there yet; return it, or what another process has put there meanwhile."""
        digest = md5(data, usedforsecurity=False).digest()  # S3 wants one with each locked object
        try:
            with talking_to(self._me):
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=data,
                    IfNoneMatch="*",
                    ContentMD5=b64encode(digest).decode(),
                    ContentType="text/plain; charset=utf-8",
                    ObjectLockMode="COMPLIANCE",
                    ObjectLockRetainUntilDate=self.lock.after(self.clock.now()),
                )
        except ObjectExistsError:
            pass  # by another process, or by this one: a request that is repeated may have landed
        except UnavailableError:
            if not self._locks():  # S3 says "invalid request" then
                raise self._unlocked() from None
            raise
        faults.point("audit.anchor.put")
        there = self._first(key)
        if there is None or self._get(there) != data:
            raise TamperedError(f"anchor {self.name} holds something else than what was put there as {key}")
        return there

    def _require_locked(self, version: _Version) -> None:
        with talking_to(self._me):
            head = self.client.head_object(Bucket=self.bucket, Key=version.key, VersionId=version.id)
        if head.get("ObjectLockMode") != "COMPLIANCE":
            raise self._unlocked()

    def _unlocked(self) -> InterlockError:
        hint = "make a bucket with Object Lock: runbooks/anchors.md"
        return InterlockError(f"{self._me} does not lock what is put there", hint=hint)

    def _first(self, key: str) -> _Version | None:
        return next((version for version in self._versions(key) if version.key == key), None)

    def _versions(self, prefix: str) -> Iterator[_Version]:
        """Yield the first version of each name below `prefix`. Raises TamperedError where it is not the only one."""
        found: dict[str, list[_Version]] = {}
        for version in self._listed(prefix):
            found.setdefault(version.key, []).insert(0, version)  # they come newest first
        for key, versions in found.items():
            first, *later = sorted(versions, key=lambda version: version.at)  # whole seconds: the order counts as well
            for version in later:
                if version.digest != first.digest:  # the same bytes once more hide nothing
                    raise self._hidden(key, "written again", version.at)
            yield first

    def _listed(self, prefix: str) -> Iterator[_Version]:
        """Yield all versions of what is named as a checkpoint. Raises TamperedError for a delete marker among them."""
        with talking_to(self._me):
            for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
                for marker in page.get("DeleteMarkers", ()):
                    if self._is_ours(marker["Key"]):
                        raise self._hidden(marker["Key"], "deleted", marker["LastModified"])
                for each in page.get("Versions", ()):
                    if self._is_ours(each["Key"]):
                        yield _Version(each["Key"], each["VersionId"], each["LastModified"], each["Size"], each["ETag"])

    def _is_ours(self, key: str) -> bool:
        """Tell whether a key is named as a checkpoint; the bucket may hold other things, and be changed there."""
        return _KEY.fullmatch(key.removeprefix(self.prefix)) is not None

    def _hidden(self, key: str, what: str, at: datetime) -> TamperedError:
        found = tampered(f"{self._me}: {key} was {what} at {at:%Y-%m-%d %H:%M:%S} UTC")
        found.hint = _HIDDEN
        return found

    def _get(self, version: _Version) -> bytes:
        if version.size > MOST:
            raise TamperedError(f"anchor {self.name} holds something else than a checkpoint as {version.key}")
        with talking_to(self._me):
            found = self.client.get_object(Bucket=self.bucket, Key=version.key, VersionId=version.id)
            return found["Body"].read()

    def _note(self, size: int, version: _Version) -> str:
        try:
            note = self._get(version).decode()
        except UnicodeDecodeError:
            note = ""
        if note.split("\n")[1:2] != [str(size)]:
            raise TamperedError(f"anchor {self.name} holds an object that is not the checkpoint its name says")
        return note
