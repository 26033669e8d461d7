"""Anchors keep what they were given, and the ledger finds out when they and it disagree."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guard.audit import FolderAnchor, Ledger, Seen, open_signed
from guard.cli._audit_verify import _vouching
from guard.crypto.sign import Verifier
from guard.errors import TamperedError, UnanchoredError, UnavailableError
from guard.events import Event

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
Make = Callable[[int], Event]


@pytest.fixture
def anchor(tmp_path: Path) -> FolderAnchor:
    made = FolderAnchor("usb", tmp_path / "usb")
    made.create()
    return made


def test_the_newest_is_the_one_of_the_largest_size(anchor: FolderAnchor) -> None:
    assert anchor.newest() == {}
    for size in (9, 10, 2):
        anchor.put(size, f"origin\n{size}\nroot\n")
    assert anchor.newest() == {"first": "origin\n10\nroot\n"}
    assert sorted(path.name for path in anchor.folder.iterdir()) == [
        "00000000000000000002.checkpoint",
        "00000000000000000009.checkpoint",
        "00000000000000000010.checkpoint",
    ]


def test_the_same_again_is_fine_and_another_of_that_size_is_not(anchor: FolderAnchor) -> None:
    anchor.put(3, "origin\n3\na\n")
    anchor.put(3, "origin\n3\na\n")
    with pytest.raises(TamperedError, match="usb holds another checkpoint of size 3"):
        anchor.put(3, "origin\n3\nb\n")
    assert anchor.newest() == {"first": "origin\n3\na\n"}
    assert len(list(anchor.folder.iterdir())) == 1


def test_what_a_killed_process_left_is_no_checkpoint(anchor: FolderAnchor) -> None:
    import os

    (anchor.folder / f".{5:020d}.{os.getpid()}.new").write_text("half")
    assert anchor.newest() == {}
    anchor.put(5, "origin\n5\nroot\n")
    assert anchor.newest() == {"first": "origin\n5\nroot\n"}


def test_a_missing_folder_is_not_an_empty_anchor(tmp_path: Path) -> None:
    anchor = FolderAnchor("usb", tmp_path / "away")
    for call in (anchor.newest, lambda: anchor.put(1, "a")):
        with pytest.raises(UnavailableError, match=r"anchor usb at .*No such file"):
            call()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        FolderAnchor("usb", tmp_path / "file").create()


@pytest.mark.parametrize("body", [b"", b"\xff", b"origin\n8\nroot\n", b"origin"])
def test_a_file_that_is_not_what_its_name_says_is_tampered(anchor: FolderAnchor, body: bytes) -> None:
    (anchor.folder / f"{7:020d}.checkpoint").write_bytes(body)
    with pytest.raises(TamperedError, match="usb"):
        anchor.newest()


def test_anchoring_gives_the_newest_checkpoint_to_every_anchor(house, make_event: Make, anchor: FolderAnchor) -> None:
    house.add(make_event(0))
    ledger = Ledger(house.state, bytes(range(32)), [house.anchor, anchor])
    done = ledger.anchor()
    assert (done.size, done.held, done.failed) == (1, ("here", "usb"), ())
    assert anchor.newest() == house.anchor.newest() == {"first": ledger.checkpoint()}
    assert open_signed(ledger.checkpoint(), Verifier.from_vkey(ledger.vkey)).size == 1
    assert ledger.anchor() == done
    verdict = ledger.verify()
    assert verdict.anchors == (Seen("here", 1, at=START), Seen("usb", 1, at=START))
    assert (verdict.anchored, verdict.tail, verdict.unanchored) == (1, 0, None)


def test_an_anchor_that_is_away_is_named_and_the_others_are_served(house, make_event: Make, tmp_path: Path) -> None:
    house.add(make_event(0))
    ledger = Ledger(house.state, bytes(range(32)), [FolderAnchor("away", tmp_path / "away"), house.anchor])
    done = ledger.anchor()
    assert done.held == ("here",)
    assert len(done.failed) == 1
    assert "anchor away" in done.failed[0]
    with pytest.raises(UnanchoredError, match="could not look at anchor away") as error:
        ledger.verify()
    assert error.value.hint is not None
    assert "bring it back" in error.value.hint
    said = [*_vouching(ledger.inspect())]
    assert said[0] == f"anchor away at {tmp_path / 'away'}: No such file or directory"
    assert said[1] == "anchor here: the first 1 entry"


def test_no_anchor_at_all_is_an_error_to_anchor_with(house, make_event: Make, tmp_path: Path) -> None:
    house.add(make_event(0))
    ledger = Ledger(house.state, bytes(range(32)), [FolderAnchor("away", tmp_path / "away")])
    with pytest.raises(UnavailableError, match="no anchor took the checkpoint"):
        ledger.anchor()
    assert Ledger(house.state, bytes(range(32))).anchor().held == ()


def test_the_entries_above_the_newest_anchor_are_counted(house, make_event: Make) -> None:
    house.add(make_event(0))
    house.ledger.anchor()
    house.add(make_event(1), make_event(2))
    verdict = house.ledger.verify()
    assert (verdict.size, verdict.anchored, verdict.tail) == (3, 1, 2)


def test_without_an_anchor_it_is_consistent_but_not_anchored(house, make_event: Make) -> None:
    house.add(make_event(0))
    with pytest.raises(
        UnanchoredError, match="1 entries are consistent, but not anchored: no anchor holds a checkpoint"
    ):
        house.ledger.verify()
    with pytest.raises(UnanchoredError, match=r"guard\.toml names no anchor"):
        Ledger(house.state, bytes(range(32))).verify()
    assert house.ledger.inspect().size == 1


def test_an_anchor_older_than_the_policy_is_not_enough(house, make_event: Make) -> None:
    house.add(make_event(0))
    house.ledger.anchor()
    house.clock.step(timedelta(hours=26))
    assert house.ledger.verify().tail == 0
    house.clock.step(timedelta(seconds=1))
    with pytest.raises(UnanchoredError, match="older than 1 day 2 hours"):
        house.ledger.verify()
    house.add(make_event(1))
    house.ledger.anchor()
    assert house.ledger.verify().anchored == 2


def test_an_older_copy_of_the_database_is_found_by_the_anchor(house, make_event: Make) -> None:
    for number in range(4):
        house.add(make_event(number))
    house.state.copy_to(house.folder / "old.db")
    for number in range(4, 8):
        house.add(make_event(number))
    house.ledger.anchor()
    house.close()
    for end in ("", "-wal", "-shm"):
        (house.folder / f"state.db{end}").unlink(missing_ok=True)
    (house.folder / "old.db").rename(house.folder / "state.db")
    house = house.reopened()
    gone = "ledger entries 4 to 7 (are )?gone: anchor here holds a checkpoint of 8"
    with pytest.raises(TamperedError, match=gone):
        house.ledger.verify()
    with pytest.raises(TamperedError, match=gone):
        house.ledger.anchor()
    for number in range(14, 24):  # grown beyond the anchor again, on another history
        house.add(make_event(number))
    with pytest.raises(TamperedError, match="ledger entries 0 to 7: not those that anchor here holds"):
        house.ledger.verify()
    with pytest.raises(TamperedError, match="not those that anchor here holds"):
        house.ledger.anchor()
    house.close()


def test_a_checkpoint_of_another_key_in_an_anchor_is_tampered(house, make_event: Make) -> None:
    house.add(make_event(0))
    note = house.sign("\n".join(house.ledger.checkpoint().split("\n")[:3]) + "\n", b"x" * 32)
    house.anchor.put(1, note)
    with pytest.raises(TamperedError, match=r"1 entries that anchor here holds: it is signed by the key \w+, not by"):
        house.ledger.inspect()


def test_another_stores_checkpoint_is_not_ours(house, make_event: Make) -> None:
    from guard.crypto.sign import Signer

    house.add(make_event(0))
    text = house.ledger.checkpoint().split("\n\n")[0].replace("guard-ledger/0", "guard-ledger/1") + "\n"
    signer = Signer(bytes(range(32)), f"guard-ledger/{house.state.store_id}")
    house.anchor.put(1, signer.sign_note(text))
    with pytest.raises(TamperedError, match="checkpoint of guard-ledger/1"):
        house.ledger.inspect()


def test_the_action_anchors_and_says_what_could_not_be_reached(house, make_event: Make, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from guard.actions.audit import ANCHOR
    from guard.events import Ending

    house.add(make_event(0))
    app = SimpleNamespace(ledger=house.ledger)
    done = ANCHOR.work(app, None)
    assert (done.ending, done.objects, done.counts) == (Ending.DONE, ("here",), {"size": 1, "held": 1, "failed": 0})
    app.ledger = Ledger(house.state, bytes(range(32)), [house.anchor, FolderAnchor("away", tmp_path / "away")])
    assert [anchor.name for anchor in app.ledger.anchors] == ["here", "away"]
    done = ANCHOR.work(app, None)
    assert (done.ending, done.counts["failed"]) == (Ending.PARTLY, 1)
