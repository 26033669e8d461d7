"""The whole room on the stores of guard.toml: several at once, one down, without state, over forty nights."""

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import boto3
import pytest
from moto import mock_aws

from guard.backup import Backups, Configured, Keys, Places, Setup, Wanted, sources_of
from guard.backup.stores.s3 import open_s3
from guard.clock import SteppedClock
from guard.config import BackupPolicy, Secret, StoreSettings, load_policy
from guard.crypto import recovery
from guard.errors import ConfigError, DeniedError, GuardError, InterlockError, UnavailableError
from guard.state import State

STORES = (
    StoreSettings(name="near", path="near"),
    StoreSettings(
        name="far", kind="s3", bucket="far", region="us-east-1", access_key=Secret(env="K"), secret_key=Secret(env="K")
    ),
)
KIT = recovery.new_kit()


@pytest.fixture
def state(tmp_path: Path, clock: SteppedClock) -> Iterator[State]:
    opened = State.create(f"sqlite:///{tmp_path}/state.db", clock)
    yield opened
    opened.close()


@pytest.fixture
def setup(tmp_path: Path, clock: SteppedClock, shop_file: Path, folder: Path, state: State) -> Setup:
    def sources():
        return sources_of(
            Configured(tmp_path, shop_file, "sqlite", state.path, ["files"], ("*.tmp",), (tmp_path / "near",))
        )

    return Setup(
        Places(STORES, tmp_path, clock, lambda settings: open_s3(settings, lambda _: "key", clock)),
        lambda: Keys(UUID(int=7), {1: bytes(32)}, KIT.public),
        sources,
        BackupPolicy,
        clock,
        tmp_path / "var" / "scratch",
    )


@pytest.fixture
def backups(setup: Setup) -> Iterator[Backups]:
    """A room on a folder and a bucket, both with their repository."""
    with mock_aws():
        boto3.client("s3", "us-east-1").create_bucket(Bucket="far")
        room = Backups(setup)
        room.init()
        yield room


def test_all_sources_go_into_all_stores(backups: Backups, tmp_path: Path) -> None:
    done = backups.run(tags=["nightly"])
    assert set(done.done) == {"near", "far"}
    assert not done.failed
    for each in done.done.values():
        assert [(source.name, source.why) for source in each.sources] == [
            ("shop", None), ("state", None), ("files", None),
        ]  # fmt: skip
        assert not each.partial
        assert each.problems == ()
    rows = backups.list().done
    assert [each.state for each in (*rows["near"], *rows["far"])] == ["whole", "whole"]
    assert rows["near"][0].tags == ("nightly",)
    assert not list((tmp_path / "var/scratch").iterdir())
    assert (tmp_path / "var/scratch").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["near", "far"])
def test_each_store_restores_on_its_own(backups: Backups, tmp_path: Path, shop_file: Path, contents, name: str) -> None:
    backups.run()
    plan = backups.plan_restore(name, "latest", Wanted(tmp_path / "out"))
    done = backups.restore(name, plan)
    assert done.files == plan.files == 9
    assert sorted(done.checks.values()) == ["ok", "ok"]
    assert contents(tmp_path / "out/files") == contents(tmp_path / "files")
    with closing(sqlite3.connect(tmp_path / "out/shop/shop.db")) as shop:
        assert shop.execute("SELECT count(*) FROM customer").fetchone() == (5000,)
    assert (tmp_path / "out/state/state.db").exists()
    assert backups.verify(name, data=True).is_sound


def test_a_store_that_is_down_does_not_stop_the_other(backups: Backups, tmp_path: Path) -> None:
    (tmp_path / "near").rename(tmp_path / "unplugged")
    done = backups.run()
    assert set(done.done) == {"far"}
    assert isinstance(done.failed["near"], UnavailableError)
    assert done.problems[0].startswith("store near: the folder")
    (tmp_path / "unplugged").rename(tmp_path / "near")
    again = backups.run(["near"])  # caught up
    assert set(again.done) == {"near"}


def test_when_every_store_is_down_that_is_an_error_naming_each(backups: Backups, tmp_path: Path) -> None:
    (tmp_path / "near").rename(tmp_path / "unplugged")
    boto3.client("s3", "us-east-1").delete_object(Bucket="far", Key="config")
    with pytest.raises(GuardError, match=r"(?s)store near: .* is not there\nstore far: there is no repository"):
        backups.run()


@pytest.mark.slow
def test_forty_nights_leave_the_last_thirty_in_both_and_each_restores(
    backups: Backups, clock: SteppedClock, shop_file: Path, tmp_path: Path
) -> None:
    for night in range(40):
        with closing(sqlite3.connect(shop_file, isolation_level=None)) as shop:
            shop.execute("UPDATE customer SET name = ? WHERE id = 1", (f"night {night}",))
        if night == 20:
            (tmp_path / "near").rename(tmp_path / "unplugged")
            assert set(backups.run().failed) == {"near"}
            (tmp_path / "unplugged").rename(tmp_path / "near")
            clock.step(timedelta(hours=1))
            backups.run(["near"])
            clock.step(timedelta(hours=-1))
        else:
            backups.run()
        backups.prune(backups.plan_prune().done)
        clock.step(timedelta(days=1))
    for name, rows in backups.list().done.items():
        assert len(rows) == 30
        for number in (0, 10, 29):
            plan = backups.plan_restore(name, rows[number].id, Wanted(tmp_path / f"{name}{number}", ("shop",)))
            backups.restore(name, plan)
            with closing(sqlite3.connect(tmp_path / f"{name}{number}/shop/shop.db")) as shop:
                (found,) = shop.execute("SELECT name FROM customer WHERE id = 1").fetchone()
            assert found == f"night {10 + number}"
        assert backups.verify(name).is_sound


def test_a_shop_elsewhere_is_told_in_the_snapshot_and_the_plan(setup: Setup, tmp_path: Path) -> None:
    local = replace(setup.places, settings=STORES[:1])
    room = Backups(replace(setup, places=local, sources=lambda: sources_of(
        Configured(tmp_path, None, "postgresql", tmp_path / "state.db", [])
    )))  # fmt: skip
    room.init()
    done = room.run().done["near"]
    assert done.partial
    assert done.problems == ("shop is not backed up: a shop in postgresql is not covered by this version",)
    assert room.list().done["near"][0].state == "partly"
    plan = room.plan_restore("near", "latest", Wanted(tmp_path / "out"))
    assert plan.not_covered == ("shop: a shop in postgresql is not covered by this version",)


def test_a_broken_source_is_told_and_the_others_are_saved(backups: Backups, shop_file: Path) -> None:
    shop_file.write_bytes(b"no database" * 500)
    done = backups.run().done["near"]
    assert [bool(each.why) for each in done.sources] == [True, False, False]
    assert "not a sound SQLite database" in done.problems[0]


def test_state_counts_as_saved_from_the_newest_whole_snapshot(backups: Backups, clock: SteppedClock) -> None:
    assert backups.state_saved_at() is None
    backups.run()
    saved = clock.now()
    clock.step(timedelta(hours=5))
    assert backups.state_saved_at() == saved
    assert backups.newest("far").at == saved


def test_a_passphrase_slot_opens_the_store_without_guards_keys(
    setup: Setup, tmp_path: Path, clock: SteppedClock
) -> None:
    local = replace(setup.places, settings=STORES[:1])
    room = Backups(replace(setup, places=local))
    made = room.init(passphrase="correct horse battery staple").done["near"]
    assert made.slots == (f"keys/recovery-{KIT.id}-1", "keys/passphrase-1")
    room.run()

    def lost() -> Keys:
        raise UnavailableError("state is gone")

    stateless = Backups(replace(setup, places=local, keys=lost))
    with pytest.raises(UnavailableError, match="state is gone"):
        stateless.list()
    with pytest.raises(DeniedError):
        stateless.by_passphrase("near", "wrong")
    for opened in (
        stateless.by_passphrase("near", "correct horse battery staple"),
        stateless.by_recovery("near", recovery.combine(KIT.shares[:2])),
    ):
        assert len(opened.list().done["near"]) == 1
    plan = opened.plan_restore("near", "latest", Wanted(tmp_path / "out", ("state",)))
    opened.restore("near", plan)
    assert (tmp_path / "out/state/state.db").exists()


def test_a_store_without_the_slot_says_so(setup: Setup) -> None:
    room = Backups(replace(setup, places=replace(setup.places, settings=STORES[:1])))
    room.init()
    with pytest.raises(ConfigError, match="no passphrase slot"):
        room.by_passphrase("near", "x")


def test_init_makes_what_is_missing_and_refuses_what_is_named_and_there(backups: Backups) -> None:
    assert {name: each.made for name, each in backups.init().done.items()} == {"near": False, "far": False}
    with pytest.raises(InterlockError, match="already"):
        backups.init(["near"])


def test_without_a_store_everything_says_what_to_do(setup: Setup) -> None:
    room = Backups(replace(setup, places=replace(setup.places, settings=())))
    for ask in (room.init, room.run, room.list, room.plan_prune, room.state_saved_at):
        with pytest.raises(ConfigError, match="no store for backups"):
            ask()


def test_state_remembers_what_should_be_there_and_verify_misses_it(
    backups: Backups, state: State, tmp_path: Path
) -> None:
    runs = [*backups.run().done.values()]
    state.write(lambda tx: backups.remember(tx, runs))
    (tmp_path / "near/snapshots" / runs[0].snapshot).unlink()
    with state.read() as tx:
        known = {name: backups.known(tx, name) for name in backups.stores}
    assert backups.verify("near", expected=known["near"]).findings[0].object == (f"snapshots/{runs[0].snapshot}")
    assert backups.verify("far", expected=known["far"]).is_sound


def test_pruned_snapshots_are_forgotten(backups: Backups, state: State, clock: SteppedClock) -> None:
    for _ in range(2):  # twice a day: the first one of the day is dropped
        runs = [*backups.run().done.values()]
        state.write(lambda tx, runs=runs: backups.remember(tx, runs))
        clock.step(timedelta(hours=1))
    done = backups.prune(backups.plan_prune().done)
    state.write(lambda tx: backups.forget(tx, [*done.done.values()]))
    with state.read() as tx:
        assert len(backups.known(tx, "near")) == len(backups.known(tx, "far")) == 1
        assert backups.known(tx, "near")[0] == backups.newest("near").id


def test_the_repository_does_not_swallow_itself(setup: Setup, tmp_path: Path) -> None:
    skip = (tmp_path / "near", tmp_path / "var")
    configured = Configured(tmp_path, None, "sqlite", tmp_path / "no.db", ["."], (), skip)
    places = replace(setup.places, settings=STORES[:1])
    room = Backups(replace(setup, places=places, sources=lambda: sources_of(configured)))
    room.init()
    room.run()
    room.run()
    plan = room.plan_restore("near", "latest", Wanted(tmp_path / "out"))
    room.restore("near", plan)
    assert not (tmp_path / "out" / tmp_path.name / "near").exists()
    assert (tmp_path / "out" / tmp_path.name / "files").exists()


def test_sources_of_equal_names_stay_apart(tmp_path: Path) -> None:
    found = sources_of(Configured(tmp_path, None, "mysql", tmp_path / "no.db", ["a/shop", "a/up", "b/up"]))
    assert [each.name for each in found] == ["shop", "state", "shop-2", "up", "up-2"]


def test_the_policy_that_ships_keeps_thirty_days_and_seven_of_grace() -> None:
    policy = load_policy(Path(__file__).parents[2] / "policies", "backup", BackupPolicy)
    assert policy == BackupPolicy()
    assert (policy.keep.daily, policy.keep.weekly, policy.keep.monthly) == (30, 0, 0)
    assert policy.grace.rest == timedelta(days=7)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("what", ["store", "restore", "scratch"])
def test_a_full_disk_is_said_so_and_leaves_nothing_half(setup: Setup, tmp_path: Path, what: str) -> None:
    disk = tmp_path / {"store": "near", "restore": "out", "scratch": "var"}[what]
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        room = Backups(replace(setup, places=replace(setup.places, settings=STORES[:1])))
        (tmp_path / "files" / "noise").write_bytes(os.urandom(2 << 20))
        room.init()
        if what == "store":
            with pytest.raises(UnavailableError, match="no space left"):
                room.run()
            assert room.newest("near") is None
            assert not list((disk / ".tmp").iterdir())
        elif what == "restore":
            room.run()
            with pytest.raises(UnavailableError, match="no space left"):
                room.restore("near", room.plan_restore("near", "latest", Wanted(disk)))
            halves = [each for each in disk.rglob("*") if each.name.startswith(".guard-")]
            assert not halves
            full = [each for each in (disk / "files").rglob("*") if stat.S_ISREG(each.lstat().st_mode)]
            assert all(each.stat().st_size in {500, 0, 3, 10, 700_000} for each in full)
        else:
            done = room.run().done["near"]
            assert "no space left" in done.problems[0]
            assert not list((disk / "scratch").iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
