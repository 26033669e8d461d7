"""A reader that knows only docs/FORMATS.md agrees with guard about the ledger."""

import json
import runpy
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from guard.audit import FolderAnchor, Ledger
from guard.clock import SteppedClock
from guard.crypto.sign import Signer
from guard.events import GUARD, Activity, Ending, Event, RunId
from guard.state import State
from tests.audit.conftest import opened

READER = Path(__file__).with_name("ledger.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Folder, verifier key and root of a ledger that guard wrote."""
    folder = tmp_path_factory.mktemp("ledger")
    clock = SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
    state = State.create(f"sqlite:///{folder}/state.db", clock, UUID(int=5))
    anchor = FolderAnchor("here", folder / "anchor")
    anchor.create()
    ledger = Ledger(state, bytes(32), [anchor])
    state.attach(ledger.append)
    for number in range(37):
        event = Event(
            "fields.encrypt",
            Ending.DONE,
            GUARD,
            RunId(f"{number:032x}"),
            Activity.DATA_ENCRYPT,
            objects=("Kunde.Straße", "客户.电话"),
            counts={"rows": number, "Zeilen": 2**53 - 1},
            digests={"plan": "00ff"},
            facts={"note": 'quote " slash \\ bell \x07 é \U0001f512'},
            subject="ab" * 16,
        )
        state.write(lambda tx: None, event)
        clock.step(timedelta(minutes=29))
        if number == 20:
            ledger.anchor()
    root = ledger.inspect().root
    state.close()
    return folder, ledger.vkey, root


def test_it_agrees_on_entries_nodes_checkpoints_and_anchors(made: tuple[Path, str, str]) -> None:
    folder, vkey, root = made
    words = [sys.executable, "-I", str(READER), str(folder / "state.db"), vkey, str(folder / "anchor")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["size"], found["root"], found["anchored"]) == (37, root, 21)
    assert found["entries"][36]["facts"] == {"note": 'quote " slash \\ bell \x07 é \U0001f512'}
    assert found["entries"][36]["objects"] == ["Kunde.Straße", "客户.电话"]


def test_it_follows_the_ledger_over_a_restore(made: tuple[Path, str, str], tmp_path: Path) -> None:
    """State of entry 37 is brought back where the anchor holds 40: the log is closed and another begun."""
    folder, _, _ = made
    clock = SteppedClock(datetime(2026, 1, 7, 9, tzinfo=UTC))
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    anchor = FolderAnchor("here", work / "anchor")

    def opened() -> tuple[State, Ledger]:
        state = State.open(f"sqlite:///{work}/state.db", clock)
        ledger = Ledger(state, bytes(32), [anchor])
        state.attach(ledger.append)
        return state, ledger

    state, ledger = opened()
    event = Event("fields.verify", Ending.DONE, GUARD, RunId("ee" * 16))
    state.write(lambda tx: None, event, event, event)
    ledger.anchor()
    state.close()
    for end in ("-wal", "-shm"):
        (work / f"state.db{end}").unlink(missing_ok=True)
    shutil.copyfile(folder / "state.db", work / "state.db")
    state, ledger = opened()
    found = ledger.restart()
    state.write(lambda tx: None, found.event(GUARD, RunId("ff" * 16)), event)
    ledger.anchor()
    vkey, root = ledger.vkey, ledger.inspect().root
    state.close()
    words = [sys.executable, "-I", str(READER), str(work / "state.db"), vkey, str(work / "anchor")]
    read = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert (read["size"], read["root"], read["anchored"]) == (39, root, 39)
    assert read["logs"] == [[f"guard-ledger/{UUID(int=5)}", 37], [found.origin, 39]]
    assert read["entries"][37]["counts"] == {"size": 37, "lost": 3, "ahead first": 40}


def test_it_follows_changes_of_key_and_what_retention_removed(tmp_path: Path) -> None:
    """Trusting any key; with a block that stays, for a change of key, in the middle of what was removed."""
    clock = SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
    house = opened(tmp_path, clock)
    for month in range(30):
        done = [Event("test.note", Ending.DONE, GUARD, RunId(f"{month * 60 + each:032x}")) for each in range(60)]
        house.add(*done)
        if month in {5, 22}:
            house.rekey(*done)
        if month in {3, 29}:
            house.ledger.anchor()
        clock.step(timedelta(days=30 if month < 29 else 0))
    house.ledger.prune(house.ledger.pruning(), (GUARD, RunId("cd" * 16)))
    house.ledger.anchor()
    verdict = house.ledger.verify()
    origin = f"guard-ledger/{house.state.store_id}"
    house.state.close()
    assert (verdict.minimum, len(verdict.rekeys)) == (1024, 2)
    for seed in house.keys.seeds:
        vkey = Signer(seed, origin).vkey
        words = [sys.executable, "-I", str(READER), str(tmp_path / "state.db"), vkey, str(tmp_path / "anchor")]
        read = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        assert (read["size"], read["root"], read["anchored"]) == (verdict.size, verdict.root, verdict.size)
        assert (read["keys"], read["minimum"]) == (3, 1024)
        assert {entry["n"] >> 8 for entry in read["entries"] if entry["n"] < 1024} == {1}
    check = runpy.run_path(str(READER))["check"]
    with pytest.raises(AssertionError):
        check(str(tmp_path / "state.db"), Signer(b"x" * 32, origin).vkey)
    for change in (
        "DELETE FROM ledger_entry WHERE n BETWEEN 256 AND 511",
        "DELETE FROM ledger_entry WHERE n = 1024",
        "UPDATE ledger_node SET hash = zeroblob(32) WHERE level = 8 AND position = 0",
        "DELETE FROM ledger_checkpoint WHERE kind = 'rekeyed'",
    ):
        shutil.copyfile(tmp_path / "state.db", tmp_path / "copy.db")
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            copy.execute(change)
            copy.commit()
        with pytest.raises((AssertionError, ValueError)):
            check(str(tmp_path / "copy.db"), Signer(house.keys.seeds[0], origin).vkey)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_entry SET leaf = replace(leaf, 'guard', 'gaurd') WHERE n = 3",
        "UPDATE ledger_entry SET who = 'x' WHERE n = 3",
        "UPDATE ledger_node SET hash = zeroblob(32) WHERE level = 2",
        "DELETE FROM ledger_node WHERE level = 1 AND position = 17",
        "DELETE FROM ledger_entry WHERE n = 36",
        "UPDATE ledger_checkpoint SET size = size + 1",
    ],
)
def test_it_finds_what_was_changed(made: tuple[Path, str, str], tmp_path: Path, change: str) -> None:
    folder, vkey, _ = made
    source = sqlite3.connect(folder / "state.db")
    copy = sqlite3.connect(tmp_path / "copy.db")
    source.backup(copy)
    copy.execute(change)
    copy.commit()
    copy.close()
    source.close()
    check = runpy.run_path(str(READER))["check"]
    with pytest.raises(AssertionError):
        check(str(tmp_path / "copy.db"), vkey)
