"""`guard backup`: who may do what, what is recorded, what is shown, how it ends."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from guard.actions import Caller, perform
from guard.actions.backup import INIT, PRUNE_LARGE, RESTORE, RUN, init_with
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli.main import call, main
from guard.clock import SteppedClock
from guard.crypto.recovery import kit_id
from guard.errors import DeniedError, Exit, InterlockError

SECOND = """
[[backup.store]]
name = "second"
path = "second"
"""


class Folder:
    """A guard folder with a repository in two stores."""

    def __init__(self, app: App, person: Any) -> None:
        self.app = app
        self.person = person

    @property
    def caller(self) -> Caller:
        return Caller(self.app.access.person_of(os_user()), ask=self.person.code)

    def guard(self, *words: object) -> Result:
        return CliRunner().invoke(main, list(map(str, words)), obj=self.app, standalone_mode=False)

    def shown(self, *words: object) -> object:
        return json.loads(self.guard("--json", "backup", *words).stdout)

    def recorded(self, what: str) -> list[str]:
        return [each.outcome for each in self.app.ledger.list(Query(what=what), 100)]


@pytest.fixture
def guarded(tmp_path: Path, clock: SteppedClock, phone: Any, shop_file: Path) -> Iterator[Folder]:
    person = phone
    home = tmp_path / "home"
    made = set_up(home, Answers("Shop", f"sqlite:///{shop_file}", "Ada", os_user()), clock, person.enrol)
    made.app.close()
    with made.config.open("a") as file:
        file.write(SECOND)
    app = App.open(made.config, clock)
    folder = Folder(app, person)
    perform(app, folder.caller, INIT)
    yield folder
    app.close()


def test_init_needs_a_code_and_makes_a_slot_for_the_kit(guarded: Folder) -> None:
    assert guarded.recorded("backup.init") == ["begun", "done"]
    assert isinstance(guarded.guard("backup", "init").exception, DeniedError)
    kit = kit_id(guarded.app.keyring.recovery_public() or b"")
    assert sorted(path.name for path in (guarded.app.home / "second/keys").iterdir()) == [f"recovery-{kit}-1"]


def test_a_passphrase_for_a_slot_is_in_no_record(guarded: Folder) -> None:
    (guarded.app.home / "second").rename(guarded.app.home / "gone")
    found = perform(guarded.app, guarded.caller, init_with("a passphrase nobody guesses"), stores=["second"])
    kit = kit_id(guarded.app.keyring.recovery_public() or b"")
    assert found.done["second"].slots == (f"keys/recovery-{kit}-1", "keys/passphrase-1")
    guarded.app.close()
    stored = b"".join(path.read_bytes() for path in (guarded.app.home / "var").rglob("*") if path.is_file())
    assert b"nobody guesses" not in stored


def test_a_run_needs_no_code_and_says_what_it_did(guarded: Folder) -> None:
    done = guarded.guard("backup", "run")
    assert done.return_value == Exit.DONE, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["store", "snapshot", "files", "size", "new", "known", "stored", "state"]
    assert [row.split()[0] for row in rows] == ["local", "second"]
    assert guarded.recorded("backup.run") == ["begun", "done"]
    known = guarded.shown("run")["stores"]
    assert all(each["new"] < each["bytes"] / 2 for each in known)
    (entry, *_) = [each for each in guarded.app.ledger.list(Query(what="backup.run"), 100) if each.outcome == "done"]
    assert entry.objects[0].startswith("local/")


def test_a_store_that_is_down_ends_with_4_and_is_recorded_as_partly(guarded: Folder) -> None:
    (guarded.app.home / "second").rename(guarded.app.home / "unplugged")
    done = guarded.guard("backup", "run")
    assert done.return_value == Exit.PARTLY
    assert "store second: the folder" in done.stderr
    assert guarded.recorded("backup.run") == ["begun", "partly"]
    assert guarded.guard("backup", "list").return_value == Exit.PARTLY
    assert guarded.guard("backup", "run", "--store", "local").return_value == Exit.DONE


def test_a_file_that_is_gone_ends_with_4_and_names_no_file(guarded: Folder, shop_file: Path) -> None:
    shop_file.unlink()
    done = guarded.guard("backup", "run")
    assert done.return_value == Exit.PARTLY
    assert "shop is not backed up" in done.stderr


def test_the_list_shows_the_oldest_first(guarded: Folder) -> None:
    for _ in range(2):
        guarded.guard("backup", "run", "--store", "local")
        guarded.app.clock.sleep(timedelta(days=1))
    rows = guarded.shown("list", "--store", "local")["snapshots"]
    assert [each["at"][:10] for each in rows] == ["2026-01-05", "2026-01-06"]
    text = guarded.guard("backup", "list", "--store", "local").stdout
    assert text.splitlines()[1].split()[:2] == ["local", rows[0]["id"][:12]]


def test_a_restore_needs_a_code_and_brings_all_back(guarded: Folder, tmp_path: Path) -> None:
    guarded.guard("backup", "run")
    to = tmp_path / "out"
    denied = guarded.guard("backup", "restore", "--to", to)
    assert isinstance(denied.exception, DeniedError)
    assert guarded.recorded("backup.restore") == ["denied"]
    assert not to.exists()
    args = {"store": "second", "snapshot": "latest", "to": str(to)}
    done = perform(guarded.app, guarded.caller, RESTORE, **args)
    policies = sorted(path.name for path in (guarded.app.home / "policies").iterdir())
    assert sorted(path.name for path in (to / "policies").iterdir()) == policies
    assert done.files == 2 + len(policies)
    with closing(sqlite3.connect(to / "shop/shop.db")) as shop:
        assert shop.execute("SELECT count(*) FROM customer").fetchone() == (5000,)
    with pytest.raises(InterlockError, match="already"):
        perform(guarded.app, guarded.caller, RESTORE, **args)
    assert guarded.recorded("backup.restore") == ["denied", "begun", "done"]


def test_damage_ends_with_11_and_is_recorded(guarded: Folder) -> None:
    guarded.guard("backup", "run")
    assert guarded.guard("backup", "verify", "--data").return_value == Exit.DONE
    (pack,) = (guarded.app.home / "second/packs").glob("*/*")
    raw = bytearray(pack.read_bytes())
    raw[100] ^= 1
    pack.write_bytes(raw)
    assert guarded.guard("backup", "verify").return_value == Exit.DONE
    done = guarded.guard("backup", "verify", "--data")
    assert done.return_value == Exit.TAMPERED
    assert f"store second: packs/{pack.parent.name}/{pack.name}" in done.stderr
    assert guarded.recorded("backup.verify")[-1] == "failed"
    assert guarded.shown("verify", "--data")["local"]["findings"] == []


def test_a_snapshot_that_was_taken_away_is_missed(guarded: Folder) -> None:
    guarded.guard("backup", "run")
    (manifest,) = (guarded.app.home / "backups/snapshots").iterdir()
    guarded.guard("backup", "run")
    manifest.unlink()
    done = guarded.guard("backup", "verify", "--store", "local")
    assert done.return_value == Exit.TAMPERED
    assert f"snapshots/{manifest.name}: is missing" in done.stderr


def test_a_nightly_prune_is_routine_and_a_large_one_is_not(guarded: Folder) -> None:
    for _ in range(13):
        perform(guarded.app, guarded.caller, RUN, stores=["local"])
        guarded.app.clock.sleep(timedelta(days=1))
    assert guarded.guard("backup", "prune").return_value == Exit.DONE
    policy = guarded.app.home / "policies/backup.toml"
    policy.write_text(policy.read_text().replace("daily = 30", "daily = 1"))
    planned = guarded.shown("prune", "--dry-run", "--store", "local")
    assert (planned[0]["kept"], planned[0]["dropped"]) == (1, 12)
    refused = guarded.guard("backup", "prune")
    assert isinstance(refused.exception, InterlockError)
    assert "12 days" in str(refused.exception)
    assert isinstance(guarded.guard("backup", "prune", "--large").exception, DeniedError)
    assert len(guarded.shown("list", "--store", "local")["snapshots"]) == 13
    done = perform(guarded.app, guarded.caller, PRUNE_LARGE, stores=["local"])
    assert len(done.done["local"].dropped) == 12
    assert guarded.guard("backup", "verify", "--store", "local").return_value == Exit.DONE


def test_shares_open_a_repository_only_where_state_is_lost(guarded: Folder, tmp_path: Path) -> None:
    guarded.guard("backup", "run")
    home = guarded.app.home
    shares = [word for path in sorted((home / "recovery-kit").iterdir())[:2] for word in ("--share-file", path)]
    refused = guarded.guard("backup", "list", *shares)
    assert isinstance(refused.exception, InterlockError)
    guarded.app.close()
    for path in (home / "var").iterdir():
        if path.is_file():
            path.unlink()
    (home / "keys/root.key").unlink()
    lost = Folder(App.open(home / "guard.toml", guarded.person.clock), guarded.person)
    assert lost.guard("backup", "list").exception is not None
    assert "no terminal" in str(lost.guard("backup", "list", "--passphrase").exception)
    assert len(lost.shown("list", *shares)["snapshots"]) == 1
    done = lost.guard("backup", "restore", "--to", tmp_path / "out", *shares)
    assert done.exception is None
    assert f"noted in {home / 'var/unrecorded.ndjson'}" in done.stderr
    notes = [json.loads(line) for line in (home / "var/unrecorded.ndjson").read_text().splitlines()]
    assert [(each["outcome"], each["by"], each["store"]) for each in notes] == [
        ("begun", "kit", "local"), ("done", "kit", "local"),
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "out").rglob("*.db")} == {"shop.db", "state.db"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--store", "locl"], Exit.USAGE, "there is no store locl"),
        (["restore", "--to", "out", "nothing"], Exit.USAGE, "0 snapshots are called 'nothing'"),
        (["restore"], Exit.USAGE, "--to"),
    ],
)
def test_wrong_input_is_explained(
    guarded: Folder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words, code, said: str
) -> None:
    home = guarded.app.home
    guarded.app.close()
    assert call(["--config", str(home / "guard.toml"), "backup", *words]) == code
    assert said in capfd.readouterr().err
