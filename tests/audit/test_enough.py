"""How many anchors count, which of them, and from when on they do not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit import FolderAnchor, Ledger, Seen
from guard.audit.anchors.enough import REMOVED, counting, lack, late, unanchored, vouching, what_helps
from guard.config.audit import AuditPolicy
from guard.errors import UnanchoredError
from guard.events import Event
from tests.audit.conftest import SEED

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = AuditPolicy()
TWO = AuditPolicy(anchors=2)


def seen(name: str = "one", age: int = 1, *, weak: bool = False) -> Seen:
    return Seen(name, 40 + 50 - age, None, weak, NOW - age * HOUR)


@pytest.mark.parametrize(
    ("found", "policy", "said"),
    [
        ([], POLICY, r"guard\.toml names no anchor"),
        ([seen()], POLICY, None),
        ([seen(age=26)], POLICY, None),
        ([seen(age=27)], POLICY, r"entry, 62 of 2026-11-21 09:00:00 UTC, is older than 1 day 2 hours"),
        ([seen(weak=True)], POLICY, None),
        ([Seen("one", None)], POLICY, "no anchor holds a checkpoint yet"),
        ([seen(), Seen("two", None, "away")], POLICY, "could not look at away"),
        ([seen()], TWO, "1 of the 2 anchors that the policy asks for vouch for an entry younger than 1 day 2 hours"),
        ([seen(), seen("two")], TWO, None),
        ([seen(), seen("two", 30)], TWO, "1 of the 2 anchors"),
        ([seen(), seen("two", weak=True)], TWO, "1 of the 2 anchors"),
        ([seen(weak=True), seen("two", weak=True)], TWO, "1 of the 2 anchors"),
        ([seen(weak=True), Seen("two", None)], POLICY, "is older than|no anchor"),
        ([seen(weak=True), seen("two", 30)], POLICY, "is older than"),
    ],
)
def test_what_is_enough_and_why_not(found: list[Seen], policy: AuditPolicy, said: str | None) -> None:
    import re

    why = unanchored(found, policy, NOW)
    assert (why is None) == (said is None)
    assert said is None or re.search(said, why or "")


def test_what_helps_fits_what_is_wrong() -> None:
    assert what_helps([]) == "runbooks/anchors.md sets one up"
    assert "guard audit anchor" in what_helps([seen(age=27), Seen("two", None)])
    assert "guard audit anchor" in what_helps([Seen("one", None, f"anchor one: {REMOVED}")])
    gone = Seen("two", None, "anchor two at /mnt: No such file")
    away = what_helps([Seen("one", None, f"anchor one: {REMOVED}"), gone])
    assert "guard audit anchor" not in away
    assert "bring it back" in away


def test_a_weak_one_does_not_stand_in_for_a_strong_one_that_is_late() -> None:
    assert lack([seen(weak=True), seen("far", 30)], POLICY, NOW) is not None
    assert lack([seen(weak=True)], POLICY, NOW) is None


def test_status_is_warned_before_it_is_late() -> None:
    assert late([seen(age=25)], POLICY, NOW) == ()
    (why,) = late([replace(seen(), at=NOW - 25 * HOUR - timedelta(seconds=1))], POLICY, NOW)
    assert why == "the newest anchored entry is older than 1 day 1 hour: `audit verify` will soon exit 15"
    assert late([seen(), seen("two", 30), Seen("three", None)], POLICY, NOW) == (
        "the newest entry that anchor two vouches for is older than 1 day 2 hours",
        "anchor three holds nothing yet",
    )


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=6), st.integers(1, 3))
def test_one_more_fresh_anchor_never_makes_less_of_them(them: list[tuple[bool, int]], asked: int) -> None:
    found = [seen(str(number), age, weak=weak) for number, (weak, age) in enumerate(them)]
    policy = AuditPolicy(anchors=asked)
    before = vouching(found, policy.anchor_age, NOW)
    strong = vouching([*found, seen("more", 0)], policy.anchor_age, NOW)
    assert strong >= max(1, before if any(not weak for weak, _ in them) else 1)
    assert vouching([*found, seen("more", 0, weak=True)], policy.anchor_age, NOW) >= before
    assert before <= counting([weak for weak, _ in them])


def test_a_folder_on_the_ledgers_own_disk_is_weak(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert FolderAnchor("x", tmp_path / "a", tmp_path).weak
    assert not FolderAnchor("x", tmp_path / "a").weak
    assert not FolderAnchor("x", tmp_path / "away", tmp_path).weak  # then it vouches for nothing anyway
    assert not FolderAnchor("x", Path("/proc"), tmp_path).weak


def test_two_that_are_asked_for_have_to_vouch(house, make_event: Callable[[int], Event], tmp_path: Path) -> None:
    house.add(make_event(0))
    far = FolderAnchor("far", tmp_path / "far")
    far.create()
    ledger = Ledger(house.state, SEED, [house.anchor, far], TWO)
    assert Ledger(house.state, SEED, [house.anchor]).anchor().held == ("here",)
    with pytest.raises(UnanchoredError, match="1 of the 2 anchors that the policy asks for"):
        ledger.verify()
    ledger.anchor()
    assert ledger.verify().anchored == 1
    house.clock.step(timedelta(hours=20))
    house.add(make_event(1))
    Ledger(house.state, SEED, [far]).anchor()
    house.clock.step(timedelta(hours=7))
    with pytest.raises(UnanchoredError, match="1 of the 2 anchors"):
        ledger.verify()
