"""`guard keys rotate ledger` end to end: on the record, in one step, through restores and the end of old versions."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from guard import faults
from guard.audit import Query
from guard.audit.rekey import REKEY
from guard.crypto.sign import Verifier
from guard.errors import InterlockError, TamperedError
from guard.events import GUARD, Ending, Event
from tests.actions.test_keys import Desk, desk, shares

__all__ = ["desk"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads

ROTATE = "keys rotate ledger"


def vkey(desk: Desk) -> str:
    app = desk.app()
    try:
        return app.ledger.vkey
    finally:
        app.close()


def test_the_new_key_signs_and_the_change_is_on_the_record(desk: Desk) -> None:
    old = vkey(desk)
    before = desk.snapshots()
    done = desk.json(ROTATE)
    assert (done["purpose"], done["version"], done["moved"], done["left"]) == ("ledger", 2, 0, 0)
    assert done["vkey"] == vkey(desk) != old
    assert desk.snapshots() == before + 1  # it was in a backup of state before it signed
    assert [key[:2] for key in desk.keys("ledger")] == [(1, "old"), (2, "current")]
    change, activation = desk.json("audit list --what audit.rekey") + desk.json("audit list --what keys.activate")
    assert (change["facts"], change["counts"]) == ({"old": old, "new": done["vkey"]}, {"version": 2})
    assert (activation["n"], activation["run"]) == (change["n"] + 1, change["run"])
    assert Verifier.from_vkey(done["vkey"]).open_note(desk.guard("audit checkpoint"))
    desk.guard("audit anchor")
    assert f"signed by another key since entry {change['n']}: {done['vkey']}" in desk.guard("audit verify")
    assert [(each["n"], each["vkey"]) for each in desk.json("audit verify")["rekeys"]] == [(change["n"], done["vkey"])]


def test_what_follows_is_said(desk: Desk) -> None:
    desk.guard(ROTATE)
    assert f"Verifier key of the ledger from now on, for auditors: {vkey(desk)}" in desk.err
    assert "guard audit anchor" in desk.err
    assert "seals" not in desk.err.partition("Version 2 of ledger")[2].splitlines()[0]


def test_a_process_that_runs_follows_the_change(desk: Desk) -> None:
    running = desk.app()
    running.record(lambda tx: None, Event("audit.heartbeat", Ending.DONE, GUARD, running.new_run()))
    new = desk.json(ROTATE)["vkey"]
    running.record(lambda tx: None, Event("audit.heartbeat", Ending.DONE, GUARD, running.new_run()))
    assert running.ledger.vkey == new
    running.ledger.anchor()
    assert running.ledger.verify().vkey == new
    desk.guard(ROTATE)
    assert len(running.ledger.inspect().rekeys) == 2
    running.close()


def test_old_versions_end_and_the_ledger_still_verifies(desk: Desk) -> None:
    desk.guard(ROTATE)
    old = desk.keys("ledger")[0][2]
    desk.guard(f"keys retire {old}")
    desk.guard("audit anchor")
    desk.guard("audit verify")
    desk.one_is_enough()
    desk.guard(f"keys destroy {old}", expect=14)
    desk.wait(hours=25)
    desk.guard(f"keys destroy {old}")
    assert [key[1] for key in desk.keys("ledger")] == ["destroyed", "current"]
    desk.guard("audit anchor")
    assert len(desk.json("audit verify")["rekeys"]) == 1
    desk.guard("report build", expect=3)
    desk.guard(ROTATE)
    desk.guard("audit anchor")
    desk.guard("audit verify")


def test_the_report_names_the_changes(desk: Desk, tmp_path: Path) -> None:
    old = vkey(desk)
    new = desk.json(ROTATE)["vkey"]
    page = Path(desk.json(f"report build --out {tmp_path}/report.html", expect=3)["path"]).read_text()
    assert f"<dd><code>{new.replace('+', '&#43;')}" in page or f"<dd><code>{new}</code></dd>" in page
    assert "<dt>Change of key</dt>" in page
    assert old in page


POINTS = ("keys.rotate.made", "keys.rotate.saved", "audit.rekey.signed", "keys.rotate.current")


def killed_at(point: str, work: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        faults.install(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def look(desk: Desk, point: str) -> None:
    """The old key or the new one is in force, in the entries and in state, and the next run comes to its end."""
    is_done = point == "keys.rotate.current"
    assert [key[1] for key in desk.keys("ledger")] == (["old", "current"] if is_done else ["current", "waiting"])
    assert len(desk.json("audit list --what audit.rekey")) == is_done
    desk.wait(minutes=1)
    desk.guard("audit anchor")
    desk.guard("audit verify")
    assert desk.json(ROTATE)["version"] == 2 + is_done
    desk.guard("audit anchor")
    assert len(desk.json("audit verify")["rekeys"]) == 1 + is_done


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_the_one_key_or_the_other(desk: Desk, point: str) -> None:
    assert killed_at(point, lambda: desk.guard(ROTATE))
    look(desk, point)


@pytest.mark.slow
@pytest.mark.parametrize("_", range(5))
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_the_one_key_or_the_other_every_time(desk: Desk, point: str, _: int) -> None:
    assert killed_at(point, lambda: desk.guard(ROTATE))
    look(desk, point)


@pytest.mark.parametrize("when", ["before the version was made", "while it waited"])
def test_state_that_comes_back_from_before_the_change_says_so(desk: Desk, when: str, tmp_path: Path) -> None:
    """It signs with the old key again, in a log of its own, and names the key of which it knows nothing."""
    if when == "before the version was made":
        shutil.copytree(desk.home / "backups", tmp_path / "backups")
    new = Verifier.from_vkey(desk.json(ROTATE)["vkey"])
    desk.guard("audit anchor")
    if when == "before the version was made":
        shutil.rmtree(desk.home / "backups")
        (tmp_path / "backups").rename(desk.home / "backups")
    for end in ("", "-wal", "-shm"):
        (desk.home / f"var/state.db{end}").unlink(missing_ok=True)
    one, two = shares(desk)[:2]
    back = desk.json(f"state restore --share-file {one} --share-file {two}")
    assert back["restart"]["unknown"] == [new.key_id.hex()]
    assert back["restart"]["ahead"]["first"][0] > back["restart"]["size"]
    states = ["current"] if when == "before the version was made" else ["current", "waiting"]
    assert [key[1] for key in desk.keys("ledger")] == states
    desk.guard("audit verify")
    desk.wait(minutes=2)
    assert desk.json(ROTATE)["version"] == 2
    desk.guard("audit anchor")
    desk.guard("audit verify")


def test_the_restore_says_in_words_that_the_key_was_changed(desk: Desk) -> None:
    desk.guard(ROTATE)
    desk.guard("audit anchor")
    for end in ("", "-wal", "-shm"):
        (desk.home / f"var/state.db{end}").unlink(missing_ok=True)
    one, two = shares(desk)[:2]
    desk.guard(f"state restore --share-file {one} --share-file {two}")
    assert "which this state does not know" in desk.err
    assert "until guard keys rotate ledger" in desk.err


def test_without_a_store_the_old_key_goes_on(desk: Desk) -> None:
    desk.stores_away()
    desk.guard(ROTATE, expect=13)
    assert "version 2 of ledger waits, unused" in desk.err
    assert len(desk.json("audit list --what audit.rekey")) == 0
    desk.stores_back()
    assert desk.json(ROTATE)["version"] == 2
    app = desk.app()
    assert [entry.counts for entry in app.ledger.list(Query(what=REKEY))] == [{"version": 2}]
    app.close()
    desk.clock.step(timedelta(minutes=1))


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM key WHERE purpose = 'ledger'",
        "UPDATE key SET wrapped = zeroblob(length(wrapped)) WHERE purpose = 'ledger'",
        "UPDATE key SET state = 'retired' WHERE purpose = 'ledger'",
    ],
)
def test_without_its_key_the_ledger_is_never_called_fine(desk: Desk, change: str) -> None:
    with closing(sqlite3.connect(desk.home / "var/state.db")) as state:
        state.execute(change)
        state.commit()
    app = desk.app()
    try:
        with pytest.raises((TamperedError, InterlockError)):
            app.ledger.verify()
    finally:
        app.close()


def test_the_old_key_in_force_again_by_force_is_found_by_the_anchor(desk: Desk) -> None:
    """Who puts state's keys back too, in the running ledger or with an old one, meets the entry or the anchor."""
    desk.guard(ROTATE)
    desk.guard("audit anchor")
    with closing(sqlite3.connect(desk.home / "var/state.db")) as state:
        state.execute("UPDATE key SET state = 'waiting' WHERE purpose = 'ledger' AND version = 2")
        state.commit()
    desk.guard("audit verify", expect=11)
    assert "guard's keys say otherwise" in desk.err
