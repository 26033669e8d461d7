"""A backup and a prune that are killed anywhere, at every step to the disk, cost nothing that was there before."""

import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from guard.backup.prune import plan, prune
from guard.backup.snapshot import snapshots
from guard.backup.stores.local import LocalStore
from guard.backup.verify import Looking, verify
from guard.clock import SteppedClock
from guard.config.backup import Keep

pytestmark = pytest.mark.slow
NOISE = [random.Random(n).randbytes(200_000) for n in range(6)]
STEPS = ("fsync", "link", "unlink", "write")


def killed_at(nth: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that kills itself before its nth step to the disk; say whether it came that far."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or status == 0
        return os.WIFSIGNALED(status)
    try:
        left = iter(range(nth - 1, -1, -1))
        for name in STEPS:
            setattr(os, name, partial(_step, left, getattr(os, name)))
        work()
    except BaseException:  # noqa: BLE001  # a child never returns into pytest
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _step(left: Iterator[int], real: Callable[..., object], *args: object, **named: object) -> object:
    if next(left, 0) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)


@pytest.fixture
def disk(tmp_path: Path, clock: SteppedClock, new_bench):
    """A repository in a folder."""
    store = LocalStore(tmp_path / "store", clock)
    store.prepare()
    made = new_bench(store, clock)
    made.found()
    return made


def sound(disk, expected: set[str]) -> None:
    found = verify(disk.open(), Looking(data=True, expected=expected))
    assert found.is_sound, found.findings


def test_a_killed_backup_costs_no_older_snapshot_and_the_next_one_succeeds(disk, made_up, tmp_path: Path) -> None:
    old = disk.run(made_up(a=NOISE[0])).id
    landed = 0
    for nth in range(1, 200):
        disk.clock.step(timedelta(minutes=1))
        wanted = made_up(a=NOISE[0], b=NOISE[1], c=random.Random(100 + nth).randbytes(100_000))
        if not killed_at(nth, lambda wanted=wanted: disk.run(wanted)):
            break
        landed += 1
        sound(disk, {old})
        made = disk.run(wanted)
        disk.restore(tmp_path / "out", made.id, overwrite=True)
        assert (tmp_path / "out/made/b").read_bytes() == NOISE[1]
    assert landed >= 8


def test_a_killed_prune_costs_no_kept_snapshot_and_the_next_one_finishes(disk, made_up) -> None:
    landed = 0
    for nth in range(1, 200):
        for night in range(3):
            disk.run(made_up(all=NOISE[0], own=random.Random(1000 * nth + night).randbytes(20_000)))
            disk.clock.step(timedelta(days=1))
        disk.clock.step(timedelta(days=8))
        prune(disk.open(), plan(disk.open(), Keep(daily=2), disk.clock.now()))
        disk.clock.step(timedelta(days=8))
        planned = plan(disk.open(), Keep(daily=1), disk.clock.now())
        killed = killed_at(nth, lambda planned=planned: prune(disk.open(), planned))
        sound(disk, set(planned.kept))
        prune(disk.open(), plan(disk.open(), Keep(daily=1), disk.clock.now()))
        sound(disk, set(planned.kept))
        assert len(snapshots(disk.open())) == 1
        if not killed:
            break
        landed += 1
    assert landed >= 8
