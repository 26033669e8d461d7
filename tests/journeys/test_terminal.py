"""A person at a real terminal, in real time: init with two codes, a privileged action with one, Ctrl-C half-way."""

import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard import demo
from guard.access import code_at
from guard.clock import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE = 120.0
PROMPT = "Code: "


@dataclass
class Terminal:
    """A process on a pseudo-terminal; what it wrote, and its exit code."""

    process: subprocess.Popen[bytes]
    master: int
    text: str = ""
    seen: int = field(default=0)

    def read(self, patience: float) -> bool:
        """Take what was written within `patience` seconds; False at the end."""
        ready, _, _ = select.select([self.master], [], [], patience)
        if not ready:
            return True
        try:
            found = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += found.decode(errors="replace")
        return bool(found)

    def until(self, pattern: str) -> re.Match[str]:
        """Read until something new fits `pattern`."""
        end = time.monotonic() + PATIENCE
        while not (found := re.compile(pattern).search(self.text, self.seen)):
            assert self.read(1), f"ended before {pattern!r}:\n{self.text}"
            assert time.monotonic() < end, f"no {pattern!r} in time:\n{self.text}"
        self.seen = found.end()
        return found

    def type(self, line: str) -> None:
        os.write(self.master, line.encode() + b"\n")

    def end(self) -> int:
        while self.read(1):
            pass
        return self.process.wait(PATIENCE)


@contextmanager
def guard(folder: Path, *words: str) -> Iterator[Terminal]:
    """Run `guard WORDS` in `folder` on a terminal of its own."""
    master, slave = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "guard", *words]
    process = subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill() if process.poll() is None else None
        process.wait()
        os.close(master)


def real_code(secret: str) -> str:
    return code_at(secret, SystemClock().now())


def test_init_and_a_privileged_action(tmp_path: Path) -> None:
    demo.make_shop(tmp_path / "shop.db", SystemClock().now(), size=demo.Size(50, 100))
    with guard(tmp_path, "init", "--name", "Shop", "--shop-url", "sqlite:///shop.db", "--admin", "Ada") as screen:
        secret = screen.until(r"type the secret: ([A-Z2-7]{32})").group(1)
        assert "█" in screen.text or "▀" in screen.text, "a QR code is drawn"
        screen.until("code it shows now")
        first = real_code(secret)
        screen.type(first)
        screen.until("next code")
        while (second := real_code(secret)) == first:
            screen.read(1)
        screen.type(second)
        assert screen.end() == 0
    assert len(re.findall(r"\b(?:[A-Z2-7]{4}-){3}[A-Z2-7]{4}\b", screen.text)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".gitignore", "anchors", "guard.toml", "keys", "policies", "recovery-kit", "runbooks", "shop.db", "var",
    ]  # fmt: skip

    with guard(tmp_path, "data", "scan") as screen:
        assert screen.end() in {0, 3}
    with guard(tmp_path, "data", "accept", "--yes") as screen:
        screen.until(PROMPT)
        screen.type(second)  # spent by init: refused
        assert screen.end() == 10
    with guard(tmp_path, "data", "accept", "--yes") as screen:
        screen.until(PROMPT)
        while (third := real_code(secret)) == second:
            screen.read(1)
        screen.type(third)
        assert screen.end() == 0
    assert secret not in screen.text
    assert third not in screen.text, "a code is not echoed"


def test_a_wrong_pair_of_codes_leaves_nothing_behind(tmp_path: Path) -> None:
    with guard(
        tmp_path, "init", "--name", "S", "--shop-url", "sqlite:///shop.db", "--admin", "Ada", "--later"
    ) as screen:
        screen.until("code it shows now")
        screen.type("000000")
        screen.until("next code")
        screen.type("000001")
        assert screen.end() == 10
    assert list(tmp_path.iterdir()) == []


def test_a_shop_that_does_not_answer_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with guard(tmp_path, "init", "--name", "S", "--shop-url", "sqlite:///shop.db", "--admin", "Ada") as screen:
        assert screen.end() == 13
    assert "shop.db does not exist" in screen.text
    assert "--later" in screen.text
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_init_asks(tmp_path: Path) -> None:
    with guard(
        tmp_path, "init", "--name", "S", "--shop-url", "sqlite:///shop.db", "--admin", "Ada", "--later"
    ) as screen:
        screen.until("code it shows now")
        os.write(screen.master, b"\x03")
        assert screen.end() == 130
    assert "Traceback" not in screen.text
    assert list(tmp_path.iterdir()) == []


def batches(shop: Path) -> int:
    with closing(sqlite3.connect(shop, timeout=30)) as file:
        try:
            return int(file.execute("SELECT count(*) FROM guard_progress WHERE number > 0").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.fixture
def desk(make_desk: Callable[..., Any]) -> Any:
    """A sample shop big enough that sealing it takes seconds."""
    desk = make_desk("sqlite:///shop.db", demo=True)
    demo.make_shop(desk.home / "shop.db", desk.clock.now(), size=demo.Size(8_000, 24_000))
    desk.run("data", "scan")
    for line in ("data accept --yes", "backup init", "backup run"):
        desk.guard(line)
    return desk


def test_ctrl_c_while_sealing_and_a_second_run(desk: Any) -> None:
    shop = desk.home / "shop.db"
    with guard(desk.home, "fields", "encrypt") as screen:
        screen.until(PROMPT)
        screen.type(desk.recovery_codes[0])
        while batches(shop) < 3:
            assert screen.read(0.01), screen.text
        os.write(screen.master, b"\x03")
        assert screen.end() == 130
    assert "Traceback" not in screen.text
    assert "go on" in screen.text

    desk.clock.step(SystemClock().now() - desk.clock.now() + timedelta(minutes=1))
    assert desk.entries()[-1]["outcome"] == "interrupted"
    assert {row["state"] for row in desk.json("fields status", expect=3)} != {"sealed"}
    desk.guard("fields encrypt")
    desk.guard("fields verify")
    assert {row["state"] for row in desk.json("fields status")} == {"sealed"}


def test_ctrl_c_while_backing_up_and_a_second_run(desk: Any) -> None:
    objects = desk.home / "backups/packs"
    with guard(desk.home, "backup", "run") as screen:
        before = len(list(objects.rglob("*")))
        while screen.process.poll() is None and "shop" not in screen.text and len(list(objects.rglob("*"))) == before:
            screen.read(0.002)
        os.write(screen.master, b"\x03")
        code = screen.end()
    assert "Traceback" not in screen.text
    desk.clock.step(SystemClock().now() - desk.clock.now() + timedelta(minutes=1))
    if code == 130:
        assert desk.entries()[-1]["outcome"] in {"interrupted", "resolved"}
    desk.guard("backup run")
    desk.guard("backup verify --data")


def test_a_killed_run_is_resolved_by_the_next(desk: Any) -> None:
    shop = desk.home / "shop.db"
    with guard(desk.home, "fields", "encrypt") as screen:
        screen.until(PROMPT)
        screen.type(desk.recovery_codes[1])
        while batches(shop) < 3:
            assert screen.read(0.01), screen.text
        screen.process.send_signal(signal.SIGKILL)
        screen.process.wait()
    desk.clock.step(SystemClock().now() - desk.clock.now() + timedelta(minutes=1))
    desk.guard("fields encrypt")
    resolved = [entry for entry in desk.entries() if entry["outcome"] == "resolved"]
    assert [entry["facts"] for entry in resolved] == [{"was": "partly"}]
    assert resolved[0]["counts"]["rows"] > 0
    desk.guard("fields verify")
