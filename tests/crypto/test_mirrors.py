"""What a mirror of the vault promises, asked of a folder, a bucket and KMS (moto, in this process)."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import msgspec
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from guard.aws import Access
from guard.aws_keys import kms_keys
from guard.backup.stores.vaults import Around, open_mirror
from guard.clock import SteppedClock
from guard.config import Secret, VaultSettings
from guard.crypto.kms_mirror import KmsMirror
from guard.crypto.mirrors import BucketMirror, FolderMirror, Mirror
from guard.errors import ConfigError, DeniedError, InterlockError, TamperedError, UnavailableError

NAME = "epochs/07/2026-01-0000000009"
OTHER = "epochs/08/2026-01-0000000009"
REGION = "eu-central-1"
KEYS = {"a": "test", "s": "very-secret"}


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def settings(kind: str, **more: object) -> VaultSettings:
    keys = {} if kind == "folder" else {"access_key": Secret(env="a"), "secret_key": Secret(env="s"), "region": REGION}
    return VaultSettings(name="m", kind=kind, path="vault", bucket="vault", **{**keys, **more})  # type: ignore[arg-type]


def bucket(*, versions: str | None = None) -> None:
    client = boto3.client("s3", REGION)
    client.create_bucket(Bucket="vault", CreateBucketConfiguration={"LocationConstraint": REGION})
    if versions:
        client.put_bucket_versioning(Bucket="vault", VersioningConfiguration={"Status": versions})


@pytest.fixture
def around(tmp_path: Path, clock: SteppedClock) -> Around:
    return Around(tmp_path, clock, lambda secret: KEYS[secret.env or ""], ())


@pytest.fixture(params=["folder", "s3", "kms"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path, around: Around) -> Mirror:
    (tmp_path / "vault").mkdir(mode=0o700)
    if request.param != "folder":
        request.getfixturevalue("aws")
        bucket()
    return open_mirror(settings(request.param), around)


def test_an_object_comes_back_and_is_listed(mirror: Mirror) -> None:
    mirror.check()
    assert mirror.get(NAME) is None
    assert mirror.names("epochs/07/") == frozenset()
    mirror.put(NAME, b"key of an epoch")
    mirror.put(NAME, b"key of an epoch")  # sent again: the same bytes are no conflict
    mirror.put(OTHER, b"another store's")
    assert mirror.get(NAME) == b"key of an epoch"
    assert mirror.names("epochs/07/") == {NAME}
    assert mirror.name == "m"
    assert "secret" not in mirror.where


def test_an_empty_mount_point_is_not_taken_for_the_folder(tmp_path: Path, around: Around) -> None:
    disk = tmp_path / "vault"
    disk.mkdir(mode=0o700)
    mirror = open_mirror(settings("folder"), around)
    mirror.put(NAME, b"key of an epoch")
    disk.rename(tmp_path / "unplugged")
    disk.mkdir(mode=0o755)
    with pytest.raises(DeniedError, match="others may enter"):
        mirror.delete(NAME)
    with pytest.raises(DeniedError, match="others may enter"):
        mirror.put(OTHER, b"another")
    assert list(disk.iterdir()) == []


def test_another_object_of_the_same_name_is_refused(mirror: Mirror) -> None:
    mirror.put(NAME, b"one")
    with pytest.raises(TamperedError):
        mirror.put(NAME, b"two")
    assert mirror.get(NAME) == b"one"


def test_what_is_deleted_is_gone_and_deleting_twice_is_fine(mirror: Mirror, clock: SteppedClock) -> None:
    mirror.put(NAME, b"one")
    first = mirror.delete(NAME)
    assert mirror.get(NAME) is None
    assert mirror.names("epochs/") == frozenset()
    again = mirror.delete(NAME)
    if mirror.delay:
        assert first is not None
        assert first == again
        assert timedelta(days=6) < first - datetime.now(UTC) <= timedelta(days=7)  # noqa: TID251  # moto's own clock
    else:
        assert (first, again) == (None, None)
    assert mirror.delete(OTHER) is None


# A folder -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> FolderMirror:
    (tmp_path / "vault").mkdir(mode=0o700)
    return FolderMirror("m", tmp_path / "vault")


def test_a_folder_that_is_not_there_or_open_to_others_is_refused(folder: FolderMirror) -> None:
    folder.root.chmod(0o750)
    with pytest.raises(DeniedError, match="others may enter"):
        folder.check()
    folder.root.rmdir()
    with pytest.raises(UnavailableError, match="is not there"):
        folder.check()
    for ask in (
        lambda: folder.put(NAME, b"x"), lambda: folder.get(NAME), lambda: folder.names("epochs/"),
        lambda: folder.delete(NAME),
    ):  # fmt: skip
        with pytest.raises(UnavailableError):
            ask()
    assert not folder.root.exists()


def test_a_folder_within_what_backups_copy_is_refused_also_through_a_link(folder: FolderMirror, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    FolderMirror("m", folder.root, [tmp_path / "elsewhere", tmp_path / "vault-of-others"]).check()
    for inside in (tmp_path, tmp_path / "vault", tmp_path / "link"):
        with pytest.raises(InterlockError, match="which backups copy"):
            FolderMirror("m", folder.root, [inside]).check()
    with pytest.raises(InterlockError, match="which backups copy"):
        FolderMirror("m", tmp_path / "link" / "vault", [tmp_path]).check()


def test_a_folder_keeps_its_objects_private(folder: FolderMirror) -> None:
    folder.put(NAME, b"x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.root.rglob("*")}
    assert modes == {"epochs": 0o700, "07": 0o700, "2026-01-0000000009": 0o600}


def test_what_is_half_written_is_seen_and_deleted(folder: FolderMirror) -> None:
    folder.put(NAME, b"x")
    half = folder.root / f"{NAME}.half"
    half.write_bytes(b"left by a kill")
    (folder.root / NAME).unlink()
    assert folder.names("epochs/") == {NAME}
    folder.delete(NAME)
    assert folder.names("epochs/") == frozenset()
    half.write_bytes(b"left by a kill")
    folder.put(NAME, b"whole")
    assert folder.get(NAME) == b"whole"
    assert not half.exists()


def test_the_bytes_are_overwritten_before_the_name_goes(folder: FolderMirror, tmp_path: Path) -> None:
    folder.put(NAME, b"planted")
    os.link(folder.root / NAME, tmp_path / "inode")
    folder.delete(NAME)
    assert (tmp_path / "inode").read_bytes() == bytes(len(b"planted"))


def test_a_link_in_place_of_an_object_is_not_followed(folder: FolderMirror, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"not ours")
    folder.put(NAME, b"x")
    (folder.root / NAME).unlink()
    (folder.root / NAME).symlink_to(tmp_path / "target")
    with pytest.raises(UnavailableError):
        folder.delete(NAME)
    assert (tmp_path / "target").read_bytes() == b"not ours"


def test_a_folder_that_may_not_be_read_is_denied(folder: FolderMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DeniedError, match="may not be used: Permission denied"):
        folder.get(NAME)


def test_what_stands_in_place_of_an_object_and_is_no_file_is_not_written(folder: FolderMirror) -> None:
    folder.put(NAME, b"x")
    (folder.root / NAME).unlink()
    os.mkfifo(folder.root / NAME)
    reader = os.open(folder.root / NAME, os.O_RDONLY | os.O_NONBLOCK)
    folder.delete(NAME)
    os.close(reader)
    assert not (folder.root / NAME).exists()


# A bucket -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", ["Enabled", "Suspended"])
@pytest.mark.usefixtures("aws")
def test_a_bucket_that_keeps_versions_is_refused(around: Around, versions: str) -> None:
    bucket(versions=versions)
    mirror = open_mirror(settings("s3"), around)
    for ask in (mirror.check, lambda: mirror.put(NAME, b"x"), lambda: mirror.delete(NAME)):
        with pytest.raises(InterlockError, match=f"has versioning \\({versions.lower()}\\)"):
            ask()
    assert mirror.names("epochs/") == frozenset()


@pytest.mark.usefixtures("aws")
def test_a_bucket_with_object_lock_is_refused(around: Around) -> None:
    boto3.client("s3", REGION).create_bucket(
        Bucket="vault", CreateBucketConfiguration={"LocationConstraint": REGION}, ObjectLockEnabledForBucket=True
    )
    with pytest.raises(InterlockError, match="what is deleted there stays readable"):
        open_mirror(settings("s3"), around).check()


@pytest.mark.usefixtures("aws")
def test_versioning_that_was_switched_on_later_keeps_the_deletion_from_being_believed(around: Around) -> None:
    bucket()
    mirror = open_mirror(settings("s3"), around)
    mirror.put(NAME, b"x")
    boto3.client("s3", REGION).put_bucket_versioning(Bucket="vault", VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(InterlockError):
        mirror.delete(NAME)
    assert mirror.get(NAME) == b"x"


@pytest.mark.usefixtures("aws")
def test_a_bucket_that_does_not_exist_is_named(around: Around) -> None:
    with pytest.raises(ConfigError, match="bucket vault does not exist"):
        open_mirror(settings("s3"), around).check()


def test_an_object_that_does_not_go_is_not_called_gone() -> None:
    class Stubborn:
        """A store that says yes and does nothing."""

        where = "bucket x"

        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *_: 7

    with pytest.raises(UnavailableError, match="is still in bucket x after it was deleted"):
        BucketMirror("m", Stubborn(), lambda: None).delete(NAME)


# KMS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kms(aws: None, around: Around) -> KmsMirror:
    mirror = open_mirror(settings("kms", window=9), around)
    assert isinstance(mirror, KmsMirror)
    return mirror


def described(alias: str) -> dict[str, object]:
    return boto3.client("kms", REGION).describe_key(KeyId=f"alias/guard/{alias}")["KeyMetadata"]


def test_each_object_has_a_key_of_its_own_and_its_description_is_no_secret(kms: KmsMirror) -> None:
    kms.put(NAME, b"planted key")
    kms.put(OTHER, b"planted key")
    one, other = described(NAME), described(OTHER)
    assert one["KeyId"] != other["KeyId"]
    assert "planted" not in str(one["Description"])
    assert one["Description"] != other["Description"]


def test_the_end_of_the_window_is_when_the_key_is_gone(kms: KmsMirror) -> None:
    kms.put(NAME, b"x")
    assert kms.delay == timedelta(days=9)
    gone = kms.delete(NAME)
    assert gone == described(NAME)["DeletionDate"]
    assert described(NAME)["KeyState"] == "PendingDeletion"


def test_a_deletion_that_was_called_off_is_seen(kms: KmsMirror) -> None:
    kms.put(NAME, b"x")
    kms.delete(NAME)
    client = boto3.client("kms", REGION)
    client.cancel_key_deletion(KeyId=str(described(NAME)["KeyId"]))
    assert kms.names("epochs/") == {NAME}
    client.enable_key(KeyId=str(described(NAME)["KeyId"]))
    assert kms.get(NAME) == b"x"
    assert kms.delete(NAME) is not None
    assert kms.names("epochs/") == frozenset()


def test_a_key_that_was_made_and_then_the_process_died_is_used_by_the_next_try(kms: KmsMirror) -> None:
    client = boto3.client("kms", REGION)
    made = client.create_key(Tags=[{"TagKey": "guard", "TagValue": NAME}])["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName=f"alias/guard/{NAME}", TargetKeyId=made)
    assert kms.get(NAME) is None
    kms.put(NAME, b"x")
    assert described(NAME)["KeyId"] == made


def test_an_object_moved_to_another_name_does_not_open(kms: KmsMirror) -> None:
    kms.put(NAME, b"x")
    kms.put(OTHER, b"y")
    client = boto3.client("kms", REGION)
    client.update_alias(AliasName=f"alias/guard/{OTHER}", TargetKeyId=str(described(NAME)["KeyId"]))
    with pytest.raises(TamperedError):
        kms.get(OTHER)
    client.update_key_description(KeyId=str(described(NAME)["KeyId"]), Description="not base64!")
    with pytest.raises(TamperedError, match="a description guard did not write"):
        kms.get(NAME)


def foreign(alias: str) -> str:
    """Point an alias to a key of somebody else, and return that key."""
    client = boto3.client("kms", REGION)
    other = client.create_key(Description="billing")["KeyMetadata"]["KeyId"]
    client.update_alias(AliasName=f"alias/guard/{alias}", TargetKeyId=other)
    return str(other)


def test_somebody_elses_key_is_not_touched(kms: KmsMirror) -> None:
    client = boto3.client("kms", REGION)
    arn = kms.put(NAME, b"x")
    other = foreign(NAME)
    for ask in (
        lambda: kms.delete(NAME), lambda: kms.put(NAME, b"x"), lambda: kms.get(NAME), lambda: kms.names("epochs/"),
    ):  # fmt: skip
        with pytest.raises(TamperedError, match=f"leads to key {other}, which guard did not make for {NAME}"):
            ask()
    assert kms.get(NAME, arn) == b"x"
    assert kms.delete(NAME, arn) is not None
    assert client.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    untouched = client.describe_key(KeyId=other)["KeyMetadata"]
    assert (untouched["KeyState"], untouched["Description"]) == ("Enabled", "billing")


def test_the_key_of_another_object_is_not_touched_even_by_its_arn(kms: KmsMirror) -> None:
    kms.put(NAME, b"x")
    other = kms.put(OTHER, b"y")
    with pytest.raises(TamperedError, match="which guard did not make for"):
        kms.delete(NAME, other)
    assert kms.get(OTHER) == b"y"


def test_a_key_that_is_not_to_be_seen_from_here_is_not_called_gone(kms: KmsMirror) -> None:
    arn = kms.put(NAME, b"x")
    for elsewhere in (arn.replace(REGION, "eu-west-1"), arn.replace("123456789012", "999999999999")):
        missing = elsewhere[:-12] + "0" * 12
        for ask in (lambda: kms.delete(NAME, missing), lambda: kms.put(NAME, b"x", missing)):  # noqa: B023  # at once
            with pytest.raises(UnavailableError, match="is not to be seen from here"):
                ask()
    assert kms.delete(NAME, arn[:-12] + "0" * 12) is None  # its own account says that it is gone


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("DisabledException", DeniedError),
        ("AccessDeniedException", DeniedError),
        ("ThrottlingException", UnavailableError),
    ],
)
def test_what_kms_refuses_is_named(clock: SteppedClock, code: str, error: type[Exception]) -> None:
    keys = kms_keys(Access(region=REGION, access_key="a", secret_key="very-secret"))
    with Stubber(keys.client) as answers:
        answers.add_client_error("describe_key", code)
        with pytest.raises(error) as told:
            KmsMirror("m", keys, timedelta(days=7), clock).get(NAME)
    assert "very-secret" not in str(told.value)


class Slow:
    """KMS whose descriptions arrive after some looks."""

    where = "AWS KMS in x"

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.said: str | None = None

    def at(self, key: str) -> "Slow":
        return self

    def encrypt(self, plain: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        return plain[::-1], "arn"

    def decrypt(self, sealed: bytes, context: dict[str, str]) -> bytes:
        return sealed[::-1]

    def make(self, alias: str, owner: str) -> str:
        self.said = ""
        return "arn"

    def point(self, alias: str, arn: str) -> None:
        raise AssertionError

    def look(self, key: str, owner: str) -> tuple[str, str, datetime | None] | None:
        if self.said:
            self.looks -= 1
        return None if self.said is None else ("arn", self.said if self.looks < 0 else "", None)

    def set_text(self, arn: str, text: str) -> None:
        self.said = text

    def delete(self, arn: str, window: timedelta) -> datetime:
        raise AssertionError

    def aliases(self, prefix: str) -> frozenset[str]:
        return frozenset()


def test_kms_that_forgets_what_it_was_told_is_waited_for_and_then_named(clock: SteppedClock) -> None:
    before = clock.now()
    KmsMirror("m", Slow(3), timedelta(days=7), clock).put(NAME, b"x")
    assert clock.now() - before == timedelta(seconds=7)
    with pytest.raises(UnavailableError, match="does not give back yet"):
        KmsMirror("m", Slow(9), timedelta(days=7), clock).put(NAME, b"x")


@pytest.mark.parametrize("wrong", [{"kind": "folder"}, {"kind": "s3"}, {"kind": "kms", "window": 6}, {"kind": "disk"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "m", **wrong}, VaultSettings)
