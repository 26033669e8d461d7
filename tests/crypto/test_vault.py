"""Epoch keys: in every mirror before they are used, gone from every mirror when they are deleted, and nowhere else."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from moto import mock_aws

from guard.aws import Access, s3_client
from guard.aws_keys import kms_keys
from guard.backup.stores.s3 import S3Store
from guard.clock import SteppedClock
from guard.crypto import store, vault_store, xaes
from guard.crypto.epochs import Objects, ends, month
from guard.crypto.keyring import Keyring
from guard.crypto.kms_mirror import KmsMirror
from guard.crypto.mirrors import BucketMirror, FolderMirror
from guard.crypto.vault import PURPOSE, Vault
from guard.crypto.vault_store import Epoch
from guard.crypto.wrap import Key
from guard.errors import ConfigError, InterlockError, ShreddedError, TamperedError, UnavailableError
from guard.state import State

Mirrors = tuple[FolderMirror, FolderMirror]


def files(mirror: FolderMirror) -> list[str]:
    found = mirror.root.glob("epochs/**/*")
    return sorted(path.relative_to(mirror.root).as_posix() for path in found if path.is_file())


def marker(state: State) -> str:
    return f"guard-mirror-{state.store_id.hex}"


def close(state: State, vault: Vault, epoch: Epoch) -> Epoch:
    state.write(lambda tx: vault.close(tx, epoch))
    return vault.epochs()[-1]


def current(state: State, vault: Vault) -> Epoch | None:
    with state.read() as tx:
        return vault.current(tx)


@pytest.mark.parametrize(
    ("at", "name", "end"),
    [
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime.fromisoformat("2026-02-01T00:30:00+02:00"), "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
    ],
)
def test_an_epoch_is_a_calendar_month_in_utc(at: datetime, name: str, end: datetime) -> None:
    assert month(at) == name
    assert ends(name) == end


def test_a_new_vault_lacks_nothing_and_holds_nothing(vault: Vault, mirrors: Mirrors, state: State) -> None:
    assert vault.missing() == ()
    assert (vault.epochs(), current(state, vault), files(mirrors[0])) == ([], None, [])


def test_an_epoch_lies_in_every_mirror_with_the_same_bytes(vault: Vault, mirrors: Mirrors, state: State) -> None:
    epoch = vault.begin()
    assert (epoch.name, epoch.version, epoch.in_use) == ("2026-01", 1, True)
    name = f"epochs/{state.store_id.hex}/2026-01-{epoch.id:010x}"
    assert [files(mirror) for mirror in mirrors] == [[name], [name]]
    assert mirrors[0].get(name) == mirrors[1].get(name)
    assert current(state, vault) == epoch
    assert vault.ensure() == epoch
    assert vault.missing() == ()


def test_its_key_opens_from_either_mirror_and_is_in_no_table(vault: Vault, mirrors: Mirrors, state: State) -> None:
    epoch = vault.begin()
    key = vault.key(epoch.id)
    assert (key.id, key.purpose, len(key.material)) == (epoch.id, "epoch/2026-01", 32)
    for mirror in mirrors:
        vault.forget()
        shutil.move(mirror.root / "epochs", mirror.root.parent / "away")
        assert vault.key(epoch.id) == key
        shutil.move(mirror.root.parent / "away", mirror.root / "epochs")
    assert state.path
    state.scrub()
    assert key.material not in state.path.read_bytes()
    for mirror in mirrors:
        assert key.material not in (mirror.root / files(mirror)[0]).read_bytes()


def test_the_recovery_kit_does_not_open_it(vault: Vault, keyring: Keyring, state: State) -> None:
    epoch = vault.begin()
    with state.read() as tx:
        rows = store.all_rows(tx)
    assert epoch.id not in {row.sheet.id for row in rows}
    assert {row.sheet.purpose for row in rows if row.recovery is not None} >= {PURPOSE}


def test_fewer_than_two_mirrors_are_refused(state: State, keyring: Keyring, mirrors: Mirrors) -> None:
    for few in ((), mirrors[:1]):
        vault = Vault(state, keyring, few, nullcontext)
        assert "a vault with 2 mirrors" in vault.missing()[0]
        with pytest.raises(InterlockError, match=f"needs 2 mirrors, and guard.toml names {len(few)}"):
            vault.begin()
    assert files(mirrors[0]) == []


def test_an_epoch_is_not_begun_while_a_mirror_is_away(vault: Vault, mirrors: Mirrors, state: State) -> None:
    mirrors[1].root.rmdir()
    assert "a sound mirror two of the vault" in vault.missing()[0]
    with pytest.raises(UnavailableError, match="is not there"):
        vault.ensure()
    assert current(state, vault) is None
    assert files(mirrors[0]) == []


def test_what_an_interrupted_begin_left_is_deleted_by_the_next(
    vault: Vault, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    put = mirrors[1].put

    def full(self: FolderMirror, name: str, data: bytes | None = None, arn: str | None = None) -> None:
        if name.startswith("epochs/"):
            raise UnavailableError("no space left")
        put(name, data or b"")

    with monkeypatch.context() as patched:
        patched.setattr(mirrors[1], "put", full.__get__(mirrors[1]))
        with pytest.raises(UnavailableError):
            vault.begin()
    (left,) = files(mirrors[0])
    assert current(state, vault) is None
    away = mirrors[0].root.rename(mirrors[0].root.with_name("away"))
    with pytest.raises(UnavailableError):
        vault.begin()
    away.rename(mirrors[0].root)
    with monkeypatch.context() as patched:
        patched.setattr(mirrors[0], "delete", full.__get__(mirrors[0]))
        with pytest.raises(UnavailableError):
            vault.begin()
    epoch = vault.begin()
    assert left not in files(mirrors[0])
    assert len(files(mirrors[0])) == len(files(mirrors[1])) == 1
    assert [each.gone_at is not None for each in vault.epochs()] == [True, False]
    assert epoch.version == 2


def test_a_second_epoch_takes_over(vault: Vault, state: State, clock: SteppedClock) -> None:
    first = vault.begin()
    clock.step(timedelta(days=30))
    second = vault.begin()
    assert second.name == "2026-02"
    assert current(state, vault) == second
    assert vault.key(first.id).material != vault.key(second.id).material
    with state.read() as tx:
        assert vault.alive(tx) == [first, second]


def test_an_epoch_in_use_is_not_deleted(vault: Vault, mirrors: Mirrors) -> None:
    epoch = vault.begin()
    with pytest.raises(InterlockError, match="is not closed"):
        vault.delete(epoch)
    assert len(files(mirrors[0])) == 1


def test_a_deleted_key_opens_nothing_and_says_so(vault: Vault, mirrors: Mirrors, state: State) -> None:
    epoch = close(state, vault, vault.begin())
    vault.key(epoch.id)
    done = vault.delete(epoch)
    assert done.failed == {}
    assert done.epoch.gone_at == state.clock.now()
    assert [files(mirror) for mirror in mirrors] == [[], []]
    with pytest.raises(ShreddedError, match="the key of epoch 2026-01 was deleted"):
        vault.key(epoch.id)
    with state.read() as tx:
        assert vault.alive(tx) == []
        assert vault.current(tx) is None


def test_a_mirror_that_is_away_is_named_and_asked_again(
    vault: Vault, mirrors: Mirrors, state: State, clock: SteppedClock
) -> None:
    epoch = close(state, vault, vault.begin())
    away = mirrors[1].root.rename(mirrors[1].root.with_name("away"))
    first = vault.delete(epoch)
    assert list(first.failed) == ["two"]
    assert first.epoch.gone_at is None
    assert first.epoch.mirrors["one"] == clock.now()
    assert files(mirrors[0]) == []
    with state.read() as tx:
        assert [each.id for each in vault.alive(tx)] == [epoch.id]
    clock.step(timedelta(hours=1))
    away.rename(mirrors[1].root)
    second = vault.delete(first.epoch)
    assert second.failed == {}
    assert second.epoch.gone_at == clock.now()
    assert files(mirrors[1]) == []


def test_a_mirror_that_left_the_settings_is_named(
    vault: Vault, mirrors: Mirrors, state: State, keyring: Keyring
) -> None:
    epoch = close(state, vault, vault.begin())
    left = Vault(state, keyring, mirrors[:1], nullcontext).delete(epoch)
    assert isinstance(left.failed["two"], ConfigError)
    assert "put its [[vault]] back" in (left.failed["two"].hint or "")
    assert left.epoch.gone_at is None


class Delayed:
    """A mirror that deletes with a delay, as KMS does."""

    def __init__(self, folder: FolderMirror, delay: timedelta, clock: SteppedClock) -> None:
        self._folder = folder
        self._clock = clock
        self.delay = delay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._folder, name)

    def delete(self, name: str, arn: str | None = None) -> datetime:
        self._folder.delete(name)
        return self._clock.now() + self.delay


def test_a_key_is_alive_until_the_last_mirrors_window_is_over(
    state: State, keyring: Keyring, mirrors: Mirrors, clock: SteppedClock
) -> None:
    vault = Vault(state, keyring, (mirrors[0], Delayed(mirrors[1], timedelta(days=7), clock)), nullcontext)
    epoch = close(state, vault, vault.begin())
    gone = vault.delete(epoch).epoch.gone_at
    assert gone == clock.now() + timedelta(days=7)
    with state.read() as tx:
        assert [each.id for each in vault.alive(tx)] == [epoch.id]
    with pytest.raises(ShreddedError):
        vault.key(epoch.id)
    clock.step(timedelta(days=7))
    with state.read() as tx:
        assert vault.alive(tx) == []


def test_a_key_that_rises_again_is_seen_and_deleted_again(
    vault: Vault, mirrors: Mirrors, state: State, clock: SteppedClock
) -> None:
    epoch = vault.begin()
    old_disk = shutil.copytree(mirrors[1].root, mirrors[1].root.with_name("old-disk"))
    vault.delete(close(state, vault, epoch))
    shutil.rmtree(mirrors[1].root)
    old_disk.rename(mirrors[1].root)
    clock.step(timedelta(days=2))
    assert [[each.id for each in seen.risen] for seen in vault.look()] == [[], [epoch.id]]
    with pytest.raises(ShreddedError):
        vault.key(epoch.id)
    done = vault.mend()
    assert (done.deleted, done.failed) == (1, {})
    assert files(mirrors[1]) == []
    assert vault.epochs()[0].gone_at == clock.now()
    assert vault.mend().deleted == 0


@pytest.mark.parametrize("there", [None, "0" * 32])
def test_a_mount_point_without_its_disk_is_neither_filled_nor_called_empty(
    vault: Vault, mirrors: Mirrors, state: State, there: str | None
) -> None:
    epoch = vault.begin()
    disk = mirrors[1].root.rename(mirrors[1].root.with_name("unplugged"))
    mirrors[1].root.mkdir(mode=0o700)
    if there:
        (mirrors[1].root / marker(state)).write_text(there)
    (trouble,) = [seen.trouble for seen in vault.look() if seen.trouble]
    assert isinstance(trouble, UnavailableError)
    assert f"{mirrors[1].root} is not where the vault's mirror two was first used" in str(trouble)
    assert (disk / marker(state)).read_text() in str(trouble.hint)
    assert list(vault.mend().failed) == ["two"]
    with pytest.raises(UnavailableError, match="is not where"):
        vault.begin()
    closed = vault.delete(close(state, vault, epoch))
    assert list(closed.failed) == ["two"]
    assert (closed.epoch.mirrors["two"], closed.epoch.gone_at) == (None, None)
    assert files(mirrors[1]) == []
    shutil.rmtree(mirrors[1].root)
    disk.rename(mirrors[1].root)
    assert vault.delete(closed.epoch).epoch.gone_at is not None
    assert files(mirrors[1]) == []


def test_another_bucket_of_the_same_name_is_not_taken_for_the_mirror(
    state: State, keyring: Keyring, mirrors: Mirrors, clock: SteppedClock
) -> None:
    with mock_aws():
        client = s3_client(Access(region="us-east-1", access_key="a", secret_key="s"))
        client.create_bucket(Bucket="vault")
        bucket = BucketMirror("bucket", S3Store(client, "vault", ""), lambda: None)
        vault = Vault(state, keyring, (mirrors[0], bucket), nullcontext)
        epoch = close(state, vault, vault.begin())
        client.delete_object(Bucket="vault", Key=marker(state))
        failed = vault.delete(epoch).failed
        assert "is not where the vault's mirror bucket was first used: no marker is there" in str(failed["bucket"])
        assert len(bucket.names("epochs/")) == 1


def test_two_mirrors_in_one_place_are_refused(state: State, keyring: Keyring, mirrors: Mirrors) -> None:
    same = FolderMirror("same", mirrors[0].root)
    with pytest.raises(InterlockError, match=r"mirror same lies in .*, where one lies"):
        Vault(state, keyring, (mirrors[0], same), nullcontext).begin()
    assert files(mirrors[0]) == []


def test_a_place_that_was_marked_and_then_the_process_died_is_known_by_the_next_try(
    vault: Vault, mirrors: Mirrors, state: State
) -> None:
    mirrors[0].put(marker(state), b"7" * 32)
    vault.begin()
    assert vault.missing() == ()
    assert mirrors[0].get(marker(state)) == b"7" * 32


def test_a_mirror_of_another_kind_under_the_same_name_is_not_asked(
    vault: Vault, mirrors: Mirrors, state: State, keyring: Keyring, clock: SteppedClock
) -> None:
    epoch = close(state, vault, vault.begin())
    with mock_aws():
        keys = kms_keys(Access(region="eu-central-1", access_key="a", secret_key="s"))
        kms = KmsMirror("two", keys, timedelta(days=7), clock)
        failed = Vault(state, keyring, (mirrors[0], kms), nullcontext).delete(epoch).failed
    assert "AWS KMS in eu-central-1 is not where the vault's mirror two was first used" in str(failed["two"])


def test_a_removed_alias_is_put_back_and_does_not_hide_the_key_from_deletion(
    state: State, keyring: Keyring, mirrors: Mirrors, clock: SteppedClock
) -> None:
    with mock_aws():
        keys = kms_keys(Access(region="eu-central-1", access_key="a", secret_key="s"))
        vault = Vault(state, keyring, (mirrors[0], KmsMirror("kms", keys, timedelta(days=7), clock)), nullcontext)
        epoch = vault.begin()
        alias = f"alias/guard/{files(mirrors[0])[0]}"
        arn = keys.client.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]
        assert epoch.arns == vault.epochs()[0].arns == {"kms": arn}
        keys.client.delete_alias(AliasName=alias)
        assert [len(seen.lacking) for seen in vault.look()] == [0, 1]
        assert (vault.mend().copied, vault.missing()) == (1, ())
        assert keys.client.describe_key(KeyId=alias)["KeyMetadata"]["Arn"] == arn
        keys.client.delete_alias(AliasName=alias)
        gone = vault.delete(close(state, vault, epoch)).epoch
        found = keys.client.describe_key(KeyId=arn)["KeyMetadata"]
        assert (found["KeyState"], gone.gone_at) == ("PendingDeletion", found["DeletionDate"])


def test_a_mirror_that_lost_its_disk_gets_the_keys_in_use_again(vault: Vault, mirrors: Mirrors, state: State) -> None:
    epoch, key = vault.begin(), vault.key(vault.epochs()[0].id)
    marked = mirrors[1].get(marker(state)) or b""
    shutil.rmtree(mirrors[1].root)
    mirrors[1].root.mkdir(mode=0o700)
    (mirrors[1].root / marker(state)).write_bytes(marked + b"\n")  # as runbooks/shredding.md says
    assert "the key of epoch 2026-01 in the vault's mirror two" in vault.missing()[0]
    done = vault.mend()
    assert (done.copied, done.failed) == (1, {})
    assert vault.missing() == ()
    shutil.rmtree(mirrors[0].root)
    vault.forget()
    assert vault.key(epoch.id) == key


def test_a_third_mirror_gets_the_keys_in_use_and_is_asked_when_they_go(
    vault: Vault, mirrors: Mirrors, state: State, keyring: Keyring
) -> None:
    vault.begin()
    third = FolderMirror("three", mirrors[0].root.with_name("three"))
    third.root.mkdir(mode=0o700)
    wider = Vault(state, keyring, (*mirrors, third), nullcontext)
    assert wider.mend().copied == 1
    epoch = close(state, wider, wider.epochs()[0])
    assert set(epoch.mirrors) == {"one", "two", "three"}
    wider.delete(epoch)
    assert files(third) == []


def test_changed_bytes_in_a_mirror_are_found_and_the_other_one_serves(vault: Vault, mirrors: Mirrors) -> None:
    epoch = vault.begin()
    key = vault.key(epoch.id)
    path = mirrors[0].root / files(mirrors[0])[0]
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        vault.forget()
        assert vault.key(epoch.id) == key
        assert isinstance(vault.look()[0].trouble, TamperedError)
        assert "one" in vault.mend().failed
    shutil.rmtree(mirrors[1].root / "epochs")
    vault.forget()
    with pytest.raises(TamperedError, match=r"key 0000000009 \(epoch/2026-01\) is not the key"):
        vault.key(epoch.id)


def test_no_mirror_is_unavailable_and_an_unknown_epoch_tampered(vault: Vault, mirrors: Mirrors) -> None:
    epoch = vault.begin()
    for mirror in mirrors:
        shutil.rmtree(mirror.root / "epochs")
    with pytest.raises(UnavailableError, match="no mirror of the vault holds"):
        vault.key(epoch.id)
    with pytest.raises(TamperedError, match="which this store does not have"):
        vault.key(999)
    with pytest.raises(UnavailableError):
        vault._elsewhere(epoch)


def test_a_state_writer_cannot_say_that_a_key_is_gone(vault: Vault, state: State) -> None:
    vault.begin()
    state.write(lambda tx: tx.exec_driver_sql("UPDATE vault_epoch SET gone_at = '2026-01-06T00:00:00Z'") and None)
    with pytest.raises(TamperedError, match="vault_epoch 9 is not what guard wrote"):
        vault.epochs()


def test_an_object_is_bound_to_store_epoch_and_id(vault: Vault, state: State, keyring: Keyring) -> None:
    epoch = vault.begin()
    objects = Objects(state.store_id, keyring)
    data = vault.mirrors[0].get(objects.name(epoch))
    assert data is not None
    assert objects.open(epoch, data, "m") == vault.key(epoch.id)
    for other in (
        replace(epoch, id=epoch.id + 1), replace(epoch, name="2026-02"), replace(epoch, version=2),
        replace(epoch, parent=1), replace(epoch, commitment=bytes(32)),
    ):  # fmt: skip
        with pytest.raises(TamperedError):
            objects.open(other, data, "m")
    with pytest.raises(TamperedError):
        Objects(UUID(int=8), keyring).open(epoch, data, "m")
    for cut in (None, b"", data[:-1], data + b"\x00"):
        with pytest.raises(TamperedError):
            objects.open(epoch, cut, "m")


@pytest.mark.parametrize("lost", [False, True])
def test_a_restored_state_takes_in_the_epochs_it_does_not_know(
    vault: Vault, mirrors: Mirrors, state: State, keyring: Keyring, lost: bool
) -> None:
    keyring.ensure(PURPOSE)
    epoch = vault.begin()
    key = vault.key(epoch.id)
    state.write(lambda tx: tx.execute(vault_store.EPOCH.delete()) and None)  # as a backup from before it is
    assert [len(seen.unknown) for seen in vault.look()] == [1, 1]
    if lost:
        shutil.rmtree(mirrors[1].root / "epochs")
    done = vault.mend()
    assert (done.adopted, done.failed) == (1, {})
    assert vault.missing() == ()
    vault.forget()
    assert vault.key(epoch.id) == key
    vault.delete(close(state, vault, vault.epochs()[0]))
    assert [files(mirror) for mirror in mirrors] == [[], []]


def test_what_guard_did_not_write_is_named_and_left_alone(vault: Vault, mirrors: Mirrors, state: State) -> None:
    vault.begin()
    folder = mirrors[0].root / f"epochs/{state.store_id.hex}"
    whole = next(folder.iterdir()).read_bytes()
    for name, data in (("note.txt", b"hello"), ("2026-01-00000000ff", whole), ("2026-13-0000000001", whole[:-1])):
        (folder / name).write_bytes(data)
        failed = vault.mend().failed["one"]
        assert isinstance(failed, TamperedError)
        assert name in str(failed)
        assert (folder / name).read_bytes() == data
        (folder / name).unlink()


def test_opened_keys_are_kept_for_a_minute_and_not_in_a_forked_child(
    vault: Vault, mirrors: Mirrors, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = vault.begin()
    vault.key(epoch.id)
    for mirror in mirrors:
        shutil.rmtree(mirror.root / "epochs")
    clock.step(timedelta(seconds=60))
    assert vault.key(epoch.id).id == epoch.id
    with monkeypatch.context() as patched:
        patched.setattr(xaes.PROCESS, "generation", xaes.PROCESS.generation + 1)
        with pytest.raises(UnavailableError):
            vault.key(epoch.id)
    clock.step(timedelta(seconds=1))
    with pytest.raises(UnavailableError):
        vault.key(epoch.id)


def test_our_vectors_open(vectors: Callable[[str], Any]) -> None:
    read = vectors("vault.json")
    parents = {int(key_id): Key(int(key_id), "vault", 1, bytes.fromhex(raw)) for key_id, raw in read["parents"].items()}

    def by_id(key_id: int) -> Key:
        if key_id not in parents:
            raise TamperedError("which this store does not have")
        return parents[key_id]

    objects = Objects(UUID(read["store_id"]), SimpleNamespace(by_id=by_id))  # type: ignore[arg-type]
    now = datetime(2026, 1, 5, tzinfo=UTC)
    for case in read["epochs"]:
        data = bytes.fromhex(case["object"])
        epoch = objects.read(case["name"], data, "m", now)
        assert (epoch.id, epoch.name, epoch.version, epoch.parent) == (case["id"], case["month"], case["version"], 9)
        assert objects.open(epoch, data, "m").material.hex() == case["material"]
    name = read["epochs"][0]["name"]
    for case in read["refused"]:
        with pytest.raises(TamperedError, match="which guard did not write"):
            objects.read(name, bytes.fromhex(case["object"]), "m", now)
