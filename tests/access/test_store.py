"""What lies in state, read back by a program that knows docs/FORMATS.md and nothing of guard."""

import importlib.util
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import insert

from guard.access import Terms
from guard.access.store import FACTOR, RECOVERY, Sealed, new_id
from guard.errors import WaitingError
from guard.events import Level, PrincipalId
from tests.access.conftest import House, Phone

ARGS = {"columns": ["Customer.Email"], "note": None}
READER = Path(__file__).parents[1] / "independent" / "access.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_access", READER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = loaded()


@pytest.fixture
def database(house: House, ada: Phone) -> Iterator[sqlite3.Connection]:
    """State with a row in each table."""
    house.allow(ada.at_door(ada.recovery[0]))
    with pytest.raises(WaitingError):
        house.allow(ada.at_door(), "fields.decrypt", Level.DUAL, terms=Terms(args=ARGS))
    (asked,) = house.access.requests()
    request, bob = house.access.asked(asked.id)[0], PrincipalId("p-bbbbbbbbbb")
    house.state.write(lambda tx: house.access._books.requests.approve(tx, request, bob, house.clock.now()))
    house.state.write(lambda tx: house.access.give_standing(tx, "retention.run", "d" * 64, ada.who.id))
    opened = sqlite3.connect(str(house.state.path))
    yield opened
    opened.close()


def test_the_reader_imports_nothing_of_guard() -> None:
    text = READER.read_text(encoding="utf-8")
    assert "import guard" not in text
    assert "from guard" not in text


def test_every_row_of_every_table_carries_the_seal_that_formats_describes(
    house: House, database: sqlite3.Connection
) -> None:
    keys = reader.open_keys(database, house.root, house.state.store_id)
    counts = reader.check_seals(database, keys["digest"][1])
    assert counts == {
        "access_person": 1,
        "access_factor": 1,
        "access_recovery": 10,
        "access_grant": 2,
        "access_standing": 1,
        "access_pending": 1,
        "access_approval": 1,
    }


@pytest.mark.parametrize("table", list(reader.TABLES))
def test_the_reader_sees_a_row_that_guard_did_not_write(house: House, database: sqlite3.Connection, table: str) -> None:
    names = reader.TABLES[table].split()
    (row, *_) = database.execute(f"SELECT {', '.join(names)}, seal FROM {table}").fetchall()
    other = f"{row[-1][:-1]}{'0' if row[-1][-1] != '0' else '1'}"
    database.execute(f"UPDATE {table} SET seal = ? WHERE seal = ?", (other, row[-1]))
    keys = reader.open_keys(database, house.root, house.state.store_id)
    with pytest.raises(reader.sealed.RefusedError, match=table):
        reader.check_seals(database, keys["digest"][1])


def test_the_reader_opens_the_secret_and_shows_the_same_code(
    house: House, ada: Phone, database: sqlite3.Connection
) -> None:
    keys = reader.open_keys(database, house.root, house.state.store_id)
    secret = reader.secret_of(database, ada.who.id, keys["totp"], house.state.store_id)
    assert secret == ada.secret
    assert reader.code(secret, int(house.clock.now().timestamp())) == ada.code()


def test_the_reader_opens_what_was_asked_for_and_nobody_else_does(house: House, database: sqlite3.Connection) -> None:
    keys = reader.open_keys(database, house.root, house.state.store_id)
    ((request, stored),) = database.execute("SELECT id, args FROM access_pending").fetchall()
    assert reader.args_of(request, stored, keys["totp"], house.state.store_id) == ARGS
    assert b"Customer" not in stored
    with pytest.raises(reader.sealed.RefusedError):
        reader.args_of("r-aaaaaaaaaa", stored, keys["totp"], house.state.store_id)


def test_the_reader_knows_the_recovery_codes_by_their_digests(
    house: House, ada: Phone, database: sqlite3.Connection
) -> None:
    keys = reader.open_keys(database, house.root, house.state.store_id)
    stored = {code for (code,) in database.execute("SELECT code FROM access_recovery")}
    assert stored == {reader.recovery_digest(keys["digest"][1], ada.who.id, each) for each in ada.recovery}


def test_a_row_that_was_changed_since_it_was_read_is_left_alone(house: House, ada: Phone) -> None:
    rows = Sealed(FACTOR, house.keyring.digest)
    with house.state.read() as tx:
        (seen,) = rows.find(tx)
    assert house.state.write(lambda tx: rows.change(tx, seen, tries=1))
    assert not house.state.write(lambda tx: rows.change(tx, seen, tries=7))
    with house.state.read() as tx:
        assert rows.find(tx)[0]["tries"] == 1


def test_columns_cannot_trade_bytes_with_their_neighbours(house: House) -> None:
    """Each value is behind its length: "ab" | "c" and "a" | "bc" have different seals, and null is not empty."""
    rows = Sealed(RECOVERY, house.keyring.digest)
    seals = {
        rows._sealed({"person": person, "code": code, "used_at": used})["seal"]
        for person, code, used in (("ab", "c", None), ("a", "bc", None), ("ab", "c", ""), ("abc", "", None))
    }
    assert len(seals) == 4


def test_a_row_with_an_empty_seal_is_not_believed(house: House, ada: Phone) -> None:
    row = {"person": ada.who.id, "code": "0" * 64, "used_at": None, "seal": ""}
    house.state.write(lambda tx: tx.execute(insert(RECOVERY).values(**row)))
    with pytest.raises(Exception, match="not what guard wrote"):
        house.access.people()


def test_ids_are_new_each_time() -> None:
    made = {new_id("p") for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == 12 and each.startswith("p-") for each in made)
