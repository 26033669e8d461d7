"""A store in an S3 bucket, or any server that speaks S3 and honours `If-None-Match`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from guard.aws import Access, BeyondEndError, NoObjectError, ObjectExistsError, s3_client, server_time, talking_to
from guard.backup.stores import Entry, MissingError
from guard.clock import Clock, parse, stamp
from guard.config import Secret, StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TIME = "guard-time"


def open_s3(settings: StoreSettings, reveal: Callable[[Secret], str], clock: Clock | None = None) -> S3Store:
    """Return the store of a bucket in guard.toml. `clock`: stands for the server's in stepped tests."""
    return S3Store(s3_client(Access.of(settings, reveal)), settings.bucket or "", settings.prefix, clock)


class S3Store:
    """Objects below `prefix` of a bucket. The store's clock is the server's.

    With a `clock` (stepped tests) that one counts: each object's time lies in its metadata beside it.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str = "", clock: Clock | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._clock = clock
        self._times: dict[str, datetime] = {}

    @property
    def where(self) -> str:
        """The bucket and prefix."""
        return f"bucket {self._bucket}/{self._prefix}".rstrip("/")

    def now(self) -> datetime:
        """Return the time the server tells with an answer."""
        if self._clock is not None:
            return self._clock.now()
        with talking_to(self.where):
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        return server_time(answer["ResponseMetadata"])

    def put_if_absent(self, name: str, data: bytes | bytearray) -> bool:
        """Put an object on the condition that there is none; a repeated request that had landed counts as done."""
        extra: Any = {"Metadata": {_TIME: stamp(self._clock.now())}} if self._clock else {}
        try:
            with talking_to(self.where):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=bytes(data), IfNoneMatch="*", **extra
                )
        except ObjectExistsError:
            return self.get(name) == data
        return True

    def get(self, name: str) -> bytes:
        """Return an object's bytes."""
        with self._talking_about(name):
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()

    def get_range(self, name: str, start: int, length: int) -> bytes:
        """Return a part of an object."""
        if length <= 0:
            return b""
        wanted = f"bytes={start}-{start + length - 1}"
        try:
            with self._talking_about(name):
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, Range=wanted)
                return found["Body"].read()
        except BeyondEndError:
            return b""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects below `prefix`; S3 gives them in the order of their names."""
        with talking_to(self.where):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    name = each["Key"].removeprefix(self._prefix)
                    if not name.startswith("."):
                        yield Entry(name, each["Size"], self._time(name, each["LastModified"]))

    def size(self, name: str) -> int | None:
        """Return an object's size; None when there is none."""
        try:
            with talking_to(self.where):
                return self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)["ContentLength"]
        except NoObjectError:
            return None

    def delete(self, name: str) -> None:
        """Remove an object."""
        self._times.pop(name, None)
        with talking_to(self.where):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _time(self, name: str, modified: datetime) -> datetime:
        if self._clock is None:
            return modified
        if name not in self._times:
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            noted = head["Metadata"].get(_TIME)
            self._times[name] = parse(noted) if noted else modified
        return self._times[name]

    @contextmanager
    def _talking_about(self, name: str) -> Iterator[None]:
        try:
            with talking_to(self.where):
                yield
        except NoObjectError as error:
            raise MissingError(f"{name} is missing in {self.where}") from error
