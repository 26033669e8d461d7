"""`guard keys`: what is shown, who may do it, and that no share and no material is left anywhere."""

import getpass
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from guard.actions import Caller, perform
from guard.actions.kit import RECOVERY_MAKE, recovery_test
from guard.actions.rewrap import REWRAP
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.cli.main import main
from guard.clock import SteppedClock
from guard.crypto import recovery, store
from guard.errors import ConfigError, DeniedError, InterlockError
from guard.state import State


@pytest.fixture
def person(phone: Any) -> Any:
    """The administrator: enrols, and reads codes from the phone."""
    return phone


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock, person: Any) -> Iterator[App]:
    answers = Answers("Shop", "sqlite:///shop.db", "Ada", getpass.getuser())
    made = set_up(tmp_path / "home", answers, clock, person.enrol)
    yield made.app
    made.app.close()


@pytest.fixture
def share_files(app: App) -> list[Path]:
    return sorted((app.home / "recovery-kit").iterdir())


def run(app: App, *words: object) -> Result:
    return CliRunner().invoke(
        main, ["keys", *map(str, words)] if words[0] != "--json" else list(map(str, words)), obj=app
    )


def given(*paths: Path) -> list[object]:
    return [word for path in paths for word in ("--share-file", path)]


def caller(app: App, person: Any) -> Caller:
    return Caller(app.access.person_of(getpass.getuser()), ask=person.code)


def test_a_kek_that_was_replaced_is_not_left_in_the_log_of_state(app: App, person: Any) -> None:
    with app.state.read() as tx:
        old = [store.all_rows(tx)[0].recovery, store.roots_of(tx)[0].wrapped]
    files = sorted((app.home / "var").glob("state.db*"))
    assert any(old[1] in path.read_bytes() for path in files)
    other = State.open(f"sqlite:///{app.home}/var/state.db", app.clock)  # the log is not emptied by closing
    with other.read() as tx:
        store.all_rows(tx)
    perform(app, caller(app, person), REWRAP)
    left = [path.name for path in (app.home / "var").glob("state.db*") for each in old if each in path.read_bytes()]
    other.close()
    assert left == []


def test_the_list_shows_what_each_key_is_and_no_material(app: App) -> None:
    result = run(app, "list")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == [
        "id",
        "purpose",
        "of",
        "version",
        "made_at",
        "state",
        "since",
        "recoverable",
    ]
    assert "0000000001  kek" in result.stdout
    rows = json.loads(run(app, "--json", "keys", "list").stdout)
    assert [row["purpose"] for row in rows][:3] == ["kek", "totp", "ledger"]
    assert all(row["recoverable"] is True and row["state"] == "current" for row in rows)
    for key in app.keyring.list():
        assert app.keyring.by_id(key.id).material.hex() not in json.dumps(rows)


def test_two_shares_prove_the_kit(app: App, share_files: list[Path]) -> None:
    result = run(app, "recovery", "test", *given(*share_files[1:]))
    assert result.exit_code == 0
    assert "opens all 7 keys" in result.stderr


def test_the_proof_is_in_the_ledger_and_no_share_is(app: App, share_files: list[Path]) -> None:
    tested = json.loads(run(app, "--json", "keys", "recovery", "test", *given(*share_files[:2])).stdout)
    shares = [recovery.read_share_file(path) for path in share_files]
    app.close()
    stored = b"".join(path.read_bytes() for path in (app.home / "var").rglob("*") if path.is_file())
    assert b"keys.recovery.test" in stored
    assert tested["kit"].encode() in stored
    assert not any(part.encode() in stored for share in shares for part in (share, share.split(":")[3]))


def test_shares_are_asked_for_on_a_terminal_only(app: App) -> None:
    result = run(app, "recovery", "test")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.hint == "give --share-file FILE twice"


def test_one_share_is_not_enough(app: App, share_files: list[Path]) -> None:
    assert isinstance(run(app, "recovery", "test", *given(share_files[0])).exception, ConfigError)


def test_a_new_kit_needs_a_code(app: App) -> None:
    before = app.keyring.recovery_public()
    result = run(app, "recovery", "make")
    assert isinstance(result.exception, DeniedError)
    assert app.keyring.recovery_public() == before


def test_a_new_kit_replaces_the_old_one(app: App, person: Any, share_files: list[Path], tmp_path: Path) -> None:
    made = perform(app, caller(app, person), RECOVERY_MAKE, to=str(tmp_path))
    assert (made.keys, made.shares, len(made.files)) == (7, (), 3)
    fresh = recovery.combine([recovery.read_share_file(path) for path in made.files[:2]])
    assert perform(app, caller(app, person), recovery_test(fresh)).keys == 7
    old = recovery.combine([recovery.read_share_file(path) for path in share_files[:2]])
    with pytest.raises(DeniedError, match=f"this store seals to kit {made.kit}"):
        perform(app, caller(app, person), recovery_test(old))


def test_a_new_kit_for_the_terminal_is_in_no_file(app: App, person: Any) -> None:
    made = perform(app, caller(app, person), RECOVERY_MAKE, to=None)
    assert made.files == ()
    assert perform(app, caller(app, person), recovery_test(recovery.combine(made.shares[:2]))).kit == made.kit
    assert made.shares[0] not in repr(made)


def test_a_kit_is_replaced_even_when_its_public_half_was_exchanged(app: App, person: Any) -> None:
    thief = recovery.new_kit().public
    app.state.write(lambda tx: tx.exec_driver_sql("UPDATE key_ring SET recovery_public = ?", (thief,)) and None)
    made = perform(app, caller(app, person), RECOVERY_MAKE, to=None)
    assert recovery.kit_id(app.keyring.recovery_public() or b"") == made.kit


def test_a_first_kit_is_made_for_a_store_without_one(app: App, person: Any) -> None:
    for statement in ("UPDATE key_ring SET recovery_public = NULL", "UPDATE key SET recovery = NULL"):
        app.state.write(lambda tx, text=statement: tx.exec_driver_sql(text) and None)
    assert "no" in run(app, "list").stdout
    perform(app, caller(app, person), RECOVERY_MAKE, to=None)
    assert all(key.recoverable for key in app.keyring.list())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, person: Any, app: App) -> list[str]:
    """A terminal whose person types what is in the list, and a fresh code when it is empty."""
    typed: list[str] = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    app.ask_secret = lambda _: typed.pop(0) if typed else person.code()
    monkeypatch.setattr(getpass, "getpass", lambda *_, **__: typed.pop(0) if typed else person.code())
    return typed


def test_a_new_kit_is_shown_once_and_then_proved_by_typing(
    app: App, terminal: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main.main(["keys", "recovery", "make"], standalone_mode=False, obj=app)
    shown = capsys.readouterr()
    shares = shown.out.split()
    assert len(shares) == 3
    assert "Give each share to another person" in shown.err
    terminal.extend([shares[2].lower(), shares[0]])
    main.main(["keys", "recovery", "test"], standalone_mode=False, obj=app)
    assert "opens all 7 keys" in capsys.readouterr().err
    main.main(["--json", "keys", "recovery", "make", "--to", str(tmp_path)], standalone_mode=False, obj=app)
    made = json.loads(capsys.readouterr().out)
    assert (made["shares"], len(made["files"]), made["keys"]) == ([], 3, 7)


def lost(app: App) -> App:
    """The same folder after its root key was lost, opened anew."""
    app.close()
    (app.home / "keys" / "root.key").unlink()
    return App.open(app.home / "guard.toml", app.clock)


def test_two_shares_replace_a_lost_root_key(app: App, share_files: list[Path]) -> None:
    before = [app.keyring.by_id(key.id) for key in app.keyring.list()]
    again = lost(app)
    result = run(again, "recovery", "use", *given(share_files[0], share_files[2]))
    again.close()
    assert result.exit_code == 0, result.exception
    assert "is the root key now" in result.stderr
    assert "make a new kit" in result.stderr
    assert "guard.toml" not in result.stderr
    opened = App.open(app.home / "guard.toml", app.clock)
    assert [opened.keyring.by_id(key.id) for key in opened.keyring.list()] == before
    opened.close()


def test_a_new_root_key_elsewhere_says_what_to_write_in_the_settings(
    app: App, share_files: list[Path], tmp_path: Path
) -> None:
    again = lost(app)
    path = tmp_path / "new.key"
    result = run(again, "recovery", "use", *given(*share_files[:2]), "--to", path)
    assert f'root.path = "{path}" in guard.toml' in result.stderr
    printed = run(again, "--json", "keys", "recovery", "use", *given(*share_files[:2]), "--to", tmp_path / "newer.key")
    assert json.loads(printed.stdout) == {"root": str(tmp_path / "newer.key")}
    again.close()


def test_an_existing_root_key_is_not_written_over(app: App, share_files: list[Path]) -> None:
    before = (app.home / "keys" / "root.key").read_text()
    result = run(app, "recovery", "use", *given(*share_files[:2]))
    assert isinstance(result.exception, InterlockError)
    assert (app.home / "keys" / "root.key").read_text() == before


def test_shares_of_another_kit_open_nothing(app: App, tmp_path: Path) -> None:
    paths = recovery.write_shares(recovery.new_kit(), tmp_path)
    again = lost(app)
    result = run(again, "recovery", "use", *given(*paths[:2]))
    again.close()
    assert isinstance(result.exception, DeniedError)
    assert not (app.home / "keys" / "root.key").exists()


def test_one_changed_character_of_a_share_is_named(app: App, share_files: list[Path]) -> None:
    text = share_files[0].read_text()
    at = text.index("guard-share-1:") + 40
    share_files[0].write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    result = run(app, "recovery", "test", *given(*share_files[:2]))
    assert isinstance(result.exception, ConfigError)
    assert "mistyped" in str(result.exception)
