"""Retention keeps exactly what the policy says; the bytes go in two phases and never one too many."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backup.marks import mark, marked_packs, marks
from guard.backup.pack import pack_name
from guard.backup.prune import keep, plan, prune
from guard.backup.snapshot import ErasurePosition, Manifest, Snapshot, SnapshotId, Statistics, snapshots
from guard.backup.verify import Looking, verify
from guard.config.backup import Keep
from guard.errors import InterlockError, TamperedError, UnavailableError

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
EMPTY = Manifest(
    store="", host="", at="", checked="", parent=None, partial=False,
    erasures=ErasurePosition(0, ""), statistics=Statistics(0, 0, 0, 0, 0), sources=(),
)  # fmt: skip
PARTIAL = Manifest(
    store="", host="", at="", checked="", parent=None, partial=True,
    erasures=ErasurePosition(0, ""), statistics=Statistics(0, 0, 0, 0, 0), sources=(),
)  # fmt: skip


def shot(number: int, at: datetime, *, partial: bool = False, late: bool = False) -> Snapshot:
    return Snapshot(SnapshotId(f"{number:064x}"), at, PARTIAL if partial else EMPTY, late)


hours = st.lists(st.tuples(st.integers(0, 24 * 90), st.booleans(), st.integers(0, 19)), max_size=120).map(
    lambda found: [
        shot(n, NOON - timedelta(hours=hour), partial=partial, late=late == 0)
        for n, (hour, partial, late) in enumerate(found)
    ]
)


def slow_daily(found: Sequence[Snapshot], number: int) -> set[SnapshotId]:
    """The policy in other words: go back day by day, take the best of each day that has one."""
    out: set[SnapshotId] = set()
    days = sorted({each.at.date() for each in found if not each.late}, reverse=True)[:number]
    for day in days:
        of_day = [each for each in found if each.at.date() == day and not each.late]
        whole = [each for each in of_day if not each.partial]
        out.add(max(whole or of_day, key=lambda each: (each.at, each.id)).id)
    return out


@given(found=hours, number=st.integers(1, 40))
def test_it_keeps_exactly_the_last_of_each_of_the_last_days(found: list[Snapshot], number: int) -> None:
    kept = keep(found, Keep(daily=number), NOON)
    counted = sorted((each for each in found if not each.late), key=lambda each: (each.at, each.id))
    always = {each.id for each in found if each.late} | {each.id for each in counted[-1:]}
    always |= {each.id for each in [each for each in counted if not each.partial][-1:]}
    assert kept == slow_daily(found, number) | always


@given(found=hours, number=st.integers(1, 10), nights=st.integers(1, 60))
def test_pruning_every_night_keeps_what_pruning_once_keeps(found: list[Snapshot], number: int, nights: int) -> None:
    """What was dropped earlier would never be wanted later."""
    nightly: list[Snapshot] = []
    policy = Keep(daily=number)
    for each in sorted(found, key=lambda each: (each.at, each.id)):
        nightly.append(each)
        kept = keep(nightly, policy, each.at)
        nightly = [other for other in nightly if other.id in kept]
    assert keep(nightly, policy, NOON) == keep(found, policy, NOON)


@given(found=hours.filter(bool), days=st.integers(0, 400))
def test_the_newest_and_the_newest_whole_one_always_stay(found: list[Snapshot], days: int) -> None:
    kept = keep(found, Keep(daily=1), NOON + timedelta(days=days))
    order = sorted((each for each in found if not each.late), key=lambda each: (each.at, each.id))
    whole = [each for each in order if not each.partial]
    assert {each.id for each in order[-1:] + whole[-1:]} <= kept


def test_forty_nights_leave_exactly_the_last_thirty(days) -> None:
    found = [shot(number, days(number)) for number in range(40)]
    assert keep(found, Keep(), days(39)) == {each.id for each in found[10:]}


def test_days_without_a_backup_do_not_count(days) -> None:
    found = [shot(number, days(number * 7)) for number in range(40)]
    assert len(keep(found, Keep(), days(300))) == 30


def test_weeks_and_months_keep_their_last_one(days) -> None:
    found = [shot(number, days(number)) for number in range(90)]  # 1 January, a Thursday, to 31 March
    kept = {each.at.date().isoformat() for each in found if each.id in keep(found, Keep(daily=1, weekly=3), days(89))}
    assert kept == {"2026-03-31", "2026-03-29", "2026-03-22"}
    kept = {each.at.date().isoformat() for each in found if each.id in keep(found, Keep(daily=1, monthly=9), days(89))}
    assert kept == {"2026-03-31", "2026-02-28", "2026-01-31"}


def test_a_day_prefers_its_last_whole_snapshot(days) -> None:
    early, late = shot(1, days(1)), shot(2, days(1) + timedelta(hours=3), partial=True)
    only_partial, newest = shot(3, days(2), partial=True), shot(4, days(3))
    assert keep([early, late, only_partial, newest], Keep(), days(4)) == {early.id, only_partial.id, newest.id}


def test_a_snapshot_of_tomorrow_pushes_nothing_out(days) -> None:
    found = [shot(number, days(number)) for number in range(3)]
    kept = keep([*found, shot(9, days(50))], Keep(daily=3), days(2))
    assert kept == {each.id for each in found} | {shot(9, days(50)).id}


# The two phases -------------------------------------------------------------------------------------------------------


def nights(bench, made_up, count: int, daily: int = 3) -> None:
    """Back up and prune every night; each has content of its own and some of all nights."""
    for number in range(count):
        bench.run(made_up(own=f"night {number}".encode() * 50, all=b"the same every night" * 50))
        prune(bench.open(), plan(bench.open(), Keep(daily=daily), bench.clock.now()))
        bench.clock.step(timedelta(days=1))


def test_over_forty_nights_the_bytes_follow_and_every_snapshot_left_restores(bench, made_up, tmp_path) -> None:
    nights(bench, made_up, 40)
    found = snapshots(bench.open())
    assert len(found) == 3
    assert verify(bench.open(), Looking(data=True, expected=[each.id for each in found])).is_sound
    # night 1's pack holds what all use, 3 are kept; a dropped one is marked when it is 7 days old and stays 7 days more
    assert len(bench.open().names("packs")) <= 1 + 14 + 1
    for number, each in enumerate(found):
        bench.restore(tmp_path / str(number), each.id)
        assert (tmp_path / str(number) / "made/own").read_bytes() == f"night {37 + number}".encode() * 50


def test_nothing_is_deleted_before_grace_is_over(bench, made_up) -> None:
    nights(bench, made_up, 5, daily=1)
    assert len(bench.open().names("snapshots")) == 1
    assert len(bench.open().names("packs")) == 5
    bench.clock.step(timedelta(days=7))
    first = plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert (len(first.to_mark), len(first.to_delete)) == (3, 0)  # night 1 is in use, night 5 is the snapshot
    prune(bench.open(), first)
    bench.clock.step(timedelta(days=6, hours=23))
    assert plan(bench.open(), Keep(daily=1), bench.clock.now()).is_empty
    bench.clock.step(timedelta(hours=1))
    second = plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert (len(second.to_mark), len(second.to_delete)) == (0, 3)
    assert second.delete_bytes == sum(
        bench.store.size(name) for name in bench.open().names("packs") if any(p.hex() in name for p in second.to_delete)
    )
    prune(bench.open(), second)
    assert len(bench.open().names("packs")) == 2
    assert not bench.open().names("marks")
    assert verify(bench.open(), Looking(data=True)).is_sound


def test_a_plan_changes_nothing(bench, made_up) -> None:
    nights(bench, made_up, 12)
    before = dict(bench.store.objects)
    plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert bench.store.objects == before


def test_a_plan_counts_the_days_it_would_make_disappear(bench, made_up) -> None:
    nights(bench, made_up, 6, daily=30)
    assert plan(bench.open(), Keep(daily=30), bench.clock.now()).days_lost == 0
    assert plan(bench.open(), Keep(daily=2), bench.clock.now()).days_lost == 4


def test_partly_dead_packs_stay_until_nothing_in_them_is_used(bench, made_up) -> None:
    bench.run(made_up(a=b"used by both", b=b"used by one"))
    bench.clock.step(timedelta(days=1))
    bench.run(made_up(a=b"used by both"))
    bench.clock.step(timedelta(days=30))
    found = plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert (len(found.dropped), found.to_mark) == (1, ())


def test_packs_that_a_killed_run_left_are_marked_once_they_are_old(bench, made_up) -> None:
    bench.run(made_up(a=b"kept"))
    before = bench.store.objects.keys() | set()
    bench.run(made_up(a=b"kept", b=b"of a killed run"))
    left = {name for name in bench.store.objects.keys() - before if name.startswith("packs/")}
    for name in bench.store.objects.keys() - before - left:
        bench.store.delete(name)
    assert plan(bench.open(), Keep(), bench.clock.now()).is_empty
    bench.clock.step(timedelta(days=7))
    found = plan(bench.open(), Keep(), bench.clock.now())
    assert {pack_name(pack) for pack in found.to_mark} == left
    prune(bench.open(), found)
    bench.clock.step(timedelta(days=7))
    prune(bench.open(), plan(bench.open(), Keep(), bench.clock.now()))
    assert not left & bench.store.objects.keys()
    assert verify(bench.open(), Looking(data=True)).is_sound


def test_a_pack_that_is_used_again_is_not_deleted(bench, made_up) -> None:
    """Another host backed up against it before it saw the mark, and published within the time it has."""
    nights(bench, made_up, 1)
    repository = bench.open()
    repository.load_index()
    mark(repository, repository.index.packs)
    bench.clock.step(timedelta(days=8))
    due = plan(bench.open(), Keep(), bench.clock.now())
    assert due.to_delete == ()
    prune(bench.open(), due)
    assert not marks(bench.open())
    assert verify(bench.open(), Looking(data=True)).is_sound


def test_a_snapshot_published_after_the_plan_keeps_its_packs(bench, made_up) -> None:
    content = made_up(a=b"comes back" * 100)
    bench.run(content)
    bench.clock.step(timedelta(days=1))
    bench.run(made_up(b=b"other"))
    bench.clock.step(timedelta(days=10))
    prune(bench.open(), plan(bench.open(), Keep(daily=1), bench.clock.now()))
    bench.clock.step(timedelta(days=8))
    due = plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert due.to_delete
    saved = dict(bench.store.objects)
    for each in marks(bench.open()):
        bench.store.delete(each.name)
    bench.run(content)  # as a run that had started before the mark would
    published = bench.store.objects.keys() - saved.keys()
    bench.store.objects.update({name: saved[name] for name in saved if name.startswith("marks/")})
    assert any(name.startswith("snapshots/") for name in published)
    prune(bench.open(), due)
    assert verify(bench.open(), Looking(data=True)).is_sound


@pytest.mark.parametrize("after", [False, True])
def test_a_store_that_fails_at_any_call_of_a_prune_costs_no_kept_snapshot(
    bench, made_up, memory, failing, new_bench, after: bool
) -> None:
    nights(bench, made_up, 3, daily=30)
    bench.clock.step(timedelta(days=8))
    prune(bench.open(), plan(bench.open(), Keep(daily=2), bench.clock.now()))
    bench.run(made_up(own=b"another"))
    bench.clock.step(timedelta(days=8))
    before = dict(bench.store.objects)
    policy = Keep(daily=1)
    kept = plan(bench.open(), policy, bench.clock.now()).kept
    for nth in range(1, 1000):
        calm = memory(bench.clock, before)
        broken = new_bench(failing(calm, nth, after=after), bench.clock)
        try:
            prune(broken.open(), plan(broken.open(), policy, bench.clock.now()))
        except UnavailableError:
            pass
        else:
            break
        rest = new_bench(calm, bench.clock)
        assert verify(rest.open(), Looking(data=True, expected=kept)).is_sound
        prune(rest.open(), plan(rest.open(), policy, bench.clock.now()))
        bench.clock.step(timedelta(days=8))
        prune(rest.open(), plan(rest.open(), policy, bench.clock.now()))
        assert verify(rest.open(), Looking(data=True, expected=kept)).is_sound
        assert not rest.open().names("marks")
    assert nth > 15


def test_nothing_is_deleted_while_a_kept_snapshot_cannot_be_read(bench, made_up) -> None:
    nights(bench, made_up, 12)
    for name in bench.open().names("index"):
        bench.store.delete(name)
    before = dict(bench.store.objects)
    with pytest.raises(TamperedError):
        plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert bench.store.objects == before


def test_a_plan_whose_kept_snapshot_is_gone_is_refused(bench, made_up) -> None:
    nights(bench, made_up, 4)
    found = plan(bench.open(), Keep(daily=1), bench.clock.now())
    bench.store.delete(f"snapshots/{found.kept[-1]}")
    with pytest.raises(InterlockError, match="gone"):
        prune(bench.open(), found)


def test_late_snapshots_are_told_and_left_alone(bench, made_up) -> None:
    nights(bench, made_up, 3)
    name = bench.open().names("snapshots")[0]
    raw, at = bench.store.objects[name]
    bench.store.objects[name] = (raw, at + timedelta(days=2))  # a quarter of grace is 42 hours
    found = plan(bench.open(), Keep(daily=1), bench.clock.now())
    assert found.late == (name.rpartition("/")[2],)
    assert found.late[0] in found.kept
    assert marked_packs(bench.open()) == frozenset()
