"""Beside an agent of another OS user: what its people do, and what nobody of them can.

The agent is `games`, its people are `www-data`; `bin` is nobody guard knows. All processes are real ones.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from guard import wire
from guard.app import App
from guard.audit import Entry
from guard.client import Agent
from guard.errors import Exit
from tests.telling.shop import as_user, needs_root
from tests.telling.test_socket import Held
from tests.telling.users import AGENT, PERSON, STRANGER, Beside, Terminal, beside, environment, python

pytestmark = [pytest.mark.slow, needs_root]


@pytest.fixture(scope="module")
def shared_shop() -> Iterator[Beside]:
    """One shop for all: setting one up takes longer than most of what is tried here."""
    if (program := python()) is None:
        pytest.skip("no Python here that another OS user may run")
    folder = Path(tempfile.mkdtemp(prefix="guard-agent-", dir="/tmp"))
    folder.chmod(0o755)
    with beside(folder, program) as made:
        yield made
    shutil.rmtree(folder)


@pytest.fixture
def shop(shared_shop: Beside) -> Beside:
    """The shop, with an agent that runs."""
    if shared_shop.daemon is None or shared_shop.daemon.poll() is not None:
        shared_shop.start()
    return shared_shop


def entries(shop: Beside) -> list[Entry]:
    app = App.open(shop.house.config)
    try:
        return list(app.ledger.entries())
    finally:
        app.close()


def ended(shop: Beside, what: str) -> list[tuple[str, str]]:
    """Who did it, and how it ended, of every entry about an action."""
    names = {each.id: each.name for each in people(shop)}
    return [(names.get(each.who, each.who), str(each.outcome)) for each in entries(shop) if each.what == what]


def people(shop: Beside) -> Any:
    app = App.open(shop.house.config)
    try:
        return app.access.people()
    finally:
        app.close()


def path_of(shop: Beside) -> Path:
    return shop.folder / "run/guard.sock"


# What people do -------------------------------------------------------------------------------------------------------


def test_a_person_works_as_if_guard_were_theirs(shop: Beside) -> None:
    """Looks, JSON, exit codes, a code on the terminal, a file in the exchange; recorded under their name."""
    code, out, _ = shop.run("access", "list", "--json")
    assert (code, {each["os_user"] for each in json.loads(out)} >= {PERSON}) == (0, True)
    assert shop.run("status")[0] in {0, 3}
    code, out, err = shop.run("nonsense")
    assert (code, "No such command" in err) == (2, True)
    screen = shop.terminal("backup", "init")
    assert "make a repository in store local" in screen.until("Code: ")
    assert not screen.echoes
    screen.type("\x1a")  # Ctrl-Z: the command would go on reading what is typed to the shell
    typed = shop.phone.code()
    screen.type(f"{typed}\n")
    assert screen.wait() == 0
    assert typed not in screen.screen
    assert screen.echoes
    assert ended(shop, "backup.init")[-1] == ("Grace", "done")
    shop.exchange.joinpath("out").mkdir(mode=0o755)
    os.chown(shop.exchange / "out", pwd.getpwnam(AGENT).pw_uid, -1)
    code, out, err = shop.run("report", "build", "--out", str(shop.exchange / "out/report.html"))
    assert (code in {0, 3}, out.strip()) == (True, str(shop.exchange / "out/report.html")), err
    mode = json.loads(shop.run("doctor", "--json")[1])[-1]["detail"]
    assert "embedded" not in mode or "go through the agent" in mode


def test_without_a_terminal_a_code_cannot_be_given(shop: Beside) -> None:
    code, _, err = shop.run("backup", "init", given="123456\n")
    assert (code, "no terminal" in err) == (Exit.DENIED, True)
    assert ended(shop, "backup.init")[-1] == ("Grace", "denied")


def test_pipes_pass_what_a_command_reads_and_writes(shop: Beside) -> None:
    told = json.dumps({"what": "order.read", "at": "2026-01-05T08:59:00+00:00", "class": "read", "actor": "anna"})
    code, _, err = shop.run("audit", "ingest", "-", given=told + "\n")
    assert (code, "1 events taken" in err) == (0, True)
    code, out, _ = shop.run("audit", "export", "--ocsf", "--limit", "3")
    assert (code, len(out.splitlines())) == (0, 3)


def test_a_command_in_the_background_does_not_read_what_is_typed_to_the_shell(shop: Beside) -> None:
    words = " ".join([*shop.words, "backup", "init"])
    screen = Terminal(["sh", "-mc", f"{words} & wait"], PERSON, env=environment(TERM="xterm"), cwd="/")
    shop.opened.append(screen)
    assert screen.shows("no terminal")
    screen.wait()
    assert "Code" not in screen.all


@pytest.mark.parametrize("command", [["daemon"], ["state", "restore"], ["state", "migrate"]])
def test_what_only_guards_own_user_can_do_names_that_user(shop: Beside, command: list[str]) -> None:
    code, _, err = shop.run(*command)
    assert (code, f"sudo -u {AGENT} guard {' '.join(command)}" in err) == (Exit.INTERLOCK, True)


def test_ctrl_c_at_the_code_gives_the_terminal_back_as_it_was(shop: Beside) -> None:
    screen = shop.terminal("backup", "init")
    screen.until("Code: ")
    assert not screen.echoes
    screen.type("\x03")
    assert screen.wait() == Exit.INTERRUPTED
    assert screen.echoes
    assert "guard: interrupted" in screen.all
    assert "Traceback" not in screen.all
    assert ended(shop, "backup.init")[-1] == ("Grace", "gate failed")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_person_who_is_gone_leaves_neither_a_process_nor_a_silent_terminal(shop: Beside, how: signal.Signals) -> None:
    screen = shop.terminal("backup", "init")
    screen.until("Code: ")
    screen.process.send_signal(how)
    screen.process.wait(60)
    screen.until("guard: interrupted")
    assert screen.echoes
    assert ended(shop, "backup.init")[-1] == ("Grace", "gate failed")


def test_ctrl_c_within_the_work_ends_it_between_two_steps_and_is_recorded(shop: Beside) -> None:
    screen = shop.terminal("backup", "init")
    screen.until("Code: ")
    screen.type(f"{shop.phone.code()}\n")
    assert screen.wait() == 0
    with closing(sqlite3.connect(shop.folder / "shop/shop.db")) as made:  # a backup of it takes a while
        made.execute("CREATE TABLE picture (id INTEGER PRIMARY KEY, body BLOB)")
        made.executemany("INSERT INTO picture (body) VALUES (randomblob(?))", [(1_000_000,)] * 100)
        made.commit()
    screen = shop.terminal("backup", "run")
    screen.until("shop ")
    screen.type("\x03")
    assert screen.wait() == Exit.INTERRUPTED
    assert "stopping after this step" in screen.all
    assert ended(shop, "backup.run")[-1] == ("Grace", "interrupted")


def test_an_agent_that_is_killed_takes_its_commands_with_it(shop: Beside) -> None:
    screen = shop.terminal("backup", "init")
    screen.until("Code: ")
    shop.daemon.kill()
    assert screen.wait() == Exit.UNAVAILABLE
    assert screen.shows("guard: interrupted")
    assert screen.shows("went away while it worked for you")
    assert screen.echoes
    code, _, err = shop.run("status")
    assert (code, "no agent answers" in err) == (Exit.UNAVAILABLE, True)


def test_an_agent_that_stops_ends_its_commands_first(shop: Beside) -> None:
    screen = shop.terminal("backup", "init")
    screen.until("Code: ")
    shop.daemon.send_signal(signal.SIGTERM)
    assert screen.wait() == Exit.INTERRUPTED
    assert screen.echoes
    assert shop.daemon.wait(60) == Exit.DONE


# What nobody can ------------------------------------------------------------------------------------------------------


def test_a_person_reads_neither_key_nor_state(shop: Beside) -> None:
    home = shop.house.home

    def reach() -> list[str]:
        found = []
        for path in ("keys/root.key", "var/state.db", "var", "keys", "recovery-kit"):
            try:
                _ = list((home / path).iterdir()) if (home / path).is_dir() else (home / path).read_bytes()
                found.append(path)
            except PermissionError:
                pass
        return found

    assert as_user(PERSON, reach) == {"ok": []}
    assert as_user(AGENT, reach)["ok"]
    key = str(home / "keys/root.key")
    before = Path(key).read_bytes()
    for command in (
        ["audit", "ingest", key],
        ["audit", "ingest", "../exchange/../shop/guard/keys/root.key"],
        ["data", "accept", "--yes", "--from", "/proc/self/fd/0"],
        ["report", "build", "--out", key],
        ["audit", "export", "--ocsf", "--out", key],
    ):
        code, out, err = shop.run(*command)
        assert (code, out, "the agent does not use" in err) == (Exit.USAGE, "", True), (command, err)
    assert Path(key).read_bytes() == before


def test_a_person_is_nobody_else_whatever_they_say(shop: Beside) -> None:
    """Arguments, environment, the name of a service, members of the question."""
    path = path_of(shop)
    tricked = environment(USER="root", LOGNAME="root", USERNAME="root", SUDO_USER="root", HOME="/root")
    done = subprocess.run(
        [*shop.words, "audit", "export", "--ocsf", "--limit", "1"], env=tricked, user=PERSON, group=PERSON,
        extra_groups=[], capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0

    def ask(args: Any, service: str | None = None) -> Any:
        def work() -> Any:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(60)
                line.connect(str(path))
                hello = {"op": "hello", "oldest": 1, "newest": 1}
                wire.send(line, hello if service is None else hello | {"service": service})
                if "error" in (met := wire.receive(line)):
                    return met
                wire.send(line, {"op": "run", "args": args})
                if "error" in (first := wire.receive(line)):
                    return first
                out, into = os.pipe()
                socket.send_fds(line, [b"\0"], [os.open(os.devnull, os.O_RDONLY), into, into])
                ended = wire.receive(line)
                os.close(into)
                with os.fdopen(out) as print_:
                    return [ended, print_.read()]

        return as_user(PERSON, work)["ok"]

    who = {"os_user": "root", "who": "root", "uid": 0, "config": "/tmp/guard.toml", "env": {"USER": "root"}}
    assert ask({"argv": ["audit", "export", "--ocsf", "--limit", "1"], **who})[0] == {"ok": {"exit": 0}}
    assert {name for name, _ in ended(shop, "audit.export")} == {"Grace"}
    assert "is not the service daemon" in ask({"argv": ["status"]}, "daemon")["error"]["message"]
    assert "is not the service shop" in ask({"argv": ["status"]}, "shop")["error"]["message"]
    for argv, said in (
        (["daemon"], "does not run `guard daemon`"),
        (["init", "/tmp/x"], "does not run `guard init`"),
        (["config", "show"], "does not run `guard config`"),
        (["run", "--due"], "does not run `guard run --due`"),
    ):
        ended_, said_ = ask({"argv": argv})
        assert (ended_, said in said_) == ({"ok": {"exit": Exit.INTERLOCK}}, True), said_
    ended_, said_ = ask({"argv": ["--config", "/etc/shadow", "access", "list"]})
    assert (ended_, PERSON in said_) == ({"ok": {"exit": 0}}, True)
    ended_, said_ = ask({"argv": ["--config", "/nowhere/guard.toml", "access", "list"]})
    assert ended_ == {"ok": {"exit": 0}}


def test_root_and_os_users_nobody_knows_are_sent_away(shop: Beside) -> None:
    code, _, err = shop.run("status", user=STRANGER)
    assert (code, "nobody guard knows" in err) == (Exit.DENIED, True)
    code, _, err = shop.run("status", user="root")
    assert (code, "no call from uid 0" in err) == (Exit.DENIED, True)
    assert ("guard", "denied") in ended(shop, "access.enter")


def test_garbage_idle_crowds_and_huge_frames_keep_nobody_waiting(shop: Beside) -> None:
    path = path_of(shop)

    def crowd() -> list[socket.socket]:
        made = []
        for number in range(5000):
            line = socket.socket(socket.AF_UNIX)
            line.setblocking(False)
            if line.connect_ex(str(path)):
                line.close()
                continue
            made.append(line)
            said = (b"", b"\xff" * 4, b"\0\x10\0\0" + b"x" * 1000, wire.pack({"op": "run", "args": {}}))
            with suppress(OSError):
                line.send(said[number % 4])
            if len(made) > 900:
                made.pop(0).close()
        return made

    with Held(STRANGER, crowd):
        code, out, err = shop.run("access", "list", "--json")
        assert (code, bool(json.loads(out))) == (0, True), err
    assert shop.daemon.poll() is None


def test_several_people_work_at_once(shop: Beside) -> None:
    begun = [
        subprocess.Popen(
            [*shop.words, "access", "list", "--json"], user=PERSON, group=PERSON, extra_groups=[], env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    outs = [each.communicate(timeout=60)[0] for each in begun]
    assert [each.returncode for each in begun] == [0] * 4
    assert all(json.loads(out) for out in outs)


def test_newer_and_older_clients(shop: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version N + 1 alone is told what to do; who speaks N + 1 and N speaks N."""
    path = path_of(shop)

    def run() -> Any:
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), 1)
        return Agent(path).run(["access", "list"])

    monkeypatch.setattr(wire, "VERSION", 2)
    assert as_user(PERSON, run) == {"ok": 0}
    monkeypatch.setattr(wire, "OLDEST", 2)
    found = as_user(PERSON, run)
    assert (found["error"], "speaks version 1, its client 2" in found["text"]) == ("ConfigError", True)
    assert "install the same guard" in found["hint"]


def test_the_command_line_opens_neither_app_nor_database_here(shop: Beside) -> None:
    """What `guard` loads where the agent does the work: no key is opened here, so nothing that could is loaded."""
    code = (
        "import sys; from guard.cli.main import call;"
        f"done = call(['--config', {str(shop.house.config)!r}, 'access', 'list']);"
        "print(done, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [shop.program, "-c", code], user=PERSON, group=PERSON, extra_groups=[], env=environment(), capture_output=True,
        text=True,
    )  # fmt: skip
    status, *loaded = done.stderr.split()
    assert status == "0"
    assert PERSON in done.stdout
    heavy = {"sqlalchemy", "cryptography", "boto3", "guard.app", "guard.state", "guard.crypto", "guard.audit", "pyotp"}
    assert not heavy & set(loaded)
    assert "guard.client" in loaded
    assert sys.modules["guard.app"]
