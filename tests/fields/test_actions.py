"""`guard fields` as it is typed and performed: who may, what is refused, what the ledger says, and the exit codes."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard import faults
from guard.actions import Action, Caller, perform
from guard.actions.backup import INIT, RUN
from guard.actions.data import ACCEPT
from guard.actions.fields import DECRYPT, ENCRYPT, FINALIZE
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.errors import ConfigError, DeniedError, InterlockError, UnavailableError, WaitingError

CATALOG = """
[subject.customer]
table = "Customer"
key = "CustomerId"

[[column]]
at = "Customer.Email"
category = "email"
tier = "contact"
protect = "encrypt"
anonymize = "pseudonym"

[[column]]
at = "Customer.Phone"
category = "phone"
tier = "contact"
protect = "encrypt"
anonymize = "null"
"""


@dataclass(slots=True)
class Folder:
    """A guard folder of the user who runs the tests, who answers with recovery codes."""

    app: App
    config: Path
    shop: Path
    codes: list[str]
    clock: SteppedClock

    def guard(self, *words: str) -> int:
        """Run a command as a process of its own would, where nobody can be asked."""
        self.clock.step(timedelta(seconds=1))
        app = App.open(self.config, self.clock)
        try:
            return call([*words], app)
        finally:
            app.close()

    def perform(self, action: Action[object], code: str | None = None, **args: object) -> object:
        self.clock.step(timedelta(seconds=1))
        ask = (lambda _: code) if code else (lambda _: self.codes.pop())
        return perform(self.app, Caller(self.app.access.person_of(os_user()), ask), action, **args)

    def entries(self, what: str) -> list[tuple[str, dict[str, int]]]:
        return [(entry.outcome, dict(entry.counts)) for entry in self.app.ledger.list(Query(what=what), 100)]

    def emails(self) -> list[str]:
        connection = sqlite3.connect(self.shop)
        found = [email for (email,) in connection.execute("SELECT Email FROM Customer ORDER BY CustomerId")]
        connection.close()
        return found


@pytest.fixture
def folder(
    tmp_path: Path, chinook_file: Path, clock: SteppedClock, phone: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    answers = Answers("Music", f"sqlite:///{chinook_file}", "Ada", os_user())
    made = set_up(tmp_path / "guard", answers, clock, phone.enrol)
    folder = Folder(made.app, made.config, chinook_file, list(made.recovery_codes), clock)
    source = tmp_path / "catalog.toml"
    source.write_text(CATALOG)
    folder.perform(ACCEPT, source=str(source))
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        yield folder
    folder.app.close()


@pytest.fixture
def backed_up(folder: Folder) -> Folder:
    folder.perform(INIT)
    folder.perform(RUN)
    return folder


def test_the_whole_way_from_plan_to_strict(backed_up: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = backed_up
    assert folder.guard("fields", "plan") == 0
    assert "Customer.Phone: seal 58 of 59 rows (1 NULL, 0 sealed already)" in capsys.readouterr().out
    assert folder.guard("fields", "status") == 3
    folder.perform(ENCRYPT, columns=[])
    assert all(email.startswith("g1.") for email in folder.emails())
    capsys.readouterr()
    assert folder.guard("--json", "fields", "verify") == 0
    assert [check["opened"] for check in json.loads(capsys.readouterr().out)] == [59, 58]
    folder.perform(FINALIZE, columns=[])
    capsys.readouterr()
    assert folder.guard("--json", "fields", "status") == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)} == {"strict"}
    assert folder.entries("fields.encrypt") == [
        ("begun", {}), ("done", {"Customer.Email": 59, "Customer.Phone": 58, "left": 0}),
    ]  # fmt: skip
    assert folder.entries("fields.verify")[-1] == ("done", {"opened": 117, "plain": 0, "changed": 0})
    with pytest.raises(WaitingError):
        folder.perform(DECRYPT, columns=["Customer.Email"])
    assert all(email.startswith("g1.") for email in folder.emails())


def test_without_a_place_for_backups_nothing_is_sealed(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    before = folder.emails()
    assert folder.guard("fields", "plan") == 3
    assert "missing: a look at the backups" in capsys.readouterr().out
    with pytest.raises(InterlockError, match="guard backup init"):
        folder.perform(ENCRYPT, columns=[])
    text = folder.config.read_text()
    folder.config.write_text(re.sub(r"\[\[backup\.store\]\]\n(.+\n)+", "", text))
    assert folder.guard("fields", "encrypt") == 14
    assert "add a [[backup.store]] to guard.toml" in capsys.readouterr().err
    assert folder.emails() == before
    assert len(folder.codes) == 9, "no code was asked for"


def test_the_first_run_backs_the_new_keys_up_itself(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.perform(INIT)
    assert folder.guard("fields", "plan") == 0
    assert "1. back guard's state up and read it back: a backup of guard's state newer" in capsys.readouterr().out
    folder.perform(ENCRYPT, columns=[])
    assert all(email.startswith("g1.") for email in folder.emails())
    assert folder.entries("state.backup")[-1][0] == "done"
    assert folder.app.lacks() == ()
    folder.perform(ENCRYPT, columns=[])
    assert len(folder.entries("state.backup")) == 2, "nothing new is to be saved"


def test_nothing_is_sealed_when_that_backup_fails(folder: Folder) -> None:
    folder.perform(INIT)
    before, store = folder.emails(), folder.app.home / "backups"

    def at(name: str) -> None:
        if name == "fields.encrypt.keys":
            store.rename(store.with_name("away"))

    faults.install(at)
    with pytest.raises(UnavailableError) as raised:
        folder.perform(ENCRYPT, columns=[])
    faults.install(None)
    assert "no value was changed" in str(raised.value.hint)
    assert folder.emails() == before
    store.with_name("away").rename(store)
    folder.perform(ENCRYPT, columns=[])
    assert all(email.startswith("g1.") for email in folder.emails())


def test_an_index_is_added_to_a_sealed_column_in_one_run(
    backed_up: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backed_up.perform(ENCRYPT, columns=[])
    backed_up.perform(FINALIZE, columns=["Customer.Email"])
    source = tmp_path / "indexed.toml"
    accepted = (backed_up.app.policies / "catalog.toml").read_text()
    source.write_text(accepted.replace('protect = "encrypt"', 'protect = "encrypt"\nindex = "email"', 1))
    backed_up.perform(ACCEPT, source=str(source))
    capsys.readouterr()
    assert backed_up.guard("fields", "plan", "Customer.Email") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Customer.Email: seal 0 of 59 rows (0 NULL, 59 sealed already); fill in tokens of 59"
    numbered = [line.split(". ", 1)[1] for line in lines if line.strip()[0].isdigit()]
    assert [line.partition(" ")[0] for line in numbered] == ["back", "add", "then"]
    assert "fill in those of 59 values: less than a second" in numbered[1]
    assert "Space: about 2.3 KiB for good" in "\n".join(lines)
    backed_up.perform(ENCRYPT, columns=["Customer.Email"])
    assert backed_up.entries("state.backup")[-1][0] == "done"
    assert backed_up.app.fields.search("Customer.Email", "LUISG@embraer.com.br").rows == ((1,),)
    assert {each.state for each in backed_up.app.fields.status() if each.at == "Customer.Email"} == {"strict"}
    capsys.readouterr()
    assert backed_up.guard("fields", "plan", "Customer.Email") == 0
    assert "tokens of 59" not in capsys.readouterr().out


def test_without_a_valid_code_nothing_is_sealed(backed_up: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    before = backed_up.emails()
    with pytest.raises(DeniedError):
        backed_up.perform(ENCRYPT, code="000000", columns=["Customer.Email"])
    assert backed_up.guard("fields", "encrypt", "Customer.Email") == 10
    assert "no terminal" in capsys.readouterr().err
    assert {outcome for outcome, _ in backed_up.entries("fields.encrypt")} == {"denied"}
    assert backed_up.emails() == before


def test_an_interrupted_run_is_recorded_and_gone_on_with(backed_up: Folder) -> None:
    def stop(what: str, done: int, total: int | None = None) -> None:
        if done:
            raise KeyboardInterrupt

    who = backed_up.app.access.person_of(os_user())
    with pytest.raises(KeyboardInterrupt):
        perform(backed_up.app, Caller(who, lambda _: backed_up.codes.pop(), progress=stop), ENCRYPT, columns=[])
    backed_up.perform(ENCRYPT, columns=[])
    assert [outcome for outcome, _ in backed_up.entries("fields.encrypt")] == ["begun", "interrupted", "begun", "done"]
    assert backed_up.guard("fields", "verify") == 0


def test_exit_codes_say_what_was_found(backed_up: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    backed_up.perform(ENCRYPT, columns=[])
    connection = sqlite3.connect(backed_up.shop, isolation_level=None)
    connection.execute("UPDATE Customer SET Phone = '+49 30 1234' WHERE CustomerId = 1")
    assert backed_up.guard("fields", "verify") == 3
    assert "1 values are in plain text" in capsys.readouterr().err
    connection.execute("UPDATE Customer SET Email = (SELECT Email FROM Customer WHERE CustomerId = 9)")
    assert backed_up.guard("fields", "verify", "Customer.Email") == 11
    assert "58 of 59 values were changed or moved" in capsys.readouterr().err
    assert backed_up.guard("fields", "verify", "Customer.City") == 2
    assert backed_up.guard("fields", "decrypt") == 2
    connection.close()


def test_several_workers_are_performed_as_one_run(backed_up: Folder) -> None:
    backed_up.perform(ENCRYPT, columns=["Customer.Email"], workers=2)
    assert all(email.startswith("g1.") for email in backed_up.emails())
    assert backed_up.entries("fields.encrypt") == [("begun", {}), ("done", {"Customer.Email": 59, "left": 0})]
    assert backed_up.guard("fields", "verify") == 0


def test_status_is_red_where_a_finished_column_holds_plain_text(
    backed_up: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = backed_up
    folder.perform(ENCRYPT, columns=[])
    folder.perform(FINALIZE, columns=[])
    capsys.readouterr()
    folder.guard("--json", "status")
    lines = [line for line in json.loads(capsys.readouterr().out) if line["what"] == "fields"]
    assert [line["light"] for line in lines] == ["green"]
    shop = sqlite3.connect(folder.shop)
    shop.execute("UPDATE Customer SET Email = 'past@guard' WHERE CustomerId = 3")
    shop.commit()
    shop.close()
    assert folder.guard("--json", "status") == 3
    lines = [line for line in json.loads(capsys.readouterr().out) if line["what"] == "fields"]
    assert [line["light"] for line in lines] == ["red"]
    assert "Customer.Email" in lines[0]["text"]


def test_finishing_what_is_not_sealed_is_refused_before_a_code_is_asked_for(
    backed_up: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = len(backed_up.codes)
    with pytest.raises(ConfigError, match=r"Customer\.Email is not sealed"):
        backed_up.perform(FINALIZE, columns=["Customer.Email"])
    assert len(backed_up.codes) == codes
