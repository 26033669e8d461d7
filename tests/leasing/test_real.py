"""`guard daemon` as the agent, in a process of its own, and the shop's processes as another OS user."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from guard.app import App
from guard.canon import key_bytes
from guard.client import Agent
from guard.clock import SteppedClock, SystemClock
from guard.errors import TamperedError
from guard.fields.column import FieldKeys
from tests.leasing.counter import ALL, Counter
from tests.telling.shop import as_user, needs_root
from tests.telling.test_agent import Supervisor

pytestmark = [pytest.mark.slow, needs_root]

SHOP, STRANGER = "www-data", "games"
ROW = key_bytes((1,))


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that is set an hour back: what guard sets up lies in the past of the real one."""
    return SteppedClock(SystemClock().now() - timedelta(hours=1))


@pytest.fixture
def counter(make: Callable[..., Counter], clock: SteppedClock) -> Iterator[Counter]:
    """A sealed shop whose code runs as another OS user, with guard's daemon at work."""
    made = make(clock)
    made.seal()
    made.policy("[service.shop]", f'[service.shop]\nos_user = "{SHOP}"')
    made.app.close()
    made.clock = SystemClock()
    made.app = App.open(made.config, made.clock)
    supervisor = Supervisor(made)  # type: ignore[arg-type]  # it asks for a home and a config
    supervisor.ready()
    yield made
    for daemon in supervisor.started:
        daemon.kill()
        daemon.communicate()
    supervisor.wire.close()


def test_another_os_user_works_with_what_is_on_lease_and_reads_nothing_else(counter: Counter) -> None:
    path, home = counter.app.agent_socket, counter.home
    (stored,) = counter.stored("SELECT email FROM customer WHERE id = 1")[0]

    def work() -> Any:
        keys = FieldKeys.open("/nowhere/guard.toml", socket=path)
        keys.check(*ALL)
        email = keys.column("customer.email")
        (sealed,) = email.seal([ROW], ["new@example.org"])
        street = keys.column("purchase.street")
        (far,) = street.seal([ROW], ["Weg 1"])
        closed = [name for name in ("keys/root.key", "var/state.db", "guard.toml") if os.access(home / name, os.R_OK)]
        return [email.open(ROW, stored), email.open(ROW, sealed), street.open(ROW, far), closed, sealed]

    found = as_user(SHOP, work)
    *clear, closed, sealed = found["ok"]
    assert clear == ["ada@example.org", "new@example.org", "Weg 1"]
    assert closed == []
    assert counter.app.fields.opener("customer.email")((1,), sealed) == "new@example.org"
    assert [entry.who for entry in counter.entries("fields.lease")] == ["s-shop"]
    assert [entry.objects for entry in counter.entries("fields.open")] == [("purchase.street",)]


def test_whoever_is_not_the_shop_gets_nothing(counter: Counter) -> None:
    path = counter.app.agent_socket
    for service in ("shop", "daemon", None):
        for op in ("lease", "seal", "open", "token"):
            args = {"column": "customer.email", "keys": [[1]], "values": ["x"]}
            found = as_user(STRANGER, lambda op=op, args=args, service=service: Agent(path, service).ask(op, args))
            assert found["error"] == "DeniedError"
    found = as_user(SHOP, lambda: Agent(path, "daemon").ask("lease", {}))
    assert found["error"] == "DeniedError"


def test_a_destroyed_key_and_a_shredded_person_are_out_of_a_living_process(counter: Counter) -> None:
    path = counter.app.agent_socket
    (born,) = counter.stored("SELECT born FROM customer WHERE id = 1")[0]
    (street,) = counter.stored("SELECT street FROM purchase WHERE id = 10")[0]
    opened, tell = os.pipe()

    def work() -> Any:
        keys = FieldKeys.open("/nowhere/guard.toml", socket=path)
        before = keys.column("customer.born").open(ROW, born)
        os.write(tell, b"1")
        until = time.monotonic() + 25
        while time.monotonic() < until:
            try:
                keys.column("customer.born").open(ROW, born)
            except TamperedError:
                return [before, keys.column("purchase.street").open(ROW, street)]
            time.sleep(0.1)
        return "it still opens"

    def end() -> None:
        os.read(opened, 1)
        counter.shred(1)
        counter.destroy(counter.rotate("column/3")[0])

    thread = threading.Thread(target=end)
    thread.start()
    found = as_user(SHOP, work)
    thread.join()
    assert found == {"ok": ["1990-12-31", None]}
