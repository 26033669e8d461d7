"""Cosignatures are C2SP's: keys of others are read as theirs, and no changed character of one passes."""

from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto.cosign import Cosigner, WitnessKey, join
from guard.crypto.sign import Signer, Verifier, split_note
from guard.errors import ConfigError, TamperedError
from tests.independent.witness import SpecWitness

TEXT = "guard-ledger/x\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
LOG = Signer(bytes(32), "guard-ledger/x")
NOTE = LOG.sign_note(TEXT)
ONE = Cosigner(b"1" * 32, "witness.example/one")
TWO = Cosigner(b"2" * 32, "witness.example/two")
AT = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
KEY = WitnessKey.from_vkey(ONE.vkey)

# The example of C2SP signed-note, "Verifier keys".
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# Keys of a cosignature's type in the tests of github.com/transparency-dev/formats, note_cosigv1_test.go, and C2SP
# tlog-cosignature's example, whose second line is a witness's (its key is published nowhere).
REMORA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE"
    "+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+"
    "mbIUBkBIfZ+qnA==\n"
)


def test_the_specifications_own_note_opens_with_its_key() -> None:
    assert Verifier.from_vkey(SPEC_VKEY).open_note(SPEC_NOTE) == "This is an example message.\n"


def test_the_key_of_another_witness_is_read_and_not_taken_for_a_logs() -> None:
    found = WitnessKey.from_vkey(REMORA)
    assert (found.name, found.key_id.hex()) == ("remora.n621.de", "da77ade7")
    with pytest.raises(ConfigError, match="not an Ed25519 verifier key"):
        Verifier.from_vkey(REMORA)
    with pytest.raises(ConfigError, match="not the verifier key of a witness"):
        WitnessKey.from_vkey(SPEC_VKEY)


def test_a_cosigned_checkpoint_of_the_specification_has_its_parts() -> None:
    text, signatures = split_note(COSIGNED)
    assert [name for name, _, _ in signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert len(signatures[1][2]) == 8 + 64
    assert int.from_bytes(signatures[1][2][:8], "big") == 1679315147  # the time in the specification's message
    assert text.startswith("example.com/behind-the-sofa\n20852163\n")


def test_ours_is_what_an_independent_witness_makes() -> None:
    theirs = SpecWitness("witness.example/one", b"1" * 32, [], lambda: int(AT.timestamp()))
    assert (theirs.vkey, theirs.line(TEXT)) == (ONE.vkey, ONE.cosign(TEXT, AT))


def test_it_says_when() -> None:
    note = join(NOTE, ONE.cosign(TEXT, AT))
    assert KEY.time_on(note) == AT
    assert KEY.time_on(NOTE) is None
    assert WitnessKey.from_vkey(TWO.vkey).time_on(note) is None
    assert LOG.verifier.open_note(note) == TEXT


def test_lines_of_several_stand_beside_each_other_and_of_one_only_once() -> None:
    first, other, later = ONE.cosign(TEXT, AT), TWO.cosign(TEXT, AT), ONE.cosign(TEXT, AT.replace(hour=23))
    note = join(join(NOTE, first + other), later)
    assert note == NOTE + first + other
    assert split_note(note)[0] == TEXT
    assert KEY.time_on(NOTE + first + later) == AT.replace(hour=23)  # written by others: the latest counts


def test_of_an_answer_only_the_witnesss_own_good_lines_are_taken() -> None:
    first, other = ONE.cosign(TEXT, AT), TWO.cosign(TEXT, AT)
    assert KEY.lines_for(NOTE, other + first) == first
    with pytest.raises(TamperedError, match=r"no cosignature of witness\.example/one"):
        KEY.lines_for(NOTE, other)
    wrong = ONE.cosign(TEXT.replace("7", "8"), AT)
    with pytest.raises(TamperedError, match=r"cosignature of witness\.example/one on this note is wrong"):
        KEY.lines_for(NOTE, wrong)
    for answer in ("", "\n", f"more\n\n{first}", first[:-1], f"{first}\n{first}", "\x00", "text\n"):
        with pytest.raises(TamperedError):
            KEY.lines_for(NOTE, answer)
        with pytest.raises(TamperedError):
            join(NOTE, answer)


def test_a_log_that_signs_as_a_witness_would_is_no_witness() -> None:
    """The same key under the same name: the type in the key id and the first line of the message keep them apart."""
    both = Signer(b"1" * 32, "witness.example/one").sign_note(TEXT)
    assert KEY.time_on(both) is None
    raw = b64decode(both.split(" ")[-1])
    line = f"— witness.example/one {b64encode(KEY.key_id + bytes(8) + raw[4:]).decode()}\n"
    with pytest.raises(TamperedError, match="is wrong"):
        KEY.time_on(NOTE + line)


@pytest.mark.parametrize("seconds", [2**63 - 1, 2**64 - 1, 253402300800])
def test_a_time_no_clock_shows_is_refused(seconds: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signed = Ed25519PrivateKey.from_private_bytes(b"1" * 32).sign(f"cosignature/v1\ntime {seconds}\n{TEXT}".encode())
    line = f"— witness.example/one {b64encode(KEY.key_id + seconds.to_bytes(8, 'big') + signed).decode()}\n"
    with pytest.raises(TamperedError, match="is wrong"):
        KEY.time_on(NOTE + line)


def test_the_secret_comes_back_and_is_not_shown() -> None:
    assert Cosigner.from_skey(f"{ONE.skey}\n").vkey == ONE.vkey
    assert ONE.skey not in repr(ONE)
    for at in range(len(ONE.skey)):
        flipped = ONE.skey[:at] + chr(ord(ONE.skey[at]) ^ 1) + ONE.skey[at + 1 :]
        with pytest.raises(ConfigError) as told:
            Cosigner.from_skey(flipped)
        assert flipped not in f"{told.value}{told.value.hint}"
    for text in ("", "PRIVATE+KEY", ONE.vkey, ONE.skey[:-4], f"{ONE.skey}AAAA"):
        with pytest.raises(ConfigError):
            Cosigner.from_skey(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\u2028b", "a\x07b"])
def test_a_name_has_no_space_and_no_plus(name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        Cosigner(bytes(32), name)


def test_no_flipped_character_of_a_witnesss_key_is_accepted() -> None:
    for at in range(len(ONE.vkey)):
        with pytest.raises(ConfigError):
            WitnessKey.from_vkey(ONE.vkey[:at] + chr(ord(ONE.vkey[at]) ^ 1) + ONE.vkey[at + 1 :])


@given(st.data())
def test_no_changed_character_of_a_cosigned_note_keeps_the_cosignature(data: st.DataObject) -> None:
    note = NOTE + ONE.cosign(TEXT, AT)
    at = data.draw(st.integers(0, len(note) - 1))
    other = data.draw(st.characters(exclude_categories=("Cs",)).filter(lambda each: each != note[at]))
    changed = note[:at] + other + note[at + 1 :]
    try:
        found = KEY.time_on(changed)
    except TamperedError:
        return
    if found is not None:  # the log's line was changed, or bits of base64 that stand for nothing
        assert split_note(changed)[0] == TEXT
        assert split_note(changed)[1][-1] == split_note(note)[1][-1]


@given(st.text(), st.text())
def test_whatever_comes_as_note_or_answer_holds_or_is_refused_as_tampered(note: str, answer: str) -> None:
    for call in (lambda: KEY.time_on(note), lambda: KEY.lines_for(NOTE, answer), lambda: join(note, answer)):
        with suppress(TamperedError):
            call()


@given(st.lists(st.sampled_from([NOTE, "\n", "— ", "witness.example/one ", b64encode(KEY.key_id).decode(), "A", "="])))
def test_what_looks_like_a_note_is_refused_or_holds(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        found = KEY.time_on(text)
    except TamperedError:
        return
    assert found is None
