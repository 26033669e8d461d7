"""A reader that knows only docs/FORMATS.md agrees with guard about the ledger."""

import json
import runpy
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
