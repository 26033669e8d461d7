"""AWS KMS as a root: round trips against moto, and every way in which KMS refuses, with its cause in words."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from moto import mock_aws

from guard import aws
from guard.aws import Access, KmsKey
from guard.crypto.kek import KmsRoot, context
from guard.crypto.wrap import Key
from guard.errors import ConfigError, DeniedError, Exit, GuardError, TamperedError, UnavailableError

REGION = "eu-central-1"
ARN = f"arn:aws:kms:{REGION}:123456789012:key/11111111-2222-3333-4444-555555555555"
STORE = UUID(int=7)
KEK = Key(1, "kek", 1, bytes(range(32)))
BOUND = {"guard:store": "s"}
ACCESS = Access(region=REGION, access_key="AKIA", secret_key="hunter2")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without AWS settings of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture
def cloud() -> Iterator[Any]:
    """KMS, played by moto."""
    with mock_aws():
        yield boto3.client("kms", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")


def made(cloud: Any) -> str:
    return str(cloud.create_key()["KeyMetadata"]["Arn"])


# Against moto ---------------------------------------------------------------------------------------------------------


def test_the_kek_comes_back(cloud: Any) -> None:
    root = KmsRoot(aws.kms_key(made(cloud), ACCESS))
    under = root.wrap(STORE, KEK)
    assert root.unwrap(STORE, under.wrapped, replace(KEK, material=b"")) == KEK
    assert KEK.material not in under.wrapped


def test_an_alias_is_followed_and_the_keys_own_name_remembered(cloud: Any) -> None:
    arn = made(cloud)
    cloud.create_alias(AliasName="alias/guard", TargetKeyId=arn)
    for name in ("alias/guard", arn, arn.rpartition("/")[2]):
        root = KmsRoot(aws.kms_key(name, ACCESS))
        under = root.wrap(STORE, KEK)
        assert (under.origin.kms_key, under.origin.kms_arn) == (name, arn)
        assert root.wraps(under.origin)
        assert root.unwrap(STORE, under.wrapped, KEK) == KEK


@pytest.mark.parametrize(
    ("store", "sheet"),
    [
        (UUID(int=8), KEK),
        (STORE, replace(KEK, id=2)),
        (STORE, replace(KEK, purpose="totp")),
        (STORE, replace(KEK, version=2)),
    ],
    ids=["store", "id", "purpose", "version"],
)
def test_it_opens_for_no_other_context(cloud: Any, store: UUID, sheet: Key) -> None:
    root = KmsRoot(aws.kms_key(made(cloud), ACCESS))
    under = root.wrap(STORE, KEK)
    with pytest.raises(TamperedError, match="did not wrap this, or not for this key of this store"):
        root.unwrap(store, under.wrapped, sheet)


def test_a_changed_byte_of_what_kms_wrapped_is_tampering(cloud: Any) -> None:
    root = KmsRoot(aws.kms_key(made(cloud), ACCESS))
    under = root.wrap(STORE, KEK)
    for at in range(4, len(under.wrapped)):
        changed = bytearray(under.wrapped)
        changed[at] ^= 1
        with pytest.raises(GuardError) as caught:
            root.unwrap(STORE, bytes(changed), KEK)
        assert isinstance(caught.value, TamperedError | DeniedError | ConfigError)


def test_a_key_that_is_not_there_or_in_another_region(cloud: Any) -> None:
    arn = made(cloud)
    with pytest.raises(ConfigError, match=r"is not there: it was deleted, or lies in another region"):
        aws.kms_key(ARN, ACCESS).encrypt(b"x", BOUND)
    elsewhere = aws.kms_key(arn.rpartition("/")[2], replace(ACCESS, region="us-east-1"))
    with pytest.raises(ConfigError, match=r"\(us-east-1\) is not there"):
        elsewhere.encrypt(b"x", BOUND)


def test_the_region_is_that_of_the_arn(cloud: Any) -> None:
    assert aws.kms_key(made(cloud), replace(ACCESS, region=None)).client.meta.region_name == REGION
    with pytest.raises(ConfigError, match=f"lies in {REGION}, not in us-east-1") as caught:
        aws.kms_key(ARN, replace(ACCESS, region="us-east-1"))
    assert caught.value.hint == "leave region out of guard.toml"
    with pytest.raises(ConfigError, match="settings of KMS key alias/guard are not usable: NoRegionError"):
        aws.kms_key("alias/guard", replace(ACCESS, region=None))


def test_settings_that_cannot_be_are_said_to_be_so() -> None:
    with pytest.raises(ConfigError, match="are not usable: ValueError"):
        aws.kms_key(ARN, replace(ACCESS, endpoint="no url"))
    with pytest.raises(ConfigError, match="is no name of a key"):
        aws.kms_key("", ACCESS).encrypt(b"x", BOUND)


def test_the_client_gives_up_in_time() -> None:
    config = aws.kms_key(ARN, ACCESS).client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries) == (
        5,
        10,
        {"mode": "standard", "total_max_attempts": 4},
    )


# What moto does not play: it decrypts with a disabled key, and never throttles ---------------------------------------

ANSWERS = [
    ("DisabledException", "", DeniedError, "is disabled"),
    ("KMSInvalidStateException", f"{ARN} is pending deletion.", DeniedError, "is pending deletion"),
    ("KMSInvalidStateException", f"{ARN} is unavailable.", DeniedError, "in a state in which it does not work"),
    ("NotFoundException", "Invalid keyId", ConfigError, "it was deleted, or lies in another region or account"),
    ("InvalidCiphertextException", "", TamperedError, "did not wrap this"),
    ("IncorrectKeyException", "", DeniedError, "is another key than the one it was wrapped under"),
    ("InvalidKeyUsageException", "", ConfigError, "a symmetric key for encryption is needed"),
    ("InvalidArnException", "", ConfigError, "is no name of a key"),
    ("ValidationException", "", ConfigError, "is no name of a key"),
    ("AccessDeniedException", "", DeniedError, "refuses: AccessDeniedException"),
    ("UnrecognizedClientException", "", DeniedError, "refuses: UnrecognizedClientException"),
    ("ExpiredTokenException", "", DeniedError, "refuses: ExpiredTokenException"),
    ("ThrottlingException", "", UnavailableError, "does not answer now: ThrottlingException"),
    ("KeyUnavailableException", "", UnavailableError, "does not answer now: KeyUnavailableException"),
    ("DependencyTimeoutException", "", UnavailableError, "does not answer now"),
    ("KMSInternalException", "", UnavailableError, "does not answer now"),
    ("RequestTimeTooSkewed", "", UnavailableError, "clock is not the server's"),
    ("SomethingNew", "", UnavailableError, "does not answer now: SomethingNew"),
]


@pytest.mark.parametrize("operation", ["encrypt", "decrypt"])
@pytest.mark.parametrize(("code", "text", "kind", "said"), ANSWERS, ids=[f"{row[0]} {row[1][-12:]}" for row in ANSWERS])
def test_every_refusal_is_closed_and_has_its_cause(
    operation: str, code: str, text: str, kind: type[GuardError], said: str
) -> None:
    key = aws.kms_key(ARN, ACCESS)
    with Stubber(key.client) as stubber:
        stubber.add_client_error(operation, code, text, 400)
        with pytest.raises(kind, match=said) as caught:
            getattr(key, operation)(b"x" * 32, BOUND)
    assert str(caught.value).startswith(f"KMS key {ARN} ({REGION}) ")
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_what_is_sent_names_the_key_and_the_context() -> None:
    """Decrypt too: without the key's name KMS would open what any other key wrapped."""
    key = aws.kms_key("alias/guard", ACCESS)
    bound = context(STORE, KEK)
    with Stubber(key.client) as stubber:
        stubber.add_response(
            "encrypt",
            {"CiphertextBlob": b"sealed", "KeyId": ARN},
            {"KeyId": "alias/guard", "Plaintext": KEK.material, "EncryptionContext": bound},
        )
        stubber.add_response(
            "decrypt",
            {"Plaintext": KEK.material, "KeyId": ARN},
            {"KeyId": "alias/guard", "CiphertextBlob": b"sealed", "EncryptionContext": bound},
        )
        root = KmsRoot(key)
        assert root.unwrap(STORE, root.wrap(STORE, KEK).wrapped, KEK) == KEK
        stubber.assert_no_pending_responses()


class Answering:
    """Answers every request of a client with the same error, and counts them."""

    def __init__(self, key: KmsKey, code: str, status: int) -> None:
        self.asked = 0
        self.body, self.status = json.dumps({"__type": code, "message": "x"}).encode(), status
        key.client.meta.events.register("before-send.kms", self)

    def __call__(self, request: Any, **_: object) -> AWSResponse:
        self.asked += 1
        raw = type("Raw", (), {"stream": lambda _self: iter([self.body]), "read": lambda _self, *_: self.body})()
        return AWSResponse(request.url, self.status, {}, raw)


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("KMSInternalException", 500)])
def test_what_may_pass_is_tried_four_times(monkeypatch: pytest.MonkeyPatch, code: str, status: int) -> None:
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    key = aws.kms_key(ARN, ACCESS)
    answering = Answering(key, code, status)
    with pytest.raises(UnavailableError, match=f"does not answer now: {code}"):
        key.decrypt(b"x", BOUND)
    assert (answering.asked, len(waits)) == (4, 3)


@pytest.mark.parametrize("code", ["DisabledException", "AccessDeniedException", "InvalidCiphertextException"])
def test_what_does_not_pass_is_tried_once(code: str) -> None:
    key = aws.kms_key(ARN, ACCESS)
    answering = Answering(key, code, 400)
    with pytest.raises(GuardError):
        key.decrypt(b"x", BOUND)
    assert answering.asked == 1


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://kms"),
        ConnectTimeoutError(endpoint_url="https://kms"),
        ReadTimeoutError(endpoint_url="https://kms"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_network_that_is_down_is_unavailable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    key = aws.kms_key(ARN, ACCESS)

    def fail(**_: object) -> None:
        raise error

    key.client.meta.events.register("before-send.kms", fail)
    with pytest.raises(UnavailableError, match=f"does not answer \\({type(error).__name__}\\)") as caught:
        key.encrypt(b"x", BOUND)
    assert caught.value.exit_code is Exit.UNAVAILABLE


def test_a_machine_without_credentials_is_denied() -> None:
    key = aws.kms_key(ARN, Access(region=REGION))
    with pytest.raises(DeniedError, match=f"there are no AWS credentials for KMS key {ARN}"):
        key.decrypt(b"x", BOUND)


def test_no_repr_shows_a_secret() -> None:
    assert "hunter2" not in repr(ACCESS) + repr(aws.kms_key(ARN, ACCESS))
