"""From Enter on a correct code to the start of work, embedded and through the agent, on a terminal.

The worker is a process as `guard` is one: it opens the app, asks for a code on its terminal and goes through the door.
The time begins when Enter is written to the terminal and ends when the action's work begins, by one clock (monotonic).
Through the agent the caller is another OS user where this one is root, since the agent takes no call from root.
"""

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from bench.harness import Bar, Row
from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, set_up
from guard.client import Agent
from guard.clock import SteppedClock, SystemClock
from guard.daemon import runs
from guard.daemon.runs import Caller, Runs
from guard.daemon.socket import Listener

ROUNDS = 15
OTHER = 33
"""www-data of a Debian."""


def rows() -> list[Row]:
    """Return a row for each mode."""
    with tempfile.TemporaryDirectory(prefix="guard-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        door = _Door(Path(folder))
        try:
            found = [(mode, door.median(start)) for mode, start in door.modes]
        finally:
            door.listener.stop()
    return [
        Row(f"from Enter on a code to the start of work, {mode}", taken, None, "ms", Bar("ours", "<=", 150))
        for mode, taken in found
    ]


class _Door:
    """A small shop, its owner's phone, and an agent that runs the worker in guard's place."""

    def __init__(self, folder: Path) -> None:
        self._at = SystemClock().now() - timedelta(hours=2)
        self._secret = ""
        (folder / "shop.db").touch()
        answers = Answers("Bench", "sqlite:///../shop.db", "Ada", "bench")
        made = set_up(folder / "guard", answers, SteppedClock(self._at), self._enrol)
        made.app.close()
        self._config = made.config
        runs._SERVED = "bench._access_worker"  # type: ignore[misc]  # in guard's place
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        path = folder / "run/guard.sock"
        commands = Runs(self._config)
        self.listener = Listener(
            path, lambda _: "bench", {"run": lambda _, args: commands.take(Caller(OTHER, "bench"), args)}
        )
        self.listener.start()
        self._agent = Agent(path)
        self.modes = (("embedded", self._embedded), ("through the agent", self._through))

    def _enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self._secret = enrolment.secret_text
        return code_at(self._secret, self._at - timedelta(seconds=30)), code_at(self._secret, self._at)

    def median(self, start: Callable[[datetime], int]) -> float:
        """Return the median of all rounds but the first, in milliseconds."""
        return statistics.median([self._round(start) for _ in range(ROUNDS + 1)][1:])

    def _round(self, start: Callable[[datetime], int]) -> float:
        self._at += timedelta(seconds=30)
        "".encode("utf-16be")  # another OS user may not load it any more
        child, master = pty.fork()
        if child == 0:
            try:
                os._exit(start(self._at))
            finally:
                os._exit(1)
        said = b""
        while b"Code: " not in said:
            said += _read(master, said)
        time.sleep(0.05)  # the echo is off by then
        os.write(master, code_at(self._secret, self._at).encode())
        begun = time.monotonic_ns()
        os.write(master, b"\n")
        while b"BEGUN " not in said or not said.partition(b"BEGUN ")[2].endswith(b"\n"):
            said += _read(master, said)
        os.waitpid(child, 0)
        os.close(master)
        return (int(said.partition(b"BEGUN ")[2].split()[0]) - begun) / 1e6

    def _embedded(self, at: datetime) -> int:
        words = [sys.executable, "-m", "bench._access_worker", str(self._config), at.isoformat()]
        return subprocess.run(words, check=False).returncode

    def _through(self, at: datetime) -> int:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
        return self._agent.run([at.isoformat()])


def _read(master: int, said: bytes) -> bytes:
    try:
        found = os.read(master, 1 << 16)
    except OSError as error:
        raise RuntimeError(f"the worker ended: {said.decode()}") from error
    return found
