"""State is lost and brought back: what holds no longer, what is recorded, what goes wrong and leaves nothing behind."""

import getpass
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from guard import faults
from guard.access.store import FACTOR, GRANT, PENDING, RECOVERY, STANDING
from guard.actions import Action, Caller, Outcome, perform, unrecorded
from guard.actions.access import GRANT as APPROVE
from guard.actions.audit import ANCHOR
from guard.actions.backup import INIT, RUN, init_with
from guard.actions.lost import Lost, Opening, bring_back, require_lost, restore_noted
from guard.actions.setup import Answers, set_up
from guard.actions.state import BACKUP, save
from guard.app import App, declare_tables
from guard.audit import Query
from guard.backup.erasures import Effect
from guard.clock import SteppedClock
from guard.crypto import recovery
from guard.errors import (
    BusyError,
    ClockError,
    ConfigError,
    DeniedError,
    GuardError,
    InterlockError,
    TamperedError,
    UnavailableError,
)
from guard.events import Activity, Ending, Level, RunId
from guard.state import METADATA, place, settle

PASSPHRASE = "six random words are long enough"


class House:
    """A guard folder whose recovery kit lies elsewhere, and the new machine after the fire."""

    def __init__(self, home: Path, clock: SteppedClock, phone: Any) -> None:
        self.home = home
        self.clock = clock
        self.phone = phone
        kit = sorted((home / "recovery-kit").iterdir())
        shares = [recovery.read_share_file(path) for path in kit]
        self.private = recovery.combine(shares[:2])
        self.asked: list[str] = []
        self.app = self.open(home)

    def open(self, home: Path) -> App:
        self.app = App.open(home / "guard.toml", self.clock, self.ask)
        return self.app

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return PASSPHRASE if "assphrase" in question else self.phone.code()

    @property
    def caller(self) -> Caller:
        return Caller(self.app.access.person_of(getpass.getuser()), ask=self.phone.code)

    def lose(self, *names: str) -> App:
        """Lose files of the folder: guard's database, and what else is named."""
        self.app.close()
        for each in (self.home / "var").iterdir():
            if each.is_file():
                each.unlink()
        for name in names:
            path = self.home / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.open(self.home)

    def lost(self, **other: Any) -> Lost:
        given = {"private": self.private, **other}
        opening = Opening(given.pop("private"), given.pop("passphrase", None))
        return Lost(
            **{"store": "local", "snapshot": "latest", "opening": opening, "os_user": getpass.getuser(), **given}
        )

    def left(self) -> list[str]:
        """What lies in var beside guard's locks and scratch."""
        return sorted({path.name for path in (self.home / "var").iterdir()} - {"locks", "scratch"})


@pytest.fixture
def make_house(tmp_path: Path, clock: SteppedClock, phone: Any) -> Iterator[Callable[..., House]]:
    """Set guard up for a small shop in the folder of a name, with a repository."""
    houses: list[House] = []

    def make(name: str, **more: Any) -> House:
        shop = tmp_path / f"{name}.db"
        with closing(sqlite3.connect(shop)) as file:
            file.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)")
            file.commit()
        own = type(phone)(clock)
        answers = Answers("Shop", f"sqlite:///{shop}", "Ada", getpass.getuser(), **more)
        set_up(tmp_path / name, answers, clock, own.enrol).app.close()
        made = House(tmp_path / name, clock, own)
        perform(made.app, made.caller, init_with(PASSPHRASE))
        houses.append(made)
        return made

    yield make
    for each in houses:
        each.app.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house("home")


def saved(house: House) -> None:
    perform(house.app, house.caller, BACKUP)


# state backup ---------------------------------------------------------------------------------------------------------


def test_a_backup_of_state_is_small_read_back_and_counted(house: House) -> None:
    assert house.app.backups.state_saved_at() is None
    found = perform(house.app, house.caller, BACKUP).done["local"]
    assert [source.name for source in found.sources] == ["state", "policies"]
    assert house.app.backups.state_saved_at() == house.clock.now()
    assert house.app.backups.newest("local") is None  # the shop is in none
    (_, done) = house.app.ledger.list(Query(what="state.backup"), 10)
    assert (done.outcome, done.facts, done.objects) == (
        Ending.DONE, {"local": "read back"}, (f"local/{found.snapshot}",)
    )  # fmt: skip
    with house.app.state.read() as tx:
        assert found.snapshot in house.app.backups.known(tx, "local")


def test_what_does_not_come_back_from_the_store_is_no_backup(house: House) -> None:
    def spoil(name: str) -> None:
        if name == "backup.state.published":
            (pack,) = (house.home / "backups/packs").glob("*/*")
            raw = bytearray(pack.read_bytes())
            raw[len(raw) // 3] ^= 1
            pack.write_bytes(raw)

    faults.install(spoil)
    try:
        with pytest.raises(TamperedError):
            saved(house)
    finally:
        faults.install(None)
    assert house.app.ledger.list(Query(what="state.backup"), 10)[-1].outcome is Ending.FAILED


def test_another_action_saves_state_within_its_work(house: House) -> None:
    action = Action(
        "keys.rotate",
        Level.ROUTINE,
        Activity.ENTITY_CREATE,
        lambda app, task: Outcome(save(app, task)),
        holds=("keys",),
    )
    found = perform(house.app, house.caller, action)
    assert set(found.done) == {"local"}
    what = [(each.what, each.outcome.value) for each in house.app.ledger.list(limit=4)]
    assert what == [
        ("keys.rotate", "begun"), ("state.backup", "begun"), ("state.backup", "done"), ("keys.rotate", "done")
    ]  # fmt: skip


def test_work_that_needs_a_backup_fails_when_no_store_takes_it(house: House) -> None:
    (house.home / "backups").rename(house.home / "unplugged")
    with pytest.raises(UnavailableError):
        saved(house)


# state restore --------------------------------------------------------------------------------------------------------


def test_it_comes_back_whole_with_a_new_log(house: House) -> None:
    saved(house)
    anchored = perform(house.app, house.caller, ANCHOR).size
    store_id = house.app.state.store_id
    app = house.lose("keys/root.key")
    back = bring_back(app, house.lost())
    assert {name.partition("-")[0] for name in house.left()} == {"state.db"}
    assert (house.home / "var/state.db").stat().st_mode & 0o777 == 0o600
    assert app.state.store_id == store_id
    assert (back.known, back.policies, back.problems) == (True, False, ())
    assert back.restart.lost == anchored - back.restart.size == 2
    verdict = app.ledger.verify()
    assert verdict.restarts == (back.restart,)
    assert verdict.anchored == verdict.size
    begun, done, resolved = app.ledger.list(limit=3)
    assert [begun.what, done.what, resolved.what] == ["audit.restart", "state.restore", "state.backup"]
    assert (resolved.outcome, resolved.facts) == (Ending.RESOLVED, {"was": "killed"})
    assert done.facts["gate"] == f"kit {recovery.kit_id(recovery.public_of(house.private))}"
    assert app.state.open_runs() == ()


def test_no_key_id_is_given_twice(house: House) -> None:
    saved(house)
    given = {house.app.keyring.ensure(f"column/{number}").id for number in range(1, 30)}
    app = house.lose()
    bring_back(app, house.lost())
    assert app.keyring.ensure("column/1").id > max(given) + 2**19


def test_a_snapshot_that_is_restored_twice_does_not_give_the_ids_of_the_first_time_again(house: House) -> None:
    saved(house)
    given: list[int] = []
    for _ in range(2):
        app = house.lose()
        bring_back(app, house.lost())
        given += [app.keyring.ensure(f"column/{number}").id for number in range(1, 4)]
    assert len(set(given)) == 6
    assert abs(given[0] - given[3]) > 3


def test_what_was_given_holds_no_longer(house: House) -> None:
    perform(house.app, house.caller, APPROVE, what="retention.run")
    person = house.caller.who
    code = house.phone.code()
    with house.app.state.read() as tx:
        assert tx.execute(RECOVERY.select()).fetchall()
    saved(house)
    app = house.lose()
    back = bring_back(app, house.lost())
    assert (back.voided.approvals, back.voided.recovery_codes, back.voided.factors) == (1, 10, 1)
    assert [each for each in app.access.requests() if each.kind == "standing"] == []
    assert [each.recovery_codes for each in app.access.people() if each.os_user] == [0]
    house.clock.step(timedelta(seconds=-1))
    house.clock.step(timedelta(seconds=1))
    with pytest.raises(DeniedError, match="not accepted"):
        perform(app, Caller(person, ask=lambda _: code), INIT)
    step = house.phone.code()  # the next step, which was taken while the clock showed the one before
    with pytest.raises(DeniedError, match="not accepted"):
        perform(app, Caller(person, ask=lambda _: step), INIT)
    assert step != house.phone.code()
    perform(app, Caller(person, ask=house.phone.code), INIT)
    with app.state.read() as tx:
        assert all(row.spent_at for row in tx.execute(GRANT.select().where(GRANT.c.until < "2026-01-05T09:04")))
        assert all(row.ended for row in tx.execute(PENDING.select()))
        assert all(row.ended_at for row in tx.execute(STANDING.select()))
        assert tx.execute(FACTOR.select()).one().tries == 0


def test_the_passphrase_alone_opens_it_where_the_root_key_is_left(house: House) -> None:
    saved(house)
    app = house.lose()
    back = bring_back(app, house.lost(private=None, passphrase=PASSPHRASE))
    assert back.known
    assert app.ledger.list(limit=2)[0].facts["gate"] == "passphrase"
    assert app.keyring.by_id(1)


def test_the_passphrase_opens_the_repository_and_shares_the_keys(house: House) -> None:
    for slot in (house.home / "backups/keys").glob("recovery-*"):
        slot.unlink()
    saved(house)
    for slot in (house.home / "backups/keys").glob("recovery-*"):
        slot.unlink()
    app = house.lose("keys/root.key")
    with pytest.raises(ConfigError, match="no recovery slot"):
        bring_back(app, house.lost())
    with pytest.raises(GuardError) as caught:
        bring_back(app, house.lost(private=None, passphrase=PASSPHRASE))
    assert "root" in str(caught.value) + str(caught.value.hint)
    assert house.left() == []
    bring_back(app, house.lost(passphrase=PASSPHRASE))
    assert app.ledger.list(limit=2)[0].facts["gate"].startswith("passphrase and kit ")


def test_on_a_new_machine_with_guard_toml_only(house: House, tmp_path: Path) -> None:
    saved(house)
    house.app.close()
    new = tmp_path / "new"
    new.mkdir()
    (new / "guard.toml").write_text((house.home / "guard.toml").read_text())
    house.home, old = new, house.home
    app = house.open(new)
    back = bring_back(app, house.lost(store=str(old / "backups")))
    assert back.policies
    assert (new / "policies/access.toml").read_bytes() == (old / "policies/access.toml").read_bytes()
    assert back.restart.unread == ("folder",)
    assert any("anchor folder" in problem for problem in back.problems)
    for name in ("var", "keys"):
        assert (new / name).stat().st_mode & 0o777 == 0o700
    assert app.access.people()


def test_a_passphrase_as_root_is_asked_for_once(make_house: Callable[..., House]) -> None:
    house = make_house("other", root="passphrase", passphrase=PASSPHRASE)
    saved(house)
    app = house.lose()
    house.asked.clear()
    bring_back(app, house.lost(private=None, passphrase=PASSPHRASE))
    assert len(house.asked) == 1


def test_a_store_that_does_not_tell_its_erasures_is_named(house: House) -> None:
    settings = house.home / "guard.toml"
    settings.write_text(settings.read_text() + '[[backup.store]]\nname = "second"\npath = "second"\n')
    house.app.close()
    house.open(house.home)
    perform(house.app, house.caller, INIT, stores=["second"])
    saved(house)
    register = house.app.backups.register("second")
    register.append([Effect(effect="erase", table="customer", key="0169")], house.clock.now())
    app = house.lose()
    (house.home / "second").rename(house.home / "unplugged")
    back = bring_back(app, house.lost())
    assert back.erasures == 0
    assert back.problems[0].startswith("store second: its erasures: the folder")
    app = house.lose()
    (house.home / "unplugged").rename(house.home / "second")
    back = bring_back(app, house.lost())
    assert (back.erasures, back.problems) == (1, ())


def test_an_older_snapshot_by_its_id_and_one_of_the_night(house: House) -> None:
    first = perform(house.app, house.caller, RUN).done["local"]
    house.clock.step(timedelta(hours=1))
    saved(house)
    app = house.lose()
    with pytest.raises(ConfigError, match="0 snapshots"):
        bring_back(app, house.lost(snapshot="0123456789"))
    assert bring_back(app, house.lost(snapshot=first.snapshot[:12])).snapshot == first.snapshot


def test_without_a_snapshot_of_state_it_says_so(house: House) -> None:
    app = house.lose()
    with pytest.raises(ConfigError, match="no snapshot yet"):
        bring_back(app, house.lost())
    assert house.left() == []


def test_newer_erasures_are_told(house: House) -> None:
    saved(house)
    register = house.app.backups.register("local")
    position = register.append([Effect(effect="erase", table="customer", key="0169")], house.clock.now())
    app = house.lose()
    back = bring_back(app, house.lost())
    assert back.erasures == 1
    assert app.ledger.list(Query(what="state.restore"), 1)[0].digests["erasures"] == position.head.hex()


def test_somebody_guard_does_not_know_is_recorded_by_a_digest(house: House) -> None:
    saved(house)
    app = house.lose()
    back = bring_back(app, house.lost(os_user="mallory"))
    assert (back.known, back.os_users) == (False, (getpass.getuser(),))
    done = app.ledger.list(Query(what="state.restore"), 1)[0]
    assert done.who == "guard"
    assert done.digests["os_user"] == app.keyring.digest("OS user", b"mallory")


# state in PostgreSQL --------------------------------------------------------------------------------------------------


def test_a_state_in_postgresql_is_saved_and_comes_back_in_either_database(house: House, postgres_url: str) -> None:
    import psycopg  # an extra: tests without PostgreSQL do not need it

    house.app.close()
    settings = house.home / "guard.toml"
    text = settings.read_text()
    settings.write_text(text.replace("sqlite:///var/state.db", postgres_url))
    declare_tables()
    settle(house.home / "var/state.db")
    place(house.home / "var/state.db", postgres_url)
    assert house.left() == []
    app = house.open(house.home)
    assert app.state.path is None
    saved(house)
    with app.state.read() as tx:
        names = set(inspect(tx).get_table_names())
    assert names == set(METADATA.tables)
    before = app.keyring.list()
    with pytest.raises(InterlockError, match="is here and opens"):
        bring_back(app, house.lost())
    app.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    app = house.open(house.home)
    with pytest.raises(ConfigError, match="not a state of guard") as caught:
        app.access.people()
    assert "guard state restore" in str(caught.value.hint)
    back = bring_back(app, house.lost())
    assert app.state.path is None
    assert app.keyring.list() == before
    assert app.ledger.verify().restarts == (back.restart,)
    assert house.left() == []
    app.close()
    settings.write_text(text)
    app = house.open(house.home)
    second = bring_back(app, house.lost())
    assert app.state.path == house.home / "var/state.db"
    assert app.keyring.list() == before
    assert second.restart.ahead.keys() == {back.restart.origin.rpartition("/")[2]}


# what is refused ------------------------------------------------------------------------------------------------------


def test_a_state_that_is_there_is_never_touched(house: House) -> None:
    saved(house)
    before = house.app.ledger.inspect().size
    for app in (house.app, house.open(house.home)):
        with pytest.raises(InterlockError, match="is here and opens"):
            bring_back(app, house.lost())
    assert house.app.ledger.inspect().size == before


@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
def test_what_is_left_of_a_state_is_not_written_over(house: House, end: str) -> None:
    saved(house)
    app = house.lose()
    (house.home / f"var/state.db{end}").write_bytes(b"what is left of it" * 300)
    with pytest.raises(InterlockError, match=r"does not open|is in the way") as caught:
        bring_back(app, house.lost())
    assert "away" in str(caught.value.hint)
    assert house.left() == [f"state.db{end}"]


def test_a_locked_state_is_not_a_lost_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(house)
    house.app.close()
    monkeypatch.setattr("guard.state.db._BUSY_SECONDS", 0.05)
    monkeypatch.setattr("guard.state.db._PRAGMAS", ("PRAGMA busy_timeout = 50",))
    with closing(sqlite3.connect(house.home / "var/state.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError):
            require_lost(house.open(house.home))


def test_wrong_shares_and_passphrases_are_denied(house: House) -> None:
    saved(house)
    app = house.lose()
    other = recovery.combine(recovery.new_kit().shares[:2])
    for wrong, error in (
        (house.lost(private=other), DeniedError),
        (house.lost(private=None, passphrase="wrong"), DeniedError),
        (house.lost(private=other, passphrase=PASSPHRASE), DeniedError),  # opens the repository, not the keys
        (house.lost(private=None), ConfigError),
        (house.lost(store="nowhere"), ConfigError),
    ):
        with pytest.raises(error):
            bring_back(app, wrong)
        assert house.left() == []


def test_another_shops_repository_is_refused(house: House, make_house: Callable[..., House]) -> None:
    saved(house)
    perform(house.app, house.caller, ANCHOR)
    other = make_house("other")
    saved(other)
    app = house.lose()
    where = str(other.home / "backups")
    with pytest.raises(DeniedError):
        bring_back(app, house.lost(store=where))
    with pytest.raises(DeniedError):  # it opens, but the root key here is another one's
        bring_back(app, house.lost(store=where, private=None, passphrase=PASSPHRASE))
    with pytest.raises(TamperedError, match="anchor folder"):  # all of it is the other shop's but the anchor
        bring_back(app, house.lost(store=where, private=other.private))
    assert house.left() == []


def test_a_changed_byte_anywhere_it_is_read_from_leaves_nothing(house: House) -> None:
    saved(house)
    app = house.lose()
    for folder in ("packs", "snapshots", "index"):
        path = next(each for each in sorted((house.home / "backups" / folder).rglob("*")) if each.is_file())
        sound = path.read_bytes()
        at = path.stat().st_mtime_ns
        for content in (sound[:200] + bytes([sound[200] ^ 1]) + sound[201:], sound):
            path.write_bytes(content)
            os.utime(path, ns=(at, at))  # a later one would make it late
            if content != sound:
                with pytest.raises(TamperedError):
                    bring_back(app, house.lost())
                assert house.left() == []
    bring_back(app, house.lost())


def test_a_copied_repository_makes_its_snapshots_late_and_one_is_named(house: House) -> None:
    saved(house)
    app = house.lose()
    for path in (house.home / "backups").rglob("*"):
        os.utime(path)
    with pytest.raises(ConfigError, match="no snapshot yet but 1 late ones"):
        bring_back(app, house.lost())
    (found,) = (house.home / "backups/snapshots").iterdir()
    assert bring_back(app, house.lost(snapshot=found.name[:12])).snapshot == found.name


def test_a_newer_state_than_this_guard_is_refused(house: House) -> None:
    house.app.state.write(lambda tx: house.app.state.meta.set(tx, "schema", "99"))
    house.app.backups.run_state()
    app = house.lose()
    with pytest.raises(InterlockError, match="schema 99"):
        bring_back(app, house.lost())
    assert house.left() == []


def test_a_clock_behind_the_snapshot_is_refused(house: House) -> None:
    house.clock.step(timedelta(hours=2))
    saved(house)
    house.clock.step(timedelta(hours=-3))
    app = house.lose()
    with pytest.raises(ClockError):
        bring_back(app, house.lost())
    assert house.left() == []


def test_ctrl_c_leaves_nothing_and_it_is_simply_run_again(house: House) -> None:
    saved(house)
    app = house.lose()

    def stop(what: str, done: int, total: int | None = None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_back(app, house.lost(), stop)
    assert house.left() == []
    bring_back(app, house.lost())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.slow
def test_a_full_disk_leaves_nothing(house: House) -> None:
    saved(house)
    app = house.lose()
    var = house.home / "var"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(var)], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        with pytest.raises(UnavailableError, match="no space left"):
            bring_back(app, house.lost())
        assert house.left() == []
    finally:
        subprocess.run(["umount", str(var)], check=True)
    bring_back(app, house.lost())


@pytest.mark.slow
def test_a_kill_anywhere_loses_nothing_and_a_second_run_works(house: House, fault_points: Any) -> None:
    """SIGKILL at each fault point: either state is back, whole, or the next run brings it back; never half of it."""
    saved(house)
    perform(house.app, house.caller, ANCHOR)
    house.lose()
    shutil.copytree(house.home, house.home.parent / "fire")

    def work() -> None:
        bring_back(house.open(house.home), house.lost())

    points = ["staged", "voided", "recorded", "settled", "policies", "linked", "placed", "held"]
    for nth in [*range(1, len(points) + 1)] * 5 + [len(points) + 1]:
        assert fault_points.killed(work, nth) == (nth <= len(points))
        app = house.open(house.home)
        if (house.home / "var/state.db").exists():
            assert nth >= points.index("linked")
            with pytest.raises(InterlockError, match="is here and opens"):
                bring_back(app, house.lost())
        else:
            bring_back(app, house.lost())
        perform(app, house.caller, ANCHOR)
        assert len(app.ledger.verify().restarts) == 1
        assert app.state.open_runs() == ()
        assert not (house.home / "var/.restoring").exists()
        app.close()
        shutil.rmtree(house.home)
        shutil.copytree(house.home.parent / "fire", house.home)


# what is done meanwhile -----------------------------------------------------------------------------------------------


def test_a_restore_without_state_is_noted_and_recorded_later(house: House, tmp_path: Path) -> None:
    perform(house.app, house.caller, RUN)
    app = house.lose()
    backups = house.lost().opening.backups(app.backups, "local")
    plan = backups.plan_restore("local", "latest", backups.wanted({"to": str(tmp_path / "out")}))
    done, noted = restore_noted(app, backups, plan, ("local", "kit", getpass.getuser()))
    assert noted.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InterlockError):  # it is there already: noted too
        restore_noted(app, backups, plan, ("local", "passphrase", "mallory"))
    with noted.open("a") as file:
        file.write('{"v":1,"what":"ever"}\n')
    house.clock.step(timedelta(hours=3))
    back = bring_back(app, house.lost())
    assert back.told_later == 4
    assert not noted.exists()
    told = app.ledger.list(Query(what="backup.restore"), 10)
    assert [(each.outcome.value, each.facts["gate"]) for each in told] == [
        ("begun", "kit"), ("done", "kit"), ("begun", "passphrase"), ("failed", "passphrase"),
    ]  # fmt: skip
    assert [each.who for each in told] == [house.caller.who.id] * 2 + ["guard"] * 2
    assert told[1].counts == {"files": done.files}
    assert told[1].facts["told"] == "later"
    assert told[1].facts["at"] < "2026-01-05T10"
    assert app.ledger.list(Query(what="state.restore"), 1)[0].counts["unreadable notes"] == 1
    assert app.ledger.verify()


def test_a_note_of_a_killed_restore_is_resolved_and_none_is_taken_twice(house: House) -> None:
    saved(house)
    app = house.lose()
    note = unrecorded.Note(
        run="ab" * 16, at="2026-01-05T10:00:00Z", outcome="begun", os_user="x", by="kit", store="s", snapshot="0" * 64
    )
    unrecorded.write(house.home / "var", note)
    bring_back(app, house.lost())
    assert [each.outcome.value for each in app.ledger.list(Query(run=RunId("ab" * 16)), 9)] == ["begun", "resolved"]
    house.clock.step(timedelta(hours=1))
    perform(app, house.caller, BACKUP)
    app = house.lose()
    unrecorded.write(house.home / "var", note)  # what a kill right after the first restore would have left
    assert bring_back(app, house.lost()).told_later == 0


def test_without_a_note_nothing_is_restored(house: House, tmp_path: Path) -> None:
    perform(house.app, house.caller, RUN)
    app = house.lose()
    (house.home / "var" / unrecorded.FILE).mkdir()
    backups = house.lost().opening.backups(app.backups, "local")
    plan = backups.plan_restore("local", "latest", backups.wanted({"to": str(tmp_path / "out")}))
    with pytest.raises(UnavailableError, match="cannot note"):
        restore_noted(app, backups, plan, ("local", "kit", "x"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnavailableError, match="cannot read"):
        bring_back(app, house.lost())
