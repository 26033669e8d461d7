"""A restore closes a log and begins another: no root is signed twice, what was lost is told, a fork is found."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from guard.audit import FolderAnchor, Ledger, Query
from guard.audit.chain import RESTART, Chain, Restart
from guard.audit.checkpoint import log_of, open_any
from guard.audit.rekey import Keys
from guard.audit.store import CHECKPOINT, ENTRY
from guard.crypto.sign import Signer, Verifier
from guard.errors import TamperedError, UnavailableError
from guard.events import GUARD, Event, RunId

Make = Callable[[int], Event]
RUN = RunId("ab" * 16)
SEED = bytes(range(32))


class Story:
    """One store whose state is copied, lost and brought back."""

    def __init__(self, house, make_event: Make) -> None:
        self.house = house
        self.make_event = make_event
        self.number = 0

    def go_on(self, count: int, *, anchor: bool = False) -> None:
        """Record events, in commits of one to three."""
        while count:
            group = min(1 + self.number % 3, count)
            self.house.add(*[self.make_event(self.number + each) for each in range(group)])
            self.number += group
            count -= group
            self.house.clock.step(timedelta(minutes=13))
        if anchor:
            self.house.ledger.anchor()

    def save(self, name: str) -> None:
        self.house.state.copy_to(self.house.folder / name)

    def lose_and_restore(self, name: str) -> Restart:
        """Put the copy in place of the state and begin a new log, as `guard state restore` does."""
        self.house.close()
        self._put(name)
        self.house = self.house.reopened()
        return self.restart()

    def restart(self) -> Restart:
        found = self.house.ledger.restart()
        self.house.add(found.event(GUARD, RUN), self.make_event(35))
        return found

    def _put(self, name: str) -> None:
        for end in ("", "-wal", "-shm"):
            (self.house.folder / f"state.db{end}").unlink(missing_ok=True)
        shutil.copyfile(self.house.folder / name, self.house.folder / "state.db")


@pytest.fixture
def story(house, make_event: Make):
    made = Story(house, make_event)
    yield made
    made.house.close()


def test_the_new_log_holds_the_old_entries_and_says_what_was_lost(story) -> None:
    story.go_on(12, anchor=True)
    story.save("old.db")
    story.go_on(8, anchor=True)
    before = story.house.ledger.list(limit=100)
    found = story.lose_and_restore("old.db")
    assert (found.size, found.lost, found.unread) == (12, 8, ())
    assert found.ahead["first"][0] == 20
    entries = story.house.ledger.list(limit=100)
    assert [each.n for each in entries] == list(range(14))
    assert entries[:12] == before[:12]
    begun = entries[12]
    assert (begun.what, begun.run, begun.counts) == (RESTART, RUN, {"size": 12, "lost": 8, "ahead first": 20})
    assert Restart.read(begun) == found
    verdict = story.house.ledger.inspect()
    assert (verdict.size, verdict.origin, verdict.restarts) == (14, found.origin, (found,))
    assert (verdict.anchored, verdict.tail) == (0, 14)  # what the anchor held last is lost
    story.house.ledger.anchor()
    assert story.house.ledger.verify().anchored == 14


def test_an_anchored_part_that_was_restored_still_counts(story) -> None:
    story.go_on(10, anchor=True)
    story.go_on(3)
    story.save("old.db")
    story.go_on(4)
    found = story.lose_and_restore("old.db")
    assert (found.lost, found.ahead) == (0, {})
    assert story.house.ledger.verify().anchored == 10


def test_no_origin_ever_has_two_roots_of_one_size(story) -> None:
    """Everything that is signed in a life with four losses, the last two of one snapshot, is collected and compared."""
    signed: dict[tuple[str, int], bytes] = {}
    verifier = Verifier.from_vkey(Signer(SEED, f"guard-ledger/{story.house.state.store_id}").vkey)

    def collect() -> None:
        found = open_any(story.house.ledger.checkpoint(), verifier)
        assert signed.setdefault((found.origin, found.size), found.root) == found.root

    def live(count: int) -> None:
        for _ in range(count):
            story.go_on(1)
            collect()

    live(9)
    story.save("one.db")
    live(5)
    story.lose_and_restore("one.db")
    collect()
    live(5)
    story.save("two.db")
    live(5)
    story.house.ledger.anchor()
    for name in ("two.db", "one.db", "one.db"):
        story.lose_and_restore(name)
        collect()
        live(6)
        story.house.ledger.anchor()
        story.house.ledger.verify()
    assert len({origin for origin, _ in signed}) == 5
    assert len(signed) > 40


def test_a_second_restore_of_the_older_snapshot_names_both_lost_logs(story) -> None:
    story.go_on(10)
    story.save("old.db")
    story.go_on(5, anchor=True)
    first = story.lose_and_restore("old.db")
    story.go_on(20, anchor=True)
    second = story.lose_and_restore("old.db")
    assert {log: size for log, (size, _) in second.ahead.items()} == {"first": 15, log_of(first.origin): 32}
    assert (second.size, second.lost) == (10, 22)
    story.house.ledger.anchor()
    story.house.ledger.verify()


def test_a_restored_state_that_was_restored_before_goes_on_from_there(story) -> None:
    story.go_on(6)
    story.save("one.db")
    story.go_on(2)
    first = story.lose_and_restore("one.db")
    story.go_on(3)
    story.save("two.db")
    second = story.lose_and_restore("two.db")
    assert (second.closed, second.size) == (first.origin, 11)
    assert story.house.ledger.inspect().restarts == (first, second)


def test_the_old_state_that_comes_back_to_life_is_found_by_the_anchor(story, make_event: Make) -> None:
    story.go_on(10, anchor=True)
    story.save("old.db")
    story.go_on(6)
    story.save("zombie.db")
    found = story.lose_and_restore("old.db")
    story.house.ledger.anchor()
    story.house.close()
    story._put("zombie.db")
    story.house = story.house.reopened()
    story.go_on(9)
    unknown = f"anchor here holds 12 entries of the log {log_of(found.origin)} that this ledger does not know"
    with pytest.raises(TamperedError, match=unknown):
        story.house.ledger.verify()
    with pytest.raises(TamperedError, match=unknown):
        story.house.ledger.anchor()


def test_who_goes_on_writing_the_closed_log_is_found(story) -> None:
    story.go_on(10, anchor=True)
    story.save("old.db")
    found = story.lose_and_restore("old.db")
    story.house.ledger.anchor()
    forged = Signer(SEED, found.closed).sign_note(
        "\n".join(story.house.ledger.checkpoint().split("\n")[:3]).replace(found.origin, found.closed) + "\n"
    )
    story.house.anchor.put(12, forged)
    with pytest.raises(TamperedError, match="anchor here holds 12 entries of the log first that this ledger does not"):
        story.house.ledger.verify()


def test_an_anchor_that_could_not_be_read_is_named_and_may_hold_more(story) -> None:
    story.go_on(10)
    story.save("old.db")
    story.go_on(4, anchor=True)
    away = story.house.folder / "away"
    story.house.anchor.folder.rename(away)
    found = story.lose_and_restore("old.db")
    assert (found.unread, found.lost) == (("here",), 0)
    away.rename(story.house.anchor.folder)
    story.house.ledger.anchor()
    assert story.house.ledger.verify().restarts == (found,)


def test_a_snapshot_of_another_history_than_the_anchors_is_refused(story) -> None:
    story.go_on(10, anchor=True)
    story.save("old.db")
    for path in story.house.anchor.folder.iterdir():
        path.unlink()
    origin = f"guard-ledger/{story.house.state.store_id}"
    other = Signer(SEED, origin).sign_note(f"{origin}\n8\n{'A' * 43}=\n")
    story.house.anchor.put(8, other)
    story.house.close()
    story._put("old.db")
    story.house = story.house.reopened()
    with pytest.raises(TamperedError, match="ledger entries 0 to 7: not those that anchor here holds"):
        story.house.ledger.restart()


def test_anchors_that_contradict_each_other_are_refused(story, tmp_path: Path) -> None:
    story.go_on(4)
    origin = f"guard-ledger/{story.house.state.store_id}"
    anchors = [FolderAnchor(name, tmp_path / name) for name in ("a", "b")]
    for anchor, root in zip(anchors, "AB", strict=True):
        anchor.create()
        anchor.put(9, Signer(SEED, origin).sign_note(f"{origin}\n9\n{root * 42}A=\n"))
    with pytest.raises(TamperedError, match="two anchors hold different entries 0 to 8 of the log first"):
        Ledger(story.house.state, SEED, anchors).restart()


def test_a_log_begins_only_where_the_one_before_it_ends(story, make_event: Make) -> None:
    story.go_on(5)
    found = story.house.ledger.restart()
    for wrong in (
        replace(found, size=4),
        replace(found, root=bytes(32)),
        replace(found, closed="guard-ledger/other"),
        replace(found, origin=found.closed),
        replace(found, origin="guard-ledger/other/0011223344556677"),
        replace(found, origin=f"{found.closed}/x"),
    ):
        with pytest.raises(ValueError, match=r"begins where|no origin of a new log"):
            story.house.add(wrong.event(GUARD, RUN))
    with pytest.raises(ValueError, match="first event of a commit"):
        story.house.add(make_event(35), found.event(GUARD, RUN))
    with pytest.raises(ValueError, match="lacks closed"):
        story.house.add(replace(found.event(GUARD, RUN), facts={}))
    story.house.add(found.event(GUARD, RUN))
    assert story.house.ledger.inspect().origin == found.origin


def test_an_empty_ledger_has_nothing_to_close(story) -> None:
    with pytest.raises(ValueError, match="not before there is one to close"):
        story.house.add(story.house.ledger.restart().event(GUARD, RUN))


CHANGES = {
    "the checkpoint at the end of the closed log is gone": (
        delete(CHECKPOINT).where(CHECKPOINT.c.kind == "closed"),
        "ledger entry 9: the log that it closes is not the one that was signed",
    ),
    "a checkpoint of the new log in the place of the old one's": (
        lambda tx: (
            update(CHECKPOINT)
            .where(CHECKPOINT.c.kind == "closed")
            .values(note=_resigned(tx, "closed", "guard-ledger/00112233-4455-6677-8899-aabbccddeeff/" + "0" * 16))
        ),
        "ledger entry 8: the checkpoint behind it is one of another log",
    ),
    "the newest checkpoint signed for the closed log": (
        lambda tx: (
            update(CHECKPOINT)
            .where(CHECKPOINT.c.kind == "latest")
            .values(note=_resigned(tx, "latest", "guard-ledger/00112233-4455-6677-8899-aabbccddeeff"))
        ),
        "the checkpoint behind it is one of another log",
    ),
}


def _resigned(tx, kind: str, origin: str) -> str:
    note = tx.scalar(select(CHECKPOINT.c.note).where(CHECKPOINT.c.kind == kind))
    return Signer(SEED, origin).sign_note("\n".join([origin, *note.split("\n")[1:3]]) + "\n")


@pytest.mark.parametrize("name", CHANGES)
def test_even_who_holds_the_key_cannot_mix_the_logs(story, name: str) -> None:
    story.go_on(9)
    story.save("old.db")
    story.lose_and_restore("old.db")
    story.go_on(2)
    statement, said = CHANGES[name]
    with story.house.state.database.writer.begin() as tx:
        tx.execute(statement(tx) if callable(statement) else statement)
    with pytest.raises(TamperedError, match=said):
        story.house.ledger.inspect()


def test_an_anchor_keeps_the_logs_apart(tmp_path: Path) -> None:
    anchor = FolderAnchor("usb", tmp_path / "usb")
    with pytest.raises(UnavailableError):
        anchor.put(3, "origin\n3\nb\n", "0123456789abcdef")
    anchor.create()
    anchor.put(3, "origin\n3\na\n")
    anchor.put(3, "origin\n3\nb\n", "0123456789abcdef")
    (anchor.folder / "else").mkdir()
    (anchor.folder / ("1" * 16)).mkdir()
    assert anchor.newest() == {"first": "origin\n3\na\n", "0123456789abcdef": "origin\n3\nb\n"}


def test_a_checkpoint_under_another_logs_name_is_tampered(story) -> None:
    story.go_on(3, anchor=True)
    story.house.anchor.put(3, story.house.ledger.checkpoint(), "0123456789abcdef")
    with pytest.raises(TamperedError, match="for the log 0123456789abcdef is another log's"):
        story.house.ledger.inspect()


def test_a_chain_that_breaks_is_named(story) -> None:
    story.go_on(9)
    story.save("old.db")
    story.lose_and_restore("old.db")
    (begun,) = story.house.ledger.list(Query(what=RESTART))
    first = begun.facts["closed"]
    keys = Keys((Signer(SEED, first).verifier,))
    assert Chain.read(keys, [begun]).restarts == (Restart.read(begun),)
    for wrong, said in (
        (replace(begun, digests={}), "ledger entry 9: the entry audit.restart lacks root"),
        (replace(begun, digests={**begun.digests, "root": "x"}), "ledger entry 9: non-hexadecimal"),
        (replace(begun, n=8), "ledger entry 8 does not begin a log where the one before it ends"),
        (replace(begun, facts={**begun.facts, "closed": "x"}), "ledger entry 9 does not begin a log"),
        (replace(begun, facts={**begun.facts, "origin": first}), "ledger entry 9 does not begin a log"),
    ):
        with pytest.raises(TamperedError, match=said):
            Chain.read(keys, [wrong])
    with pytest.raises(TamperedError, match="ledger entry 9 does not begin a log"):
        Chain.read(keys, [begun, begun])


def test_an_entry_that_should_begin_a_log_and_is_none_is_tampered(story) -> None:
    story.go_on(3)
    with story.house.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == 1).values(what=RESTART, leaf=b"{}"))
    with pytest.raises(TamperedError, match=r"an entry audit\.restart of the ledger cannot be read"):
        story.house.ledger.restart()
