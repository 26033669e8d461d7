"""What docs/FORMATS.md says of the vault is enough: another reader opens every vector, and what guard writes today."""

import importlib.util
import json
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from guard.canon import key_bytes
from guard.clock import SteppedClock
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import FolderMirror
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.vault import PURPOSE, Vault
from guard.state import State

HERE = Path(__file__).parent


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_sealed", HERE / "sealed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = _loaded()
VAULT = json.loads((HERE.parent / "vectors/vault.json").read_text(encoding="utf-8"))
STORE = UUID(VAULT["store_id"])
PARENTS = {int(key_id): bytes.fromhex(material) for key_id, material in VAULT["parents"].items()}


@pytest.mark.parametrize("case", VAULT["epochs"], ids=lambda case: case["name"][-18:])
def test_it_opens_every_epochs_key(case: Any) -> None:
    found = reader.open_epoch(bytes.fromhex(case["object"]), PARENTS, STORE)
    assert found == (case["id"], case["month"], case["version"], bytes.fromhex(case["material"]))
    assert case["name"] == f"epochs/{STORE.hex}/{case['month']}-{case['id']:010x}"


@pytest.mark.parametrize("case", VAULT["refused"], ids=lambda case: case["flaw"])
def test_it_refuses_a_flawed_one(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.open_epoch(bytes.fromhex(case["object"]), PARENTS, STORE)


@pytest.mark.parametrize("case", VAULT["subjects"], ids=lambda case: f"{case['kind']} {case['class']}")
def test_it_opens_every_persons_key_with_its_epochs(case: Any) -> None:
    epoch = next(each for each in VAULT["epochs"] if each["id"] == case["epoch"])
    person = reader.person_of(bytes.fromhex(VAULT["digest_key"]), case["kind"], bytes.fromhex(case["key"]))
    assert person.hex() == case["person"]
    row = {**case, "person": person, **{name: bytes.fromhex(case[name]) for name in ("wrapped", "commitment")}}
    assert reader.open_subject(row, bytes.fromhex(epoch["material"]), STORE).hex() == case["material"]
    for change in ({"class": "ledger"}, {"kind": "other"}, {"id": 1}, {"epoch": 11}, {"person": bytes(32)}):
        with pytest.raises(reader.RefusedError):
            reader.open_subject({**row, **change}, bytes.fromhex(epoch["material"]), STORE)


def test_it_reads_whom_a_receipt_is_about() -> None:
    for case in VAULT["receipts"]:
        assert reader.receipt_of(bytes.fromhex(case["who"]), PARENTS, STORE, case["id"]).hex() == case["key"]
        with pytest.raises(reader.RefusedError):
            reader.receipt_of(bytes.fromhex(case["who"]), PARENTS, STORE, "k-aaaaaaaaaa")


def test_it_opens_what_guard_writes(state: State, clock: SteppedClock, tmp_path: Path) -> None:
    keyring = Keyring.create(state, bytes(32), None)
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    vault = Vault(state, keyring, [FolderMirror(name, tmp_path / name) for name in ("one", "two")], nullcontext)
    subjects = SubjectKeys(state, keyring, vault)
    person = Person("customer", key_bytes((4711,)))
    made = subjects.for_writing(person, "account")
    (path,) = [path for path in (tmp_path / "two").glob("epochs/**/*") if path.is_file()]
    parent = keyring.ensure(PURPOSE)
    epoch_id, month, _, material = reader.open_epoch(path.read_bytes(), {parent.id: parent.material}, state.store_id)
    assert (month, path.name) == ("2026-01", f"2026-01-{epoch_id:010x}")
    with state.read() as tx:
        row = tx.exec_driver_sql("SELECT * FROM subject_key").one()._asdict()
    assert row["person"] == reader.person_of(keyring.current("digest").material, *person)
    assert reader.open_subject(row, material, state.store_id) == made.material
    receipt = Shredder(state, keyring, subjects).shred(Death(person, "account", "run", ("log",)))
    assert receipt is not None
    told = reader.receipt_of(receipt.who, {parent.id: parent.material}, state.store_id, receipt.id)
    assert told == person.key
    with state.read() as tx:
        gone = tx.exec_driver_sql("SELECT wrapped, commitment FROM subject_key").one()
    assert tuple(gone) == (None, None)
