"""Notes are C2SP's: those of golang.org/x/mod/sumdb/note open, and ours open anywhere."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto.sign import Signer, Verifier, split_note
from guard.errors import ConfigError, TamperedError

# The keys, text and signatures of golang.org/x/mod/sumdb/note, note_test.go.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
NOTE = f"{TEXT}\n{BY_PETER}"

peter = Verifier.from_vkey(PETER)
enoch = Verifier.from_vkey(ENOCH)


def test_it_signs_as_the_reference_does() -> None:
    signer = Signer(b64decode(PETER_PRIVATE)[1:], "PeterNeumann")
    assert signer.vkey == PETER
    assert signer.sign_note(TEXT) == NOTE


def test_each_of_two_signatures_opens_the_note() -> None:
    note = f"{TEXT}\n{BY_PETER}{BY_ENOCH}"
    assert peter.open_note(note) == enoch.open_note(note) == TEXT
    assert [name for name, _, _ in split_note(note)[1]] == ["PeterNeumann", "EnochRoot"]


def test_signatures_of_other_keys_alone_do_not_open_it() -> None:
    with pytest.raises(TamperedError, match="not signed by PeterNeumann"):
        peter.open_note(f"{TEXT}\n{BY_ENOCH}")
    for line in (BY_PETER.replace("PeterNeumann", "CarmenSandiego"), BY_PETER.replace("x08g", "xxxx")):
        with pytest.raises(TamperedError, match="not signed by PeterNeumann"):
            peter.open_note(f"{TEXT}\n{line}")


def test_a_wrong_signature_of_the_key_refuses_the_note() -> None:
    with pytest.raises(TamperedError, match="signature of PeterNeumann on this note is wrong"):
        peter.open_note(f"{TEXT}\n{BY_PETER[:60]}ABCD{BY_PETER[60:]}")
    with pytest.raises(TamperedError, match="is wrong"):
        peter.open_note(f"{TEXT}more\n\n{BY_PETER}")


@pytest.mark.parametrize(
    "note",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{BY_PETER[:-1]}",
        f"\x01{TEXT}\n{BY_PETER}",
        f"\udcff{TEXT}\n{BY_PETER}",
        f"{TEXT}\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZIn\n",
        f"{TEXT}\n{BY_PETER}Unexpected line.\n",
        f"{TEXT}\n{BY_PETER * 101}",
        f"{TEXT}\n— a+b {BY_PETER.split()[2]}\n",
        f"{TEXT}\n— PeterNeumann AAAA\n",
        f"{TEXT}\n— PeterNeumann ä\n",
    ],
    ids=range(11),
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(TamperedError, match="this is not a signed note"):
        peter.open_note(note)


def test_sixteen_signatures_and_more_are_read() -> None:
    assert peter.open_note(f"{TEXT}\n{BY_ENOCH * 99}{BY_PETER}") == TEXT


def test_no_part_of_a_verifier_key_is_one() -> None:
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(ConfigError):
                    Verifier.from_vkey(PETER[start:end])


def test_no_changed_character_of_a_verifier_key_is_accepted() -> None:
    for at, character in enumerate(PETER):
        with pytest.raises(ConfigError):
            Verifier.from_vkey(PETER[:at] + chr(ord(character) + 1) + PETER[at + 1 :])


def vkey(name: str, raw: bytes) -> str:
    return f"{name}+{sha256(name.encode() + bytes([10]) + raw).hexdigest()[:8]}+{b64encode(raw).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        vkey("name", b"\x02" + bytes(32)),
        vkey("name", b"\x01" + bytes(31)),
        vkey("name", b"\x01" + bytes(33)),
        vkey("", b"\x01" + bytes(32)),
        vkey("a b", b"\x01" + bytes(32)),
        vkey("a\u3000b", b"\x01" + bytes(32)),
        "name+zz+!",
        "ä+ö+ü",
    ],
    ids=range(8),
)
def test_other_keys_and_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an Ed25519 verifier key"):
        Verifier.from_vkey(text)


def test_a_verifier_key_may_have_a_newline_after_it() -> None:
    assert Verifier.from_vkey(PETER + "\n").name == "PeterNeumann"


def test_our_vectors_open_and_their_flaws_do_not(vectors: Callable[[str], Any]) -> None:
    read = vectors("notes.json")
    signer, verifier = Signer(bytes.fromhex(read["seed"]), read["name"]), Verifier.from_vkey(read["vkey"])
    assert signer.vkey == read["vkey"]
    assert signer.sign_note(read["notes"][0]["text"]) == read["notes"][0]["note"]
    for case in read["notes"]:
        assert verifier.open_note(case["note"]) == case["text"]
    for case in read["refused"]:
        with pytest.raises(TamperedError):
            verifier.open_note(case["note"])
    for case in read["refused_vkeys"]:
        with pytest.raises(ConfigError):
            Verifier.from_vkey(case["vkey"])


@given(
    st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs"))), min_size=1), st.binary(min_size=32, max_size=32)
)
def test_whatever_is_signed_opens_as_it_was(lines: list[str], seed: bytes) -> None:
    text = "".join(line + "\n" for line in lines)
    signer = Signer(seed, "guard-ledger/x")
    assert Verifier.from_vkey(signer.vkey).open_note(signer.sign_note(text)) == text


@given(st.data())
def test_any_changed_character_is_found(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(NOTE) - 1))
    other = data.draw(st.characters(exclude_categories=("Cs",)).filter(lambda each: each != NOTE[at]))
    changed = NOTE[:at] + other + NOTE[at + 1 :]
    try:
        assert peter.open_note(changed) == TEXT
    except TamperedError:
        return
    assert split_note(changed) == split_note(NOTE)  # only the unused bits of the base64 may differ


@pytest.mark.parametrize("text", ["", "no newline", "bell\x07\n", "carriage\r\n", "tab\t\n"])
def test_only_lines_are_signed(text: str) -> None:
    with pytest.raises(ValueError, match="lines, each ended by a newline"):
        Signer(bytes(32), "name").sign_note(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_a_name_has_no_space_and_no_plus(name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        Signer(bytes(32), name)
