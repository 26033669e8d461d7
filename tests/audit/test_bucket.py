"""A bucket with Object Lock: what lies there is locked, the first version counts, and later ones are told."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from guard.audit import Ledger
from guard.audit.anchors.bucket import MOST, BucketAnchor
from guard.aws import Access, s3_client
from guard.clock import SteppedClock
from guard.config.span import Span
from guard.errors import ConfigError, DeniedError, InterlockError, TamperedError, UnavailableError
from guard.events import Event
from tests.audit.conftest import SEED, START

Make = Callable[[int], Event]
KEY = f"shop/{3:020d}.checkpoint"


@pytest.fixture
def s3() -> Iterator[Any]:
    """An S3 with a bucket that locks, and one that does not."""
    with mock_aws():
        client = boto3.client("s3", "us-east-1")
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="open")
        client.create_bucket(Bucket="versioned")
        client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
        yield client


def make(bucket: str = "locked", prefix: str = "shop/") -> BucketAnchor:
    client = s3_client(Access(region="us-east-1", access_key="a", secret_key="s"))
    return BucketAnchor("vault", client, bucket, prefix, Span.parse("13 months"), SteppedClock(START))


@pytest.fixture
def ledger(house, make_event: Make, s3: Any) -> Ledger:
    """A ledger of three entries with the bucket."""
    for number in range(3):
        house.add(make_event(number))
    return Ledger(house.state, SEED, [make()])


def test_it_lies_there_in_compliance_mode_for_as_long_as_the_policy_says(ledger: Ledger, s3: Any) -> None:
    ledger.anchor()
    (found,) = s3.list_object_versions(Bucket="locked")["Versions"]
    assert found["Key"] == KEY
    head = s3.head_object(Bucket="locked", Key=KEY)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert head["ObjectLockRetainUntilDate"] == datetime(2027, 2, 5, 9, tzinfo=UTC)
    assert s3.get_object(Bucket="locked", Key=KEY)["Body"].read().decode() == ledger.checkpoint()
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.delete_object(Bucket="locked", Key=KEY, VersionId=found["VersionId"])


def test_later_logs_have_their_own_prefix(s3: Any) -> None:
    anchor = make(prefix="")
    anchor.put(3, "origin\n3\na\n")
    anchor.put(2, "origin\n2\nb\n", "0123456789abcdef")
    s3.put_object(Bucket="locked", Key="else/readme.txt", Body=b"not ours")
    for body in (b"one", b"two"):
        s3.put_object(Bucket="locked", Key="else/news.txt", Body=body)
    s3.delete_object(Bucket="locked", Key="else/news.txt")
    assert anchor.newest() == {"first": "origin\n3\na\n", "0123456789abcdef": "origin\n2\nb\n"}
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket="locked")["Contents"]}
    assert keys == {f"{3:020d}.checkpoint", f"0123456789abcdef/{2:020d}.checkpoint", "else/readme.txt"}


@pytest.mark.parametrize("size", [2, 3])
def test_a_later_version_is_told_and_the_first_one_counts(ledger: Ledger, s3: Any, size: int) -> None:
    """Of the newest name, and of an older one that nobody reads."""
    ledger.anchor()
    ledger.anchors[0].put(2, "x\n2\nx\n")
    s3.put_object(Bucket="locked", Key=f"shop/{size:020d}.checkpoint", Body=b"forged")
    for look in (ledger.verify, ledger.anchor, ledger.anchors[0].check):
        with pytest.raises(
            TamperedError, match=rf"anchor vault at bucket locked/shop: .*{size}\.checkpoint was written"
        ):
            look()


def test_a_delete_marker_is_told(ledger: Ledger, s3: Any) -> None:
    ledger.anchor()
    s3.delete_object(Bucket="locked", Key=KEY)
    with pytest.raises(TamperedError, match=r"checkpoint was deleted at 20\d\d-") as told:
        ledger.verify()
    assert "the first version still stands" in (told.value.hint or "")
    marker = s3.list_object_versions(Bucket="locked")["DeleteMarkers"][0]
    s3.delete_object(Bucket="locked", Key=KEY, VersionId=marker["VersionId"])  # its operator takes the marker away
    assert ledger.verify().anchored == 3


def test_the_same_bytes_once_more_are_no_tampering(ledger: Ledger, s3: Any) -> None:
    """A server that does not know If-None-Match writes a repeated request again."""
    ledger.anchor()
    s3.put_object(Bucket="locked", Key=KEY, Body=ledger.checkpoint().encode())
    assert len(s3.list_object_versions(Bucket="locked")["Versions"]) == 2
    assert ledger.verify().anchored == 3
    ledger.anchor()


def test_another_object_of_the_name_is_no_place_to_anchor(ledger: Ledger, s3: Any) -> None:
    s3.put_object(Bucket="locked", Key=KEY, Body=ledger.checkpoint().replace("\n3\n", "\n3\n\n").encode())
    with pytest.raises(TamperedError, match=r"anchor vault: .*(not a checkpoint|not a signed note|signature)"):
        ledger.anchor()
    assert not list(ledger.book.kept())


@pytest.mark.parametrize("body", [b"", b"\xff", b"origin\n8\nroot\n", b"x" * (MOST + 1)])
def test_an_object_that_is_not_what_its_name_says_is_tampered(s3: Any, body: bytes) -> None:
    s3.put_object(Bucket="locked", Key=f"shop/{7:020d}.checkpoint", Body=body)
    with pytest.raises(TamperedError, match="anchor vault"):
        make().newest()


@pytest.mark.parametrize("bucket", ["open", "versioned"])
def test_a_bucket_without_a_lock_is_no_anchor(house, make_event: Make, s3: Any, bucket: str) -> None:
    house.add(make_event(0))
    anchor = make(bucket)
    assert anchor.check() == ("the bucket has no Object Lock",)
    with pytest.raises(InterlockError, match="has no Object Lock"):
        anchor.create()
    with pytest.raises(UnavailableError, match="does not lock what is put there"):
        Ledger(house.state, SEED, [anchor]).anchor()


def test_a_lock_that_can_be_taken_off_is_none(ledger: Ledger, s3: Any) -> None:
    until = START + timedelta(days=400)
    s3.put_object(
        Bucket="locked", Key=KEY, Body=ledger.checkpoint().encode(),
        ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until,
    )  # fmt: skip
    with pytest.raises(InterlockError, match="does not lock"):
        ledger.anchors[0].put(3, ledger.checkpoint())


def test_no_bucket_and_no_rights_are_said(s3: Any) -> None:
    with pytest.raises(ConfigError, match="anchor vault at bucket nowhere/shop does not exist"):
        make("nowhere").newest()
    with pytest.raises(ConfigError, match="does not exist"):
        make("nowhere").put(1, "x\n1\nx\n")


def faulty(anchor: BucketAnchor, answers: list[AWSResponse]) -> list[str]:
    """Let S3 answer so, one after the other, before it answers itself; return what was asked meanwhile."""
    asked: list[str] = []

    def respond(request: Any, **_: object) -> AWSResponse | None:
        asked.append(request.method)
        return answers.pop(0) if answers else None

    anchor.client.meta.events.register_first("before-send.s3", respond)
    return asked


class Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


def answer(status: int, body: bytes = b"", **headers: str) -> AWSResponse:
    return AWSResponse("https://s3", status, headers, Raw(body))


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_stumbles_is_asked_again(ledger: Ledger, status: int) -> None:
    asked = faulty(ledger.anchors[0], [answer(status)])
    assert ledger.anchor().held == ("vault",)
    assert len(asked) > 1
    assert ledger.verify().anchored == 3


def test_a_put_that_landed_and_was_not_answered_is_not_put_twice(ledger: Ledger, s3: Any) -> None:
    """The answer got lost: the repeated request meets its own object, which is no conflict."""
    anchor, put = ledger.anchors[0], []

    def lose(request: Any, **_: object) -> AWSResponse | None:
        if request.method == "PUT" and not put:
            put.append(1)
            s3.put_object(
                Bucket="locked", Key=KEY, Body=ledger.checkpoint().encode(),
                ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=START + timedelta(days=999),
            )  # fmt: skip
            return answer(500)
        return None

    anchor.client.meta.events.register_first("before-send.s3", lose)
    assert ledger.anchor().held == ("vault",)
    assert len(s3.list_object_versions(Bucket="locked")["Versions"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_stays_down_is_away_and_nothing_is_kept(ledger: Ledger, status: int) -> None:
    faulty(ledger.anchors[0], [answer(status) for _ in range(40)])
    with pytest.raises(UnavailableError, match=f"anchor vault at bucket locked/shop answers {status}"):
        ledger.anchor()
    assert not list(ledger.book.kept())


def test_a_refused_key_is_denied(ledger: Ledger) -> None:
    body = b"<Error><Code>AccessDenied</Code></Error>"
    faulty(ledger.anchors[0], [answer(403, body) for _ in range(40)])
    with pytest.raises(DeniedError, match="anchor vault at bucket locked/shop refuses: AccessDenied"):
        ledger.anchors[0].newest()
    with pytest.raises(UnavailableError, match="refuses: AccessDenied"):
        ledger.anchor()


def test_half_an_object_is_no_checkpoint(ledger: Ledger) -> None:
    ledger.anchor()
    anchor = ledger.anchors[0]

    def half(request: Any, **_: object) -> AWSResponse | None:
        if request.method == "GET" and KEY in request.url:
            return answer(200, ledger.checkpoint().encode()[:50], **{"content-length": "400"})
        return None

    anchor.client.meta.events.register_first("before-send.s3", half)
    with pytest.raises(UnavailableError, match="anchor vault at bucket locked/shop does not answer"):
        anchor.newest()
