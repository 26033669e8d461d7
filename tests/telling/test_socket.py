"""The agent's socket against callers that send garbage, half frames or nothing, come in thousands, or work for long."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from guard import wire
from guard.client import Agent, AwayError, LostError
from guard.daemon.place import Place
from guard.daemon.socket import Limits, Listener, Peer
from guard.errors import BusyError, DeniedError, GuardError, InterlockError, UnavailableError
from tests.telling.shop import as_user, needs_root

CALLER = "www-data" if os.geteuid() == 0 else None
"""Who calls: root itself is sent away."""


class House:
    """What a listener needs to know, and what was asked of it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started = threading.Semaphore(0)
        self.operations = {"ping": self.ping, "fail": self.fail, "wait": self.wait, "big": self.big}

    def hello(self, peer: Peer) -> Any:
        if peer.service == "stranger":
            raise DeniedError("nobody guard knows", reason="unknown")
        return {"who": f"s-{peer.service}"}

    def ping(self, peer: Peer, args: Mapping[str, Any]) -> Any:
        return {"uid": peer.uid, "args": dict(args)}

    def fail(self, peer: Peer, args: Mapping[str, Any]) -> Any:
        raise ZeroDivisionError("a secret")

    def wait(self, peer: Peer, args: Mapping[str, Any]) -> Any:
        self.started.release()
        self.go_on.wait(60)
        return "done"

    def big(self, peer: Peer, args: Mapping[str, Any]) -> Any:
        return len(args["x"])


@pytest.fixture
def serve(open_folder: Path) -> Iterator[Callable[..., tuple[Path, House]]]:
    """Serve sockets with limits of the test's own."""
    with ExitStack() as stack:

        def start(limits: Limits = Limits()) -> tuple[Path, House]:  # noqa: B008
            house, path = House(), open_folder / "agent/guard.sock"
            listener = Listener(path, house.hello, house.operations, limits)
            listener.start()
            stack.callback(listener.stop)
            stack.callback(house.go_on.set)
            return path, house

        yield start


def ping(path: Path, user: str | None = CALLER, patience: float = 30.0) -> Any:
    """What an honest caller gets, in a process of its own."""
    return as_user(user, lambda: Agent(path, "shop", patience).ask("ping", {"x": 1}))


def well(path: Path, user: str | None = CALLER) -> bool:
    return ping(path, user).get("ok", {}).get("args") == {"x": 1}


def raw(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(30)
    made.connect(str(path))
    return made


def greeted(path: Path) -> socket.socket:
    made = raw(path)
    wire.send(made, {"op": "hello", "oldest": 1, "newest": 1, "service": "shop"})
    assert "ok" in wire.receive(made)
    return made


class Held:
    """A child of another user that does something and then stays, until the test lets it go."""

    def __init__(self, user: str | None, work: Callable[[], Any]) -> None:
        from tests.telling.shop import become

        "".encode("utf-16be")
        ready, told = os.pipe()
        over, self._let_go = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self._let_go)
            if user is not None:
                become(user)
            try:
                kept = work()
                os.write(told, b"1")
                os.read(over, 1)
                del kept
            finally:
                os._exit(0)
        os.close(told)
        os.close(over)
        self.came = os.read(ready, 1) == b"1"
        os.close(ready)

    def __enter__(self) -> "Held":
        assert self.came
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._let_go)
        os.waitpid(self.child, 0)


def test_a_caller_is_known_by_the_kernels_word(serve: Any) -> None:
    path, _ = serve()
    found = ping(path)
    assert found["ok"]["uid"] == as_user(CALLER, os.getuid)["ok"]


@needs_root
def test_root_and_strangers_are_sent_away_with_a_reason(serve: Any) -> None:
    path, _ = serve()
    with pytest.raises(DeniedError, match="no call from uid 0"):
        Agent(path, "shop").ask("ping", {})
    found = as_user(CALLER, lambda: Agent(path, "stranger").ask("ping", {}))
    assert (found["error"], found["text"]) == ("DeniedError", "nobody guard knows")


def answered(path: Path, *sent: bytes, end: bool = False) -> Any:
    """What the agent answers to some bytes, and whether it ends the conversation then."""

    def work() -> Any:
        with raw(path) as line:
            for each in sent:
                line.sendall(each)
            if end:
                line.shutdown(socket.SHUT_WR)
            found = []
            try:
                while True:
                    found.append(wire.receive(line))
            except (EOFError, OSError):
                return found

    return as_user(CALLER, work)["ok"]


HELLO = wire.pack({"op": "hello", "oldest": 1, "newest": 1})


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([b"\xff" * 4], "a frame of 4294967295 bytes is none"),
        ([b"\0" * 4], "a frame of 0 bytes is none"),
        ([b"GET / HTTP/1.1\r\n\r\n"], "a frame of 1195725856 bytes is none"),
        ([b"\0\0\0\x02[]"], "no message"),
        ([b"\0\0\0\x02{x"], "no message"),
        ([wire.pack({"op": "ping", "args": {}})], "begins with hello"),
        ([wire.pack({"op": "hello"})], "which versions"),
        ([wire.pack({"op": "hello", "oldest": 2, "newest": 3})], "the agent speaks version 1, its client 2 to 3"),
        ([wire.pack({"op": "hello", "oldest": 1, "newest": 1, "service": 5})], "names a service"),
        ([wire.pack({"op": "hello", "oldest": 1, "newest": 1, "service": "stranger"})], "nobody guard knows"),
        ([HELLO, b"\xff" * 4], "is none of guard's"),
    ],
)
def test_garbage_is_answered_and_ends_the_conversation(serve: Any, sent: list[bytes], expected: str) -> None:
    path, _ = serve()
    found = answered(path, *sent)
    assert expected in found[-1]["error"]["message"]
    assert well(path)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"op": "nothing", "args": {}}, "does not know how to"),
        ({"op": 5, "args": {}}, "does not know how to"),
        ({"op": "ping"}, "does not know how to"),
        ({"op": "fail", "args": {}}, "the agent failed with ZeroDivisionError"),
    ],
)
def test_what_cannot_be_done_is_told_and_the_conversation_goes_on(serve: Any, question: Any, expected: str) -> None:
    path, _ = serve()
    found = answered(path, HELLO, wire.pack(question), wire.pack({"op": "ping", "args": {}}), end=True)
    assert expected in found[1]["error"]["message"]
    assert "a secret" not in str(found)
    assert "ok" in found[2]


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0\x10{", HELLO + b"\0", HELLO + b"\0\0\0\x10{"])
def test_half_a_frame_ends_after_its_time(serve: Any, sent: bytes) -> None:
    path, _ = serve(Limits(hello=0.2, frame=0.2, idle=60))
    found = answered(path, sent)
    assert len(found) == (len(sent) > len(HELLO))
    assert well(path)


def test_idle_conversations_end_and_a_client_begins_another(serve: Any) -> None:
    path, _ = serve(Limits(idle=0.1))

    def work() -> Any:
        agent = Agent(path, "shop", 30)
        first = agent.ask("ping", {"x": 1})
        kept = agent._free[0]._wire
        assert kept.recv(1) == b""  # until the agent has ended it
        return [first, agent.ask("ping", {"x": 2})]

    assert [each["args"]["x"] for each in as_user(CALLER, work)["ok"]] == [1, 2]


def drip(path: Path, count: int) -> list[socket.socket]:
    """Open conversations that have begun a frame and never end it, some of them a long one."""
    lines = [greeted(path) for _ in range(count)]
    for number, each in enumerate(lines):
        each.sendall(b"\0\x0f\0\0{" if number % 2 else b"\0")
    return lines


def test_those_that_drip_do_not_block_others(serve: Any) -> None:
    path, _ = serve(Limits(frame=600))
    with Held(CALLER, lambda: drip(path, 60)):
        assert well(path)
        long = as_user(CALLER, lambda: Agent(path, "shop", 30).ask("big", {"x": "y" * 60_000}))
        assert long == {"ok": 60_000}


def test_one_more_than_a_user_may_have_ends_the_one_idle_for_longest(serve: Any) -> None:
    path, _ = serve(Limits(of_one=5))

    def work() -> Any:
        lines = [greeted(path) for _ in range(5)]
        wire.send(lines[0], {"op": "ping", "args": {}})  # so the second is the one that is idle for longest
        wire.receive(lines[0])
        lines.append(greeted(path))
        ended = [each for each in lines if each is lines[1]]
        assert ended[0].recv(1) == b""
        for each in [lines[0], *lines[2:]]:
            wire.send(each, {"op": "ping", "args": {}})
            wire.receive(each)
        return len(lines)

    assert as_user(CALLER, work) == {"ok": 6}


def busy_lines(path: Path, count: int) -> list[socket.socket]:
    lines = [greeted(path) for _ in range(count)]
    for each in lines:
        wire.send(each, {"op": "wait", "args": {}})
    return lines


def test_when_all_are_at_work_one_more_is_told_to_wait(serve: Any) -> None:
    path, house = serve(Limits(of_one=3))
    with Held(CALLER, lambda: busy_lines(path, 3)):
        for _ in range(3):
            assert house.started.acquire(timeout=30)
        assert ping(path, patience=0.3)["error"] == "BusyError"
        house.go_on.set()
        assert well(path)


@needs_root
def test_slow_work_of_one_user_does_not_block_another(serve: Any) -> None:
    path, house = serve(Limits(at_work=4))
    with Held("games", lambda: busy_lines(path, 20)):
        for _ in range(4):
            assert house.started.acquire(timeout=30)
        assert not house.started.acquire(timeout=0.2)  # the others of this user wait
        assert well(path, "www-data")


@pytest.mark.slow
@needs_root
def test_five_thousand_idle_conversations_block_nobody(serve: Any) -> None:
    path, _ = serve(Limits(of_one=100))

    def crowd() -> list[socket.socket]:
        return [greeted(path) for _ in range(900)]

    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(Held("games", crowd))
            assert well(path, "www-data")
            assert well(path, "games")


@pytest.mark.slow
def test_a_thousand_that_connect_and_say_nothing_block_nobody(serve: Any) -> None:
    path, _ = serve()
    with Held(CALLER, lambda: [raw(path) for _ in range(900)]):
        assert well(path)


def test_a_mib_passes(serve: Any) -> None:
    path, _ = serve()
    long = wire.MOST - 100
    found = as_user(CALLER, lambda: [Agent(path, "shop", 30).ask("big", {"x": "y" * long}) for _ in range(3)])
    assert found == {"ok": [long] * 3}
    too_long = as_user(CALLER, lambda: Agent(path, "shop", 30).ask("big", {"x": "y" * wire.MOST}))
    assert too_long["error"] == "ConfigError"


def test_a_stop_lets_what_is_worked_on_end(open_folder: Path) -> None:
    house, path = House(), open_folder / "agent/guard.sock"
    listener = Listener(path, house.hello, house.operations)
    listener.start()
    with Held(CALLER, lambda: busy_lines(path, 2)):
        for _ in range(2):
            assert house.started.acquire(timeout=30)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        house.go_on.set()
        stopping.join(60)
        assert not stopping.is_alive()
    assert not path.exists()


def test_what_ends_the_thread_reaches_the_daemon(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(asyncio, "start_unix_server", broken)
    house = House()
    listener = Listener(open_folder / "agent/guard.sock", house.hello, house.operations)
    listener.start()
    with pytest.raises(MemoryError):
        listener.check()
    listener.stop()


# Where it lies --------------------------------------------------------------------------------------------------------


def test_everybody_reaches_the_socket_and_only_its_owner_the_folder(open_folder: Path) -> None:
    place = Place(open_folder / "agent/guard.sock")
    before = os.umask(0o077)
    try:
        place.take()
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o666
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o711
    assert sorted(each.name for each in place.path.parent.iterdir()) == ["guard.sock", "guard.sock.lock"]
    place.leave()
    assert not place.path.exists()


def test_the_socket_of_a_dead_agent_is_replaced(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    path.parent.mkdir(0o711)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(AwayError, match="Connection refused"):
        Agent(path, "shop").ask("ping", {})
    place = Place(path)
    place.take()
    with raw(path):
        pass
    place.leave()


def test_a_living_agent_is_not_replaced(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    first = Place(path)
    first.take()
    with pytest.raises(BusyError, match="another agent listens"):
        Place(path).take()
    with raw(path):
        first.leave()


def test_another_programs_socket_is_not_replaced(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    path.parent.mkdir(0o711)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(BusyError):
            Place(path).take()
        assert path.is_socket()


def test_a_file_is_not_replaced(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    path.parent.mkdir(0o711)
    path.write_text("precious")
    with pytest.raises(InterlockError, match="is no socket"):
        Place(path).take()
    assert path.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o731])
def test_a_folder_others_may_write_to_is_refused(open_folder: Path, mode: int) -> None:
    folder = open_folder / "agent"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InterlockError, match="not guard's alone"):
        Place(folder / "guard.sock").take()


@needs_root
def test_a_folder_of_somebody_else_is_refused(open_folder: Path) -> None:
    import shutil

    folder = open_folder / "agent"
    folder.mkdir(0o711)
    shutil.chown(folder, "games")
    with pytest.raises(InterlockError, match="not guard's alone"):
        Place(folder / "guard.sock").take()


@needs_root
def test_a_client_does_not_talk_to_somebody_else_in_the_agents_place(open_folder: Path) -> None:
    """Somebody who may write to the folder after all puts a socket of theirs there."""
    path = open_folder / "agent/guard.sock"
    path.parent.mkdir()
    path.parent.chmod(0o777)

    def impostor() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
        made.listen()
        path.chmod(0o666)
        return made

    with Held("games", impostor):
        found = as_user("www-data", lambda: Agent(path, "shop").ask("ping", {}))
        assert found["error"] == "InterlockError"
        assert "its folder belongs to uid 0" in found["text"]


def test_where_no_folder_can_be_made_it_says_so(open_folder: Path) -> None:
    (open_folder / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot listen at"):
        Place(open_folder / "file/agent/guard.sock").take()


# Clients --------------------------------------------------------------------------------------------------------------


def test_without_an_agent_nothing_was_asked(open_folder: Path) -> None:
    agent = Agent(open_folder / "guard.sock", "shop")
    assert not agent.is_there
    with pytest.raises(AwayError, match="no agent answers") as raised:
        agent.ask("ping", {})
    assert "guard daemon" in (raised.value.hint or "")
    with pytest.raises(AwayError):
        Agent(open_folder / "guard.sock", "shop", 0.2).ask("ping", {}, patient=True)
    with pytest.raises(AwayError):
        agent.hello()


def test_a_patient_client_waits_for_an_agent_that_starts(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    house = House()
    listener = Listener(path, house.hello, house.operations)
    timer = threading.Timer(0.3, listener.start)
    timer.start()
    found = as_user(CALLER, lambda: Agent(path, "shop", 30).ask("ping", {"x": 1}, patient=True))
    assert found["ok"]["args"] == {"x": 1}
    timer.join()
    listener.stop()


def test_a_client_survives_the_restart_of_its_agent(open_folder: Path) -> None:
    path = open_folder / "agent/guard.sock"
    again, asked = os.pipe()
    went, stopped = os.pipe()

    def work() -> Any:
        agent = Agent(path, "shop", 30)
        first = agent.ask("ping", {"x": 1})
        os.write(asked, b"1")
        os.read(went, 1)
        return [first, agent.ask("ping", {"x": 2})]

    found: list[Any] = []
    house = House()
    first = Listener(path, house.hello, house.operations)
    first.start()
    caller = threading.Thread(target=lambda: found.append(as_user(CALLER, work)), daemon=True)
    caller.start()
    os.read(again, 1)
    first.stop()
    second = Listener(path, house.hello, house.operations)
    second.start()
    os.write(stopped, b"1")
    caller.join(60)
    second.stop()
    assert [each["args"]["x"] for each in found[0]["ok"]] == [1, 2]
    for each in (again, asked, went, stopped):
        os.close(each)


def test_an_agent_that_goes_away_within_an_answer_is_lost(serve: Any, open_folder: Path) -> None:
    """It takes the question and ends: whether it did it is unknown, and the client says so."""
    path = open_folder / "agent/guard.sock"
    path.parent.mkdir(0o711)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def half() -> None:
            for _ in range(2):
                line, _ = listening.accept()
                with line:
                    wire.receive(line)
                    wire.send(line, {"ok": {"version": 1}})
                    wire.receive(line)
                    line.sendall(b"\0\0\0\x10{")

        agent = threading.Thread(target=half, daemon=True)
        agent.start()
        with pytest.raises((LostError, GuardError)) as raised:
            Agent(path, "shop", 0.15).ask("ping", {})
        assert isinstance(raised.value, LostError)
        assert "nothing twice" in (raised.value.hint or "")


def test_threads_and_forked_children_share_a_client(serve: Any) -> None:
    path, _ = serve()

    def work() -> Any:
        agent = Agent(path, "shop", 30)
        assert agent.ask("ping", {"x": 0})["args"] == {"x": 0}
        kept = agent._free[0]._wire.fileno()
        wrong: list[Any] = []

        def many(first: int) -> None:
            for number in range(first, first + 100):
                if agent.ask("ping", {"x": number})["args"] != {"x": number}:
                    wrong.append(number)

        def child() -> Any:
            assert not agent._free  # those of the parent are the parent's
            many(10_000)
            return [len(wrong), os.fstat(kept).st_ino if kept in {each._wire.fileno() for each in agent._free} else 0]

        threads = [threading.Thread(target=many, args=(1000 * each,)) for each in range(8)]
        for each in threads:
            each.start()
        forked = as_user(None, child)
        for each in threads:
            each.join()
        many(20_000)
        return [forked["ok"][0], len(wrong)]

    assert as_user(CALLER, work) == {"ok": [0, 0]}


def test_the_client_loads_neither_app_nor_database() -> None:
    """What a program of the shop loads to tell guard something: the whole list."""
    import subprocess
    import sys

    code = "import sys; from guard.audit import Emitter; import guard.client; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name == "guard" or name.startswith("guard.")}
    assert ours == {
        "guard",
        "guard.audit",
        "guard.audit.emitter",
        "guard.audit.told",
        "guard.canon",
        "guard.client",
        "guard.clock",
        "guard.config",
        *(name for name in ours if name.startswith("guard.config.")),  # they read files and load nothing else
        "guard.crypto",
        "guard.crypto.random",
        "guard.errors",
        "guard.events",
        "guard.wire",
    }
    heavy = {"sqlalchemy", "cryptography", "boto3", "click", "rich", "asyncio", "guard.app", "guard.state"}
    assert not heavy & loaded
