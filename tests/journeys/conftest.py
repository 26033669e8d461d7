"""A desk: a guard folder set up for a real shop, driven through the command line on a stepped clock."""

import getpass
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.cli.main import call
from guard.clock import SteppedClock
from tests.journeys._public import Watch, look_over


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
    watch: Watch = field(default_factory=Watch)
    """What the shop held in clear before each command."""
    out: str = ""
    err: str = ""

    def __post_init__(self) -> None:
        self.answer = self.phone.code

    def app(self) -> App:
        return App.open(self.home / "guard.toml", self.clock, self.answer)

    def run(self, *words: str) -> int:
        """Run `guard WORDS` and keep what it printed."""
        if self.is_file or words[0] == "data":
            self.watch.look(self.home)
        app = self.app()
        try:
            self.capsys.readouterr()
            code = call([*words], app)
        finally:
            app.close()
        self.out, self.err = self.capsys.readouterr()
        if {"audit", "report"} & set(words) and "--payloads" not in words:
            self.watch.told[" ".join(words)] = self.out.encode()
        return int(code)

    @property
    def is_file(self) -> bool:
        """Whether the shop is a file, which costs little to look at."""
        return 'url = "sqlite' in (self.home / "guard.toml").read_text()

    def look_over(self) -> None:
        """Raise AssertionError when something public of this folder holds somebody's data."""
        look_over(self.home, lambda _: self.watch)

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

    def one_is_enough(self) -> None:
        """Let the policy ask for one person, who waits a day: nobody else has an OS user here."""
        self.toml("people = 2", "people = 1", "policies/access.toml")


@pytest.fixture(autouse=True)
def watches(tmp_path: Path) -> Iterator[dict[Path, Watch]]:
    """What the shops of this test held in clear, by guard folder. At its end nothing of it is in what is public."""
    found: dict[Path, Watch] = {}
    yield found
    look_over(tmp_path, lambda home: found.setdefault(home, Watch()))


@pytest.fixture
def make_desk(
    tmp_path: Path,
    clock: SteppedClock,
    phone: Any,
    capsys: pytest.CaptureFixture[str],
    watches: dict[Path, Watch],
) -> Callable[..., Desk]:
    """Set guard up beside a shop and return the desk."""

    def make(url: str, **answers: Any) -> Desk:
        home = tmp_path / "guard"
        made = set_up(home, Answers("Shop", url, "Ada", getpass.getuser(), **answers), clock, phone.enrol)
        made.app.close()
        desk = Desk(home, clock, phone, capsys, list(made.recovery_codes))
        watches[home] = desk.watch
        desk.watch.look(home)
        return desk

    return make


@dataclass(frozen=True)
class Kept:
    """A desk as it was when it was made, with its shop beside it: everything in one folder, and no path absolute."""

    folder: Path
    at: datetime
    secret: str
    codes: tuple[str, ...]
    watch: Watch


@pytest.fixture(scope="session")
def kept_desks() -> dict[str, Kept]:
    """The desks that were made so far, by name."""
    return {}


@pytest.fixture
def once(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    kept_desks: dict[str, Kept],
    watches: dict[Path, Watch],
    clock: SteppedClock,
    phone: Any,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, Callable[[], Desk]], Desk]:
    """Make a desk the first time its name is asked for; after that give a copy of it as it was then."""

    def give(name: str, make: Callable[[], Desk]) -> Desk:
        home = tmp_path / "guard"
        kept = kept_desks.get(name)
        if kept is None:
            desk = make()
            folder = tmp_path_factory.mktemp("kept") / "desk"
            shutil.copytree(tmp_path, folder, symlinks=True)
            codes = tuple(desk.recovery_codes)
            kept_desks[name] = Kept(folder, clock.now(), phone.secret, codes, desk.watch.copy())
            return desk
        shutil.copytree(kept.folder, tmp_path, symlinks=True, dirs_exist_ok=True)
        clock.step(kept.at - clock.now())
        phone.secret = kept.secret
        watches[home] = kept.watch.copy()
        return Desk(home, clock, phone, capsys, list(kept.codes), watch=watches[home])

    return give


def build_northwind(script: Path, target: Path) -> None:
    """Make the Northwind shop from its script."""
    with closing(sqlite3.connect(target)) as shop:
        shop.executescript(script.read_text())
