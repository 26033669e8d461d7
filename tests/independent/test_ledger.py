"""A reader that knows only docs/FORMATS.md agrees with guard about the ledger."""

import json
import runpy
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from guard.audit import FolderAnchor, Ledger
from guard.clock import SteppedClock
from guard.events import GUARD, Activity, Ending, Event, RunId
from guard.state import State

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
