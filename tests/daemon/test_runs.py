"""Commands that the agent runs for others: what their process gets and does not, how it ends, how many there may be."""

import json
import os
import pwd
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guard import wire
from guard.daemon import runs
from guard.daemon.runs import Caller, Most, Runs
from guard.daemon.socket import Listener, Peer
from tests.telling.shop import as_user

CALLER = "www-data" if os.geteuid() == 0 else None
STUB = """
import json, os, signal, subprocess, sys, time

signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
pipe = int(sys.argv[1])
given = json.loads(os.read(pipe, 1 << 16))
what, *rest = given["argv"]

def handler(name):
    def handle(*_):
        print(name, flush=True)
    return handle

if what == "exit":
    sys.exit(int(rest[0]))
if what == "tell":
    print(json.dumps({
        "given": given, "env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.orig_argv, "pipe": str(pipe),
        "open": [each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")],
        "leads": os.getsid(0) == os.getpid(),
    }))
    print(sys.stdin.read(), file=sys.stderr, end="")
if what in ("wait", "deaf"):
    if what == "deaf":
        signal.signal(signal.SIGINT, handler("INT"))
        signal.signal(signal.SIGTERM, handler("TERM"))
        child = subprocess.Popen(["sleep", "1000"])
        print("child", child.pid, flush=True)
    try:
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.exit(130)
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


class House:
    """A listener that runs the stub in guard's place."""

    def __init__(self, folder: Path, most: Most) -> None:
        self.path = folder / "agent/guard.sock"
        self.home = folder / "home"
        self.home.mkdir(mode=0o755)
        self.runs = Runs(self.home / "guard.toml", most)
        self.listener = Listener(self.path, lambda _: "you", {"run": self.run, "ping": ping}, leave=self.runs.stop)
        self.listener.start()

    def run(self, peer: Peer, args: Any) -> Any:
        return self.runs.take(Caller(peer.uid, pwd.getpwuid(peer.uid).pw_name), args)


def ping(_: Peer, args: Any) -> Any:
    return args


@pytest.fixture
def serve(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    (open_folder / "served_stub.py").write_text(STUB)
    monkeypatch.setattr(runs, "_SERVED", "served_stub")
    monkeypatch.setenv("PYTHONPATH", str(open_folder))
    made: list[House] = []

    def start(most: Most = Most()) -> House:  # noqa: B008
        made.append(House(open_folder, most))
        return made[-1]

    yield start
    for each in made:
        each.listener.stop()


class Conversation:
    """A caller's end, that says what it likes."""

    def __init__(self, path: Path) -> None:
        self.line = socket.socket(socket.AF_UNIX)
        self.line.settimeout(30)
        self.line.connect(str(path))
        self.ask({"op": "hello", "oldest": 1, "newest": 1})
        self.out, self._theirs = os.pipe()
        self.print = os.fdopen(self.out)

    def ask(self, question: Any) -> Any:
        wire.send(self.line, question)
        return wire.receive(self.line)

    def begin(self, *argv: str, **more: Any) -> Any:
        return self.ask({"op": "run", "args": {"argv": list(argv), **more}})

    def give(self, *descriptors: int, said: bytes = b"\0") -> None:
        socket.send_fds(self.line, [said], descriptors)

    def start(self, *argv: str, **more: Any) -> None:
        """Run a command with nothing as its input, and output and error as `print`."""
        found = self.begin(*argv, **more)
        assert found == {"ok": {"send": 3}}, found
        with Path(os.devnull).open() as null:
            self.give(null.fileno(), self._theirs, self._theirs)
        os.close(self._theirs)

    def until(self, said: str) -> list[str]:
        lines = []
        for each in self.print:
            lines.append(each.strip())
            if lines[-1] == said:
                return lines
        raise AssertionError(lines)

    def end(self) -> Any:
        return wire.receive(self.line)


def conversation(path: Path, work: Callable[[Conversation], Any]) -> Any:
    """What a caller, a process of another user, makes of a conversation."""
    found = as_user(CALLER, lambda: work(Conversation(path)))
    assert "ok" in found, found
    return found["ok"]


def answer(path: Path, *argv: str, **more: Any) -> Any:
    def work(each: Conversation) -> Any:
        each.start(*argv, **more)
        return [each.end(), each.print.read()]

    return conversation(path, work)


def test_the_exit_code_comes_back_and_the_conversation_ends(serve: Any) -> None:
    house = serve()

    def work(each: Conversation) -> Any:
        each.start("exit", "7")
        return [each.end(), each.line.recv(1).decode()]

    assert conversation(house.path, work) == [{"ok": {"exit": 7}}, ""]


def test_a_command_has_the_streams_of_the_caller_and_nothing_else_of_theirs(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "of the agent")
    monkeypatch.setenv("GUARD_CONFIG", "/of/the/agent")
    monkeypatch.setenv("NOTIFY_SOCKET", "/of/the/agent")
    house = serve()

    def work(each: Conversation) -> Any:
        os.environ.update(LD_PRELOAD="/tmp/mine.so", PYTHONSTARTUP="/tmp/mine.py", SHOP_PASSWORD="mine")
        os.chdir("/")
        each.begin("tell", "x y", term="xterm-256color", plain=True, env={"LD_PRELOAD": "x"}, cwd="/", os_user="root")
        (into, said), (wrong, err) = os.pipe(), os.pipe()
        os.write(said, b"typed")
        os.close(said)
        each.give(into, each._theirs, err)
        os.close(err)
        os.close(each._theirs)
        return [each.end(), each.print.read(), os.read(wrong, 100).decode()]

    ended, told, error = conversation(house.path, work)
    told = json.loads(told)
    assert (ended, error) == ({"ok": {"exit": 0}}, "typed")
    os_user = as_user(CALLER, lambda: pwd.getpwuid(os.getuid()).pw_name)["ok"]
    assert told["given"] == {
        "argv": ["tell", "x y"],
        "config": str(house.home / "guard.toml"),
        "cwd": "/",
        "os_user": os_user,
    }
    assert told["argv"][1:] == ["-P", "-m", "served_stub", told["pipe"]]
    assert sorted(told["open"]) == sorted(["0", "1", "2", told["pipe"]])
    assert (told["cwd"], told["leads"]) == (str(house.home), True)
    expected = {name: value for name, value in os.environ.items() if name not in runs._OWN}
    expected |= {"TERM": "xterm-256color", "NO_COLOR": "1", "SHOP_PASSWORD": "of the agent"}
    told["env"].pop("LC_CTYPE", None)  # Python's own (PEP 538)
    expected.pop("LC_CTYPE", None)
    assert told["env"] == expected


@pytest.mark.parametrize("term", ["../../tmp/mine", "xterm\n", "", 5, None, "A" * 1000])
def test_a_terminal_nobody_knows_is_called_xterm(serve: Any, term: Any) -> None:
    house = serve()
    told = json.loads(answer(house.path, "tell", term=term)[1])
    assert told["env"]["TERM"] == "xterm"


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"argv": "status"},
        {"argv": [1]},
        {"argv": ["a\0b"]},
        {"argv": [], "cwd": 5},
        {"argv": ["x"] * 1001},
        {"argv": ["x" * 60_000]},
    ],
)
def test_what_is_no_command_line_is_told_and_the_conversation_goes_on(serve: Any, args: Any) -> None:
    house = serve()

    def work(each: Conversation) -> Any:
        return [each.ask({"op": "run", "args": args}), each.ask({"op": "ping", "args": {}})]

    told, pinged = conversation(house.path, work)
    assert told["error"]["kind"] == "ConfigError"
    assert pinged == {"ok": {}}


# Descriptors ----------------------------------------------------------------------------------------------------------


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def none(_: int) -> list[int]:
    return []


def two(null: int) -> list[int]:
    return [null, null]


def many(null: int) -> list[int]:
    return [null] * 250


def folder(null: int) -> list[int]:
    return [os.open("/", os.O_RDONLY), null, null]


def only_a_path(null: int) -> list[int]:
    return [null, null, os.open("/dev/null", os.O_PATH)]


def to_read(null: int) -> list[int]:
    return [null, os.open("/dev/null", os.O_RDONLY), null]


def to_write(null: int) -> list[int]:
    return [os.open("/dev/null", os.O_WRONLY), null, null]


def no_file(null: int) -> list[int]:
    return [os.eventfd(0), null, null]


@pytest.mark.parametrize("make", [none, two, many, folder, only_a_path, to_read, to_write, no_file])
def test_descriptors_of_the_wrong_kind_or_number_start_nothing_and_are_closed(
    serve: Any, make: Callable[[int], list[int]]
) -> None:
    house = serve()
    assert answer(house.path, "exit", "0")[0] == {"ok": {"exit": 0}}
    before = opened()

    def work(each: Conversation) -> Any:
        assert each.begin("exit", "0") == {"ok": {"send": 3}}
        each.give(*make(os.open("/dev/null", os.O_RDWR)))
        return each.end()

    for _ in range(5):
        assert "error" in conversation(house.path, work)
    assert answer(house.path, "exit", "0")[0] == {"ok": {"exit": 0}}
    assert opened() <= before + 1  # a connection that has just ended


def test_descriptors_that_nobody_asked_for_do_not_stay(serve: Any) -> None:
    house = serve()
    assert answer(house.path, "exit", "0")[0] == {"ok": {"exit": 0}}
    before = opened()

    def work(each: Conversation) -> Any:
        ping = wire.pack({"op": "ping", "args": {}})
        null = os.open("/dev/null", os.O_RDWR)
        for _ in range(20):
            each.give(*[null] * 250, said=ping)
            assert wire.receive(each.line) == {"ok": {}}
        each.give(null, null, null, said=wire.pack({"op": "run", "args": {"argv": ["wait"]}}))
        assert wire.receive(each.line) == {"ok": {"send": 3}}
        each.line.sendall(b"\0")
        return each.end()

    assert "three descriptors" in conversation(house.path, work)["error"]["message"]
    assert opened() <= before + 1


# Ends -----------------------------------------------------------------------------------------------------------------

INTERRUPT = {"op": "interrupt", "args": {}}


def test_an_interrupt_is_passed_on(serve: Any) -> None:
    house = serve()

    def work(each: Conversation) -> Any:
        each.start("wait")
        each.until("ready")
        wire.send(each.line, INTERRUPT)
        return [each.end(), each.print.read()]

    assert conversation(house.path, work) == [{"ok": {"exit": 130}}, "stopped\n"]


def test_each_interrupt_is_passed_on(serve: Any) -> None:
    house = serve(Most(interrupted=0.1, terminated=0.1))

    def work(each: Conversation) -> Any:
        each.start("deaf")
        each.until("ready")
        for _ in range(3):
            wire.send(each.line, INTERRUPT)
            each.until("INT")
        each.line.close()
        return each.print.read().split()

    assert conversation(house.path, work) == ["INT", "TERM"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("leaves", ["close", "garbage", "nonsense", "half"])
def test_who_goes_away_or_talks_nonsense_ends_the_command_and_all_it_started(serve: Any, leaves: str) -> None:
    house = serve(Most(interrupted=0.1, terminated=0.1, wait=0.2))

    def work(each: Conversation) -> Any:
        each.start("deaf")
        child = each.until("ready")[0].split()[1]
        if leaves == "close":
            each.line.close()
        else:
            said = {"garbage": b"\xff" * 4, "nonsense": wire.pack({"op": "emit", "args": {}}), "half": b"\0\0\0\x10{"}
            each.line.sendall(said[leaves])
        return [int(child), each.print.read().split()]

    child, said = conversation(house.path, work)
    assert said == ["INT", "TERM"]
    assert not is_alive(child)
    assert answer(house.path, "exit", "0")[0] == {"ok": {"exit": 0}}


def test_an_agent_that_stops_ends_its_commands(serve: Any) -> None:
    house = serve(Most(interrupted=0.1, terminated=0.1))
    ready, told = os.pipe()

    def work(each: Conversation) -> Any:
        each.start("deaf")
        each.until("ready")
        os.write(told, b"1")
        return [each.end(), each.print.read().split()]

    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(conversation(house.path, work)), daemon=True)
    caller.start()
    os.read(ready, 1)
    house.listener.stop()
    caller.join(30)
    assert found == [[{"ok": {"exit": 130}}, ["INT", "TERM"]]]
    assert not house.runs._by_uid
    os.close(ready)
    os.close(told)


def test_half_a_frame_keeps_no_command_from_ending_with_the_agent(serve: Any) -> None:
    house = serve(Most(interrupted=0.1, terminated=0.1, wait=3600))
    ready, told = os.pipe()

    def work(each: Conversation) -> Any:
        each.start("deaf")
        each.until("ready")
        each.line.sendall(b"\0\0")
        os.write(told, b"1")
        return [each.end(), each.print.read().split()]

    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(conversation(house.path, work)), daemon=True)
    caller.start()
    os.read(ready, 1)
    house.runs.stop()
    caller.join(60)
    assert found == [[{"ok": {"exit": 130}}, ["INT", "TERM"]]]
    os.close(ready)
    os.close(told)


def test_interrupts_come_in_pieces_or_several_at_once(serve: Any) -> None:
    house = serve(Most(interrupted=0.1, terminated=0.1))

    def work(each: Conversation) -> Any:
        each.start("deaf")
        each.until("ready")
        frame = wire.pack(INTERRUPT)
        for piece in (frame[:2], frame[2:9], frame[9:]):
            each.line.sendall(piece)
        each.until("INT")
        each.line.sendall(frame + wire.pack({"op": "emit", "args": {}}))
        return each.print.read().split()

    assert conversation(house.path, work)[-1] == "TERM"


def test_a_process_that_somebody_kills_is_told_as_an_error(serve: Any) -> None:
    house = serve()
    found = answer(house.path, "kill")[0]
    assert "was ended by signal 9" in found["error"]["message"]


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [Most(of_one=2), Most(in_all=2)])
def test_so_many_run_at_once_and_no_more(serve: Any, most: Most) -> None:
    house = serve(most)

    def work(first: Conversation) -> Any:
        second, third = Conversation(house.path), Conversation(house.path)
        for each in (first, second):
            each.start("wait")
            each.until("ready")
        refused = third.begin("exit", "0")
        wire.send(first.line, INTERRUPT)
        first.end()
        fourth = Conversation(house.path)
        while "error" in (found := fourth.begin("exit", "0")):  # until the place is given back
            fourth = Conversation(house.path)
        return [refused, found]

    refused, found = conversation(house.path, work)
    assert refused["error"]["kind"] == "BusyError"
    assert found == {"ok": {"send": 3}}


def test_many_commands_at_once_all_end_as_they_should(serve: Any) -> None:
    house = serve()
    found: dict[int, Any] = {}

    def caller(number: int) -> None:
        found[number] = answer(house.path, "exit", str(number))[0]

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == {number: {"ok": {"exit": number}} for number in range(4)}


def test_descriptors_that_never_come_take_a_place_for_a_moment_only(serve: Any) -> None:
    house = serve(Most(of_one=1, wait=0.1))

    def work(each: Conversation) -> Any:
        each.begin("exit", "0")
        return each.end()

    assert "TimeoutError" in conversation(house.path, work)["error"]["message"]
    assert answer(house.path, "exit", "3")[0] == {"ok": {"exit": 3}}
