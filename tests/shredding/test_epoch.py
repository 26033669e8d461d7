"""The end of an epoch: what was shredded dies in every backup, the living go on, and nothing is deleted too soon."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click import UsageError
from click.testing import CliRunner
from moto import mock_aws

from guard import faults
from guard.actions import perform
from guard.actions._perform import Caller
from guard.actions.backup import INIT
from guard.actions.epoch import TURN, TURN_NOW, epochs, is_due, late
from guard.actions.jobs import run_job, tick
from guard.actions.receipts import receipts
from guard.actions.shred import SHRED
from guard.actions.state import BACKUP
from guard.audit import Query
from guard.canon import key_bytes
from guard.cli.main import main
from guard.crypto.subjects import Person
from guard.errors import BusyError, DeniedError, InterlockError, ShreddedError, UnavailableError

ADA = {"kind": "customer", "keys": ["1"], "classes": ["account"]}
FEBRUARY = datetime(2026, 2, 1, 3, tzinfo=UTC)


def person(customer: int) -> Person:
    return Person("customer", key_bytes((customer,)))


def at(house: Any, when: datetime) -> None:
    house.clock.step(when - house.clock.now())


def turn(house: Any) -> Any:
    """Run the daily job's action as the service does."""
    return perform(house.app, Caller(house.app.access.service("daemon")), TURN)


def read_all(house: Any) -> list[object]:
    """Read what is sealed for the living."""
    return [house.read(1, 2, 2), house.read(1, 3, 3), house.read(3, 11, 1), house.read(3, 12, 2)]


LIVING = ["bob@example.org", "cyd@example.org", "Main Street 2", "Side Street 1"]


def test_within_its_month_there_is_nothing_to_do(house: Any) -> None:
    at(house, datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    assert not is_due(house.app)
    done = turn(house)
    assert (done.epoch, done.rewrapped, done.ended, done.deleted, done.failed) == (None, 0, [], [], {})
    assert house.months() == ["2026-01"]


def test_a_store_without_an_epoch_has_nothing_to_do(make_house: Callable[..., Any]) -> None:
    house = make_house("")
    at(house, FEBRUARY)
    assert not is_due(house.app)
    assert turn(house).failed == {}
    assert house.app.vault.missing() == ("a vault with 2 mirrors: a [[vault]] for each in guard.toml",)


def test_when_the_month_is_over_the_living_go_on_and_the_shredded_are_dead_in_backups(house: Any) -> None:
    (pending,) = house.do(SHRED, **ADA).receipts
    assert pending.backups_at is None
    at(house, FEBRUARY)
    assert is_due(house.app)
    done = turn(house)
    assert (done.epoch, done.rewrapped, done.ended, done.deleted) == ("2026-02", 4, ["2026-01"], ["2026-01"])
    assert done.failed == {}
    assert house.months() == ["2026-02"]
    (receipt,) = receipts(house.app)
    assert receipt.backups_at == FEBRUARY
    assert receipt.pending_until is None
    assert "in all backups since 2026-02-01T03:00:00.000000Z" in receipt.line
    assert read_all(house) == LIVING
    house.reopen()
    assert read_all(house) == LIVING
    with pytest.raises(ShreddedError):
        house.read(1, 1, 1)
    assert not is_due(house.app)


def test_the_turn_is_recorded_with_its_backup(house: Any) -> None:
    at(house, FEBRUARY)
    turn(house)
    whats = [(entry.what, entry.outcome.value) for entry in house.app.ledger.list(Query(who="s-daemon"), 10)]
    assert whats == [
        ("keys.epoch", "begun"),
        ("state.backup", "begun"),
        ("state.backup", "done"),
        ("keys.epoch", "done"),
    ]
    entry = house.app.ledger.list(Query(what="keys.epoch"), 10)[-1]
    assert entry.objects == ("epoch 2026-01", "deleted 2026-01")
    assert entry.counts["keys"] == 5


def test_the_daily_job_does_it_without_an_approval(house: Any) -> None:
    house.do(SHRED, **ADA)
    house.app.jobs.due(house.clock.now())
    at(house, FEBRUARY)
    ran = {each.job: each for each in tick(house.app, house.clock.now())}
    assert (ran["epoch"].state.value, ran["epoch"].reason) == ("ok", None)
    assert house.months() == ["2026-02"]
    at(house, FEBRUARY + timedelta(days=1))
    before = len(house.app.ledger.list(Query(what="keys.epoch"), 100))
    assert {each.job: each for each in tick(house.app, house.clock.now())}["epoch"].state.value == "ok"
    assert len(house.app.ledger.list(Query(what="keys.epoch"), 100)) == before  # it only looked


def test_an_epoch_that_cannot_be_ended_is_refused_before_a_code_is_asked_for(house: Any) -> None:
    code, house.phone.code = house.phone.code, lambda _="": pytest.fail("a code was asked for")
    away = house.mirrors[1].rename(house.mirrors[1].with_name("away"))
    with pytest.raises(InterlockError, match=r"mirror two: .* is not there") as told:
        house.do(TURN_NOW)
    assert "bring them back" in str(told.value.hint)
    assert house.months() == ["2026-01"]
    away.rename(house.mirrors[1])
    house.phone.code = code
    assert house.do(TURN_NOW).deleted == ["2026-01"]


def test_without_an_epoch_there_is_none_to_end(make_house: Any) -> None:
    house = make_house()
    house.phone.code = lambda _="": pytest.fail("a code was asked for")
    with pytest.raises(InterlockError, match="there is no epoch to end"):
        house.do(TURN_NOW)
    shutil.rmtree(house.mirrors[0])
    with pytest.raises(InterlockError, match="there is no epoch to end"):
        house.do(TURN_NOW)


def test_a_person_can_end_the_epoch_early(house: Any) -> None:
    house.do(SHRED, **ADA)
    house.clock.step(timedelta(days=1))
    done = house.do(TURN_NOW)
    assert (done.epoch, done.deleted, done.failed) == ("2026-01", ["2026-01"], {})
    assert [(epoch.name, epoch.version) for epoch in house.app.vault.epochs()] == [("2026-01", 1), ("2026-01", 2)]
    assert receipts(house.app)[0].backups_at is not None
    assert read_all(house) == LIVING
    house.phone.code = lambda _="": "000000"
    with pytest.raises(DeniedError):
        house.do(TURN_NOW)


def test_nothing_is_deleted_while_state_cannot_be_backed_up(house: Any) -> None:
    house.do(SHRED, **ADA)
    away = (house.home / "backups").rename(house.home / "unplugged")
    at(house, FEBRUARY)
    done = turn(house)
    assert (done.rewrapped, done.ended, done.deleted) == (4, [], [])
    assert isinstance(done.failed["end"], UnavailableError)
    assert house.months() == ["2026-01", "2026-02"]
    assert receipts(house.app)[0].backups_at is None
    assert receipts(house.app)[0].late
    assert read_all(house) == LIVING
    away.rename(house.home / "backups")
    house.clock.step(timedelta(hours=1))
    again = turn(house)
    assert (again.epoch, again.rewrapped, again.ended, again.deleted, again.failed) == (
        None, 0, ["2026-01"], ["2026-01"], {},
    )  # fmt: skip
    assert house.months() == ["2026-02"]


def test_an_epoch_stays_open_until_every_store_holds_the_backup(house: Any) -> None:
    text = (house.home / "guard.toml").read_text()
    (house.home / "guard.toml").write_text(text + '\n[[backup.store]]\nname = "second"\npath = "second"\n')
    house.reopen()
    house.do(INIT, stores=["second"])
    house.do(SHRED, **ADA)
    house.do(BACKUP, stores=[])
    away = (house.home / "second").rename(house.home / "unplugged")
    at(house, FEBRUARY)
    done = turn(house)
    assert (done.rewrapped, done.ended, done.deleted) == (4, [], [])
    assert "epoch 2026-01 stays open" in str(done.failed["end"])
    assert "store second" in str(done.failed["end"])
    assert house.months() == ["2026-01", "2026-02"]
    assert receipts(house.app)[0].backups_at is None
    assert is_due(house.app)
    away.rename(house.home / "second")
    house.clock.step(timedelta(hours=1))
    again = turn(house)
    assert (again.ended, again.deleted, again.failed) == (["2026-01"], ["2026-01"], {})
    assert receipts(house.app)[0].backups_at == house.clock.now()


def test_a_mirror_that_is_away_keeps_the_receipt_pending_until_it_is_back(house: Any) -> None:
    house.do(SHRED, **ADA)
    at(house, FEBRUARY)
    away = house.mirrors[1].rename(house.mirrors[1].with_name("away"))
    first = turn(house)
    assert first.epoch is None  # a new epoch needs both mirrors
    assert {"begin", "mirror two"} <= set(first.failed)
    away.rename(house.mirrors[1])
    vault = house.app.vault
    delete = vault.mirrors[1].delete
    vault.mirrors[1].delete = lambda *_: (_ for _ in ()).throw(UnavailableError("the disk is read-only"))
    second = turn(house)
    assert (second.epoch, second.ended, second.deleted) == ("2026-02", ["2026-01"], [])
    assert "read-only" in str(second.failed["mirror two"])
    assert [path.name for path in house.mirrors[0].rglob("2026-01-*")] == []
    (receipt,) = receipts(house.app)
    assert (receipt.backups_at, receipt.late) == (None, True)
    at(house, FEBRUARY + timedelta(days=4))
    assert [epoch.name for epoch in late(house.app)] == ["2026-01"]
    vault.mirrors[1].delete = delete
    third = turn(house)
    assert (third.deleted, third.failed) == (["2026-01"], {})
    assert receipts(house.app)[0].backups_at == house.clock.now()
    assert late(house.app) == ()


def test_a_mirror_restored_from_an_old_disk_is_emptied_again_and_the_receipt_says_later(house: Any) -> None:
    house.do(SHRED, **ADA)
    disk = shutil.copytree(house.mirrors[1], house.mirrors[1].with_name("old-disk"))
    at(house, FEBRUARY)
    turn(house)
    assert receipts(house.app)[0].backups_at == FEBRUARY
    shutil.rmtree(house.mirrors[1])
    disk.rename(house.mirrors[1])
    house.clock.step(timedelta(days=1))
    assert is_due(house.app)
    done = turn(house)
    assert (done.risen, done.copied, done.failed) == (1, 1, {})
    assert house.months() == ["2026-02"]
    assert receipts(house.app)[0].backups_at == FEBRUARY + timedelta(days=1)
    house.app.vault.forget()
    assert read_all(house) == LIVING


def test_keys_made_during_the_turn_go_with_the_new_epoch(house: Any) -> None:
    at(house, FEBRUARY)
    house.app.subjects.for_writing(Person("customer", key_bytes((4,))), "account")
    done = turn(house)
    assert (done.rewrapped, done.failed) == (6, {})
    assert epochs(house.app).current.name == "2026-02"


def test_what_interrupted_shredding_left_is_finished_by_the_job(house: Any) -> None:
    away = (house.home / "backups").rename(house.home / "unplugged")
    assert house.do(SHRED, **ADA).receipts[0].left == ("register local",)
    away.rename(house.home / "backups")
    assert is_due(house.app)
    done = turn(house)
    assert (done.finished, done.failed) == (1, {})
    assert receipts(house.app)[0].left == ()
    assert len(house.app.backups.register("local").read()) == 1


def test_a_state_from_before_the_shredding_is_shredded_again(house: Any, tmp_path: Path) -> None:
    house.app.state.copy_to(tmp_path / "old.db")
    house.do(SHRED, **ADA)
    house.app.close()
    path = house.home / "var/state.db"
    for each in house.home.glob("var/state.db*"):
        each.unlink()
    shutil.copy(tmp_path / "old.db", path)
    house.reopen()
    assert house.read(1, 1, 1) == "ada@example.org"
    house.clock.step(timedelta(minutes=10))
    assert is_due(house.app)
    done = turn(house)
    assert (done.again, done.failed) == (1, {})
    with pytest.raises(ShreddedError):
        house.read(1, 1, 1)
    assert read_all(house) == LIVING
    assert not is_due(house.app)
    assert len(house.app.backups.register("local").read()) == 1


def test_who_came_back_before_a_store_was_told_is_not_shredded_again(house: Any) -> None:
    away = (house.home / "backups").rename(house.home / "unplugged")
    (receipt,) = house.do(SHRED, **ADA).receipts
    house.clock.step(timedelta(days=1))
    key = house.app.subjects.for_writing(person(1), "account")
    house.clock.step(timedelta(days=1))
    away.rename(house.home / "backups")
    assert turn(house).finished == 1
    assert turn(house).again == 0
    assert house.app.subjects.by_id(key.id) == key
    assert [each.at for each in house.app.backups.register("local").read()] == [receipt.live_at]


def test_stores_that_learn_at_different_times_hold_the_same_register(house: Any) -> None:
    text = (house.home / "guard.toml").read_text()
    second = '\n[[backup.store]]\nname = "second"\npath = "second"\n'
    (house.home / "guard.toml").write_text(text + second)
    house.reopen()
    house.do(INIT, stores=["second"])
    away = (house.home / "second").rename(house.home / "unplugged")
    house.do(SHRED, **ADA)
    house.clock.step(timedelta(hours=1))
    house.do(SHRED, kind="customer", keys=["2"], classes=["account"])
    house.clock.step(timedelta(hours=1))
    away.rename(house.home / "second")
    turn(house)
    local, other = (house.app.backups.register(name) for name in ("local", "second"))
    assert local.position() == other.position()
    assert local.position().count == 2


def test_a_store_that_was_told_before_the_run_was_killed_is_not_told_twice(house: Any) -> None:
    def die(name: str) -> None:
        if name == "keys.shred.step" and house.app.backups.register("local").read():
            raise KeyboardInterrupt

    faults.install(die)
    with pytest.raises(KeyboardInterrupt):
        house.do(SHRED, **ADA)
    faults.install(None)
    assert receipts(house.app)[0].left == ("register local",)
    turn(house)
    assert receipts(house.app)[0].left == ()
    assert len(house.app.backups.register("local").read()) == 1


def test_a_backup_of_an_epoch_that_has_ended_says_that_it_is_too_old(house: Any, tmp_path: Path) -> None:
    house.app.state.copy_to(tmp_path / "old.db")
    at(house, FEBRUARY)
    turn(house)
    house.app.close()
    for each in house.home.glob("var/state.db*"):
        each.unlink()
    shutil.copy(tmp_path / "old.db", house.home / "var/state.db")
    house.reopen()
    with pytest.raises(UnavailableError, match="no mirror of the vault holds the key of epoch 2026-01"):
        house.read(1, 2, 2)


def test_the_turn_waits_for_nobody_who_uses_the_keys(house: Any) -> None:
    with house.app.hold(("state",), timedelta(), "another"), pytest.raises(BusyError):
        turn(house)


def test_the_commands(house: Any) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(main, words, obj=house.app, standalone_mode=False)

    early = run("--json", "keys", "rewrap", "--epoch")
    assert json.loads(early.stdout) == {
        "epoch": "2026-01", "rewrapped": 5, "ended": ["2026-01"], "deleted": ["2026-01"], "copied": 0, "risen": 0,
        "adopted": 0, "finished": 0, "again": 0, "failed": {},
    }  # fmt: skip
    assert isinstance(run("keys", "rewrap", "--epoch", "--root").exception, UsageError)
    assert "The key of epoch 2026-01 is deleted" in run("keys", "rewrap", "--epoch").stderr
    at(house, FEBRUARY)
    job = run("--json", "run", "epoch")
    assert json.loads(job.stdout)[0]["state"] == "ok"
    assert run_job(house.app, house.caller(), "epoch").state.value == "ok"


CLOUD = """
[[vault]]
name = "one"
path = "../vault-one"

[[vault]]
name = "bucket"
kind = "s3"
bucket = "vault"
prefix = "guard"
region = "eu-central-1"

[[vault]]
name = "kms"
kind = "kms"
region = "eu-central-1"
window = 10
"""


def test_with_kms_the_receipt_counts_its_window(
    make_house: Callable[..., Any], seal: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("s3", "eu-central-1")
        client.create_bucket(Bucket="vault", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        house = make_house(CLOUD)
        seal(house)
        assert house.app.vault.missing() == ()
        (receipt,) = house.do(SHRED, **ADA).receipts
        assert receipt.pending_until == datetime(2026, 2, 11, tzinfo=UTC)
        at(house, FEBRUARY)
        done = turn(house)
        assert (done.deleted, done.failed) == (["2026-01"], {})
        there = client.list_objects_v2(Bucket="vault", Prefix="guard/epochs/")["Contents"]
        names = [each["Key"].rpartition("/")[2][:7] for each in there]
        assert names == house.months() == ["2026-02"]
        gone = house.app.vault.epochs()[0].gone_at
        (receipt,) = receipts(house.app)
        assert (receipt.backups_at, receipt.pending_until, receipt.late) == (None, gone, False)
        assert not is_due(house.app)
        assert read_all(house) == LIVING
        at(house, gone)
        assert receipts(house.app)[0].backups_at == gone
        key = boto3.client("kms", "eu-central-1").describe_key(KeyId=f"alias/guard/{kms_name(house, 0)}")["KeyMetadata"]
        assert (key["KeyState"], key["DeletionDate"]) == ("PendingDeletion", gone)


def kms_name(house: Any, number: int) -> str:
    epoch = house.app.vault.epochs()[number]
    return f"epochs/{house.app.state.store_id.hex}/{epoch.name}-{epoch.id:010x}"


def test_the_shop_of_a_lost_machine_is_readable_with_state_root_and_vault(house: Any) -> None:
    """What is left of a shop after a fire: its database, a backup of state, the root key, one mirror of the vault."""
    at(house, FEBRUARY)
    turn(house)
    house.do(BACKUP, stores=[])
    shutil.rmtree(house.mirrors[0])
    house.reopen()
    assert read_all(house) == LIVING
