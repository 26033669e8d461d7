"""A real daemon in a real process: it tells its supervisor, catches up, stops when told, lets nobody beside it."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from guard.access import Enrolment, code_at
from guard.actions import Caller, perform
from guard.actions.backup import INIT
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.clock import SystemClock
from guard.errors import Exit
from guard.jobs import RunState

pytestmark = pytest.mark.slow
ENOUGH = 48_000_000
"""Bytes of the shop: a backup of them is still at work when the first sign of it arrives."""


class Supervisor:
    """Starts daemons and hears what they say."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wire.bind(str(home / "notify"))
        self.wire.settimeout(60)
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "guard", "--json", "--config", str(self.home / "guard.toml"), "daemon"]
        environment = {"NOTIFY_SOCKET": str(self.home / "notify"), "PATH": "/usr/bin:/bin"}
        daemon = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(daemon)
        return daemon

    def hears(self, word: str) -> None:
        while (said := self.wire.recv(100).decode()) != word:
            assert said != "STOPPING=1", f"stopped before {word}"

    def close(self) -> None:
        for daemon in self.started:
            daemon.kill()
            daemon.communicate()
        self.wire.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A guard folder whose calendar began a day ago, on a shop that takes a moment to back up."""
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE picture (id INTEGER PRIMARY KEY, body BLOB)")
        shop.executemany("INSERT INTO picture (body) VALUES (randomblob(?))", [(ENOUGH // 100,)] * 100)
    shop.close()
    clock = SystemClock()
    secrets = []

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        secrets.append(enrolment.secret_text)
        return code_at(secrets[0], clock.now() - timedelta(seconds=30)), code_at(secrets[0], clock.now())

    made = set_up(
        tmp_path / "guard", Answers("shop", f"sqlite:///{tmp_path}/shop.db", "Owner", os_user()), clock, enrol
    )
    owner = Caller(made.app.access.person_of(os_user()), ask=lambda _: made.recovery_codes[0])
    perform(made.app, owner, INIT, stores=[])
    made.app.jobs.due(clock.now() - timedelta(days=1))
    yield made.app
    made.app.close()


@pytest.fixture
def supervisor(app: App) -> Iterator[Supervisor]:
    watcher = Supervisor(app.home)
    yield watcher
    watcher.close()


def test_a_day_that_was_missed_is_caught_up_and_sigterm_ends_it_with_0(app: App, supervisor: Supervisor) -> None:
    daemon = supervisor.start()
    supervisor.hears("READY=1")
    ran = [json.loads(daemon.stdout.readline()) for _ in range(7)]  # type: ignore[union-attr]  # it is a pipe
    daemon.send_signal(signal.SIGTERM)
    supervisor.hears("STOPPING=1")
    assert daemon.wait(60) == Exit.DONE
    assert {run["job"] for run in ran} == {"backup", "prune", "verify", "retention", "epoch", "ledger", "heartbeat"}
    assert {run["state"] for run in ran if run["job"] != "retention"} == {"ok"}
    assert [run.state for run in app.jobs.runs("backup")] == [RunState.OK]
    assert RunState.MISSED in {run.state for run in app.jobs.runs("heartbeat")}


def test_sigterm_within_a_backup_gives_the_run_back_and_the_next_daemon_does_it(
    app: App, supervisor: Supervisor
) -> None:
    first = supervisor.start()
    supervisor.hears("READY=1")
    supervisor.hears("WATCHDOG=1")  # the backup is the first of what is due: this is its progress
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == Exit.DONE
    (given_back,) = app.jobs.runs("backup")
    assert (given_back.state, given_back.attempt) == (RunState.DUE, 0)
    assert app.ledger.list(Query(what="backup.run"), 10)[-1].outcome == "interrupted"
    second = supervisor.start()
    assert json.loads(second.stdout.readline())["state"] == "ok"  # type: ignore[union-attr]
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == Exit.DONE


def test_a_second_daemon_is_busy_and_the_first_goes_on(supervisor: Supervisor) -> None:
    first = supervisor.start()
    supervisor.hears("READY=1")
    second = supervisor.start()
    assert second.wait(60) == Exit.BUSY
    assert "daemon is busy: process" in second.communicate()[1]
    assert first.poll() is None


def test_a_killed_daemon_leaves_a_run_that_the_next_slot_or_lease_finds(app: App, supervisor: Supervisor) -> None:
    first = supervisor.start()
    supervisor.hears("READY=1")
    supervisor.hears("WATCHDOG=1")
    first.kill()
    first.wait(60)
    (left,) = app.jobs.runs("backup")
    assert left.state is RunState.RUNNING
    taken = app.jobs.claim("another", SystemClock().now() + timedelta(minutes=11))
    assert taken is not None
    assert (taken.run.job, taken.run.fence) == ("backup", left.fence + 1)
