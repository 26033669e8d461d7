"""What SQLite takes and no ledger has: values of other types, numbers no entry has, views and triggers in between.

All of it is tampering, and is told as that, whoever comes upon it first.
"""

import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.audit.export import export
from guard.audit.handout import Wanted, hand_out
from guard.audit.merkle import leaf_hash
from guard.audit.ship import Part, ship
from guard.canon import json_bytes
from guard.clock import SteppedClock
from guard.errors import GuardError, TamperedError
from tests.audit.conftest import START, House, event, opened

LAST = "(SELECT max(n) FROM ledger_entry)"
COPY = "INSERT INTO ledger_checkpoint SELECT {}, {}, note FROM ledger_checkpoint WHERE kind = 'latest'"
_MEMBERS: dict[str, Any] = {
    "v": 1,
    "n": 0,
    "at": "",
    "who": "guard",
    "what": "",
    "run": "0" * 32,
    "outcome": "done",
    "class": "6005.1",
} | {"objects": [], "counts": {}, "digests": {}, "facts": {}, "subject": None, "payload": None}
EMPTY = json_bytes(_MEMBERS)


def row(n: int, what: str, at: str = "2026-01-05T09:00:00.000000Z") -> str:
    """Return the SQL that adds an entry whose columns, bytes and hash agree."""
    leaf = EMPTY.replace(b'"n":0', b'"n":%d' % n).replace(b'"what":""', b'"what":"%s"' % what.encode())
    leaf = leaf.replace(b'"at":""', b'"at":"%s"' % at.encode())
    columns = f"'{at}', 'guard', '{what}', 'done', '{'0' * 32}', NULL"
    return f"INSERT INTO ledger_entry VALUES ({n}, x'{leaf.hex()}', x'{leaf_hash(leaf).hex()}', {columns})"


STRANGE = {
    "the size of a change of key is a text": "UPDATE ledger_checkpoint SET size = 'x' WHERE kind = 'rekeyed'",
    "it is bytes": "UPDATE ledger_checkpoint SET size = x'00' WHERE kind = 'rekeyed'",
    "a checkpoint of a negative size": COPY.format(-4, "'hourly'"),
    "one of no entries": COPY.format(0, "'anchored'"),
    "one whose size is a text": COPY.format("'x'", "'anchored'"),
    "one whose kind is bytes": COPY.format("size", "x'00'"),
    "two newest ones": COPY.format(5, "'latest'"),
    "a note that is bytes": "UPDATE ledger_checkpoint SET note = CAST(note AS BLOB) WHERE kind = 'latest'",
    "the last entry is none": f"UPDATE ledger_entry SET leaf = x'7b7d' WHERE n = {LAST}",
    "the last entry is a number": f"UPDATE ledger_entry SET leaf = 7 WHERE n = {LAST}",
    "the last entry has no time": f"UPDATE ledger_entry SET leaf = x'{EMPTY.hex()}' WHERE n = {LAST}",
    "a change of key that is none": row(1000, "audit.rekey"),
    "one before the first": row(-5, "audit.rekey"),
    "a restart outside of time": row(1000, "audit.restart", "0001-01-01T00:00:00+23:59"),
    "a removal outside of time": row(-5, "audit.prune", "9999-12-31T23:59:59-23:59"),
    "a payload that is a text": "INSERT INTO ledger_payload VALUES (1, 'hidden')",
}
BETWEEN = {
    "a view of entries": "ALTER TABLE ledger_entry RENAME TO x; CREATE VIEW ledger_entry AS SELECT * FROM x",
    "a view of checkpoints": "ALTER TABLE ledger_checkpoint RENAME TO x; "
    "CREATE VIEW ledger_checkpoint AS SELECT * FROM x",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON Ledger_Payload BEGIN SELECT raise(IGNORE); END",
}


def _exported(house: House) -> object:
    with house.state.read() as tx:
        return export(tx, house.folder / "out", house.ledger.vkey)


def _proved(house: House) -> object:
    with house.state.read() as tx:
        return hand_out(tx, house.folder / "proof", Wanted((1,)), house.ledger.vkey)


def _shipped(house: House) -> object:
    with house.state.read() as tx:
        return ship(tx, lambda _: None, Part(), "shop")


ASKED: dict[str, Callable[[House], object]] = {
    "vkey": lambda house: house.ledger.vkey,
    "checkpoint": lambda house: house.ledger.checkpoint(),
    "list": lambda house: house.ledger.list(),
    "look": lambda house: house.ledger.look(),
    "restart": lambda house: house.ledger.restart(),
    "pruning": lambda house: house.ledger.pruning(),
    "export": _exported,
    "prove": _proved,
    "ship": _shipped,
    "append": lambda house: house.add(event(4)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Fourteen entries, with a change of key and an anchor."""
    made = opened(tmp_path_factory.mktemp("whole"), SteppedClock(START))
    for number in range(4, 16, 2):
        made.add(event(number), event(number + 1))
        made.clock.step(timedelta(minutes=13))
    made.rekey(event(1))
    made.ledger.anchor()
    made.close()
    return made.folder, made.keys


def _changed(folder: tuple[Path, Any], to: Path, change: str) -> House:
    shutil.copytree(folder[0], to)
    database = sqlite3.connect(to / "state.db")
    database.executescript(change)
    database.close()
    return opened(to, SteppedClock(START + timedelta(hours=3)), folder[1].copy())


@pytest.mark.parametrize("name", STRANGE)
def test_it_is_tampering_and_nothing_else(folder: tuple[Path, Any], tmp_path: Path, name: str) -> None:
    house = _changed(folder, tmp_path / "all", STRANGE[name])
    with pytest.raises(TamperedError):
        house.inspect()
    house.close()
    for number, ask in enumerate(ASKED.values()):
        house = _changed(folder, tmp_path / str(number), STRANGE[name])
        try:
            ask(house)
        except GuardError:
            pass
        finally:
            house.close()


@pytest.mark.parametrize("name", BETWEEN)
def test_nothing_stands_between_the_tables_and_who_verifies(
    folder: tuple[Path, Any], tmp_path: Path, name: str
) -> None:
    house = _changed(folder, tmp_path / "all", BETWEEN[name])
    with pytest.raises(TamperedError, match=r"ledger are damaged: a (view|trigger) .* stands between"):
        house.inspect()
    house.close()


def test_without_it_everything_is_answered(folder: tuple[Path, Any], tmp_path: Path) -> None:
    house = _changed(folder, tmp_path / "all", "SELECT 1")
    assert house.inspect().size == 14
    for ask in ASKED.values():
        ask(house)
    house.close()


def test_a_trigger_elsewhere_is_not_the_ledgers(folder: tuple[Path, Any], tmp_path: Path) -> None:
    trigger = "CREATE TABLE other (a); CREATE TRIGGER t AFTER INSERT ON other BEGIN SELECT 1; END"
    house = _changed(folder, tmp_path / "all", f"{trigger}; CREATE VIEW v AS SELECT * FROM other")
    assert house.inspect().size == 14
    house.close()
