"""`guard daemon` as the agent: a real process, real OS users; what doctor and status say of it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.actions import agent, doctor, status
from guard.audit import Emitter
from guard.clock import SteppedClock, SystemClock
from guard.daemon.current import Current
from guard.daemon.operations import listener
from guard.daemon.place import Place
from guard.errors import Exit
from tests.telling.shop import House, as_user, needs_root

CALLER = "www-data" if os.geteuid() == 0 else None


@pytest.fixture
def house(make_house: Callable[..., House], open_folder: Path) -> House:
    past = SteppedClock(SystemClock().now() - timedelta(hours=1))
    made = make_house(past, more=f'\n[agent]\nsocket = "{open_folder}/agent/guard.sock"\n')
    if CALLER:
        made.edit('# os_user = "shop"', f'os_user = "{CALLER}"', "policies/access.toml")
    made.reopen(SystemClock())
    return made


class Supervisor:
    """Starts daemons and hears when they are ready."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.wire.bind(str(house.home / "notify"))
        self.wire.settimeout(60)
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "guard", "--config", str(self.house.config), "daemon"]
        environment = {"NOTIFY_SOCKET": str(self.house.home / "notify"), "PATH": "/usr/bin:/bin"}
        daemon = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(daemon)
        return daemon

    def ready(self) -> subprocess.Popen[str]:
        daemon = self.start()
        while (said := self.wire.recv(100)) != b"READY=1":
            assert said != b"STOPPING=1", daemon.communicate()[1]
        return daemon


@pytest.fixture
def supervisor(house: House) -> Iterator[Supervisor]:
    made = Supervisor(house)
    yield made
    for daemon in made.started:
        daemon.kill()
        daemon.communicate()
    made.wire.close()


def tell(house: House, what: str = "order.read", **more: Any) -> Any:
    """What the shop's account gets."""
    path = house.app.agent_socket
    return as_user(
        CALLER, lambda: Emitter.open("/nowhere/x", socket=path, **more).emit(what, class_="read", actor="anna")
    )


@pytest.mark.slow
def test_the_daemon_is_the_agent(house: House, supervisor: Supervisor) -> None:
    daemon = supervisor.ready()
    number = tell(house)["ok"]
    (entry,) = house.told()
    assert (entry.n, entry.facts["via"]) == (number, "s-shop")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == Exit.DONE
    assert not house.app.agent_socket.exists()
    assert tell(house, patience=0.2)["error"] == "UnrecordedError"


@pytest.mark.slow
def test_what_a_killed_daemon_leaves_is_replaced(house: House, supervisor: Supervisor) -> None:
    first = supervisor.ready()
    tell(house)
    first.kill()
    first.wait(60)
    assert house.app.agent_socket.is_socket()
    assert agent.standing(house.app).is_well is False
    supervisor.ready()
    assert "ok" in tell(house)
    assert len(house.told()) == 2


@pytest.mark.slow
def test_a_changed_policy_is_obeyed_without_a_restart(house: House, supervisor: Supervisor) -> None:
    daemon = supervisor.ready()
    assert "ok" in tell(house)
    house.edit('["audit.emit", ', "[", "policies/access.toml")
    while "ok" in (found := tell(house)):  # until the next beat has read it
        assert daemon.poll() is None
    assert found["error"] == "DeniedError"
    house.edit('["fields.lease"', '["audit.emit", "fields.lease"', "policies/access.toml")
    while "ok" not in tell(house):
        assert daemon.poll() is None
    (house.home / "policies/access.toml").write_text("nonsense")  # what is wrong is not used
    for _ in range(3):
        supervisor.wire.recv(100)  # a beat
    assert "ok" in tell(house)


@pytest.mark.slow
def test_two_folders_cannot_share_a_socket(
    house: House, supervisor: Supervisor, make_house: Callable[..., House]
) -> None:
    supervisor.ready()
    past = SteppedClock(SystemClock().now() - timedelta(hours=1))
    other = make_house(past, more=f'\n[agent]\nsocket = "{house.app.agent_socket}"\n')
    second = Supervisor(other)
    daemon = second.start()
    assert daemon.wait(60) == Exit.BUSY
    assert "another agent listens" in daemon.communicate()[1]
    second.wire.close()
    assert "ok" in tell(house)


# Doctor and status ----------------------------------------------------------------------------------------------------


def lines(house: House) -> tuple[list[Any], list[Any]]:
    checks = [each for each in doctor.examine(house.app) if each.what == "agent"]
    return checks, [each for each in status.overview(house.app) if each.what == "agent"]


def test_without_a_daemon_nothing_is_wrong(house: House) -> None:
    (check,), (shown,) = lines(house)
    assert (check.found, shown.light) == ("ok", "green")
    assert "open guard themselves" in check.detail


def test_a_socket_that_nobody_serves_is_red(house: House) -> None:
    place = Place(house.app.agent_socket)
    place.take()
    place.socket.close()  # as when its process was killed
    (check,), (shown,) = lines(house)
    assert (check.found, shown.light) == ("wrong", "red")
    assert "no agent answers" in shown.text
    assert "guard daemon" in shown.remedy
    place.leave()


def test_an_agent_that_answers_is_well_whoever_looks(house: House) -> None:
    serving = listener(Current(house.app))
    serving.start()
    (check,), (shown,) = lines(house)  # root is sent away, which is an answer
    serving.stop()
    assert (check.found, shown.light) == ("ok", "green")
    assert "answers at" in check.detail


@needs_root
def test_a_service_that_cannot_reach_the_socket_is_named(house: House, open_folder: Path) -> None:
    assert not agent.shut_out(house.app)
    open_folder.chmod(0o700)
    checks, _ = lines(house)
    (found,) = [each for each in checks if each.found == "wrong"]
    assert f"who may not enter {open_folder}" in found.detail
    assert "agent.socket" in found.remedy


@needs_root
def test_the_default_place_is_for_guards_own_user(make_house: Callable[..., House], clock: SteppedClock) -> None:
    house = make_house(clock)
    assert house.app.agent_socket == house.home / "var/agent/guard.sock"
    assert not agent.shut_out(house.app)  # the shop runs as guard's own user
    house.edit('# os_user = "shop"', 'os_user = "games"', "policies/access.toml")
    house.reopen()
    assert agent.shut_out(house.app) == {"shop": house.home / "var"}
    place = Place(house.app.agent_socket)
    place.take()
    assert (house.home / "var").stat().st_mode & 0o777 == 0o700
    place.leave()
