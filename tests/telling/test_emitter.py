"""The shop's own code tells guard what it did: through the agent, in its own process, or not at all but aloud."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.audit import Emitter, Query, UnrecordedError
from guard.cli.main import call
from guard.clock import SteppedClock, SystemClock
from guard.daemon.current import Current
from guard.daemon.operations import listener
from guard.daemon.place import Place
from guard.errors import ConfigError, DeniedError, InterlockError
from tests.telling.shop import House, as_user, needs_root

CALLER = "www-data" if os.geteuid() == 0 else None


@pytest.fixture
def house(make_house: Callable[..., House], open_folder: Path) -> House:
    """A shop on the machine's clock, whose agent's socket everybody can reach."""
    past = SteppedClock(SystemClock().now() - timedelta(hours=1))
    made = make_house(past, more=f'\n[agent]\nsocket = "{open_folder}/agent/guard.sock"\n')
    if CALLER:
        made.edit('# os_user = "shop"', f'os_user = "{CALLER}"', "policies/access.toml")
    made.reopen(SystemClock())
    return made


@pytest.fixture
def current(house: House) -> Current:
    return Current(house.app)


@pytest.fixture
def agent(house: House, current: Current) -> Iterator[Path]:
    """What `guard daemon` serves, in this process; the path of its socket."""
    serving = listener(current)
    serving.start()
    yield house.app.agent_socket
    serving.stop()


@pytest.fixture
def embedded(house: House) -> Iterator[Emitter]:
    made = Emitter.open(house.config, patience=0.2)
    yield made
    made.close()


def by_agent(agent: Path, work: Callable[[Emitter], Any], **more: Any) -> Any:
    """What the shop's own account gets, which cannot read guard's folder."""
    return as_user(CALLER, lambda: work(Emitter.open("/nowhere/guard.toml", socket=agent, **more)))


def test_in_its_own_process(house: House, embedded: Emitter) -> None:
    number = embedded.emit(
        "order.read",
        class_="read",
        actor="anna",
        subject=("customer", 1),
        objects=["purchase.street"],
        purpose="support",
        counts={"rows": 1},
        details={"because": "refund"},
    )
    (entry,) = house.told()
    assert (entry.n, entry.what, entry.facts["via"], entry.facts["purpose"]) == (
        number,
        "shop.order.read",
        "s-shop",
        "support",
    )
    assert house.details(entry) == {"because": "refund"}
    assert abs(datetime.fromisoformat(entry.facts["happened"]) - entry.at) < timedelta(minutes=1)


def test_through_the_agent(house: House, agent: Path) -> None:
    def work(log: Emitter) -> Any:
        return [
            log.emit("order.read", class_="read", subject=[("customer", 1), ("customer", 2)]),
            log.emit("x", class_="update"),
        ]

    first, second = by_agent(agent, work)["ok"]
    told = house.told()
    assert [first, second] == [told[0].n, told[2].n]
    assert {entry.facts["via"] for entry in told} == {"s-shop"}


@needs_root
def test_root_is_sent_away_and_told_why(agent: Path, embedded: Emitter, house: House) -> None:
    with pytest.raises(DeniedError, match="uid 0"):
        embedded.emit("order.read", class_="read")
    assert not house.told()


@needs_root
def test_strangers_are_sent_away_and_recorded_once(house: House, agent: Path) -> None:
    found = [
        as_user("games", lambda: Emitter.open("/x/guard.toml", socket=agent).emit("x", class_="read")) for _ in range(3)
    ]
    assert {each["error"] for each in found} == {"DeniedError"}
    assert "[service.shop] in policies/access.toml" in found[0]["hint"]
    (entry,) = house.app.ledger.list(Query(what="access.enter", outcome="denied"))
    assert entry.facts == {"reason": "unknown", "via": "socket"}
    assert entry.digests == {"os_user": house.app.digest("OS user", b"games")}


def test_another_service_is_not_the_callers(house: House, agent: Path) -> None:
    found = by_agent(agent, lambda log: log.emit("x", class_="read"), service="nobody")
    assert found["error"] == "DeniedError"
    assert "not the service nobody" in found["text"]


@needs_root
def test_a_person_may_call_but_not_tell(house: House, agent: Path) -> None:
    from guard.client import Agent

    found = as_user("www-data", lambda: Agent(agent).hello())
    assert found["error"] == "DeniedError"
    assert "guard access add" in found["hint"]


def test_wrong_events_are_refused_in_the_same_words_both_ways(agent: Path, house: House, tmp_path: Path) -> None:
    def work(log: Emitter) -> Any:
        return log.emit_many(
            [{"what": "order.read", "class": "read"}, {"what": "X", "class": "read", "objects": ["y"]}]
        )

    told = by_agent(agent, work)
    assert told["error"] == "ConfigError"
    with pytest.raises(ConfigError) as raised:
        work(Emitter.open(house.config, socket=tmp_path / "nothing"))
    assert told["text"] == str(raised.value)
    assert told["text"].startswith("event 2: what: not the name of an event")
    assert not house.told()


@pytest.mark.parametrize("details", [{"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"x": float("nan")}, {5: 1}, {"x": {1}}])
def test_what_json_cannot_hold_is_refused_before_anybody_is_asked(embedded: Emitter, details: Any) -> None:
    with pytest.raises(ConfigError, match="an event is JSON"):
        embedded.emit("x", class_="read", subject=("customer", 1), details=details)


def test_an_event_that_is_too_long_is_refused(embedded: Emitter) -> None:
    with pytest.raises(ConfigError, match="too long"):
        embedded.emit("x", class_="read", subject=("customer", 1), details={"x": "y" * 70_000})


def test_a_service_has_a_name() -> None:
    with pytest.raises(ConfigError, match="no name of a service"):
        Emitter.open(service="Ada Lovelace")


def test_many_at_once_come_in_order(house: House, agent: Path) -> None:
    def work(log: Emitter) -> Any:
        return log.emit_many(
            [{"what": "order.read", "class": "read", "counts": {"rows": each}} for each in range(1200)]
        )

    numbers = by_agent(agent, work)["ok"]
    told = house.told()
    assert [entry.n for entry in told] == numbers
    assert [entry.counts["rows"] for entry in told] == list(range(1200))


def test_long_events_are_told_in_messages_that_fit(house: House, agent: Path) -> None:
    def work(log: Emitter) -> Any:
        event = {
            "what": "x",
            "class": "read",
            "subject": {"kind": "customer", "key": 1},
            "details": {"x": "y" * 30_000},
        }
        return log.emit_many([event] * 80)  # more than two MiB

    assert len(by_agent(agent, work)["ok"]) == 80
    assert len(house.told()) == 80


def test_nobody_to_tell_raises_with_the_events(house: House, tmp_path: Path) -> None:
    log = Emitter.open(tmp_path / "nothing/guard.toml", socket=tmp_path / "nothing.sock", patience=0.2)
    with pytest.raises(UnrecordedError) as raised:
        log.emit_many([{"what": "a", "class": "read"}, {"what": "b", "class": "read", "subject": ("customer", 1)}])
    assert "no agent answers" in str(raised.value)
    assert "guard cannot be opened here" in str(raised.value)
    assert "start `guard daemon`" in (raised.value.hint or "")
    path = tmp_path / "later.jsonl"
    path.write_bytes(raised.value.lines)
    assert call(["audit", "ingest", str(path)], house.app) == 0
    assert [entry.what for entry in house.told()] == ["shop.a", "shop.b"]
    again = Emitter.open(house.config, socket=tmp_path / "nothing.sock")
    again.emit_many([json.loads(each) for each in raised.value.lines.splitlines()])  # told again: nothing doubles
    again.close()
    assert len(house.told()) == 2


def test_where_an_agent_died_the_shop_records_in_its_own_process(house: House, embedded: Emitter) -> None:
    place = Place(house.app.agent_socket)
    place.take()
    place.socket.close()  # as when its process was killed
    number = embedded.emit("order.read", class_="read")
    place.leave()
    assert [entry.n for entry in house.told()] == [number]


def test_the_service_has_to_be_allowed(house: House, embedded: Emitter) -> None:
    house.edit('["audit.emit", ', "[", "policies/access.toml")
    with pytest.raises(DeniedError) as raised:
        embedded.emit("x", class_="read")
    assert "audit.emit" in (raised.value.hint or "")


def test_a_catalog_that_nobody_accepted_is_named(house: House, embedded: Emitter) -> None:
    house.edit("id = 4", "id = 4\n# changed", "policies/catalog.toml")
    with pytest.raises(InterlockError, match="not the catalog that was accepted"):
        embedded.emit("x", class_="read")


def test_threads_and_forked_workers_of_a_shop(house: House, embedded: Emitter) -> None:
    """As under gunicorn with preload: the parent has told something, its children and their threads go on."""
    embedded.emit("worker", class_="read", id="parent")

    def child(which: int) -> Any:
        def many(thread: int) -> None:
            for number in range(5):
                embedded.emit("worker", class_="read", subject=("customer", 1), id=f"{which} {thread} {number}")

        threads = [threading.Thread(target=many, args=(each,)) for each in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return which

    for which in range(3):
        assert as_user(None, lambda which=which: child(which)) == {"ok": which}
    embedded.emit("worker", class_="read")
    assert len(house.told()) == 3 * 3 * 5 + 2
    house.app.ledger.inspect()


PROGRAM = """
import json, os, pwd, sys
from guard.audit import emit, emit_many
if len(sys.argv) > 1:
    "".encode("utf-16be")  # another OS user may not load it any more
    os.setgroups([])
    os.setuid(pwd.getpwnam(sys.argv[1]).pw_uid)
first = emit("order.read", class_="read", actor="anna")
rest = emit_many([{"what": "order.read", "class": "read"}] * 2)
print(json.dumps([first, *rest, "sqlalchemy" in sys.modules]))
"""


def test_a_program_takes_the_store_of_its_environment(house: House) -> None:
    words = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "GUARD_CONFIG": str(house.config)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [*(entry.n for entry in house.told()), True]


def test_through_the_agent_no_database_is_loaded(house: House, agent: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, *([CALLER] if CALLER else [])]
    environment = {**os.environ, "GUARD_CONFIG": "/nowhere/guard.toml", "GUARD_SOCKET": str(agent)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout or "null") == [*(entry.n for entry in house.told()), False], done.stderr


# A configuration that changes while the agent works ------------------------------------------------------------------


class Opened:
    """An app that can be closed once."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_an_app_that_is_replaced_closes_when_nobody_uses_it_any_more() -> None:
    first, second, third = Opened(), Opened(), Opened()
    current = Current(first)  # type: ignore[arg-type]
    with current.use() as desk:
        assert desk.app is first
        current.exchange(second)  # type: ignore[arg-type]
        with current.use() as other:
            assert other.app is second
            with current.use():
                current.exchange(third)  # type: ignore[arg-type]
            assert second.closed == 0
        assert second.closed == 1
    assert first.closed == 0  # it belongs to whoever opened it
    current.close()
    assert third.closed == 1


def test_a_new_policy_counts_for_conversations_that_are_going_on(house: House, agent: Path, current: Current) -> None:
    from guard.app import App

    asked, told = os.pipe()
    went, go_on = os.pipe()

    def work(log: Emitter) -> Any:
        first = log.emit("x", class_="read")
        os.write(told, b"1")
        os.read(went, 1)
        try:
            return [first, log.emit("x", class_="read")]
        except DeniedError as error:
            return [first, str(error)]

    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(by_agent(agent, work)), daemon=True)
    caller.start()
    os.read(asked, 1)
    house.edit('["audit.emit", ', "[", "policies/access.toml")
    current.exchange(App.open(house.config, house.clock))
    os.write(go_on, b"1")
    caller.join(60)
    current.close()
    assert "may not do audit.emit" in found[0]["ok"][1]
    assert len(house.told()) == 1
    for each in (asked, told, went, go_on):
        os.close(each)
