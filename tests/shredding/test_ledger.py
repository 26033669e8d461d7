"""Forgetting in the ledger: with the person's key go their name and what was said of them, and nothing else."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guard.actions import perform
from guard.actions._perform import Caller
from guard.actions.epoch import TURN, is_due
from guard.actions.shred import SHRED, SHRED_MANY
from guard.audit import Query, proof
from guard.audit.named import FORGET
from guard.audit.persons import CLASS
from guard.backup.erasures import Effect
from guard.canon import key_bytes
from guard.cli.main import main
from guard.crypto.subjects import Person
from guard.errors import InterlockError, UnavailableError, WaitingError
from guard.events import GUARD, About, Ending, Event
from tests.shredding.conftest import PLANTED

ALL = {"kind": "customer", "keys": ["1"], "classes": []}
LEDGER = {**ALL, "classes": [CLASS]}


def person(customer: int) -> Person:
    return Person("customer", key_bytes((customer,)))


def say(house: Any, *customers: int, **details: Any) -> None:
    """Record an event about each of these people, as the shop tells them."""
    events = [
        Event(
            "shop.read", Ending.DONE, GUARD, house.app.new_run(), about=About("customer", key_bytes((each,)), details)
        )
        for each in customers
    ]
    house.app.record(lambda tx: None, *events)


def entries(house: Any, what: str) -> list[Any]:
    return list(house.app.ledger.list(Query(what=what), 1000))


def rows(house: Any, query: str) -> list[Any]:
    with closing(sqlite3.connect(house.app.state.path)) as state:
        return state.execute(query).fetchall()


@pytest.fixture
def told(house: Any) -> Any:
    """The house, whose ledger says something of Ada twice and of Bob once."""
    say(house, 1, 2, 1, name=PLANTED)
    return house


def free_tax(house: Any) -> None:
    """End the term of what the tax law wants kept."""
    path = house.app.policies / "retention.toml"
    path.write_text(
        path.read_text().replace('keep = "10 years"', 'keep = "1 day"').replace("least = true", "least = false")
    )


def test_without_a_class_the_ledger_forgets_too(told: Any) -> None:
    free_tax(told)
    before = {entry.n: entry for entry in told.app.ledger.entries()}
    (subject,) = {entry.subject for entry in entries(told, "shop.read")[::2]}
    done = told.do(SHRED, **ALL)
    assert {receipt.data_class for receipt in done.receipts} == {"account", "ledger", "tax"}
    assert done.failed == {}
    (forget,) = entries(told, FORGET)
    assert (forget.subject, forget.counts, forget.who) == (subject, {"payloads": 2}, told.caller().who.id)
    assert len(rows(told, "SELECT n FROM ledger_payload")) == len(rows(told, "SELECT key FROM ledger_person")) == 1
    after = {entry.n: entry for entry in told.app.ledger.entries()}
    assert {n: after[n] for n in before} == before
    assert told.app.ledger.inspect().size == len(after)


def test_its_own_entries_name_the_person_and_draw_no_name_for_it(told: Any) -> None:
    subject = entries(told, "shop.read")[0].subject
    told.do(SHRED, **{**ALL, "classes": ["account"]})
    begun, done = entries(told, "keys.shred")
    assert (begun.subject, done.subject, entries(told, FORGET)) == (subject, subject, [])
    assert told.app.persons.pseudonym_of(person(1)) == subject
    told.do(SHRED, **{**ALL, "keys": ["3"], "classes": ["account"]})  # of whom the ledger knows nothing
    assert [entry.subject for entry in entries(told, "keys.shred")[2:]] == [None, None]
    assert told.app.subjects.classes(person(3)) == ()
    told.do(SHRED, **LEDGER)
    begun, done = entries(told, "keys.shred")[4:]
    (forget,) = entries(told, FORGET)
    assert begun.subject == done.subject == forget.subject == subject
    assert begun.n < forget.n < done.n
    assert forget.run != begun.run
    assert told.app.subjects.classes(person(1)) == ("tax",)


def test_the_receipt_and_the_register_say_that_the_ledger_forgot(told: Any) -> None:
    (receipt,) = told.do(SHRED, **LEDGER).receipts
    assert (receipt.data_class, receipt.left, receipt.rows) == ("ledger", (), 0)
    ((entry),) = told.app.backups.register("local").read()
    key = key_bytes((1,)).hex()
    assert entry.effects == (Effect(effect="shred", table="customer", key=key, columns=("ledger",)),)


def test_what_the_plan_says(told: Any) -> None:
    lines: list[str] = []
    caller = told.caller()
    perform(told.app, Caller(caller.who, caller.ask, lines.append), SHRED, **LEDGER)
    shown = "\n".join(lines)
    assert "shred ledger of one customer: no column" in shown
    assert "what the ledger says of them goes too; its entries stay" in shown


def test_every_proof_and_checkpoint_of_before_holds(told: Any) -> None:
    app = told.app
    with app.state.read() as tx:
        proofs = [proof.prove(tx, n) for n in range(app.ledger.inspect().size)]
    old, checkpoint = app.ledger.inspect(), app.ledger.checkpoint()
    told.do(SHRED, **LEDGER)
    app = told.reopen()
    with app.state.read() as tx:
        for n, (leaf, found) in enumerate(proofs):
            now, fresh = proof.prove(tx, n)
            assert now == leaf
            assert found.holds(leaf)
            assert fresh.holds(leaf)
        assert proof.root(tx, old.size).hex() == old.root
    assert checkpoint.split("\n")[1] == str(old.size)
    app.ledger.anchor()
    assert app.ledger.verify().size > old.size


def test_a_law_that_wants_a_class_kept_does_not_keep_what_the_ledger_says(told: Any) -> None:
    with pytest.raises(InterlockError, match="class tax"):
        told.do(SHRED, **ALL)
    assert len(rows(told, "SELECT n FROM ledger_payload")) == 3
    policy = told.app.policies / "retention.toml"
    policy.write_text(policy.read_text().replace("[class.ledger]", "[class.other]"))
    assert [receipt.data_class for receipt in told.do(SHRED, **LEDGER).receipts] == ["ledger"]


def test_who_comes_back_gets_another_name(told: Any) -> None:
    told.do(SHRED, **LEDGER)
    say(told, 1, name=PLANTED)
    first, *_, last = entries(told, "shop.read")
    assert first.subject != last.subject
    name = told.app.persons.names([first.subject, last.subject])
    assert list(name) == [last.subject]
    done = told.do(SHRED, **LEDGER)
    assert len(done.receipts) == len(entries(told, FORGET)) == 2


def test_a_plan_for_several_stays_the_same_while_they_are_written_about(told: Any) -> None:
    many = {"kind": "customer", "keys": ["2", "3"], "classes": []}
    told.one_is_enough()
    free_tax(told)
    with pytest.raises(WaitingError):
        told.do(SHRED_MANY, **many)
    say(told, 3, name=PLANTED)
    told.clock.step(timedelta(hours=24))
    done = told.do(SHRED_MANY, **many)
    assert sorted(receipt.data_class for receipt in done.receipts) == ["account", "account", "ledger", "ledger", "tax"]
    assert [entry.subject for entry in entries(told, "keys.shred.many")] == [None] * 3
    assert len(entries(told, FORGET)) == 2


def test_while_the_vault_is_away_only_the_ledger_cannot_forget(told: Any) -> None:
    """Whom to forget is sealed under the person's key. It is said before a code is asked for."""
    told.reopen()
    for mirror in told.mirrors:
        mirror.rename(f"{mirror}-away")
    spent = told.clock.now()
    with pytest.raises(UnavailableError):
        told.do(SHRED, **LEDGER)
    assert told.clock.now() == spent
    assert [receipt.data_class for receipt in told.do(SHRED, **{**ALL, "classes": ["account"]}).receipts] == ["account"]
    assert entries(told, "keys.shred")[-1].subject is None
    for mirror in told.mirrors:
        Path(f"{mirror}-away").rename(mirror)
    assert [receipt.data_class for receipt in told.do(SHRED, **LEDGER).receipts] == ["ledger"]


def copies(house: Any) -> Path:
    return shutil.copytree(house.home / "var", house.home.parent / "var-of-before")


def test_a_state_that_was_restored_forgets_again(told: Any) -> None:
    """An old state knows the person again; what the stores' registers say takes them out once more."""
    told.app.close()
    old = copies(told)
    told.reopen()
    told.do(SHRED, **LEDGER)
    say(told, 2, name="later")
    told.app.close()
    shutil.rmtree(told.home / "var")
    shutil.copytree(old, told.home / "var")
    app = told.reopen()
    assert app.persons.pseudonym_of(person(1)) is not None
    assert len(rows(told, "SELECT n FROM ledger_payload")) == 3
    assert is_due(app)
    perform(app, Caller(app.access.service("daemon")), TURN)
    assert app.persons.pseudonym_of(person(1)) is None
    (forget,) = entries(told, FORGET)
    assert (forget.who, forget.counts) == ("s-daemon", {"payloads": 2})
    assert len(rows(told, "SELECT n FROM ledger_payload")) == 1
    assert not is_due(app)


def test_who_came_back_is_not_forgotten_by_the_register(told: Any) -> None:
    told.do(SHRED, **LEDGER)
    told.clock.step(timedelta(minutes=1))
    say(told, 1, name=PLANTED)
    perform(told.app, Caller(told.app.access.service("daemon")), TURN)
    assert told.app.persons.pseudonym_of(person(1)) is not None
    assert len(entries(told, FORGET)) == 1


def run(house: Any, *words: str) -> Any:
    return CliRunner().invoke(main, ["--yes", "--json", *words], obj=house.app, catch_exceptions=False)


def test_no_byte_is_left_in_guards_files_nor_in_what_it_exports(told: Any) -> None:
    say(told, 1, long=PLANTED * 500)
    subject = entries(told, "shop.read")[0].subject
    theirs = [sealed for (sealed,) in rows(
        told, f"SELECT sealed FROM ledger_payload p JOIN ledger_entry e ON e.n = p.n WHERE e.subject = '{subject}'"
    )]  # fmt: skip
    key = told.app.subjects.of(person(1), CLASS).id
    theirs += [sealed for (sealed,) in rows(told, f"SELECT sealed FROM ledger_person WHERE key = {key}")]
    theirs += [sealed for (sealed,) in rows(told, f"SELECT wrapped FROM subject_key WHERE id = {key}")]
    assert len(theirs) == 5
    pieces = [each[at : at + 24] for each in theirs for at in range(4, len(each) - 24, 501)]

    def left() -> list[bytes]:
        """Files of guard's folder; the backups of state keep it until the epoch ends, as the receipt says."""
        found = [path for path in told.home.rglob("*") if path.is_file() and "backups" not in path.parts]
        raw = b"".join(path.read_bytes() for path in found)
        return [piece for piece in pieces if piece in raw]

    told.app.state.scrub()
    assert left() == pieces
    done = run(told, "keys", "shred", "customer", "1", "--class", "ledger")
    assert (done.exit_code, json.loads(done.stdout)[0]["left"]) == (0, [])
    listed = run(told, "audit", "list", "--limit", "1000")
    assert len(json.loads(listed.stdout)) > 5
    out = told.home / "out"
    assert run(told, "audit", "export", "--tiles", str(out)).exit_code == 0
    vkey = told.app.ledger.vkey
    told.app.close()
    assert left() == []
    assert PLANTED not in listed.stdout
    assert len(list(out.rglob("*"))) > 5
    checked = subprocess.run(
        [sys.executable, "-I", "verify.py", ".", "--vkey", vkey], cwd=out, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    told.reopen()
    assert told.app.ledger.inspect().size > 5


Open = Callable[[Path], Any]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_forgetting_is_whole_or_has_not_begun(
    told: Any, open_house: Open, fault_points: Any, tmp_path: Path
) -> None:
    """SIGKILL at each point: key, name, payloads and entry go together, and the next run does the rest."""
    told.app.close()
    root, made = told.home.parent, iter(range(1000))

    def copy() -> Path:
        return shutil.copytree(root, tmp_path / "copies" / str(next(made)))

    def shred(at: Path) -> Callable[[], None]:
        def work() -> None:
            house = open_house(at)
            house.do(SHRED, **LEDGER)
            house.app.close()

        return work

    points = fault_points.passed(shred(copy()))
    assert {"audit.forget.removed", "keys.shred.wiped", "keys.shred.step"} <= set(points)
    for number, name in enumerate(points, 1):
        at = copy()
        assert fault_points.killed(shred(at), number), name
        told.clock.step(timedelta(minutes=5))
        house = open_house(at)
        is_begun = number > points.index("audit.forget.removed") + 1
        assert len(entries(house, FORGET)) == is_begun, name
        assert len(rows(house, "SELECT n FROM ledger_payload")) == (1 if is_begun else 3), name
        assert len(rows(house, "SELECT key FROM ledger_person")) == (1 if is_begun else 2), name
        assert (CLASS in house.app.subjects.classes(person(1))) == (not is_begun), name
        assert house.app.ledger.inspect().size > 5, name
        done = house.do(SHRED, **LEDGER)
        assert done.failed == {}, name
        assert [receipt.left for receipt in done.receipts] == [()], name
        assert len(entries(house, FORGET)) == 1, name
        assert house.app.ledger.inspect().size > 5, name
        house.app.close()
