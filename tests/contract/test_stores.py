"""What every store promises, asked of the folder and of S3 (moto, in this process)."""

import errno
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from msgspec import structs

from guard.aws import Access, s3_client
from guard.backup.stores import MissingError, Store
from guard.backup.stores.local import LocalStore
from guard.backup.stores.places import Places
from guard.backup.stores.s3 import S3Store, open_s3
from guard.clock import SteppedClock, SystemClock
from guard.config import Secret, StoreSettings
from guard.errors import ConfigError, DeniedError, GuardError, UnavailableError

KEYS = {"a": "test", "s": "very-secret"}
BUCKET = StoreSettings(
    name="s3", kind="s3", bucket="backups", prefix="/shop/", region="eu-central-1",
    access_key=Secret(env="a"), secret_key=Secret(env="s"),
)  # fmt: skip


def reveal(secret: Secret) -> str:
    return KEYS[secret.env or ""]


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def make_bucket() -> None:
    boto3.client("s3", "eu-central-1").create_bucket(
        Bucket="backups", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock) -> Store:
    if request.param == "local":
        local = LocalStore(tmp_path / "store", clock)
        local.prepare()
        return local
    request.getfixturevalue("aws")
    make_bucket()
    return open_s3(BUCKET, reveal, clock)


def test_an_object_reads_back_whole_and_in_parts(store: Store) -> None:
    assert store.put_if_absent("packs/ab/one", b"0123456789")
    assert store.get("packs/ab/one") == b"0123456789"
    assert store.get_range("packs/ab/one", 3, 4) == b"3456"
    assert store.get_range("packs/ab/one", 8, 100) == b"89"
    assert store.get_range("packs/ab/one", 10, 5) == b""
    assert store.get_range("packs/ab/one", 0, 0) == b""
    assert store.size("packs/ab/one") == 10


def test_a_name_is_written_once(store: Store) -> None:
    assert store.put_if_absent("config", b"first")
    assert not store.put_if_absent("config", b"second")
    assert store.get("config") == b"first"
    assert store.put_if_absent("config", bytearray(b"first"))  # sent again: the same bytes are no conflict


def test_of_many_writers_one_wins(store: Store) -> None:
    won: list[int] = []

    def write(number: int) -> None:
        if store.put_if_absent("config", f"writer {number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("config") == f"writer {won[0]}".encode()


def test_what_is_not_there_is_missing(store: Store) -> None:
    with pytest.raises(MissingError, match="packs/00/none"):
        store.get("packs/00/none")
    with pytest.raises(MissingError, match="packs/00/none"):
        store.get_range("packs/00/none", 0, 5)
    assert store.size("packs/00/none") is None
    assert list(store.list("packs/")) == []


def test_a_list_is_in_order_with_sizes_and_times(store: Store, clock: SteppedClock) -> None:
    start = clock.now()
    for number, name in enumerate(["packs/b/2", "index/1", "packs/a/1", "packs/b/1"]):
        store.put_if_absent(name, bytes(number))
        clock.step(timedelta(hours=1))
    found = [(each.name, each.size, each.at) for each in store.list("packs/")]
    hour = timedelta(hours=1)
    assert found == [("packs/a/1", 2, start + 2 * hour), ("packs/b/1", 3, start + 3 * hour), ("packs/b/2", 0, start)]
    assert [each.name for each in store.list("packs/b/")] == ["packs/b/1", "packs/b/2"]
    assert [each.name for each in store.list("keys/")] == []


@pytest.mark.slow
@pytest.mark.usefixtures("aws")
def test_a_list_of_a_bucket_goes_over_more_than_one_page() -> None:
    make_bucket()
    names = [f"index/{number:04}" for number in range(1003)]
    client = boto3.client("s3", "eu-central-1")
    for name in names:
        client.put_object(Bucket="backups", Key=f"shop/{name}")
    assert [each.name for each in open_s3(BUCKET, reveal).list("index/")] == names


def test_a_deleted_object_is_gone_and_deleting_twice_is_fine(store: Store) -> None:
    store.put_if_absent("marks/1", b"x")
    store.delete("marks/1")
    store.delete("marks/1")
    assert store.size("marks/1") is None
    assert store.put_if_absent("marks/1", b"y")


def test_the_stores_time_is_aware_and_its_own(store: Store, clock: SteppedClock) -> None:
    assert store.now() == clock.now()
    assert store.now().tzinfo is not None


def test_it_says_where_it_is_without_a_secret(store: Store) -> None:
    assert store.where.endswith("store") or store.where == "bucket backups/shop"
    assert "secret" not in store.where
    assert "secret" not in repr(store)


# Each kind on its own -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_mounted_is_unavailable_and_not_made(tmp_path: Path, clock: SteppedClock) -> None:
    store = LocalStore(tmp_path / "disk", clock)
    for ask in (
        lambda: store.put_if_absent("config", b"x"),
        lambda: store.get("config"),
        lambda: store.size("config"),
        lambda: list(store.list("packs/")),
    ):
        with pytest.raises(UnavailableError, match="is not there"):
            ask()
    assert not (tmp_path / "disk").exists()


def test_a_folder_keeps_its_objects_private_and_no_half_ones(tmp_path: Path, clock: SteppedClock) -> None:
    store = LocalStore(tmp_path / "store", clock)
    store.prepare()
    store.put_if_absent("packs/aa/one", b"x")
    (tmp_path / "store/.tmp/left").write_bytes(b"half")
    modes = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "store").rglob("*")}
    assert (modes["packs"], modes["aa"], modes["one"]) == (0o700, 0o700, 0o600)
    assert [each.name for each in store.list("")] == ["packs/aa/one"]


@pytest.mark.parametrize(
    ("number", "error", "said"),
    [
        (errno.ENOSPC, UnavailableError, "no space left"),
        (errno.EDQUOT, UnavailableError, "no space left"),
        (errno.EROFS, DeniedError, "may not be used"),
        (errno.EIO, UnavailableError, "cannot be used"),
    ],
)
def test_what_a_disk_answers_is_said_in_words_and_nothing_half_stays(
    tmp_path: Path, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], said: str
) -> None:
    store = LocalStore(tmp_path / "store", clock)
    store.prepare()

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(error, match=said):
            store.put_if_absent("config", b"x")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert store.put_if_absent("config", b"x")


def test_a_folder_without_hard_links_keeps_its_promises(
    tmp_path: Path, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = LocalStore(tmp_path / "store", clock)
    store.prepare()
    assert store.put_if_absent("config", b"first")
    assert not store.put_if_absent("config", b"second")
    assert store.get("config") == b"first"
    assert list((tmp_path / "store/.tmp").iterdir()) == []


def test_a_file_where_a_folder_should_be_is_no_missing_object(tmp_path: Path, clock: SteppedClock) -> None:
    store = LocalStore(tmp_path / "store", clock)
    store.prepare()
    (tmp_path / "store/packs").write_bytes(b"")
    with pytest.raises(UnavailableError):
        store.put_if_absent("packs/aa/one", b"x")


def test_what_a_killed_writer_left_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store", SystemClock())
    store.prepare()
    store.put_if_absent("config", b"x")
    left = tmp_path / "store/.tmp/left"
    left.write_bytes(b"half")
    store.put_if_absent("index/1", b"x")
    assert left.exists()
    monkeypatch.setattr("guard.backup.stores.local._STALE_SECONDS", 0)
    ticks = tmp_path / "ticks"
    ticks.touch()
    while ticks.stat().st_ctime_ns == left.stat().st_ctime_ns:  # until the file system's clock moves on
        ticks.chmod(0o600)
    store.put_if_absent("index/2", b"x")
    assert not left.exists()


@pytest.mark.usefixtures("aws")
def test_the_server_tells_the_time() -> None:
    make_bucket()
    store = open_s3(BUCKET, reveal)
    store.put_if_absent("config", b"x")
    (entry,) = store.list("")
    assert abs(store.now() - entry.at) < timedelta(minutes=1)
    assert abs(store.now() - SystemClock().now()) < timedelta(minutes=1)


@pytest.mark.usefixtures("aws")
def test_a_bucket_that_does_not_exist_is_named() -> None:
    store = open_s3(BUCKET, reveal)
    for ask in (lambda: store.put_if_absent("config", b"x"), lambda: store.get("config"), lambda: list(store.list(""))):
        with pytest.raises(ConfigError, match="bucket backups/shop does not exist"):
            ask()


def test_a_refused_key_is_denied_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_aws(config={"core": {"mock_credentials": True}}):
        make_bucket()
        from moto.core import set_initial_no_auth_action_count

        @set_initial_no_auth_action_count(0)
        def ask() -> None:
            open_s3(BUCKET, reveal).put_if_absent("config", b"x")

        with pytest.raises(DeniedError, match="bucket backups/shop refuses") as told:
            ask()
    assert "very-secret" not in f"{told.value} {told.value.hint}"


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    nobody = StoreSettings(
        name="x", kind="s3", bucket="backups", endpoint="http://127.0.0.1:9",
        access_key=Secret(env="a"), secret_key=Secret(env="s"),
    )  # fmt: skip
    with pytest.raises(UnavailableError, match="bucket backups does not answer") as told:
        open_s3(nobody, reveal).get("config")
    assert "very-secret" not in f"{told.value} {told.value.hint}"


@pytest.mark.parametrize(
    ("code", "status", "error", "hint"),
    [
        ("RequestTimeTooSkewed", 403, UnavailableError, "clock"),
        ("PermanentRedirect", 301, ConfigError, "region"),
        ("AuthorizationHeaderMalformed", 400, ConfigError, "region"),
        ("InvalidBucketName", 400, ConfigError, "name"),
        ("SignatureDoesNotMatch", 403, DeniedError, "keys"),
        ("InvalidToken", 400, DeniedError, "keys"),
        ("SlowDown", 503, UnavailableError, "later"),
    ],
)
def test_each_refusal_says_what_to_set_right(code: str, status: int, error: type[GuardError], hint: str) -> None:
    client = s3_client(Access(region="eu-central-1", access_key="a", secret_key="very-secret"))
    with Stubber(client) as answers:
        answers.add_client_error("get_object", code, http_status_code=status)
        with pytest.raises(error) as told:
            S3Store(client, "backups").get("config")
    assert hint in (told.value.hint or "")


def test_a_name_no_bucket_can_have_is_a_wrong_setting() -> None:
    store = open_s3(structs.replace(BUCKET, bucket="My Backups"), reveal)
    with pytest.raises(ConfigError, match="bucket My Backups/shop cannot be a bucket's name"):
        store.get("config")


def test_a_store_is_opened_by_its_name(tmp_path: Path, clock: SteppedClock) -> None:
    local = StoreSettings(name="local", path="here")
    places = Places((local,), tmp_path, clock, lambda settings: open_s3(settings, reveal))
    assert places.open("local").where == str(tmp_path / "here")
    assert places.folders == (tmp_path / "here",)
    with pytest.raises(ConfigError, match="no store locl") as told:
        places.open("locl")
    assert told.value.hint == "did you mean local?"
    with pytest.raises(ConfigError, match="no store for backups"):
        Places((), tmp_path, clock, lambda settings: open_s3(settings, reveal)).open("local")
