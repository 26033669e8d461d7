"""What docs/FORMATS.md says of people in the ledger is enough: two programs agree on every vector, and every flaw."""

import importlib.util
import json
import runpy
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from guard.audit.names import Name, cipher_of, open_name, open_payload, seal_name, seal_payload
from guard.audit.persons import CLASS, actor
from guard.audit.store import PAYLOAD, PERSON
from guard.canon import json_bytes
from guard.crypto.keyring import Key
from guard.errors import TamperedError
from tests.audit.people import ADA, BOB, Open, about, rooms

HERE = Path(__file__).parent


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_payloads", HERE / "payloads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = _loaded()
VECTORS = json.loads((HERE.parent / "vectors/ledger_payload.json").read_text(encoding="utf-8"))
STORE = UUID(VECTORS["store_id"])


def name_of(case: Any) -> Name:
    key = Key(case["id"], "subject/ledger/customer/00", 1, bytes.fromhex(case["material"]))
    return Name(key.id, bytes.fromhex(case["pseudonym"]), bytes.fromhex(case["key"]), cipher_of(STORE, key))


def test_it_imports_nothing_of_guard() -> None:
    text = (HERE / "payloads.py").read_text(encoding="utf-8")
    assert "import guard" not in text
    assert "from guard" not in text


def test_it_makes_the_vectors() -> None:
    assert reader.vectors() == VECTORS


@pytest.mark.parametrize("case", VECTORS["people"], ids=lambda case: f"key {case['id']:010x}")
def test_both_open_every_name_and_payload(case: Any) -> None:
    name, material = name_of(case), bytes.fromhex(case["material"])
    assert reader.open_person(material, STORE, case["id"], bytes.fromhex(case["sealed"])) == (name.pseudonym, name.key)
    found = open_name(STORE, case["id"], name.cipher, bytes.fromhex(case["sealed"]))
    assert (found.pseudonym, found.key) == (name.pseudonym, name.key)
    for each in case["payloads"]:
        sealed = bytes.fromhex(each["sealed"])
        assert open_payload(STORE, name, sealed) == each["details"]
        assert reader.open_payload(material, STORE, name.pseudonym, sealed) == each["details"]
        assert sha256(sealed).hexdigest() == each["digest"]
        assert json_bytes(each["details"]).hex() == each["plain"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["flaw"])
def test_both_refuse_every_flaw(case: Any) -> None:
    person = VECTORS["people"][0]
    name, material = name_of(person), bytes.fromhex(person["material"])
    if "payload" in case:
        sealed = bytes.fromhex(case["payload"])
        assert open_payload(STORE, name, sealed) is None
        with pytest.raises(reader.RefusedError):
            reader.open_payload(material, STORE, name.pseudonym, sealed)
    else:
        sealed = bytes.fromhex(case["name"])
        with pytest.raises(TamperedError, match="is not what guard wrote"):
            open_name(STORE, name.id, name.cipher, sealed)
        with pytest.raises(reader.RefusedError):
            reader.open_person(material, STORE, name.id, sealed)


def test_it_opens_what_guard_seals() -> None:
    for case in VECTORS["people"]:
        name, material = name_of(case), bytes.fromhex(case["material"])
        assert reader.open_person(material, STORE, name.id, seal_name(STORE, name)) == (name.pseudonym, name.key)
        for each in case["payloads"]:
            sealed = seal_payload(STORE, name, each["details"])
            assert sealed.hex() != each["sealed"]  # another nonce
            assert reader.open_payload(material, STORE, name.pseudonym, sealed) == each["details"]


def test_it_makes_the_actors(open_room: Open) -> None:
    key = bytes.fromhex(VECTORS["pseudonym_key"])
    assert [reader.actor(key, case["name"]) for case in VECTORS["actors"]] == [
        each["actor"] for each in VECTORS["actors"]
    ]
    room = open_room()
    ours = room.keyring.current("pseudonym").material
    for case in VECTORS["actors"]:
        assert actor(room.keyring, case["name"]) == room.persons.actor(case["name"]) == reader.actor(ours, case["name"])


def test_it_reads_a_ledger_that_guard_wrote(open_room: Open) -> None:
    """From the person's key of state to what is said, with nothing of guard but that key."""
    room = open_room()
    room.record(about(ADA, name="Ada", rows=2), about(BOB, name="Bob"))
    store = room.state.store_id
    for person, entry in zip((ADA, BOB), room.entries(), strict=True):
        key = room.subjects.of(person, CLASS)
        assert key is not None
        pseudonym, who = reader.open_person(key.material, store, key.id, room.rows(PERSON)[key.id])
        assert (pseudonym.hex(), who) == (entry.subject, person.key)
        sealed = room.rows(PAYLOAD)[entry.n]
        assert sha256(sealed).hexdigest() == entry.payload
        assert reader.open_payload(key.material, store, pseudonym, sealed)["name"] in {"Ada", "Bob"}


def test_it_finds_every_payload_where_it_should_be_and_none_where_it_should_not(
    open_room: Open, tmp_path: Path
) -> None:
    room = open_room()
    room.record(about(ADA, name="Ada"), about(BOB, name="Bob"), about(ADA, rows=2))
    room.shred(ADA)
    vkey = room.ledger.vkey
    room.state.close()
    check = runpy.run_path(str(HERE / "ledger.py"))["check"]
    assert check(str(tmp_path / "state.db"), vkey)["size"] == 4
    for number, change in enumerate(
        (
            "DELETE FROM ledger_payload",
            "UPDATE ledger_payload SET sealed = CAST(sealed || 'x' AS BLOB)",
            "INSERT INTO ledger_payload VALUES (0, x'677001')",
            "INSERT INTO ledger_payload VALUES (3, x'677001')",
            "INSERT INTO ledger_payload VALUES (9, x'677001')",
            "UPDATE ledger_entry SET subject = NULL WHERE n = 1",
        )
    ):
        copy = shutil.copyfile(tmp_path / "state.db", tmp_path / f"{number}.db")
        with closing(sqlite3.connect(copy)) as raw, raw:
            raw.execute(change)
        with pytest.raises(AssertionError):
            check(str(copy), vkey)


@pytest.fixture
def open_room(tmp_path: Path, clock: Any) -> Any:
    """Open a ledger that names people."""
    with rooms(tmp_path, clock) as opened:
        yield opened
