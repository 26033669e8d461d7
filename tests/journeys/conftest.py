"""A desk: a guard folder set up for a real shop, driven through the command line on a stepped clock."""

import getpass
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.cli.main import call
from guard.clock import SteppedClock


@dataclass
class Desk:
    """One shop's guard folder, and the administrator at its keyboard."""

    home: Path
    clock: SteppedClock
    phone: Any
    capsys: pytest.CaptureFixture[str]
    recovery_codes: list[str] = field(default_factory=list)
    answer: Callable[[str], str] | None = None
    """What answers the question for a code; the phone by default."""
    out: str = ""
    err: str = ""

    def __post_init__(self) -> None:
        self.answer = self.phone.code

    def app(self) -> App:
        return App.open(self.home / "guard.toml", self.clock, self.answer)

    def run(self, *words: str) -> int:
        """Run `guard WORDS` and keep what it printed."""
        app = self.app()
        try:
            self.capsys.readouterr()
            code = call([*words], app)
        finally:
            app.close()
        self.out, self.err = self.capsys.readouterr()
        return int(code)

    def guard(self, line: str, expect: int = 0) -> str:
        """Run a line of words and return its stdout; the exit code must be `expect`."""
        code = self.run(*line.split())
        assert code == expect, f"guard {line}: exit {code}\n{self.err}\n{self.out}"
        return self.out

    def json(self, line: str, expect: int = 0) -> Any:
        return json.loads(self.guard(f"--json {line}", expect))

    def entries(self) -> list[Any]:
        """The whole ledger."""
        return list(self.json("audit list --limit 10000"))

    def toml(self, old: str, new: str, name: str = "guard.toml") -> None:
        path = self.home / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def make_desk(
    tmp_path: Path, clock: SteppedClock, phone: Any, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Desk]:
    """Set guard up beside a shop and return the desk."""

    def make(url: str, **answers: Any) -> Desk:
        home = tmp_path / "guard"
        made = set_up(home, Answers("Shop", url, "Ada", getpass.getuser(), **answers), clock, phone.enrol)
        made.app.close()
        return Desk(home, clock, phone, capsys, list(made.recovery_codes))

    return make


def build_northwind(script: Path, target: Path) -> None:
    """Make the Northwind shop from its script."""
    with closing(sqlite3.connect(target)) as shop:
        shop.executescript(script.read_text())
