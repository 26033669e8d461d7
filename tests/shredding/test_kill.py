"""SIGKILL at every fault point of shredding and of an epoch's end: the next run finishes, and nothing was too soon."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.actions import perform
from guard.actions._perform import Caller
from guard.actions.epoch import TURN, is_due
from guard.actions.receipts import receipts
from guard.actions.shred import SHRED
from guard.audit import Query
from guard.errors import ShreddedError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ADA = {"kind": "customer", "keys": ["1"], "classes": ["account"]}
FEBRUARY = datetime(2026, 2, 1, 3, tzinfo=UTC)
LIVING = ["bob@example.org", "cyd@example.org", "Main Street 2", "Side Street 1"]

Open = Callable[[Path], Any]


def read_all(house: Any) -> list[object]:
    return [house.read(1, 2, 2), house.read(1, 3, 3), house.read(3, 11, 1), house.read(3, 12, 2)]


def shred(house: Any) -> Any:
    return house.do(SHRED, **ADA)


def turn(house: Any) -> Any:
    return perform(house.app, Caller(house.app.access.service("daemon")), TURN)


class Copies:
    """Copies of one house, each for one kill; none is open while a child works in it."""

    def __init__(self, house: Any, open_: Open, folder: Path) -> None:
        house.app.close()
        self._root = house.home.parent
        self._open = open_
        self._folder = folder
        self._made = 0

    def next(self) -> Path:
        self._made += 1
        return shutil.copytree(self._root, self._folder / str(self._made))

    def doing(self, root: Path, work: Callable[[Any], Any]) -> Callable[[], None]:
        """Return `work` as a process of its own does it."""

        def run() -> None:
            house = self._open(root)
            work(house)
            house.app.close()

        return run


@pytest.fixture(params=[1, pytest.param(5, marks=pytest.mark.soak)])
def tried(request: pytest.FixtureRequest, fault_points: Any) -> Callable[..., Counter[str]]:
    """Kill work at each point it passes, each time in a house of its own, and check that house."""

    def kill(copies: Copies, work: Callable[[Any], Any], check: Callable[[Path, str], None]) -> Counter[str]:
        points = fault_points.passed(copies.doing(copies.next(), work))
        hit: Counter[str] = Counter()
        for number, name in list(enumerate(points, 1)) * request.param:
            root = copies.next()
            assert fault_points.killed(copies.doing(root, work), number), name
            hit[name] += 1
            check(root, name)
        return Counter({name: count // request.param for name, count in hit.items()})

    return kill


def opens(house: Any) -> bool:
    try:
        return bool(house.read(1, 1, 1) == "ada@example.org")
    except ShreddedError:
        return False


def test_a_killed_shredding_is_finished_by_the_next(
    house: Any, open_house: Open, tried: Callable[..., Counter[str]], tmp_path: Path
) -> None:
    tokens = house.sql("SELECT email__guard1, note__guard1 FROM customer WHERE id = 1")[0]
    copies = Copies(house, open_house, tmp_path / "copies")

    def check(root: Path, name: str) -> None:
        house.clock.step(timedelta(minutes=5))
        left = open_house(root)
        if name.startswith("access."):  # while the code was looked at: nothing has begun
            assert opens(left), name
            left.app.close()
            return
        assert not opens(left), name  # every other point lies behind the wipe
        assert read_all(left) == LIVING, name
        (before,) = receipts(left.app)
        assert before.left, name
        assert is_due(left.app), name
        done = shred(left) if sum(hits.values()) % 2 else turn(left)
        hits[name] += 1
        assert done.failed == {}, name
        (after,) = receipts(left.app)
        assert (after.id, after.left, after.live_at) == (before.id, (), before.live_at), name
        effects = {effect for entry in left.app.backups.register("local").read() for effect in entry.effects}
        assert len(effects) == 1, name
        now = left.sql("SELECT email__guard1, note__guard1 FROM customer WHERE id = 1")[0]
        assert now[0] != tokens[0], name
        assert left.app.shredder.unfinished() == [], name
        resolved = [entry for entry in left.app.ledger.list(Query(what="keys.shred"), 10) if entry.facts.get("was")]
        assert [entry.facts["was"] for entry in resolved] == ["partly"], name
        assert left.app.ledger.inspect().size > 5, name  # it verifies, from its first entry on
        left.app.close()

    hits: Counter[str] = Counter()
    hit = tried(copies, shred, check)
    assert {"keys.shred.wiped", "fields.unlink.written", "keys.shred.step"} <= set(hit)
    assert hit["keys.shred.step"] == 3


def test_a_killed_turn_is_finished_by_the_next_and_deleted_nothing_too_soon(
    house: Any, open_house: Open, tried: Callable[..., Counter[str]], tmp_path: Path
) -> None:
    shred(house)
    house.clock.step(FEBRUARY - house.clock.now())
    copies = Copies(house, open_house, tmp_path / "copies")

    def check(root: Path, name: str) -> None:
        house.clock.step(timedelta(minutes=5))
        left = open_house(root)
        if not all(list(mirror.rglob("2026-01-*")) for mirror in left.mirrors):
            assert saved_under(left, tmp_path / f"out-{root.name}") == {"2026-02"}, name
        assert read_all(left) == LIVING, name
        assert not opens(left), name
        done = turn(left)
        assert done.failed == {}, name
        assert left.months() == ["2026-02"], name
        assert all(len(list(mirror.rglob("20*-*"))) == 1 for mirror in left.mirrors), name
        (receipt,) = receipts(left.app)
        assert receipt.backups_at is not None, name
        assert not is_due(left.app), name
        left.app.vault.forget()
        left.app.subjects.forget()
        assert read_all(left) == LIVING, name
        left.app.close()

    hit = tried(copies, turn, check)
    assert {
        "vault.epoch.numbered", "vault.epoch.put", "vault.epoch.read", "epoch.turn.begun", "subjects.rewrap.batch",
        "epoch.turn.proved", "backup.state.published", "epoch.turn.saved", "epoch.turn.closed", "vault.epoch.deleted",
        "vault.epoch.noted",
    } <= set(hit)  # fmt: skip
    assert hit["vault.epoch.deleted"] == hit["vault.epoch.put"] == 2


def saved_under(house: Any, out: Path) -> set[str]:
    """Return the epochs of living keys in the newest backup of state; each must open with today's vault."""
    snapshot = house.app.backups.list().done["local"][-1]
    wanted = house.app.backups.wanted({"to": str(out), "sources": ["state"]})
    house.app.backups.restore("local", house.app.backups.plan_restore("local", snapshot.id, wanted))
    (path,) = out.rglob("*.db")
    names = {epoch.id: epoch.name for epoch in house.app.vault.epochs()}
    with closing(sqlite3.connect(path)) as state:
        rows = state.execute("SELECT epoch FROM subject_key WHERE wrapped IS NOT NULL").fetchall()
    assert len(rows) == 4
    for (epoch,) in rows:
        house.app.vault.forget()
        house.app.vault.key(epoch)
    return {names[epoch] for (epoch,) in rows}


def test_a_killed_mending_is_finished_by_the_next(
    house: Any, open_house: Open, tried: Callable[..., Counter[str]], tmp_path: Path
) -> None:
    disk = shutil.copytree(house.mirrors[1], house.mirrors[1].with_name("old-disk"))
    house.clock.step(FEBRUARY - house.clock.now())
    turn(house)
    shutil.rmtree(house.mirrors[1])
    disk.rename(house.mirrors[1])
    copies = Copies(house, open_house, tmp_path / "copies")

    def check(root: Path, name: str) -> None:
        house.clock.step(timedelta(minutes=5))
        left = open_house(root)
        assert turn(left).failed == {}, name
        assert left.months() == ["2026-02"], name
        assert [seen.lacking or seen.risen or seen.unknown for seen in left.app.vault.look()] == [(), ()], name
        left.app.close()

    hit = tried(copies, turn, check)
    assert set(hit) == {"vault.mend.copied", "vault.mend.deleted"}
