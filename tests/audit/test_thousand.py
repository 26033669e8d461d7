"""A thousand entries, with people, restarts and a change of key: whatever is done to them is found. None is missed.

What runs always is a sample; `make soak` runs through all of it.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from guard.audit import FolderAnchor, Ledger, verify
from guard.audit.anchors import Said
from guard.audit.chain import Chain
from guard.audit.rekey import Seeds
from guard.audit.store import CHECKPOINT, ENTRY, NODE, checkpoints
from guard.audit.verdict import Verdict
from guard.clock import SteppedClock
from guard.errors import Exit, TamperedError
from guard.events import GUARD, Ending, Event, RunId
from guard.state import State, Tx
from tests.audit import thousand as attacks
from tests.audit.conftest import START, Keys
from tests.audit.people import about, people, rooms
from tests.audit.thousand import Change, Thousand

SIZE, ANCHORED = 1000, 900
SEED = bytes(range(32))


def live(made: Thousand, keys: Keys) -> None:
    """Record a thousand entries in commits of one to five, about some people and about none."""
    who, number, size = people(9), 0, 0
    while size < SIZE:
        events = [
            about(who[(number + each) % 9], row=number) if each % 3 == 0 and number % 2 else _plain(number * 10 + each)
            for each in range(min(1 + number % 5, SIZE - size, ANCHORED - size if size < ANCHORED else SIZE))
        ]
        if number in {90, 210}:
            events[:0] = [made.ledger.restart().event(GUARD, RunId("cd" * 16))]
        if number == 150:
            keys.waiting = made.seeds[1]
            events[:0] = [made.ledger.rekey(made.seeds[1], 2).event(GUARD, RunId("ef" * 16))]
        events = events[: SIZE - size]
        made.room.state.write(lambda tx: None, *made.ledger.prepare(events))
        if number == 150:
            keys.activate()
        size += len(events)
        made.signed[size] = made.ledger.checkpoint()
        if number in {120, 240}:
            before = made.room.rows(attacks.PAYLOAD)
            made.room.shred(who[number % 9])
            size += 1
            after = made.room.rows(attacks.PAYLOAD)
            made.forgotten |= {n: (size, sealed) for n, sealed in before.items() if n not in after}
            made.signed[size] = made.ledger.checkpoint()
        if size == ANCHORED or (number % 60 == 0 and size < ANCHORED):
            made.ledger.anchor()
        made.room.clock.step(timedelta(minutes=7))
        number += 1


def _plain(number: int) -> Event:
    return Event(
        "test.work", Ending.DONE, GUARD, RunId(f"{number:032x}"), objects=("Customer.Email",), counts={"n": number}
    )


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thousand]:
    folder = tmp_path_factory.mktemp("thousand")
    clock = SteppedClock(START)
    with rooms(folder, clock) as open_room:
        room = open_room()
        anchor, keys = FolderAnchor("here", folder / "anchor"), Keys()
        anchor.create()
        ledger = Ledger(room.state, keys, [anchor], persons=room.persons)
        room.state.attach(ledger.append)
        made = Thousand(room, ledger, anchor, folder, [SEED, b"\2" * 32], {}, ANCHORED)
        live(made, keys)
        yield made


@contextmanager
def changed(told: Thousand) -> Iterator[Tx]:
    with told.room.state.database.writer.connect() as tx, tx.begin() as transaction:
        yield tx
        transaction.rollback()


def found(told: Thousand, tx: Tx, changes: Iterable[tuple[str, Change]]) -> int:
    """Try every change in a savepoint; each must be found. Returns how many there were."""
    trust, tried = told.trust(), 0
    for name, change in changes:
        savepoint = tx.begin_nested()
        change(tx)
        with pytest.raises(TamperedError) as error:
            _missed(name, told.look(tx, trust))
        assert error.value.exit_code is Exit.TAMPERED
        savepoint.rollback()
        tried += 1
    return tried


def _missed(name: str, _: Verdict) -> None:
    pytest.fail(f"not found: {name}")


def test_all_of_it_is_there_and_right(told: Thousand) -> None:
    verdict = told.ledger.verify()
    assert (verdict.size, verdict.anchored, verdict.tail) == (SIZE, ANCHORED, SIZE - ANCHORED)
    assert (len(verdict.restarts), len(verdict.rekeys)) == (2, 1)
    with told.room.state.read() as tx:
        assert attacks.count(tx, attacks.PAYLOAD) > 80
        assert len(checkpoints(tx)) > 40
    assert {kind for _, kind, _ in _kept(told)} == {"latest", "hourly", "anchored", "closed", "rekeyed"}


def _kept(told: Thousand) -> list[tuple[int, str, str]]:
    with told.room.state.read() as tx:
        return checkpoints(tx)


def _special(told: Thousand) -> list[int]:
    """Entries that the ledger is read by."""
    with told.room.state.read() as tx:
        return list(tx.scalars(select(ENTRY.c.n).where(ENTRY.c.what.like("audit.%")).order_by(ENTRY.c.n)))


# Entries, columns, payloads, nodes, notes -----------------------------------------------------------------------------


def test_a_change_of_some_entries_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        for n in {0, 255, 256, SIZE - 1, *range(37, SIZE, 127), *_special(told)}:
            assert found(told, tx, attacks.of_entry(tx, n, SIZE)) >= 7
        told.look(tx, told.trust())


def test_a_change_of_some_columns_and_payloads_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        for n in {0, SIZE - 1, *range(5, SIZE, 149), *_special(told)}:
            assert found(told, tx, attacks.of_columns(tx, n)) >= 8
            found(told, tx, attacks.of_payload(tx, n))
        told.look(tx, told.trust())


def test_a_change_of_some_nodes_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        rows = tx.execute(select(NODE).order_by(NODE.c.level, NODE.c.position)).fetchall()
        assert len(rows) == sum(SIZE >> level for level in range(1, 10))
        for row in [*rows[::61], *(row for row in rows if row.level >= 7)]:
            assert found(told, tx, attacks.of_node(row)) == 3
        told.look(tx, told.trust())


def test_a_change_of_some_bytes_of_every_kept_note_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        for size, kind, note in _kept(told):
            assert found(told, tx, attacks.of_note(size, kind, note, every=131)) >= 4
        told.look(tx, told.trust())


def test_a_signature_written_in_other_letters_is_found(told: Thousand) -> None:
    """The last letter of its base64 has two bits that say nothing: other ones there are another note."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    with changed(told) as tx:
        for size, kind, note in _kept(told):
            last = note.rindex("=") - 1
            same = letters[letters.index(note[last]) | 1]
            here = attacks.on(CHECKPOINT, size=size, kind=kind)
            change = update(CHECKPOINT).where(here).values(note=note[:last] + same + note[last + 1 :])
            assert found(told, tx, [(f"{kind} {size}", lambda tx, change=change: tx.execute(change))]) == 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(8))
def test_a_change_of_any_entry_is_found(told: Thousand, part: int) -> None:
    with changed(told) as tx:
        tried = sum(found(told, tx, attacks.of_entry(tx, n, SIZE)) for n in range(part, SIZE, 8))
        told.look(tx, told.trust())
    assert tried >= SIZE // 8 * 10 - 3


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(8))
def test_a_change_of_any_column_or_payload_is_found(told: Thousand, part: int) -> None:
    with changed(told) as tx:
        for n in range(part, SIZE, 8):
            assert found(told, tx, attacks.of_columns(tx, n)) >= 8
            assert found(told, tx, attacks.of_payload(tx, n)) in {1, 3}
        told.look(tx, told.trust())


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_change_of_any_node_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        rows = tx.execute(select(NODE).order_by(NODE.c.level, NODE.c.position)).fetchall()
        assert sum(found(told, tx, attacks.of_node(row)) for row in rows) == 3 * len(rows)
        told.look(tx, told.trust())


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_change_of_any_byte_of_any_kept_note_is_found(told: Thousand) -> None:
    with changed(told) as tx:
        for size, kind, note in _kept(told):
            assert found(told, tx, attacks.of_note(size, kind, note)) >= len(note) + 2
        told.look(tx, told.trust())


# The end: cuts, rollbacks, forks --------------------------------------------------------------------------------------


def cut_everywhere(told: Thousand, sizes: Iterable[int]) -> None:
    """Cut without a key, and with every key: below the anchor both are found, above it only the first can be."""
    with changed(told) as tx:
        chain = verify.chain_of(tx, told.trust().verifier)
        for left in sizes:
            assert found(told, tx, [(f"cut at {left}", lambda tx, left=left: attacks.cut(tx, left))]) == 1
            savepoint = tx.begin_nested()
            attacks.resign(tx, told, chain, left)
            as_it_was_found(told, tx, chain, left)
            savepoint.rollback()


def as_it_was_found(told: Thousand, tx: Tx, chain: Chain, size: int) -> None:
    """A ledger that looks as it did with `size` entries: below the anchor it is found, even where state was put back
    too and says that an older key signs; above the anchor the tail is named, of which nobody can know more.
    """
    if size >= ANCHORED:
        verdict = told.look(tx, told.trust())
        assert (verdict.size, verdict.tail) == (size, size - ANCHORED)
        return
    trust = told.trust()
    then = next(each for each in chain.keys.verifiers if each.raw == chain.keys.at(size)[0])
    with pytest.raises(TamperedError, match="anchor here holds"):
        told.look(tx, replace(trust, verifier=then))
    with pytest.raises(TamperedError):
        told.look(tx, trust)


def test_some_cuts_are_found_and_the_tail_is_named(told: Thousand) -> None:
    cut_everywhere(told, [1, 2, 255, 256, 511, 512, *range(301, ANCHORED, 71), 898, 899, 900, 901, 950, 999])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_cut_below_the_newest_anchor_is_found(told: Thousand) -> None:
    cut_everywhere(told, range(1, SIZE))


def test_every_old_state_of_the_database_is_found_up_to_the_anchor(told: Thousand) -> None:
    """What was once true, put back: after each commit the database looked just so."""
    sizes = sorted(told.signed)
    with changed(told) as tx:
        chain = verify.chain_of(tx, told.trust().verifier)
        for size in [*sizes[::25], *sizes[-45:-1:6]]:
            savepoint = tx.begin_nested()
            attacks.roll_back(tx, told, size, told.signed[size])
            as_it_was_found(told, tx, chain, size)
            savepoint.rollback()


def test_an_old_copy_of_the_file_is_found(told: Thousand, tmp_path: Path) -> None:
    """A copy of the whole file from before the newest anchor, with the keys it had then and with those of today."""
    told.room.state.copy_to(tmp_path / "state.db")
    older = State.open(f"sqlite:///{tmp_path}/state.db", told.room.clock)
    size = max(size for size in told.signed if size < 700)
    with older.database.writer.begin() as tx:
        attacks.roll_back(tx, told, size, told.signed[size])
    for keys in (Seeds(told.seeds[1], (told.seeds[0],)), Seeds(told.seeds[0], (told.seeds[1],)), Seeds(told.seeds[0])):
        with pytest.raises(TamperedError):
            Ledger(older, lambda keys=keys: keys, [told.anchor]).inspect()
    older.close()


def test_a_history_that_was_forked_is_found_by_whoever_saw_the_other(told: Thousand, tmp_path: Path) -> None:
    """Who has every key changes one entry and signs all that follows anew; each of two anchors is shown one history."""
    other = FolderAnchor("other", tmp_path / "other")
    other.create()
    with changed(told) as tx:
        chain = verify.chain_of(tx, told.trust().verifier)
        honest = told.trust([told.anchor])
        for n in (0, 5, 300, 640, 899):
            savepoint = tx.begin_nested()
            attacks.rewrite(tx, told, chain, n)
            told.look(tx, told.trust([]))  # by itself it is consistent
            with pytest.raises(TamperedError, match="that anchor here holds"):
                told.look(tx, honest)
            notes = {chain.origin_at(size): note for size, kind, note in checkpoints(tx) if kind == "latest"}
            shown = Said("other", {chain.origin.rpartition("/")[2]: notes[chain.origin]})
            forked = told.trust([])
            told.look(tx, attacks.Trust(forked.verifier, [shown], forked.policy, forked.now))
            savepoint.rollback()
            with pytest.raises(TamperedError, match="that anchor other holds"):
                told.look(tx, attacks.Trust(forked.verifier, [shown, *honest.anchors], forked.policy, forked.now))
    assert told.ledger.verify().size == SIZE


def test_without_an_anchor_or_with_an_old_one_it_is_not_called_anchored(told: Thousand) -> None:
    assert Ledger(told.room.state, Keys([SEED, told.seeds[1]])).inspect().unanchored == "guard.toml names no anchor"
    with told.room.state.read() as tx:
        trust = told.trust()
        late = attacks.Trust(trust.verifier, trust.anchors, trust.policy, trust.now + timedelta(days=2))
        assert "is older than" in (told.look(tx, late).unanchored or "")


def test_without_its_key_it_is_never_fine(told: Thousand) -> None:
    for seeds in (Seeds(b"n" * 32), Seeds(told.seeds[0], (told.seeds[1],))):
        with pytest.raises(TamperedError):
            Ledger(told.room.state, lambda seeds=seeds: seeds, [told.anchor]).inspect()


def test_an_emptied_one_is_never_fine(told: Thousand) -> None:
    with changed(told) as tx:
        for tables in (("ledger_entry",), ("ledger_checkpoint",), ("ledger_node",), ("ledger_entry", "ledger_node"),
                       ("ledger_entry", "ledger_node", "ledger_checkpoint", "ledger_payload")):  # fmt: skip
            savepoint = tx.begin_nested()
            for table in tables:
                tx.exec_driver_sql(f"DELETE FROM {table}")
            with pytest.raises(TamperedError):
                told.look(tx, told.trust())
            savepoint.rollback()


def test_the_state_it_was_read_from_is_untouched(told: Thousand, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    assert told.ledger.verify().root == told.ledger.verify().root
    with told.room.state.read() as tx:
        assert tx.scalar(select(CHECKPOINT.c.size).where(CHECKPOINT.c.kind == "latest")) == SIZE
