"""SIGKILL at every fault point of sealing, rotation, finishing, shredding and opening again: the next run is row-exact.

Each command runs once in a child that tells which points it passes. Then it starts again from the same files, is killed
at one of them, and is run a second time: nothing may be lost, nothing left open, and the ledger must be whole.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # fork beside idle threads of other tests

COLUMNS = ("Email", "Fax", "Phone")
VAULT = '\n[[vault]]\nname = "{0}"\npath = "{1}/{0}"\n'
SHREDDED = 5
"""The customer who is forgotten; has an e-mail address and a phone number."""


@dataclass(frozen=True)
class Step:
    """A command, what is done before it, and how it is gone on with after a kill."""

    name: str
    before: tuple[str, ...]
    line: str
    again: str = ""

    @property
    def second(self) -> str:
        return self.again or self.line


ENCRYPT = "fields encrypt Customer.Email Customer.Fax Customer.Phone"
SEALED = (ENCRYPT,)
STEPS = (
    Step("encrypt", (), ENCRYPT),
    Step("rotate", SEALED, "keys rotate Customer.Fax", "fields encrypt"),
    Step("rotate-index", SEALED, "keys rotate index/{email}/email", "fields encrypt"),
    Step("finalize", SEALED, "fields finalize"),
    Step("shred", SEALED, f"keys shred customer {SHREDDED} --yes"),
    Step("decrypt", (*SEALED, "wait: fields decrypt Customer.Email Customer.Fax --yes"),
         "fields decrypt Customer.Email Customer.Fax --yes"),
)  # fmt: skip

AT_CLOSE = "crypto.budget.dropped"
"""Passed when the program closes, its work recorded as done: there is nothing to go on with."""
POINTS = {
    "encrypt": {
        "fields.encrypt.keys",
        "fields.encrypt.saved",
        "fields.index.filled",
        "fields.batch.written",
        "fields.batch.committed",
        "fields.column.swept",
    },
    "rotate": {"keys.rotate.made", "keys.rotate.saved", "keys.rotate.current", "fields.batch.written"},
    "rotate-index": {"keys.rotate.current", "fields.index.added", "fields.index.flipped", "fields.index.dropped"},
    "finalize": {"shop.scrub.rewritten", "shop.scrub.statistics"},
    "shred": {"keys.shred.wiped", "keys.shred.step"},
    "decrypt": {"fields.batch.written", "fields.column.swept", "fields.column.unguarded"},
}
"""What each command must have been killed at, at least."""


class Yard:
    """A shop under guard in one folder that can be put back as it was."""

    def __init__(self, desk: Any, folder: Path) -> None:
        self.desk = desk
        self.folder = folder
        self.shop = folder / "shop.db"
        with closing(sqlite3.connect(self.shop)) as file:
            file.execute("CREATE UNIQUE INDEX one_address ON Customer (Email)")
            self.plain = {
                row[0]: row[1:] for row in file.execute(f"SELECT CustomerId, {', '.join(COLUMNS)} FROM Customer")
            }
        for name in ("one", "two"):
            (folder / name).mkdir(mode=0o700)
            with (desk.home / "guard.toml").open("a") as settings:
                settings.write(VAULT.format(name, folder))
        desk.one_is_enough()
        self._accept()
        desk.guard("backup init")

    def _accept(self) -> None:
        self.desk.run("data", "scan")
        path = self.desk.home / "policies/catalog.proposed.toml"
        head, at, rest = path.read_text().partition('at = "Customer.Phone"')
        path.write_text(head + at + rest.replace('bind = "row"', 'bind = "subject"', 1))
        self.desk.guard("data accept --yes")
        ids = {column.name: column.id for column in self.desk.app().catalog.column if column.table == "Customer"}
        self.email = ids["Email"]

    def run(self, line: str) -> None:
        """Run a line. "wait:" is refused for now, and a day passes."""
        self.desk.clock.step(timedelta(minutes=2))
        _, _, rest = line.partition("wait: ")
        if rest:
            self.desk.guard(rest, expect=14)
            self.desk.clock.step(timedelta(hours=24))
            return
        self.desk.guard(line.format(email=self.email))

    def keep(self, into: Path) -> None:
        shutil.copytree(self.folder, into, symlinks=True)

    def put_back(self, kept: Path) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(kept, self.folder, symlinks=True)

    def rows(self) -> dict[int, tuple[Any, ...]]:
        """Every row, opened, read through guard as another room would."""
        app = self.desk.app()
        try:
            openers = [app.fields.opener(f"Customer.{name}") for name in COLUMNS]
            with closing(sqlite3.connect(self.shop)) as file:
                stored = file.execute(f"SELECT CustomerId, {', '.join(COLUMNS)} FROM Customer").fetchall()
            return {
                row[0]: tuple(read((row[0],), value) for read, value in zip(openers, row[1:], strict=True))
                for row in stored
            }
        finally:
            app.close()

    def check(self, step: Step) -> None:
        """Everything is whole: rows, seals, ledger; nothing stands open."""
        rows, plain = self.rows(), dict(self.plain)
        if step.name == "shred":
            assert rows[SHREDDED][2] != plain[SHREDDED][2]
            rows.pop(SHREDDED)
            plain.pop(SHREDDED)
        assert rows == plain
        assert self.desk.run("fields", "verify") in {0, 3}, self.desk.err
        assert self.desk.run("audit", "verify") in {0, 15}, self.desk.err
        assert not self.desk.app().state.open_runs()
        self.desk.look_over()
        with closing(sqlite3.connect(self.shop)) as file:
            assert file.execute(
                "SELECT count(*) FROM guard_progress WHERE number = 0 AND state = 'open'"
            ).fetchone() == (0,)
            emails = [row[0] for row in file.execute("SELECT Email FROM Customer") if row[0]]
            if step.name == "finalize":
                assert all(email.startswith("g1.") for email in emails)


@pytest.fixture
def yard(shared: Path, tmp_path: Path, make_desk: Callable[..., Any]) -> Yard:
    shutil.copyfile(shared / "data/chinook/chinook.sqlite", tmp_path / "shop.db")
    return Yard(make_desk(f"sqlite:///{tmp_path}/shop.db"), tmp_path)


def chosen(points: list[str], most: int) -> list[int]:
    """Return places (from 1) to be killed at: the first and last passing of each point, spread to at most `most`."""
    passed = [(place, name) for place, name in enumerate(points, 1) if name != AT_CLOSE]
    first = {name: place for place, name in reversed(passed)}
    last = {name: place for place, name in passed}
    places = sorted({*first.values(), *last.values()})
    return places if len(places) <= most else [places[at * len(places) // most] for at in range(most)]


def kills(yard: Yard, step: Step, fault_points: Any, kept: Path, most: int) -> Iterator[str]:
    for line in step.before:
        yard.run(line)
    yard.keep(kept)
    now = yard.desk.clock.now()
    points = fault_points.passed(lambda: yard.run(step.line))
    assert points, f"{step.line} passes no fault point"
    for place in chosen(points, most):
        yard.put_back(kept)
        assert fault_points.killed(lambda: yard.run(step.line), place), f"not killed at {place} {points[place - 1]}"
        yard.desk.clock.step(timedelta(minutes=5))
        yard.run(step.second)
        yard.check(step)
        yield points[place - 1]
    assert yard.desk.clock.now() > now


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_killed_command_is_finished_by_the_next_run(
    step: Step, yard: Yard, fault_points: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    most = int(os.environ.get("GUARD_KILLS", "4"))
    assert list(kills(yard, step, fault_points, tmp_path_factory.mktemp("kept") / "yard", most))


@pytest.mark.soak
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_kill_at_every_point_is_gone_on_with(
    step: Step, yard: Yard, fault_points: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = list(kills(yard, step, fault_points, tmp_path_factory.mktemp("kept") / "yard", 1000))
    assert POINTS[step.name] <= set(done)
