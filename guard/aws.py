"""AWS clients, made here and nowhere else: finite timeouts, few retries, errors in guard's words without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from guard.errors import ConfigError, DeniedError, GuardError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DENIED = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AllAccessDisabled"}
)
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
"""The bucket lies in another region; an answer to HEAD has no words, only its number."""


class NoObjectError(GuardError):
    """There is no object of this name."""


class ObjectExistsError(GuardError):
    """There is an object of this name already."""


class BeyondEndError(GuardError):
    """The part asked for begins behind the object's end."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an S3. Without keys boto3 looks for them where AWS tools do (environment, profile, instance)."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


def s3_client(access: Access) -> S3Client:
    """Return an S3 client that gives up after 10 s to connect, 60 s to read and four attempts."""
    other: dict[str, Any] = {}
    if access.endpoint:  # servers that are not AWS know neither bucket host names nor the newer checksums
        other = {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    try:
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=access.endpoint,
            region_name=access.region or ("us-east-1" if access.endpoint else None),
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            config=Config(
                connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4}, **other
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"the S3 settings are not usable: {type(error).__name__}") from error
    return client


@contextmanager
def talking_to(where: str) -> Iterator[None]:
    """Turn what S3 and the network answer into guard's errors, each naming `where`."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise DeniedError(f"there are no credentials for {where}", hint="set access_key and secret_key") from error
    except ClientError as error:
        raise _explained(error, where) from error
    except ParamValidationError as error:  # the only parameter that is not guard's own is the bucket
        raise ConfigError(f"{where} cannot be a bucket's name", hint="correct it in guard.toml") from error
    except BotoCoreError as error:
        hint = "is its endpoint right and reachable from here? guard doctor looks again"
        raise UnavailableError(f"{where} does not answer ({type(error).__name__})", hint=hint) from error


def _explained(error: ClientError, where: str) -> GuardError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if (wrong := _wrong_here(code, where)) is not None:
        return wrong
    if code == "PreconditionFailed" or status == 412:
        return ObjectExistsError(f"{where} holds an object of this name already")
    if code in {"NoSuchKey", "404", "NotFound"} or status == 404:
        return NoObjectError(f"{where} holds no object of this name")
    if status == 416:
        return BeyondEndError(f"{where} holds no such part of the object")
    if code in _DENIED or status in {401, 403}:
        return DeniedError(f"{where} refuses: {code or status}", hint="check the keys and the bucket's policy")
    return UnavailableError(f"{where} answers {code or status}", hint="try again later")


def _wrong_here(code: str, where: str) -> GuardError | None:
    """Return the error for what is to be set right on this side; None for all else."""
    if code in {"NoSuchBucket", "InvalidBucketName"}:
        return ConfigError(f"{where} does not exist", hint="make the bucket, or correct its name in guard.toml")
    if code in _ELSEWHERE:
        return ConfigError(f"{where} lies in another region ({code})", hint="set its region in guard.toml")
    if code == "RequestTimeTooSkewed":
        said = f"{where} refuses: this machine's clock is not the server's"
        return UnavailableError(said, hint="set the clock right")
    return None


def server_time(metadata: object) -> datetime:
    """Return the time a response was given at, by the server's `Date` header. Raises UnavailableError without one."""
    headers = metadata.get("HTTPHeaders", {}) if isinstance(metadata, dict) else {}
    try:
        return parsedate_to_datetime(str(headers.get("date"))).astimezone(UTC)
    except ValueError as error:
        raise UnavailableError("the server does not tell the time") from error
