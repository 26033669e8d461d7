"""AWS clients, made here and nowhere else: finite timeouts, few retries, errors in guard's words without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

from guard.errors import ConfigError, DeniedError, GuardError, TamperedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

    from guard.config.secret import Secret
    from guard.config.settings import AwsSettings

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
    """How to reach a service of AWS, or one like it. Without keys boto3 looks for them where AWS tools do (environment,
    profile, instance).
    """

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: AwsSettings, reveal: Callable[[Secret], str]) -> Access:
        """Return what guard.toml says of it, its secrets revealed."""
        keys = [None if each is None else reveal(each) for each in (settings.access_key, settings.secret_key)]
        return cls(settings.endpoint, settings.region, *keys)


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


_WRONG_KEY: dict[str, tuple[type[GuardError], str, str]] = {
    "DisabledException": (DeniedError, "is disabled", "who disabled it? `aws kms enable-key` lets it work again"),
    "NotFoundException": (
        ConfigError, "is not there: it was deleted, or lies in another region or account",
        "name it by its whole ARN in guard.toml",
    ),
    "InvalidKeyUsageException": (
        ConfigError, "is not for this: a symmetric key for encryption is needed", "name another key in guard.toml",
    ),
    "InvalidArnException": (ConfigError, "is no name of a key", "it is an ARN, a key id, or alias/ and a name"),
    "ValidationException": (ConfigError, "is no name of a key", "it is an ARN, a key id, or alias/ and a name"),
    "IncorrectKeyException": (
        DeniedError, "is another key than the one it was wrapped under",
        "an alias points elsewhere now? name the key itself by its ARN",
    ),
    "InvalidCiphertextException": (
        TamperedError, "did not wrap this, or not for this key of this store",
        "state was changed, or belongs to another store: restore it from a backup",
    ),
}  # fmt: skip
"""What KMS answers when trying again changes nothing: which error that is, in words, and what to do."""

_NOT_ALLOWED = frozenset(
    {
        "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
        "IncompleteSignature", "MissingAuthenticationToken", "ExpiredTokenException", "OptInRequired",
        "NotAuthorized", "InvalidGrantTokenException",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A symmetric key of AWS KMS, by ARN, id or alias. What it wraps is bound to an encryption context."""

    client: KMSClient = field(repr=False)
    key: str

    def encrypt(self, plain: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        """Return (ciphertext, ARN of the key that made it).

        Raises UnavailableError when KMS does not answer, DeniedError when the key is disabled, pending deletion or not
        ours to use, ConfigError when there is none of this name here.
        """
        with self._talking():
            made = self.client.encrypt(KeyId=self.key, Plaintext=plain, EncryptionContext=context)
        return made["CiphertextBlob"], made["KeyId"]

    def decrypt(self, sealed: bytes, context: dict[str, str]) -> bytes:
        """Return what was encrypted under this key and this context; no other key is tried.

        Raises TamperedError when it was not, and what `encrypt` raises.
        """
        with self._talking():
            made = self.client.decrypt(KeyId=self.key, CiphertextBlob=sealed, EncryptionContext=context)
        return made["Plaintext"]

    def _talking(self) -> AbstractContextManager[None]:
        return talking_to_kms(f"KMS key {self.key} ({self.client.meta.region_name})")


@contextmanager
def talking_to_kms(where: str) -> Iterator[None]:
    """Turn what KMS and the network answer into guard's errors, each naming `where`."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        hint = "set access_key and secret_key, or give this machine a role"
        raise DeniedError(f"there are no AWS credentials for {where}", hint=hint) from error
    except ClientError as error:
        raise _kms_explained(error, where) from error
    except ParamValidationError as error:
        raise ConfigError(f"{where} is no name of a key", hint="correct it in guard.toml") from error
    except BotoCoreError as error:
        hint = "is KMS reachable from here? guard doctor looks again"
        raise UnavailableError(f"{where} does not answer ({type(error).__name__})", hint=hint) from error


def kms_key(key: str, access: Access) -> KmsKey:
    """Return a key of AWS KMS; nothing is called yet. The client gives up after 5 s to connect, 10 s to read, 4 tries.

    Raises ConfigError for settings that cannot be: no region, or another one than the key's ARN names.
    """
    named = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else None
    if named and access.region and named != access.region:
        raise ConfigError(
            f"KMS key {key} lies in {named}, not in {access.region}", hint="leave region out of guard.toml"
        )
    hint = "name the key by its ARN, or set the region beside it"
    client = kms_client(access, named or access.region, f"the settings of KMS key {key}", hint)
    return KmsKey(client, key)


def kms_client(access: Access, region: str | None, what: str, hint: str) -> KMSClient:
    """Return a KMS client as `kms_key` says. Raises ConfigError about `what` for settings that cannot be."""
    try:
        client: KMSClient = boto3.client(
            "kms",
            endpoint_url=access.endpoint,
            region_name=region,
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4}),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"{what} are not usable: {type(error).__name__}", hint=hint) from error
    return client


def _kms_explained(error: ClientError, where: str) -> GuardError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _WRONG_KEY:
        kind, words, hint = _WRONG_KEY[code]
        return kind(f"{where} {words}", hint=hint)
    if code == "KMSInvalidStateException":
        return _unusable(str(error.response.get("Error", {}).get("Message", "")), where)
    if code in _NOT_ALLOWED:
        hint = "the role needs kms:Encrypt and kms:Decrypt on it, and its policy has to let the role in"
        return DeniedError(f"{where} refuses: {code}", hint=hint)
    if code == "RequestTimeTooSkewed":
        return UnavailableError(
            f"{where} refuses: this machine's clock is not the server's", hint="set the clock right"
        )
    return UnavailableError(f"{where} does not answer now: {code or 'no reason given'}", hint="try again later")


def _unusable(said: str, where: str) -> GuardError:
    """Return the error for a key whose state keeps it from working; only KMS's own text says which state."""
    if "pending deletion" in said.lower() or "pendingdeletion" in said.lower():
        hint = "`aws kms cancel-key-deletion`, then `aws kms enable-key`; once it is deleted, nothing brings it back"
        return DeniedError(f"{where} is pending deletion", hint=hint)
    return DeniedError(f"{where} is in a state in which it does not work", hint="`aws kms describe-key` says which")


def versions_of(client: S3Client, bucket: str, where: str) -> str | None:
    """Say in words why a bucket keeps what is deleted from it; None when it does not.

    Object Lock needs versioning, so asking for the one finds the other. Source: Amazon S3 User Guide, Object Lock.
    """
    with talking_to(where):
        status = str(client.get_bucket_versioning(Bucket=bucket).get("Status", ""))
    return f"has versioning ({status.lower()})" if status else None


def server_time(metadata: object) -> datetime:
    """Return the time a response was given at, by the server's `Date` header. Raises UnavailableError without one."""
    headers = metadata.get("HTTPHeaders", {}) if isinstance(metadata, dict) else {}
    try:
        return parsedate_to_datetime(str(headers.get("date"))).astimezone(UTC)
    except ValueError as error:
        raise UnavailableError("the server does not tell the time") from error
