"""Several processes on one column: the same rows as by one, whatever ends one of them."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from guard.errors import BusyError, GuardError, TamperedError
from guard.fields import Stage
from guard.shop import Shop, progress
from guard.shop.connect import Patience
from guard.shop.progress import Resolution

ROWS = 600
RUN, NEXT = "1" * 32, "2" * 32


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "mariadb")]


@pytest.fixture(params=["sqlite", *SLOW])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shop with 600 customers on each database."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if request.param == "mariadb" else ""
    shop = Shop.connect(url)
    with shop.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE customer (id integer PRIMARY KEY, mail varchar(60){exact})")
        values = ", ".join(f"({number}, 'anna{number}@example.org')" for number in range(1, ROWS + 1))
        connection.exec_driver_sql(f"INSERT INTO customer VALUES {values}")
    shop.close()
    return url


@pytest.fixture
def bench(make, url: str):
    return make(url, "customer.mail", size=30)


def seal(bench, run: str, tell=lambda *_: None, workers: int = 2):
    fields = bench.fields
    swept = fields.encrypt(fields.plan(), run, tell, workers)
    fields.state.write(fields.remember(swept))
    return swept[0]


def heads(bench, run: str) -> dict[str, str]:
    """Return how the works of a run stand."""
    with bench.fields.shop.read() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT work, state FROM guard_progress WHERE number = 0 AND bracket = '{run}' ORDER BY work"
        )
        return {work: state for work, state in rows}  # noqa: C416  # rows unpack, dict() warns


def test_workers_seal_and_open_what_one_process_does(bench) -> None:
    before = bench.rows()
    told: list[tuple[int, int | None]] = []
    swept = seal(bench, RUN, lambda _, done, total: told.append((done, total)), workers=3)
    assert (swept.rows, swept.left, swept.record.stage) == (ROWS, 0, Stage.SEALED)
    assert swept.times.batches == 21
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (ROWS, ROWS)
    assert heads(bench, RUN) == dict.fromkeys(("encrypt 1", "encrypt 1.1", "encrypt 1.2", "encrypt 1.3"), "closed")
    assert bench.fields.verify()[0].same
    [opened] = bench.fields.decrypt(["customer.mail"], NEXT, workers=2)
    assert opened.rows == ROWS
    assert bench.rows() == before


def with_share(bench, rows: int):
    """Return the bench where a process is started for so many rows."""
    return replace(bench, fields=replace(bench.fields, pace=replace(bench.fields.pace, share=rows)))


def test_a_process_is_started_only_for_the_rows_it_is_worth(bench) -> None:
    """600 rows: one process alone, two, and no more than there are to be started for."""
    for share, asked, shared in ((301, 4, 1), (300, 4, 2), (1, 3, 3)):
        sharing = with_share(bench, share)
        seen: set[int] = set()
        swept = seal(sharing, f"{shared}" * 32, lambda *_, seen=seen: seen.update(children()), workers=asked)
        assert (swept.rows, swept.left, swept.workers) == (ROWS, 0, shared)
        assert len(seen) == (0 if shared == 1 else shared)
        assert len(heads(bench, f"{shared}" * 32)) == (1 if shared == 1 else shared + 1)
        bench.unseal()


def test_ranges_of_many_are_gone_on_with_by_one_where_few_rows_are_left(bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        seal(bench, RUN, Stop(1), workers=3)
    sharing = with_share(bench, ROWS)
    swept = seal(sharing, NEXT, lambda *_: children() and pytest.fail("a process was started"), workers=3)
    assert (swept.left, swept.workers) == (0, 1)
    assert len(heads(bench, NEXT)) > 1
    assert bench.fields.verify()[0].same


def test_workers_re_key(bench, keyring, rotate: Callable[[str], int]) -> None:
    seal(bench, RUN)
    fresh = rotate("column/1")
    swept = bench.fields.rekey("customer.mail", NEXT, workers=2)
    assert (swept.rows, swept.left, swept.record.key_id) == (ROWS, 0, fresh)
    assert bench.fields.verify()[0].same, "digests are of values"


class Stop:
    """Progress that presses Ctrl-C once `after` rows are through."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        if done >= self.after:
            raise KeyboardInterrupt


def test_after_ctrl_c_each_range_goes_on_where_it_stopped(bench) -> None:
    before = bench.rows()
    with pytest.raises(KeyboardInterrupt):
        seal(bench, RUN, Stop(150))
    assert set(heads(bench, RUN).values()) <= {"open", "closed", "announced"}
    done = progress.resolve(bench.fields.shop, RUN)
    assert done.state is Resolution.PARTLY
    assert 150 <= done.rows < ROWS
    sealed = bench.ask("SELECT count(*) FROM customer WHERE mail LIKE 'g1.%%'")
    assert sealed == [done.rows], "what was committed is noted, and only that"
    swept = seal(bench, NEXT, workers=1)
    assert swept.rows == ROWS - done.rows
    assert set(heads(bench, RUN).values()) <= {"left", "closed"}
    assert bench.fields.verify()[0].same
    bench.unseal()
    assert bench.rows() == before


@pytest.mark.slow
def test_more_ranges_than_workers_are_worked_through(bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        seal(bench, RUN, Stop(90), workers=4)
    seal(bench, NEXT, workers=2)
    assert bench.fields.verify()[0].same
    assert progress.resolve(bench.fields.shop, NEXT).state is Resolution.DONE


def children() -> list[int]:
    """Return the processes this one has started that are workers, by what they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == os.getpid() and b"guard.fields.workers" in words:
                found.append(int(entry.name))
    return found


def test_a_worker_that_dies_is_named_and_loses_nothing(bench) -> None:
    before = bench.rows()

    def kill(what: str, done: int, total: int | None = None) -> None:
        if done >= 60 and (running := children()):
            os.kill(running[0], signal.SIGKILL)

    with pytest.raises(GuardError, match=r"a worker of customer\.mail \(process \d+\) was ended by signal 9") as caught:
        seal(bench, RUN, kill)
    assert "nothing was lost" in str(caught.value.hint)
    assert children() == [], "the other one has ended too"
    done = progress.resolve(bench.fields.shop, RUN).rows
    assert bench.ask("SELECT count(*) FROM customer WHERE mail LIKE 'g1.%%'") == [done]
    seal(bench, NEXT)
    assert bench.fields.verify()[0].same
    bench.unseal()
    assert bench.rows() == before


def test_what_a_worker_raises_is_raised_here_with_its_hint(bench) -> None:
    seal(bench, RUN)
    bench.sql(
        "UPDATE customer SET mail = (SELECT m FROM (SELECT mail AS m FROM customer WHERE id = 9) x) WHERE id = 500"
    )
    with pytest.raises(TamperedError, match=r"customer\.mail: a sealed value of column 1 was changed, moved") as caught:
        bench.fields.decrypt(["customer.mail"], NEXT, workers=2)
    assert caught.value.hint == "guard fields verify says which rows; restore them first"
    assert bench.ask("SELECT count(*) FROM customer WHERE id = 500 AND mail LIKE 'g1.%%'") == [1]
    assert children() == []


def test_nothing_secret_is_in_arguments_or_environment_of_a_worker(bench, keyring) -> None:
    material = keyring.ensure("column/1").material
    seen: list[bytes] = []

    def look(what: str, done: int, total: int | None = None) -> None:
        for child in children():
            seen.extend((Path(f"/proc/{child}") / name).read_bytes() for name in ("cmdline", "environ"))

    seal(bench, RUN, look)
    assert seen
    assert not any(material in each or material.hex().encode() in each for each in seen)
    assert not any(b"customer.mail" in each or bench.url.encode() in each for each in seen)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgres", "mariadb"], indirect=True)
def test_rows_that_stay_locked_end_a_sweep_with_the_reason(bench) -> None:
    bench.fields.shop.patience = Patience(timedelta(milliseconds=20))
    theirs = Shop.connect(bench.url)
    with ExitStack() as held:

        def lock(what: str, done: int, total: int | None = None) -> None:
            if not done:
                other = held.enter_context(theirs.begin())
                other.exec_driver_sql("UPDATE customer SET mail = upper(mail) WHERE id = 7")

        with pytest.raises(BusyError, match="is locked by somebody else"):
            seal(bench, RUN, lock, workers=1)
    theirs.close()
    assert bench.ask("SELECT mail FROM customer WHERE id = 7") == ["ANNA7@EXAMPLE.ORG"]
    assert seal(bench, NEXT).left == 0
    bench.unseal()
    assert bench.ask("SELECT mail FROM customer WHERE id = 7") == ["ANNA7@EXAMPLE.ORG"]


@pytest.mark.slow
def test_when_the_parent_is_killed_workers_end_after_their_batch(url: str, tmp_path: Path) -> None:
    """What they still commit is noted; the next run goes on behind it."""
    home = tmp_path / "parent"
    home.mkdir()
    script = home / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script, url, str(home)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(number) for number in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    for _ in range(200):
        if not any(Path(f"/proc/{number}").exists() for number in workers):
            break
        time.sleep(0.05)
    else:
        pytest.fail("a worker outlived its parent")
    shop = Shop.connect(url)
    with shop.read() as connection:
        sealed = connection.exec_driver_sql("SELECT count(*) FROM customer WHERE mail LIKE 'g1.%%'").scalar_one()
    assert progress.resolve(shop, RUN).rows == sealed
    shop.close()


PARENT = """
import os, sys, time
from pathlib import Path
from uuid import UUID
from guard.app import declare_tables
from guard.clock import SystemClock
from guard.config import Catalog, Column, Protect
from guard.crypto.keyring import Keyring
from guard.fields import Fields, Pace
from guard.shop import Shop
from guard.state import State

def children():
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and b"guard.fields.workers" in (entry / "cmdline").read_bytes():
                    yield entry.name
            except OSError:
                pass

def tell(what, done, total=None):
    if done >= 60:
        print(*children(), flush=True)
        time.sleep(60)

if __name__ == "__main__":
    url, home = sys.argv[1:]
    declare_tables()
    clock = SystemClock()
    state = State.create(f"sqlite:///{home}/state.db", clock, UUID(int=9))
    keyring = Keyring.create(state, bytes(range(32)), None)
    catalog = Catalog(column=(Column(at="customer.mail", id=1, protect=Protect.ENCRYPT),))
    fields = Fields(Shop.connect(url), catalog, keyring, state, clock, tuple, Pace(start=5, least=5, most=5, share=1))
    fields.encrypt(fields.plan(), "1" * 32, tell, 2)
"""
