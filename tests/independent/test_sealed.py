"""What docs/FORMATS.md says is enough: a reader that knows only the text opens every vector, and refuses every flaw."""

import importlib.util
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto.blind import normal
from guard.crypto.plaintext import writer

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
    keys = {int(key_id): bytes.fromhex(key["material"]) for key_id, key in VALUES["keys"].items()}
    tight = {int(key_id) for key_id, key in VALUES["keys"].items() if key["purpose"].endswith("/tight")}
    return reader.open_value(
        stored, keys, UUID(store_id), case["column"], case["binding"], bytes.fromhex(case["bound"]), tight
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
        case Decimal():
            return format(value, "f")
        case int() | date():
            return str(value)


READ: dict[str, Any] = {
    "text": str,
    "bytes": bytes.fromhex,
    "integer": int,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "boolean": bool,
    "float": float.fromhex,
}


def _form(case: Any) -> bytes | None:
    found: bytes | None = reader.form_of(case["normaliser"], case["type"], READ[case["type"]](case["value"]))
    return found


def test_it_gives_every_normal_form() -> None:
    for case in VALUES["forms"]:
        assert _form(case) == (None if case["form"] is None else bytes.fromhex(case["form"])), case


def test_it_makes_every_token() -> None:
    key, store_id = bytes.fromhex(VALUES["index_key"]), UUID(VALUES["store_id"])
    for case in VALUES["tokens"]:
        form = _form(case)
        if form is None:
            assert case["token"] is None
            continue
        token = reader.token(key, store_id, case["column"], case["normaliser"], form, case["size"])
        assert token.hex() == case["token"], case


WRITTEN = st.text(st.sampled_from("0123456789+()x#;, ext.nio\u00a0\u0663\uff0b-/"), max_size=24)


@given(st.sampled_from(["email", "phone", "name", "last4", "prefix:3", "prefix:20"]), st.text() | WRITTEN)
def test_two_readers_of_the_text_agree_on_every_form(normaliser: str, text: str) -> None:
    """Texts that no vector thought of: the form made by guard is the one made from FORMATS alone."""
    assert reader.form_of(normaliser, "text", text) == normal(normaliser, text)


@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.integers(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.dates(),
        st.datetimes() | st.datetimes(timezones=st.just(UTC)),
        st.booleans(),
        st.floats(),
    )
)
def test_two_readers_of_the_text_agree_on_every_exact_form(value: Any) -> None:
    kind = writer(value, padded=False)[0].name.lower()
    assert reader.form_of("exact", kind, value) == normal("exact", value)


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


def test_it_knows_a_root_again_and_what_kms_is_told() -> None:
    store_id, kek = UUID(WRAPPED["store_id"]), WRAPPED["keys"][0]
    assert reader.root_mark(store_id, bytes.fromhex(WRAPPED["root"])).hex() == WRAPPED["root_mark"]
    assert reader.kms_context(store_id, kek["id"], kek["purpose"], kek["version"]) == WRAPPED["kms_context"]


def test_it_opens_an_exported_key() -> None:
    case = WRAPPED["exports"]
    key_id, purpose, version, material = reader.open_export(case["document"], bytes.fromhex(case["private"]))
    assert (key_id, purpose, version, material.hex()) == (
        case["id"],
        case["purpose"],
        case["version"],
        case["material"],
    )


@pytest.mark.parametrize("case", WRAPPED["exports"]["refused"], ids=name_of)
def test_it_refuses_a_flawed_export(case: Any) -> None:
    with pytest.raises(reader.RefusedError):
        reader.open_export(case["document"], bytes.fromhex(case["private"]))


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
