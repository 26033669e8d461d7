"""Proofs from the stored hashes hold for others, wrong numbers are named, and what retention removed is said to be."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from guard.audit import merkle, proof, store
from guard.audit.checkpoint import parse
from guard.audit.prune import Prune
from guard.audit.store import ENTRY, NODE
from guard.clock import SteppedClock
from guard.crypto.cosign import Cosigner, WitnessKey
from guard.crypto.sign import Verifier, split_note
from guard.errors import ConfigError, TamperedError
from guard.events import GUARD, Event, RunId
from guard.state import Tx
from tests.audit.conftest import START, House, opened

Make = Callable[[int], Event]
RUN = RunId("0f" * 16)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A ledger of 700 entries, anchored at 650; nobody changes it."""
    made = opened(tmp_path_factory.mktemp("long"), SteppedClock(START))
    from tests.audit.conftest import event

    for first in range(0, 700, 50):
        made.add(*[event(number) for number in range(first, first + 50)])
        made.clock.step(timedelta(minutes=7))
        if first == 600:
            made.ledger.anchor()
    yield made
    made.close()


def pruned(tx: Tx, minimum: int, kept: frozenset[int] = frozenset()) -> None:
    """Remove what retention removes below `minimum`: entries, and nodes below level 8, but those of kept blocks."""
    for block in set(range(minimum // 256)) - kept:
        first = block * 256
        tx.execute(delete(ENTRY).where(ENTRY.c.n >= first, ENTRY.c.n < first + 256))
        for level in range(1, 8):
            within = (NODE.c.position >= first >> level) & (NODE.c.position < first + 256 >> level)
            tx.execute(delete(NODE).where((NODE.c.level == level) & within))


def pruned_house(house: House, minimum: int, kept: frozenset[int] = frozenset()) -> House:
    """Prune a ledger and say so in it, as retention does."""
    with house.state.read() as tx:
        root = proof.root(tx, minimum)
    house.state.write(lambda tx: pruned(tx, minimum, kept), Prune(minimum, root, kept).event(GUARD, RUN))
    return house


@given(st.data())
def test_every_entry_has_a_proof_that_others_verify(long: House, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 699))
    with long.state.read() as tx:
        leaf, found = proof.prove(tx, n)
    assert found.holds(leaf)
    assert f'"n":{n},'.encode() in leaf
    assert not found.holds(leaf + b" ")
    head, _, note = found.text.partition("\n\n")
    assert head.split("\n")[:2] == ["c2sp.org/tlog-proof@v1", f"index {n}"]
    signed = parse(Verifier.from_vkey(long.ledger.vkey).open_note(note))
    assert signed.size == 700
    assert proof.read(found.text) == found


@given(st.integers(1, 700), st.integers(1, 700))
def test_every_two_sizes_have_a_consistency_proof(long: House, one: int, two: int) -> None:
    old, new = sorted((one, two))
    with long.state.read() as tx:
        steps = proof.consistency(tx, old, new)
        assert merkle.verify_consistency(old, new, steps, proof.root(tx, old), proof.root(tx, new))


def test_a_proof_against_what_others_vouch_for_carries_their_note(long: House) -> None:
    with long.state.read() as tx:
        leaf, found = proof.prove(tx, 649, anchored=True)
        with pytest.raises(ConfigError, match="has no entry 650") as error:
            proof.prove(tx, 650, anchored=True)
    assert found.holds(leaf)
    assert parse(split_note(found.note)[0]).size == 650
    assert error.value.hint == "it holds the entries 0 to 649"


def test_a_checkpoint_cosigned_by_a_known_witness_is_preferred_to_a_newer_one_that_is_not(sixty: House) -> None:
    cosigner, stranger = Cosigner(b"w" * 32, "witness.example/w1"), Cosigner(b"s" * 32, "fake.example/w")
    keys = [WitnessKey.from_vkey(cosigner.vkey)]
    with sixty.state.read() as tx:
        (note,) = store.notes(tx, store.Kind.ANCHORED)
    text = split_note(note)[0]
    sixty.ledger.anchor()
    fake = f"{note}\u2014 fake.example/w AAAAAAAAAAAA\n"
    for foreign in (fake, note + stranger.cosign(text, START)):
        sixty.state.write(lambda tx, kept=foreign: store.put_kept(tx, 40, store.Kind.ANCHORED, kept))
        with sixty.state.read() as tx:
            assert parse(split_note(proof.vouched(tx, keys) or "")[0]).size == 60
            assert proof.cosigned(store.notes(tx, store.Kind.ANCHORED), keys) is None
    good = note + cosigner.cosign(text, START)
    sixty.state.write(lambda tx: store.put_kept(tx, 40, store.Kind.ANCHORED, good))
    with sixty.state.read() as tx:
        assert proof.vouched(tx, keys) == good
        assert proof.prove(tx, 7, anchored=True, witnesses=keys)[1].note == good
        assert parse(split_note(proof.vouched(tx) or "")[0]).size == 60  # a witness that guard.toml no longer names


def test_a_wrong_line_under_a_witness_key_is_no_cosignature(sixty: House) -> None:
    cosigner = Cosigner(b"w" * 32, "witness.example/w1")
    with sixty.state.read() as tx:
        (note,) = store.notes(tx, store.Kind.ANCHORED)
    line = cosigner.cosign(split_note(note)[0].replace("\n40\n", "\n41\n"), START)
    sixty.state.write(lambda tx: store.put_kept(tx, 40, store.Kind.ANCHORED, note + line))
    with sixty.state.read() as tx, pytest.raises(TamperedError, match=r"cosignature of witness\.example/w1"):
        proof.vouched(tx, [WitnessKey.from_vkey(cosigner.vkey)])


@pytest.mark.parametrize("n", [-1, 60, 10**9])
def test_a_number_that_no_entry_has_is_named(sixty: House, n: int) -> None:
    with sixty.state.read() as tx, pytest.raises(ConfigError, match=f"the ledger has no entry {n}") as error:
        proof.prove(tx, n)
    assert error.value.hint == "it holds the entries 0 to 59"


def test_an_empty_ledger_and_one_that_was_never_anchored_have_no_proof(house: House, make_event: Make) -> None:
    with house.state.read() as tx, pytest.raises(TamperedError, match="no checkpoint"):
        proof.prove(tx, 0)
    house.add(make_event(0))
    with house.state.read() as tx, pytest.raises(ConfigError, match="no checkpoint was anchored"):
        proof.prove(tx, 0, anchored=True)


def test_changed_bytes_get_no_proof(sixty: House) -> None:
    with sixty.state.database.writer.begin() as tx:
        tx.exec_driver_sql("UPDATE ledger_entry SET leaf = replace(leaf, 'test', 'tset') WHERE n = 17")
        tx.exec_driver_sql("UPDATE ledger_entry SET leaf = CAST(replace(leaf, 't', 'T') AS BLOB) WHERE n = 18")
        tx.exec_driver_sql("DELETE FROM ledger_node WHERE level = 2 AND position = 12")
    with sixty.state.read() as tx:
        for n in (17, 18):
            with pytest.raises(TamperedError, match=f"entry {n} is not the one that was signed"):
                proof.prove(tx, n)
        with pytest.raises(TamperedError, match="lost entries 48 to 51"):
            proof.prove(tx, 53)
        assert proof.prove(tx, 16)[1].n == 16


def test_what_retention_removed_is_said_to_be_and_the_rest_is_proved(tmp_path: Path, make_event: Make) -> None:
    house = opened(tmp_path, SteppedClock(START))
    for first in range(0, 1200, 100):
        house.add(*[make_event(number) for number in range(first, first + 100)])
    with house.state.read() as tx:
        before = {size: proof.root(tx, size) for size in (512, 1000, 1024, 1200)}
    pruned_house(house, 1024, frozenset({1}))
    with house.state.read() as tx:
        assert proof.minimum(tx) == 1024
        for n in (0, 255, 512, 1023):
            with pytest.raises(ConfigError, match=f"entry {n}: removed under retention; .* entries from 1024 on"):
                proof.prove(tx, n)
        for n in (256, 511, 1024, 1199, 1200):
            leaf, found = proof.prove(tx, n)
            assert found.holds(leaf)
        for old in (256, 512, 1024, 1150):
            steps = proof.consistency(tx, old, 1201)
            assert merkle.verify_consistency(old, 1201, steps, proof.root(tx, old), proof.root(tx, 1201))
        for wrong in (1, 700, 1000):
            with pytest.raises(ConfigError, match="removed under retention"):
                proof.consistency(tx, wrong, 1201)
        assert {size: proof.root(tx, size) for size in (512, 1024, 1200)} == {
            size: before[size] for size in (512, 1024, 1200)
        }
    house.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 01\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + "A" * 43 + "=",
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(TamperedError, match="not a proof"):
        proof.read(text)


def test_a_proof_with_extra_data_is_read_and_the_data_ignored() -> None:
    text = "c2sp.org/tlog-proof@v1\nextra AAAA\nindex 7\n" + "A" * 43 + "=\n\nnote\n"
    assert proof.read(text) == proof.Proof(7, (bytes(32),), "note\n")
