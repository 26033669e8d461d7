"""Retention removes old entries and leaves a ledger that is proved as before; nobody else can remove any unseen."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from guard import faults
from guard.audit import FolderAnchor, Ledger, Query, export, merkle, proof
from guard.audit.against import Held
from guard.audit.checkpoint import Checkpoint
from guard.audit.prune import PRUNE, Prune, pruned
from guard.audit.store import CHECKPOINT, ENTRY, NODE, PAYLOAD
from guard.config.audit import AuditPolicy
from guard.config.span import Span
from guard.errors import ConfigError, InterlockError, TamperedError, UnanchoredError
from guard.events import GUARD, Ending, Event, RunId

Make = Callable[[int], Event]
RUN = RunId("ab" * 16)
BLOCK = 256
REKEYED, RESTARTED = 300, 830
"""Entries that stay with their blocks, 1 and 3."""

MINIMUM = 4 * BLOCK


def told(number: int) -> Event:
    return Event("test.note", Ending.DONE, GUARD, RunId(f"{number:032x}"), counts={"number": number})


@pytest.fixture(scope="session")
def aged_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, object, datetime]]:
    """Some 1,800 entries over 30 months in commits of sixteen, with a change of key and a restart in the first year."""
    from guard.clock import SteppedClock
    from tests.audit.conftest import START, opened

    folder = tmp_path_factory.mktemp("aged")
    made, done = opened(folder, SteppedClock(START)), 0
    while made.clock.now() < START + timedelta(days=900):
        size = made.ledger.list(limit=1)[-1].n + 1 if done else 0
        if size == REKEYED - REKEYED % 16:
            made.add(*[told(done + each) for each in range(REKEYED % 16)])
            made.rekey(*[told(done + each) for each in range(19, 22)])
        elif size == RESTARTED:
            made.add(made.ledger.restart().event(GUARD, RUN), told(done))
        made.add(*[told(done + each) for each in range(16 if size != 816 else 14)])
        done += 16
        made.clock.step(timedelta(days=8))
        if done % 160 == 0:
            made.ledger.anchor()
    made.add(told(done))
    made.ledger.anchor()
    made.close()
    return folder, made.keys, made.clock.now()


@pytest.fixture
def aged(aged_folder, tmp_path: Path):
    from guard.clock import SteppedClock
    from tests.audit.conftest import opened

    folder, keys, now = aged_folder
    shutil.copytree(folder, tmp_path / "aged")
    made = opened(tmp_path / "aged", SteppedClock(now + timedelta(hours=1)), keys.copy())
    yield made
    made.close()


def prune(house, *keep: int) -> Prune:
    found = house.ledger.pruning(lambda: keep)
    assert found is not None
    house.ledger.prune(found, (GUARD, RunId("cd" * 16)))
    return found.prune


@contextmanager
def changed(house) -> Iterator:
    with house.state.database.writer.connect() as tx, tx.begin() as transaction:
        yield tx
        transaction.rollback()


def look(house, tx, **more: int) -> None:
    from guard.audit import verify
    from guard.audit.anchors import ask
    from guard.audit.verdict import Trust

    verifier = house.ledger._end.pen.current
    verify.inspect(tx, Trust(verifier, [ask(house.anchor)], AuditPolicy(), house.clock.now()), **more)


def at_hand(house) -> list[int]:
    with house.state.read() as tx:
        return list(tx.scalars(select(ENTRY.c.n).order_by(ENTRY.c.n)))


def test_the_stage_is_set(aged) -> None:
    assert [entry.n for entry in aged.ledger.list(Query(what="audit.rekey"))] == [REKEYED]
    assert [entry.n for entry in aged.ledger.list(Query(what="audit.restart"))] == [RESTARTED]
    assert len(at_hand(aged)) > 1700
    aged.ledger.verify()


def test_whole_blocks_go_that_are_older_than_the_policy_keeps(aged) -> None:
    before = aged.ledger.inspect()
    early = {entry.n: entry.at for entry in aged.ledger.entries()}
    found = prune(aged)
    limit = AuditPolicy().keep.before(aged.clock.now())
    assert found.minimum % BLOCK == 0
    assert early[found.minimum - 1] < limit <= early[found.minimum + BLOCK]
    assert found.kept == {1, 3}
    assert found.minimum == MINIMUM
    size = before.size + 1
    assert at_hand(aged) == [*range(256, 512), *range(768, 1024), *range(found.minimum, size)]
    (entry,) = aged.ledger.list(Query(what=PRUNE))
    assert (entry.counts, entry.facts) == ({"minimum": found.minimum}, {"kept": "1 3"})
    assert entry.digests == {"root": found.root.hex()}
    verdict = aged.ledger.verify()
    assert (verdict.size, verdict.minimum, verdict.first) == (size, found.minimum, early[found.minimum])
    assert aged.ledger.minimum() == found.minimum
    with aged.state.read() as tx:
        nodes = {(row.level, row.position) for row in tx.execute(select(NODE))}
        assert not any(level < 8 and position >> 8 - level in {0, 2} for level, position in nodes)
        assert {(8, position) for position in range(size // BLOCK)} <= nodes
        small = set(tx.scalars(select(CHECKPOINT.c.kind).where(CHECKPOINT.c.size < found.minimum)))
    assert small == {"closed", "rekeyed"}


def test_nothing_is_pruned_before_its_time(aged) -> None:
    assert Ledger(aged.state, aged.keys, [], AuditPolicy(keep=Span.parse("29 months"))).pruning() is None
    assert aged.ledger.pruning(late=Span.parse("17 months")) is None
    assert aged.ledger.pruning(late=Span.parse("1 month")) is not None
    prune(aged)
    assert aged.ledger.pruning() is None


def test_entries_that_somebody_needs_stay(aged) -> None:
    assert prune(aged, 5, 1_100, 10_000).kept == {0, 1, 3}


def test_a_ledger_without_old_blocks_has_nothing_to_prune(house, make_event: Make) -> None:
    house.add(make_event(0))
    house.clock.step(timedelta(days=500))
    assert house.ledger.pruning() is None


def test_it_goes_on_being_written_anchored_proved_and_exported(aged, tmp_path: Path) -> None:
    old = Ledger(aged.state, aged.keys, [aged.anchor]).checkpoint()
    found = prune(aged)
    aged.add(*[told(number) for number in range(40)])
    aged.clock.step(timedelta(hours=3))
    aged.ledger.anchor()
    aged.add(told(1))
    aged.rekey()
    aged.add(aged.ledger.restart().event(GUARD, RUN))
    aged.ledger.anchor()
    verdict = aged.ledger.verify()
    assert (len(verdict.rekeys), len(verdict.restarts)) == (2, 2)
    with aged.state.read() as tx:
        for n in (256, 300, 511, 830, MINIMUM, MINIMUM + 1, verdict.size - 1):
            leaf, shown = proof.prove(tx, n)
            assert shown.holds(leaf)
        for n in (0, 255, 512, 767):
            with pytest.raises(ConfigError, match="removed under retention"):
                proof.prove(tx, n)
        for size in (found.minimum, found.minimum + 77, verdict.size - 2):
            shown = proof.consistency(tx, size, verdict.size)
            args = (size, verdict.size, shown, proof.root(tx, size), proof.root(tx, verdict.size))
            assert merkle.verify_consistency(*args)
        done = export.export(tx, tmp_path / "tiles", aged.ledger.vkey)
    assert (done.size, done.minimum) == (verdict.size, found.minimum)
    size = proof.parse(old.partition("\n\n")[0] + "\n").size
    assert aged.ledger.inspect(against=[Held.read("kept", old.encode())]).against[0].size == size
    assert [entry.n for entry in aged.ledger.entries()][:3] == [256, 257, 258]
    assert aged.ledger.list(Query(what="audit.rekey"))[0].n == REKEYED


def test_it_is_pruned_again_and_what_stayed_stays(aged) -> None:
    first = prune(aged)
    for number in range(100):
        aged.add(*[told(number * 16 + each) for each in range(16)])
        aged.clock.step(timedelta(days=2))
    aged.clock.step(timedelta(days=300))
    aged.add(told(1))
    aged.ledger.anchor()
    before = aged.ledger.list(Query(what=PRUNE))[-1].n
    second = prune(aged)
    assert second.minimum > before // BLOCK * BLOCK
    assert second.kept == {before // BLOCK}
    with aged.state.read() as tx:
        assert pruned(tx).kept == first.kept | second.kept
    assert set(range(256, 512)) <= set(at_hand(aged))
    assert set(range(before // BLOCK * BLOCK, before + 1)) <= set(at_hand(aged))
    assert aged.inspect().minimum == second.minimum


def test_payloads_go_with_their_entries(aged) -> None:
    with aged.state.database.writer.begin() as tx:
        tx.execute(insert(PAYLOAD), [{"n": n, "sealed": b"x"} for n in (3, 300, 600, 1500)])
    found = aged.ledger.pruning()
    from guard.audit import pruning

    pruning.carry_out(aged.state, found, (GUARD, RUN), lambda *_: None)
    with aged.state.read() as tx:
        assert list(tx.scalars(select(PAYLOAD.c.n).order_by(PAYLOAD.c.n))) == [300, 1500]


# A kill at any point --------------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("point", ["audit.prune.recorded", "audit.prune.removed"])
def test_a_removal_that_was_broken_off_is_right_and_is_finished(aged, point: str, monkeypatch) -> None:
    from guard.audit import pruning

    monkeypatch.setattr(pruning, "_AT_ONCE", 1)

    def kill(name: str) -> None:
        if name == point:
            raise KilledError

    faults.install(kill)
    try:
        with pytest.raises(KilledError):
            prune(aged)
    finally:
        faults.install(None)
    left = at_hand(aged)
    assert (0 in left) is (point == "audit.prune.recorded")
    assert 512 in left
    again = aged.reopened()
    again.ledger.verify()
    found = again.ledger.pruning()
    assert found.begun
    assert found.blocks == ((0, 2) if 0 in left else (2,))
    again.ledger.prune(found, (GUARD, RUN))
    assert 512 not in at_hand(again)
    assert len(again.ledger.list(Query(what=PRUNE))) == 1
    assert again.ledger.pruning() is None
    assert again.ledger.verify().minimum == found.prune.minimum
    again.close()


# Who may, and when ----------------------------------------------------------------------------------------------------


def test_nothing_goes_that_an_anchor_does_not_vouch_for(aged, tmp_path: Path) -> None:
    new = FolderAnchor("new", tmp_path / "new")
    new.create()
    two = Ledger(aged.state, aged.keys, [aged.anchor, new])
    found = two.pruning()
    with pytest.raises(InterlockError, match="anchor new vouches for 0 entries only"):
        two.prune(found, (GUARD, RUN))
    away = Ledger(aged.state, aged.keys, [aged.anchor, FolderAnchor("away", tmp_path / "away")])
    with pytest.raises(UnanchoredError, match="could not look at"):
        away.prune(found, (GUARD, RUN))
    with pytest.raises(UnanchoredError, match="names no anchor"):
        Ledger(aged.state, aged.keys).prune(found, (GUARD, RUN))
    aged.clock.step(timedelta(days=9))
    with pytest.raises(UnanchoredError, match="older than"):
        aged.ledger.prune(found, (GUARD, RUN))
    assert 0 in at_hand(aged)


def test_nothing_goes_of_a_ledger_that_was_changed(aged) -> None:
    with aged.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == 40).values(who="p-zzzzzzzzzz"))
    found = aged.ledger.pruning()
    with pytest.raises(TamperedError, match="ledger entry 40"):
        aged.ledger.prune(found, (GUARD, RUN))
    assert 0 in at_hand(aged)


@pytest.mark.parametrize("keep", ["11 months", "364 days", "1 day"])
def test_a_policy_that_keeps_less_than_a_year_is_refused(keep: str) -> None:
    with pytest.raises(ValueError, match=r"at least 1 year: PCI DSS 10\.5\.1"):
        AuditPolicy(keep=Span.parse(keep))


@pytest.mark.parametrize("keep", ["12 months", "1 year", "365 days", "7 years"])
def test_a_policy_that_keeps_a_year_or_more_is_taken(keep: str) -> None:
    assert AuditPolicy(keep=Span.parse(keep)).keep == Span.parse(keep)


# What is found --------------------------------------------------------------------------------------------------------


def test_who_removes_the_first_entries_himself_is_found(aged) -> None:
    for minimum in (1, 256, 512):
        with changed(aged) as tx:
            tx.execute(delete(ENTRY).where(ENTRY.c.n < minimum))
            tx.execute(delete(NODE).where(NODE.c.level < 8, (NODE.c.position + 1) * 2**NODE.c.level <= minimum))
            with pytest.raises(TamperedError, match=r"ledger entry 0 is missing|has 0 entries audit\.rekey"):
                look(aged, tx)


def test_a_record_of_a_removal_that_nobody_signed_is_found(aged) -> None:
    from guard.audit import entry

    with changed(aged) as tx:
        size = tx.scalar(select(CHECKPOINT.c.size).where(CHECKPOINT.c.kind == "latest"))
        root = proof.root(tx, 256)
        raw = entry.leaf(size, aged.clock.now(), Prune(256, root, frozenset()).event(GUARD, RUN))
        said = entry.decode(raw)
        row = {name: getattr(said, name) for name in ("n", "at", "who", "what", "outcome", "run")}
        tx.execute(insert(ENTRY).values(leaf=raw, hash=merkle.leaf_hash(raw), **row))
        tx.execute(delete(ENTRY).where(ENTRY.c.n < 256))
        for level in range(1, 8):
            tx.execute(delete(NODE).where(NODE.c.level == level, NODE.c.position < 256 >> level))
        tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size < 256, CHECKPOINT.c.kind.in_(["hourly", "anchored"])))
        with pytest.raises(TamperedError, match=f"ledger entr.*{size}: "):
            look(aged, tx)


@pytest.mark.parametrize("n", [256, 511, 768, 1023, "minimum"])
def test_an_entry_that_was_to_stay_and_is_gone_is_named(aged, n: int | str) -> None:
    minimum = prune(aged).minimum
    n = minimum if n == "minimum" else n
    with changed(aged) as tx:
        tx.execute(delete(ENTRY).where(ENTRY.c.n == n))
        with pytest.raises(TamperedError, match=rf"ledger entr(y {n}\b|ies {n} to).*missing"):
            look(aged, tx)


@pytest.mark.parametrize("what", ["audit.rekey", "audit.restart", "audit.prune"])
def test_an_entry_that_the_ledger_is_read_by_and_that_is_gone_is_found(aged, what: str) -> None:
    prune(aged)
    with changed(aged) as tx:
        tx.execute(delete(ENTRY).where(ENTRY.c.what == what))
        with pytest.raises(TamperedError, match=r"missing|has 0 entries audit\.rekey|the log that it closes"):
            look(aged, tx)


@pytest.mark.parametrize("block", [1, 3, "next"])
def test_a_block_that_was_to_stay_and_is_gone_is_named(aged, block: int | str) -> None:
    block = prune(aged).minimum // BLOCK if block == "next" else (prune(aged) and block)
    first, behind = block * BLOCK, (block + 1) * BLOCK
    with changed(aged) as tx:
        tx.execute(delete(ENTRY).where(ENTRY.c.n >= first, ENTRY.c.n < behind))
        for level in range(1, 8):
            within = (NODE.c.position >= first >> level) & (NODE.c.position < behind >> level)
            tx.execute(delete(NODE).where(NODE.c.level == level, within))
        with pytest.raises(
            TamperedError, match=rf"ledger entr(y {first} is|ies {first} to {behind - 1}) missing|has 0 entries"
        ):
            look(aged, tx)


def test_every_hash_that_stands_for_removed_entries_counts(aged) -> None:
    prune(aged)
    with changed(aged) as tx:
        for level, position, digest in tx.execute(select(NODE).where(NODE.c.level >= 8)).fetchall():
            here = (NODE.c.level == level) & (NODE.c.position == position)
            for change in (
                update(NODE).where(here).values(hash=bytes([digest[0] ^ 1]) + digest[1:]),
                delete(NODE).where(here),
            ):
                with tx.begin_nested() as savepoint:
                    tx.execute(change)
                    with pytest.raises(TamperedError, match="hash"):
                        look(aged, tx)
                    savepoint.rollback()


def test_what_is_put_into_the_gap_is_found(aged) -> None:
    with aged.state.read() as tx:
        rows = [row._mapping for row in tx.execute(select(ENTRY).where(ENTRY.c.n < BLOCK))]
        nodes = [
            row._mapping
            for row in tx.execute(select(NODE).where(NODE.c.level < 8))
            if row.position << row.level < BLOCK
        ]
        kept = [row._mapping for row in tx.execute(select(CHECKPOINT).where(CHECKPOINT.c.size < BLOCK))]
    prune(aged)
    with changed(aged) as tx:
        for what, table, expected in (
            (rows[:1], ENTRY, "missing|hash over"),
            (rows[7:9], ENTRY, "ledger entry 0 is missing"),
            (rows, ENTRY, "hash over them"),
            (nodes[:1], NODE, "hashes over them are stored"),
            (kept[:1], CHECKPOINT, "is one that was removed"),
            ([{**rows[0], "n": -1}], ENTRY, "ledger entry -1 does not belong here"),
        ):
            with tx.begin_nested() as savepoint:
                tx.execute(insert(table), what)
                with pytest.raises(TamperedError, match=expected):
                    look(aged, tx)
                savepoint.rollback()
        tx.execute(insert(ENTRY), rows)
        tx.execute(insert(NODE), nodes)
        look(aged, tx)  # whole and right: as where the removal was broken off


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": {}}, "lacks"),
        ({"counts": {"minimum": 255}}, "names no minimum index"),
        ({"counts": {"minimum": -256}}, "names no minimum index"),
        ({"counts": {"minimum": 256}, "facts": {"kept": "1"}}, "names no minimum index"),
        ({"facts": {"kept": "3-1"}}, "names no minimum index"),
        ({"facts": {"kept": "x"}}, "invalid literal"),
        ({"digests": {}}, "lacks root"),
    ],
)
def test_a_record_that_says_something_else_is_no_record(change: dict, said: str) -> None:
    good = Prune(512, bytes(32), frozenset({1})).event(GUARD, RUN)
    assert Prune.read(good) == Prune(512, bytes(32), frozenset({1}))
    with pytest.raises(ValueError, match="names no minimum"):
        Prune.read(good, 512)
    with pytest.raises(ValueError, match=said):
        Prune.read(replace(good, **change))


def test_a_signed_record_with_another_root_is_found(aged) -> None:
    """Only who holds the key can write it, and then the anchors' own copies of later entries do not help him."""
    root = bytes(32)
    aged.add(Prune(512, root, frozenset({1})).event(GUARD, RUN))
    with aged.state.database.writer.begin() as tx:
        tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size < 512, CHECKPOINT.c.kind.in_(["hourly", "anchored"])))
    with pytest.raises(TamperedError, match="ledger entries 0 to 511: not those of which some"):
        aged.inspect()


# What others hold -----------------------------------------------------------------------------------------------------


def test_what_ends_among_removed_entries_cannot_be_compared_and_is_not_called_fine(aged, tmp_path: Path) -> None:
    with aged.state.read() as tx:
        notes = dict(
            tx.execute(select(CHECKPOINT.c.size, CHECKPOINT.c.note).where(CHECKPOINT.c.kind == "hourly")).fetchall()
        )
    inside = min(size for size in notes if 512 < size < 768)
    behind = max(notes)
    found = prune(aged)
    verdict = aged.ledger.inspect(
        against=[Held.read("old", notes[inside].encode()), Held.read("new", notes[behind].encode())]
    )
    old, new = verdict.against
    assert (old.size, new.size, new.problem) == (None, behind, None)
    assert "ends among entries that retention removed" in old.problem
    stale = FolderAnchor("stale", tmp_path / "stale")
    stale.create()
    stale.put(inside, notes[inside])
    verdict = Ledger(aged.state, aged.keys, [aged.anchor, stale]).inspect()
    assert "stale: all it holds ends among entries that retention removed" in verdict.unanchored
    assert found.minimum > inside


def test_an_anchor_with_a_checkpoint_of_the_kept_part_is_compared(aged, tmp_path: Path) -> None:
    with aged.state.read() as tx:
        note = tx.scalar(select(CHECKPOINT.c.note).where(CHECKPOINT.c.kind == "rekeyed"))
    prune(aged)
    held = Held.read("kept", note.encode())
    size = aged.ledger.inspect(against=[held]).against[0].size
    assert 300 < size <= 320
    origin = f"guard-ledger/{aged.state.store_id}"
    forged = aged.sign(Checkpoint(origin, 280, bytes(32)).text())
    with pytest.raises(TamperedError, match="entries 0 to 279: not those that forged holds"):
        aged.ledger.inspect(against=[Held.read("forged", forged.encode())])


@pytest.mark.parametrize("since", [0, 200, 700, 1100, 1500, 10**9])
def test_a_part_of_a_pruned_ledger_is_verified(aged, since: int) -> None:
    prune(aged)
    verdict = aged.ledger.inspect(since=since)
    assert verdict.size == at_hand(aged)[-1] + 1


def test_the_record_of_a_removal_is_proved_where_it_is_not_read_again(aged) -> None:
    prune(aged)
    (said,) = aged.ledger.list(Query(what=PRUNE))
    for first in (0, 3000):
        aged.add(*[told(10_000 + first + each) for each in range(3000)])
    aged.clock.step(timedelta(hours=2))
    aged.add(told(1))
    assert aged.inspect(since=10**6).begin == 4096
    with changed(aged) as tx:
        row = tx.execute(select(ENTRY).where(ENTRY.c.n == said.n)).one()
        raw = row.leaf.replace(b'"kept":"1 3"', b'"kept":"1 2"')
        tx.execute(update(ENTRY).where(ENTRY.c.n == said.n).values(leaf=raw, hash=merkle.leaf_hash(raw)))
        with pytest.raises(TamperedError, match=f"ledger entry {said.n} is not the one that was signed"):
            look(aged, tx, since=10**6)


def test_what_stays_is_told_in_as_many_removals_as_its_list_takes(aged, monkeypatch: pytest.MonkeyPatch) -> None:
    from guard.audit import pruning

    monkeypatch.setattr(pruning, "_LONGEST", 1)
    first = prune(aged)
    assert (first.minimum, first.kept) == (512, {1})
    aged.ledger.anchor()
    second = prune(aged)
    assert (second.minimum, second.kept) == (1024, {3})
    assert aged.ledger.pruning() is None
    assert sorted({n // BLOCK for n in at_hand(aged) if n < MINIMUM}) == [1, 3]
    aged.ledger.anchor()
    aged.ledger.verify()


def test_a_record_that_cannot_be_read_is_found(aged) -> None:
    prune(aged)
    with changed(aged) as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.what == PRUNE).values(leaf=b"{}"))
        with pytest.raises(TamperedError, match="ledger entry 1825: not an entry"):
            look(aged, tx)


def test_what_ends_among_removed_entries_is_no_better_where_they_are_not_read(aged) -> None:
    with aged.state.read() as tx:
        notes = dict(tx.execute(select(CHECKPOINT.c.size, CHECKPOINT.c.note)).fetchall())
    held = Held.read("old", notes[min(size for size in notes if 512 < size < 768)].encode())
    prune(aged)
    aged.add(*[told(10_000 + each) for each in range(3000)])
    verdict = aged.ledger.inspect(since=10**6, against=[held])
    assert verdict.begin == 4096
    assert "cannot be compared" in verdict.against[0].problem


def test_a_proof_of_a_removed_entry_is_taken_by_its_checkpoint_alone(aged) -> None:
    with aged.state.read() as tx:
        _, shown = proof.prove(tx, 600)
    prune(aged)
    assert aged.ledger.inspect(against=[Held.read("600", shown.text.encode())]).against[0].problem is None
    other = shown.text.replace("index 600\n", "index 300\n")
    with pytest.raises(TamperedError, match="ledger entry 300 is not the one"):
        aged.ledger.inspect(against=[Held.read("300", other.encode())])


def test_a_plan_that_another_run_has_carried_out_is_not_carried_out_again(aged) -> None:
    from guard.errors import BusyError

    plan = aged.ledger.pruning()
    prune(aged)
    aged.ledger.anchor()
    with pytest.raises(BusyError, match="another run"):
        aged.ledger.prune(plan, (GUARD, RUN))
    assert len(aged.ledger.list(Query(what=PRUNE))) == 1
    aged.ledger.verify()
