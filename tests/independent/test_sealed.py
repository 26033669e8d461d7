"""What docs/FORMATS.md says is enough: a reader that knows only the text opens every vector, and refuses every flaw."""

import importlib.util
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

HERE = Path(__file__).parent


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("independent_sealed", HERE / "sealed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = _loaded()


def vectors(name: str) -> Any:
    return json.loads((HERE.parent / "vectors" / name).read_text(encoding="utf-8"))


KEYS = vectors("canonical_keys.json")
VALUES = vectors("sealed_values.json")
WRAPPED = vectors("wrapped_keys.json")
NOTES = vectors("notes.json")


def name_of(case: Any) -> str:
    return str(case.get("flaw") or case.get("name") or "")


def test_it_imports_nothing_of_guard() -> None:
    assert "import guard" not in (text := (HERE / "sealed.py").read_text(encoding="utf-8"))
    assert "from guard" not in text


def test_it_reads_every_canonical_key() -> None:
    for case in KEYS["keys"]:
        found = [{tag: _tagged(value)} for tag, value in reader.read_key(bytes.fromhex(case["bytes"]))]
        assert found == case["key"]


def _tagged(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize("case", KEYS["refused"], ids=name_of)
def test_it_refuses_a_flawed_key(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.read_key(bytes.fromhex(case["bytes"]))


def _open(case: Any, form: str, store_id: str) -> Any:
    stored = bytes.fromhex(case["binary"]) if form == "binary" else case["text"]
    keys = {int(key_id): bytes.fromhex(key) for key_id, key in VALUES["keys"].items()}
    return reader.open_value(
        stored, keys, UUID(store_id), case["column"], case["binding"], bytes.fromhex(case["bound"])
    )


@pytest.mark.parametrize("form", ["text", "binary"])
def test_it_opens_every_sealed_value(form: str) -> None:
    for case in VALUES["values"]:
        kind, value = _open(case, form, VALUES["store_id"])
        assert (kind, _shown(value)) == (case["type"], case["value"]), case["name"]


def _shown(value: Any) -> Any:
    match value:
        case bool() | str():
            return value
        case float() | bytes():
            return value.hex()
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case int() | date() | Decimal():
            return str(value)


@pytest.mark.parametrize("case", VALUES["refused"], ids=name_of)
def test_it_refuses_a_flawed_value(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        _open(case, "binary", case["store_id"])


@pytest.mark.parametrize("case", VALUES["refused_text"], ids=name_of)
def test_it_refuses_a_flawed_text(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.bare(case["text"])


def test_it_opens_every_key_from_the_root() -> None:
    store_id, opened = UUID(WRAPPED["store_id"]), {0: reader.read_root_file(WRAPPED["root_file"])}
    assert opened[0].hex() == WRAPPED["root"]
    for key in WRAPPED["keys"]:
        name = (store_id, key["id"], key["purpose"], key["version"])
        material = reader.unwrap(bytes.fromhex(key["wrapped"]), opened[key["parent"]], *name, key["parent"])
        opened[key["id"]] = reader.check_commitment(*name, material, bytes.fromhex(key["commitment"]))
        assert material.hex() == key["material"]
        other = (store_id, key["id"], key["purpose"], key["version"] + 1)
        with pytest.raises(reader.RefusedError):
            reader.unwrap(bytes.fromhex(key["wrapped"]), opened[key["parent"]], *other, key["parent"])
        with pytest.raises(reader.RefusedError):
            reader.check_commitment(*other, material, bytes.fromhex(key["commitment"]))


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 0)])
def test_it_opens_every_key_with_two_shares(pair: tuple[int, int]) -> None:
    kit = WRAPPED["kit"]
    private = reader.combine(*(kit["shares"][at] for at in pair))
    assert private.hex() == kit["private"]
    for key in WRAPPED["keys"]:
        name = (UUID(WRAPPED["store_id"]), key["id"], key["purpose"], key["version"])
        assert reader.open_recovery(bytes.fromhex(key["recovery"]), private, *name).hex() == key["material"]


def test_it_finds_the_tag_that_vouches_for_the_kit() -> None:
    kek, kit = bytes.fromhex(WRAPPED["keys"][0]["material"]), WRAPPED["kit"]
    assert reader.kit_tag(UUID(WRAPPED["store_id"]), kek, bytes.fromhex(kit["public"])).hex() == kit["tag"]


def test_it_makes_the_root_of_a_passphrase() -> None:
    for case in WRAPPED["passphrases"]:
        salt = bytes.fromhex(case["salt"])
        root = reader.root_of(case["passphrase"], salt, case["memory"], case["passes"], case["lanes"])
        assert root.hex() == case["root"]


def test_it_makes_the_keyed_digests() -> None:
    key = next(bytes.fromhex(key["material"]) for key in WRAPPED["keys"] if key["purpose"] == "digest")
    for case in WRAPPED["digests"]:
        assert reader.digest(key, case["domain"], bytes.fromhex(case["data"])) == case["digest"]


def test_it_opens_every_note() -> None:
    for case in NOTES["notes"]:
        assert reader.open_note(case["note"], NOTES["vkey"]) == case["text"]


@pytest.mark.parametrize("case", NOTES["refused"], ids=name_of)
def test_it_refuses_a_flawed_note(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.open_note(case["note"], NOTES["vkey"])


@pytest.mark.parametrize("case", NOTES["refused_vkeys"], ids=name_of)
def test_it_refuses_a_flawed_verifier_key(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.read_vkey(case["vkey"])


def test_its_hpke_is_that_of_rfc_9180() -> None:
    """Appendix A.1.1 (AES-128-GCM; the RFC has no example with X25519 and AES-256-GCM), sequence number 0."""
    opened = reader.hpke_open(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"),
        bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"),
        bytes.fromhex("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"),
        b"Ode on a Grecian Urn",
        b"Count-0",
        aead=1,
    )
    assert opened == b"Beauty is truth, truth beauty"
