"""`guard keys` end to end on a sealed shop: rotation, its rule about backups, the end of old keys, roots, export."""

import getpass
import json
import sqlite3
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from guard import faults
from guard.actions import Caller, perform
from guard.actions.backup import init_with
from guard.actions.rotate import rotate_with
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.backup import Backups
from guard.canon import parts
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.crypto import recovery
from guard.crypto.envelope import from_text, key_id_of
from guard.errors import DeniedError, TamperedError
from guard.fields import lease

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


@dataclass
class Desk:
    """A guard folder beside a small shop; every call is a process of its own."""

    home: Path
    shop: Path
    clock: SteppedClock
    phone: Any
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def app(self) -> App:
        return App.open(self.home / "guard.toml", self.clock, self.phone.code)

    def guard(self, line: str, expect: int = 0) -> str:
        app = self.app()
        try:
            self.capsys.readouterr()
            code = call(line.split(), app)
        finally:
            app.close()
        self.out, self.err = self.capsys.readouterr()
        assert code == expect, f"guard {line}: exit {code}\n{self.err}\n{self.out}"
        return self.out

    def json(self, line: str, expect: int = 0) -> Any:
        return json.loads(self.guard(f"--json {line}", expect))

    def snapshots(self) -> int:
        return len(self.json("backup list")["snapshots"])

    def status(self) -> list[str]:
        """The lines of the screen; some are red while not everything is sealed."""
        return [line["text"] for line in self.json("status", expect=3)]

    def keys(self, purpose: str) -> list[tuple[int, str, str]]:
        found = self.json("keys list")
        return [(key["version"], key["state"], key["id"]) for key in found if key["purpose"] == purpose]

    def emails(self) -> list[str]:
        with closing(sqlite3.connect(self.shop)) as shop:
            return [row[0] for row in shop.execute("SELECT Email FROM Customer ORDER BY CustomerId")]

    def heads(self) -> set[str]:
        return {f"{key_id_of(from_text(email)):010x}" for email in self.emails()}

    def token_columns(self) -> set[str]:
        with closing(sqlite3.connect(self.shop)) as shop:
            return {row[1] for row in shop.execute("PRAGMA table_info(Customer)") if "__guard" in row[1]}

    def opened(self) -> list[str]:
        app = self.app()
        try:
            read = app.fields.opener("Customer.Email")
            return [str(read((number,), email)) for number, email in enumerate(self.emails(), 1)]
        finally:
            app.close()

    def wait(self, **time: int) -> None:
        self.clock.step(timedelta(**time))

    def one_is_enough(self) -> None:
        """Let the policy ask for one person, who waits a day."""
        path = self.home / "policies/access.toml"
        path.write_text(path.read_text().replace("people = 2", "people = 1"))

    def stores_away(self) -> Path:
        return (self.home / "backups").rename(self.home / "elsewhere")

    def stores_back(self) -> None:
        (self.home / "elsewhere").rename(self.home / "backups")


PLAIN = [f"customer{number}@example.org" for number in range(1, 41)]


@pytest.fixture
def desk(tmp_path: Path, clock: SteppedClock, phone: Any, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    shop = tmp_path / "shop.db"
    with closing(sqlite3.connect(shop)) as made:
        made.execute("CREATE TABLE Customer (CustomerId INTEGER PRIMARY KEY, Email TEXT, Phone TEXT)")
        made.executemany("INSERT INTO Customer (Email, Phone) VALUES (?, '030 1234')", [(each,) for each in PLAIN])
        made.commit()
    answers = Answers("Shop", f"sqlite:///{shop}", "Ada", getpass.getuser())
    set_up(tmp_path / "home", answers, clock, phone.enrol).app.close()
    made_desk = Desk(tmp_path / "home", shop, clock, phone, capsys)
    (made_desk.home / "policies/catalog.proposed.toml").write_text(CATALOG)
    for line in ("data accept --yes", "backup init", "backup run"):
        made_desk.guard(line)
    yield made_desk
    faults.install(None)


@pytest.fixture
def sealed(desk: Desk) -> Desk:
    desk.guard("fields encrypt Customer.Email")
    desk.wait(minutes=1)
    return desk


# Rotation -------------------------------------------------------------------------------------------------------------


def test_a_rotation_moves_every_value_to_the_new_version(sealed: Desk) -> None:
    done = sealed.json("keys rotate Customer.Email")
    assert (done["at"], done["version"], done["made"], done["moved"], done["left"]) == (
        "Customer.Email",
        2,
        True,
        40,
        0,
    )
    assert [key[:2] for key in sealed.keys("column/1")] == [(1, "old"), (2, "current")]
    assert sealed.heads() == {done["id"]}
    assert sealed.opened() == PLAIN
    assert "True" in {str(check["same"]) for check in sealed.json("fields verify")}
    what = [(entry["what"], entry["outcome"]) for entry in sealed.json("audit list --limit 12")]
    for expected in (("keys.rotate", "done"), ("keys.activate", "done"), ("state.backup", "done")):
        assert expected in what


def test_the_new_version_is_in_a_backup_before_it_seals(sealed: Desk) -> None:
    before = sealed.snapshots()
    sealed.guard("keys rotate Customer.Email")
    assert sealed.snapshots() == before + 1
    assert sealed.json("fields plan")["missing"] == []
    sealed.guard("keys recovery test " + " ".join(f"--share-file {path}" for path in shares(sealed)[:2]))


def shares(desk: Desk) -> list[Path]:
    return sorted((desk.home / "recovery-kit").iterdir())


def test_without_a_store_it_waits_and_the_same_command_goes_on(sealed: Desk) -> None:
    sealed.stores_away()
    sealed.guard("keys rotate Customer.Email", expect=13)
    assert "version 2 of column/1 waits, unused; run the same command again" in sealed.err
    assert [key[:2] for key in sealed.keys("column/1")] == [(1, "current"), (2, "waiting")]
    old = sealed.heads()
    app = sealed.app()
    assert app.keyring.ensure("column/1").version == 1
    app.close()
    sealed.stores_back()
    lines = sealed.status()
    assert "version 2 of column/1 waits for a backup of state, unused" in lines
    waiting = sealed.keys("column/1")[1][2]
    done = sealed.json("keys rotate Customer.Email")
    assert (done["id"], done["version"]) == (waiting, 2)
    assert sealed.heads() == {waiting} != old
    assert sealed.opened() == PLAIN


def test_a_backup_that_was_made_meanwhile_is_enough(sealed: Desk) -> None:
    sealed.stores_away()
    sealed.guard("keys rotate Customer.Email", expect=13)
    sealed.stores_back()
    sealed.wait(minutes=1)
    sealed.guard("backup run")
    before = sealed.snapshots()
    sealed.guard("keys rotate Customer.Email")
    assert sealed.snapshots() == before


def test_a_backup_by_a_clock_that_runs_ahead_is_not_taken_for_one_of_a_new_key(
    sealed: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sealed.snapshots()
    monkeypatch.setattr(Backups, "state_saved_at", lambda _: sealed.clock.now() + timedelta(seconds=2))
    sealed.guard("keys rotate Customer.Email")
    assert sealed.snapshots() == before + 1


@pytest.mark.parametrize("what", ["Customer.Email", "repository"])
def test_state_as_the_backup_for_a_rotation_has_it_opens_what_came_after(
    sealed: Desk, tmp_path: Path, what: str
) -> None:
    """There the version still waits, and yet it is in use: it opens, and the same command goes on with it."""

    def keep(name: str) -> None:
        if name == "keys.rotate.saved":
            with closing(sqlite3.connect(sealed.home / "var/state.db")) as state:
                state.execute("VACUUM INTO ?", (str(tmp_path / "state.db"),))

    faults.install(keep)
    sealed.guard(f"keys rotate {what}")
    faults.install(None)
    sealed.guard("backup run")
    for end in ("", "-wal", "-shm"):
        (sealed.home / f"var/state.db{end}").unlink(missing_ok=True)
    (tmp_path / "state.db").rename(sealed.home / "var/state.db")
    purpose = "column/1" if what == "Customer.Email" else what
    assert [key[:2] for key in sealed.keys(purpose)] == [(1, "current"), (2, "waiting")]
    assert sealed.opened() == PLAIN
    assert sealed.snapshots() == 3
    assert sealed.json(f"keys rotate {what}")["version"] == 2
    assert sealed.opened() == PLAIN
    sealed.guard("backup run")
    assert sealed.snapshots() == 4


def test_a_rotation_for_later_leaves_the_values_to_the_next_encrypt(sealed: Desk) -> None:
    old = sealed.heads()
    done = sealed.json("keys rotate Customer.Email --later")
    assert (done["moved"], done["left"]) == (0, 40)
    assert sealed.heads() == old
    with closing(sqlite3.connect(sealed.shop)) as shop:
        shop.execute("INSERT INTO Customer (Email) VALUES ('new@example.org')")
        shop.commit()
    sealed.guard("keys rotate Customer.Email --later", expect=14)
    assert "40 of Customer.Email are under older versions" in sealed.err
    sealed.guard("fields encrypt Customer.Email")
    assert sealed.heads() == {done["id"]}
    assert sealed.opened() == [*PLAIN, "new@example.org"]


def test_a_rotation_that_was_interrupted_is_gone_on_with_and_not_begun_again(sealed: Desk) -> None:
    sealed.guard("keys rotate Customer.Email --later")
    done = sealed.json("keys rotate Customer.Email")
    assert (done["made"], done["version"], done["moved"]) == (False, 2, 40)
    again = sealed.json("keys rotate Customer.Email")
    assert (again["made"], again["version"]) == (True, 3)


def test_a_column_that_is_plain_gets_a_new_version_alone(desk: Desk) -> None:
    done = desk.json("keys rotate Customer.Phone")
    assert (done["version"], done["moved"], done["left"]) == (2, 0, 0)
    desk.guard("fields encrypt Customer.Phone")


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("Customer.Emil", 2, "Customer.Emil is not in the catalog\n  did you mean Customer.Email?"),
        ("customer.email", 2, "did you mean Customer.Email?"),
        ("Customer", 2, "its columns to be sealed: Customer.Email, Customer.Phone"),
        ("column/99", 2, "there is no key for column/99\n  did you mean column/2?"),
        ("totpp", 2, "did you mean totp?"),
        (
            "nonsense",
            2,
            "keys that are rotated: Customer.Email, Customer.Phone, column/1, column/2, ledger, repository, totp",
        ),
        ("digest", 14, "its digests stand in the ledger"),
        ("kek", 14, "guard keys rewrap"),
    ],
)
def test_what_cannot_be_rotated_says_why_before_a_code_is_asked_for(
    desk: Desk, what: str, code: int, said: str
) -> None:
    desk.phone.code = lambda _: pytest.fail("a code was asked for")
    desk.guard(f"keys rotate {what}", expect=code)
    assert said in desk.err


def test_a_column_that_is_being_opened_gets_no_new_key(sealed: Desk) -> None:
    app = sealed.app()
    app.state.write(lambda tx: tx.exec_driver_sql("UPDATE fields_column SET state = 'opening'") and None)
    app.close()
    sealed.guard("keys rotate Customer.Email", expect=14)
    assert "Customer.Email is being put back into plain text" in sealed.err


def test_a_column_with_a_key_for_each_person_has_none_to_rotate(desk: Desk) -> None:
    text = CATALOG.replace('anonymize = "pseudonym"', 'anonymize = "pseudonym"\nbind = "subject"\nclass = "account"')
    (desk.home / "policies/catalog.proposed.toml").write_text(text)
    desk.guard("data accept --yes")
    desk.guard("keys rotate Customer.Email", expect=14)
    assert "is sealed with each person's own key, which is not rotated" in desk.err


def test_what_was_done_is_said_in_words(sealed: Desk, tmp_path: Path) -> None:
    sealed.guard("keys rotate Customer.Email --later")
    assert "Version 2 of column/1" in sealed.err
    assert "40 are still under older versions: guard fields encrypt moves them." in sealed.err
    sealed.guard("keys rotate Customer.Email")
    assert "40 values were made anew." in sealed.err
    first = sealed.keys("column/1")[0][2]
    assert sealed.json(f"keys retire {first}")["state"] == "retired"
    sealed.guard("keys rewrap")
    assert "keys are wrapped under a new KEK" in sealed.err
    given = " ".join(f"--share-file {path}" for path in shares(sealed)[:2])
    toml(sealed, 'path = "keys/root.key"', 'path = "keys/root.key"\n\n[root.second]\npath = "keys/other.key"')
    sealed.guard(f"keys recovery use {given} --to {tmp_path}/new.key")
    assert "The second root has to be wrapped anew: guard keys rewrap --root." in sealed.err


def test_second_factors_are_sealed_anew_and_go_on_working(desk: Desk) -> None:
    done = desk.json("keys rotate totp")
    assert (done["purpose"], done["version"]) == ("totp", 2)
    desk.guard("keys rotate totp")
    for _, _, key_id in desk.keys("totp")[:2]:
        desk.guard(f"keys retire {key_id}")
    assert [key[1] for key in desk.keys("totp")] == ["retired", "retired", "current"]


def test_an_index_gets_new_tokens_and_its_old_key_goes(desk: Desk) -> None:
    text = CATALOG.replace('anonymize = "pseudonym"', 'anonymize = "pseudonym"\nindex = "email"')
    (desk.home / "policies/catalog.proposed.toml").write_text(text)
    desk.guard("data accept --yes")
    app = desk.app()
    app.keyring.ensure("index/1/email")
    app.close()
    desk.guard("backup run")
    desk.guard("fields encrypt Customer.Email")
    desk.wait(minutes=1)
    assert desk.token_columns() == {"Email__guard1"}
    done = desk.json("keys rotate index/1/email")
    assert (done["version"], done["at"], done["left"]) == (2, "Customer.Email", 0)
    assert desk.token_columns() == {"Email__guard2"}
    first = desk.keys("index/1/email")[0][2]
    desk.guard(f"keys retire {first}")
    desk.guard(f"fields search Customer.Email {PLAIN[6]}")
    assert "7" in desk.out
    again = desk.json("keys rotate index/1/email --later")
    assert (again["version"], again["left"]) == (3, 1)
    second = desk.keys("index/1/email")[1][2]
    desk.guard(f"keys retire {second}", expect=14)
    assert "the token column Email__guard2" in desk.err
    desk.guard("keys rotate index/1/email --later", expect=14)
    assert desk.json("keys rotate index/1/email")["made"] is False
    assert desk.token_columns() == {"Email__guard3"}


# Repositories ---------------------------------------------------------------------------------------------------------


def test_a_new_key_of_the_repositories_has_its_slots_before_it_is_used(desk: Desk, tmp_path: Path) -> None:
    kit = sorted(path.name for path in (desk.home / "backups/keys").iterdir())
    desk.guard("keys rotate repository")
    now = sorted(path.name for path in (desk.home / "backups/keys").iterdir())
    assert now == [*kit, kit[0].replace("-1", "-2")]
    desk.guard("backup run")
    app = desk.app()
    texts = [recovery.read_share_file(path) for path in shares(desk)]
    opened = app.backups.by_recovery("local", recovery.combine(texts[1:]))
    assert len(opened.list().done["local"]) == len(app.backups.list().done["local"])
    plan = opened.plan_restore("local", "latest", app.backups.wanted({"to": str(tmp_path / "out"), "overwrite": False}))
    opened.restore("local", plan)
    assert (tmp_path / "out/shop/shop.db").exists()
    app.close()
    desk.guard("backup verify")


def test_a_repository_that_opens_with_a_passphrase_goes_on_doing_so(desk: Desk) -> None:
    app = desk.app()
    (desk.home / "backups").rename(desk.home / "gone")
    caller = Caller(app.access.person_of(getpass.getuser()), ask=desk.phone.code)
    perform(app, caller, init_with("correct horse battery"))
    desk.guard("keys rotate repository", expect=14)
    assert "--passphrase asks for it" in desk.err
    with pytest.raises(DeniedError, match="this passphrase does not open"):
        perform(app, caller, rotate_with("correct horse batterie"), what="repository", later=False)
    perform(app, caller, rotate_with("correct horse battery"), what="repository", later=False)
    app.close()
    desk.guard("backup run")
    again = desk.app()
    opened = again.backups.by_passphrase("local", "correct horse battery")
    assert opened.newest("local") is not None
    again.close()


def test_the_repositories_first_key_is_needed_as_long_as_its_objects(desk: Desk) -> None:
    desk.guard("keys rotate repository")
    first = desk.keys("repository")[0][2]
    desk.guard(f"keys retire {first}", expect=14)
    assert "objects in store local" in desk.err


# The end of a key -----------------------------------------------------------------------------------------------------


def test_a_key_is_retired_only_when_no_value_and_no_lease_needs_it(sealed: Desk) -> None:
    first = sealed.keys("column/1")[0][2]
    sealed.guard("keys rotate Customer.Email --later")
    sealed.guard(f"keys retire {first}", expect=14)
    assert "is still needed: 40 values in Customer.Email" in sealed.err
    sealed.guard("fields encrypt Customer.Email")
    app = sealed.app()
    app.state.write(
        lambda tx: lease.take(tx, app.access.person_of(getpass.getuser()).id, [int(first, 16)], app.clock.now())
    )
    app.close()
    sealed.guard(f"keys retire {first}", expect=14)
    assert "1 leases of the shop's processes, the last until 2026-01-05 09:" in sealed.err
    sealed.wait(minutes=5)
    sealed.guard(f"keys retire {first}")
    assert sealed.keys("column/1")[0][1] == "retired"
    assert sealed.opened() == PLAIN


def test_what_cannot_be_counted_counts_as_needed(sealed: Desk) -> None:
    first = sealed.keys("column/1")[0][2]
    sealed.guard("keys rotate Customer.Email")
    with closing(sqlite3.connect(sealed.shop)) as shop:
        shop.execute("ALTER TABLE Customer RENAME TO Client")
    sealed.guard(f"keys retire {first}", expect=14)
    assert "the shop has no column Customer.Email any more, so what is sealed in it cannot be counted" in sealed.err
    sealed.shop.rename(sealed.shop.with_suffix(".away"))
    sealed.guard(f"keys retire {first}", expect=13)
    assert sealed.keys("column/1")[0][1] == "old"


def test_a_column_that_was_never_sealed_needs_no_key_when_it_is_gone(desk: Desk) -> None:
    desk.guard("keys rotate Customer.Phone")
    with closing(sqlite3.connect(desk.shop)) as shop:
        shop.execute("ALTER TABLE Customer DROP COLUMN Phone")
    desk.guard(f"keys retire {desk.keys('column/2')[0][2]}")


def test_a_store_that_does_not_answer_may_hold_what_needs_a_key(desk: Desk) -> None:
    desk.guard("keys rotate repository")
    toml(desk, "[[audit.anchor]]", '[[backup.store]]\nname = "far"\npath = "far"\n\n[[audit.anchor]]')
    desk.guard(f"keys retire {desk.keys('repository')[0][2]}", expect=13)
    assert "far is not there" in desk.err


def test_a_second_factor_under_an_older_version_keeps_it(desk: Desk) -> None:
    app = desk.app()
    new = app.keyring.rotate("totp")
    app.state.write(lambda tx: app.keyring.activate(tx, new.id, desk.clock.now()))
    app.close()
    desk.guard(f"keys retire {desk.keys('totp')[0][2]}", expect=14)
    assert "the second factors of 1 people" in desk.err


def test_a_lease_that_comes_while_values_are_counted_is_seen(sealed: Desk) -> None:
    first = sealed.keys("column/1")[0][2]
    sealed.guard("keys rotate Customer.Email")

    def meanwhile(name: str) -> None:
        if name == "keys.retire.counted":
            app = sealed.app()
            who = app.access.person_of(getpass.getuser()).id
            app.state.write(lambda tx: lease.take(tx, who, [int(first, 16)], app.clock.now()))
            app.close()

    faults.install(meanwhile)
    sealed.guard(f"keys retire {first}", expect=14)
    assert "1 leases" in sealed.err
    assert sealed.keys("column/1")[0][1] == "old"


def test_values_of_an_older_backup_open_when_the_key_is_called_back(sealed: Desk, tmp_path: Path) -> None:
    (tmp_path / "older.db").write_bytes(sealed.shop.read_bytes())
    first = sealed.keys("column/1")[0][2]
    sealed.guard("keys rotate Customer.Email")
    sealed.guard(f"keys retire {first}")
    sealed.shop.write_bytes((tmp_path / "older.db").read_bytes())
    with pytest.raises(TamperedError, match="which is retired"):
        sealed.opened()
    sealed.guard(f"keys destroy {first}", expect=14)
    assert "is still needed: 40 values" in sealed.err
    sealed.guard(f"keys retire --undo {first}")
    assert sealed.opened() == PLAIN
    sealed.guard("fields encrypt Customer.Email")
    assert sealed.heads() == {sealed.keys("column/1")[1][2]}


def test_a_key_is_destroyed_after_a_day_and_not_before(sealed: Desk) -> None:
    first = sealed.keys("column/1")[0][2]
    sealed.guard("keys rotate Customer.Email")
    sealed.one_is_enough()
    sealed.guard(f"keys destroy {first}", expect=14)
    assert "is old, not retired" in sealed.err
    sealed.guard(f"keys retire {first}")
    sealed.guard(f"keys destroy {first}", expect=14)
    assert "waits until" in sealed.err
    sealed.wait(hours=23)
    sealed.guard(f"keys destroy {first}", expect=14)
    sealed.wait(hours=2)
    sealed.guard(f"keys destroy {first}")
    assert sealed.keys("column/1")[0] == (1, "destroyed", first)
    sealed.guard(f"keys retire --undo {first}", expect=14)
    assert sealed.opened() == PLAIN
    sealed.guard("doctor")
    assert "commitments right" in sealed.out


def test_a_destruction_that_waits_is_cancelled(sealed: Desk) -> None:
    first, other = sealed.keys("column/1")[0][2], sealed.keys("column/2")[0][2]
    sealed.guard("keys rotate Customer.Email")
    sealed.guard(f"keys retire {first}")
    sealed.guard(f"keys cancel {first}", expect=2)
    assert f"nobody asked to destroy key {first}" in sealed.err
    sealed.guard(f"keys destroy {first}", expect=14)
    sealed.guard(f"keys cancel {other}", expect=2)
    assert len(sealed.json("access requests")) == 1
    assert "is not destroyed; it stays retired" in (sealed.guard(f"keys cancel {first}") or sealed.err)
    assert sealed.json("access requests") == []
    sealed.wait(hours=25)
    sealed.guard(f"keys destroy {first}", expect=14)
    assert "waits until" in sealed.err
    assert sealed.keys("column/1")[0][1] == "retired"


@pytest.mark.parametrize("key", ["zz", "0", "", "-1", "10000000000", "ffffffffff", "63"])
@pytest.mark.parametrize("command", ["retire", "destroy", "cancel"])
def test_what_is_no_key_is_said_to_be_none(desk: Desk, command: str, key: str) -> None:
    app = desk.app()
    try:
        assert call(["keys", command, "--", key], app) == 2
    finally:
        app.close()


# The key of keys, and its roots ---------------------------------------------------------------------------------------


def test_all_keys_are_wrapped_anew_and_everything_still_opens(sealed: Desk) -> None:
    done = sealed.json("keys rewrap")
    assert done["keys"] == 8
    assert [key[:2] for key in sealed.keys("kek")] == [(1, "destroyed"), (2, "current")]
    assert sealed.opened() == PLAIN
    assert any("a backup of guard's state newer" in line for line in sealed.status())
    sealed.guard("state backup")
    assert not any("a backup of guard's state newer" in line for line in sealed.status())
    sealed.guard("audit verify", expect=0)
    sealed.guard("keys recovery test " + " ".join(f"--share-file {path}" for path in shares(sealed)[:2]))


def toml(desk: Desk, old: str, new: str) -> None:
    path = desk.home / "guard.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_root_is_changed_without_a_moment_without_one(sealed: Desk) -> None:
    toml(sealed, 'path = "keys/root.key"', 'path = "keys/root.key"\n\n[root.second]\npath = "keys/other.key"')
    sealed.guard("doctor")
    assert "cannot read the key file" in sealed.out
    sealed.guard("keys rewrap --root")
    assert "a new root key is made in it" in sealed.err
    sealed.guard("doctor")
    assert sealed.out.count("opens the keys") == 2
    (sealed.home / "keys/root.key").rename(sealed.home / "keys/away")
    assert sealed.opened() == PLAIN
    lines = sealed.status()
    assert any(line.startswith("root did not answer: cannot read the key file") for line in lines)
    toml(sealed, 'path = "keys/root.key"\n\n[root.second]\npath = "keys/other.key"', 'path = "keys/other.key"')
    sealed.guard("doctor")
    assert "guard.toml does not name file" in sealed.out
    sealed.guard("keys rewrap --root")
    assert "guard.toml does not name file" in sealed.err
    (sealed.home / "keys/away").rename(sealed.home / "keys/root.key")
    toml(sealed, 'path = "keys/other.key"', 'path = "keys/root.key"')
    sealed.guard("status", expect=10)
    assert "root key does not open the KEK" in sealed.err


def test_a_key_file_gives_way_to_a_passphrase(sealed: Desk) -> None:
    """The person types code and passphrase on one terminal; what is asked for says which."""
    typed = {"Passphrase": "correct horse battery"}
    code = sealed.phone.code
    sealed.phone.code = lambda question: (
        typed["Passphrase"] if "assphrase" in question or "Once" in question else code()
    )
    toml(sealed, 'path = "keys/root.key"', 'path = "keys/root.key"\n\n[root.second]\nkind = "passphrase"')
    sealed.guard("keys rewrap --root")
    (sealed.home / "keys/root.key").unlink()
    assert sealed.opened() == PLAIN
    toml(sealed, 'kind = "file"\npath = "keys/root.key"\n\n[root.second]\nkind = "passphrase"', 'kind = "passphrase"')
    sealed.guard("keys rewrap --root")
    old, typed["Passphrase"] = typed["Passphrase"], "other horse battery"
    sealed.guard("status", expect=10)
    typed["Passphrase"] = old
    seen: list[str] = []

    def changing(question: str) -> str:
        seen.append(question)
        if question.startswith("New") or question == "Once more":
            return "other horse battery"
        return old if "assphrase" in question else str(code())

    sealed.phone.code = changing
    sealed.guard("keys rewrap --root --passphrase")
    assert "New passphrase (at least 12 characters)" in seen
    sealed.phone.code = lambda question: "other horse battery" if "assphrase" in question else code()
    assert sealed.opened() == PLAIN


def test_options_that_do_not_go_together(desk: Desk) -> None:
    desk.guard("keys rewrap --passphrase", expect=2)
    desk.guard("keys rotate totp --passphrase", expect=2)
    desk.guard("keys recovery make --print", expect=2)


# Export ---------------------------------------------------------------------------------------------------------------


def test_a_key_is_exported_after_a_day_to_the_one_that_was_named(sealed: Desk, tmp_path: Path) -> None:
    private = X25519PrivateKey.generate()
    (tmp_path / "escrow.pub").write_text(private.public_key().public_bytes_raw().hex() + "\n")
    key_id = sealed.keys("column/1")[0][2]
    line = f"keys export {key_id} --recipient {tmp_path}/escrow.pub --to {tmp_path}/out.json"
    sealed.one_is_enough()
    sealed.guard(line, expect=14)
    assert "waits until" in sealed.err
    assert not (tmp_path / "out.json").exists()
    sealed.wait(hours=25)
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    (tmp_path / "other.pub").write_text(other.hex())
    sealed.guard(line.replace("escrow.pub", "other.pub"), expect=14)
    sealed.guard(line)
    says = json.loads((tmp_path / "out.json").read_text())
    info = parts(
        b"guard/gk1/export",
        bytes.fromhex(says["store"].replace("-", "")),
        bytes.fromhex(says["id"]),
        b"column/1",
        b"\0\0\0\1",
        bytes.fromhex(says["recipient"]),
    )
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    app = sealed.app()
    assert suite.decrypt(b64decode(says["sealed"])[4:], private, info) == app.keyring.by_id(int(key_id, 16)).material
    app.close()
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o600


def test_nothing_is_exported_to_what_is_no_public_key(sealed: Desk, tmp_path: Path) -> None:
    (tmp_path / "zero").write_text("00" * 32)
    (tmp_path / "none").write_text("hello")
    for name, said in (
        ("zero", "nothing can be sealed to this"),
        ("none", "does not hold an X25519"),
        ("x", "No such"),
    ):
        sealed.guard(f"keys export 8 --recipient {tmp_path / name} --to {tmp_path}/out.json", expect=2)
        assert said in sealed.err


# The kit --------------------------------------------------------------------------------------------------------------


def test_a_kit_is_tested_once_a_year(desk: Desk) -> None:
    test = "keys recovery test " + " ".join(f"--share-file {path}" for path in shares(desk)[:2])
    assert desk.json(test)["stores"] == ["local"]
    desk.wait(days=366)
    assert "the recovery kit was made 2026-01-05 and tested 2026-01-05" in desk.status()
    desk.guard(test)
    assert not any("recovery kit was made" in line for line in desk.status())


def test_a_new_kit_opens_the_repositories_after_the_next_backup(desk: Desk, tmp_path: Path) -> None:
    made = desk.json(f"keys recovery make --to {tmp_path} --print")
    assert [Path(name).suffix for name in made["files"]] == [".html"] * 3
    assert "Shop" in Path(made["files"][0]).read_text()
    test = "keys recovery test " + " ".join(f"--share-file {name}" for name in made["files"][1:])
    assert list(desk.json(test, expect=3)["shut"]) == ["local"]
    desk.guard("backup run")
    assert desk.json(test)["stores"] == ["local"]
    desk.guard("backup verify")
