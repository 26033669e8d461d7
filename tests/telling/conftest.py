"""A shop whose programs and files tell guard what they did."""

import getpass
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.cli.main import call
from guard.clock import Clock, SteppedClock
from tests.telling.shop import CATALOG, SHOP, VAULT, House


@pytest.fixture
def make_house(tmp_path: Path, phone: Any) -> Iterator[Callable[..., House]]:
    """Set guard up in a folder; `vault` and `more` are what guard.toml says of it beside the rest."""
    houses: list[House] = []

    def make(
        clock: Clock, vault: str = VAULT, more: str = "", root: Path | None = None, state: str | None = None
    ) -> House:
        root = root or tmp_path / f"house{len(houses)}"
        root.mkdir(exist_ok=True)
        with closing(sqlite3.connect(root / "shop.db")) as made:
            made.executescript(SHOP)
        for name in ("vault-one", "vault-two"):
            (root / name).mkdir(mode=0o700)
        answers = Answers("Shop", "sqlite:///../shop.db", "Ada", getpass.getuser())
        own = type(phone)(clock) if isinstance(clock, SteppedClock) else phone
        found = set_up(root / "guard", answers, clock, own.enrol)
        found.app.close()
        found.config.write_text(found.config.read_text() + vault + more)
        house = House(App.open(found.config, clock, own.code), clock, own)
        houses.append(house)
        raw = CATALOG.encode()
        (house.home / "policies/catalog.toml").write_bytes(raw)
        digest = house.app.digest("catalog", raw)
        house.app.state.write(lambda tx: house.app.state.meta.set(tx, "privacy.catalog", digest))
        return house

    yield make
    for each in houses:
        each.app.close()


@pytest.fixture
def house(make_house: Callable[..., House], clock: SteppedClock) -> House:
    """The shop, on a stepped clock."""
    return make_house(clock)


@pytest.fixture
def run(house: House, capsys: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Run `guard WORDS` in the house; `out` and `err` keep what it printed."""

    def run_(*words: str) -> int:
        capsys.readouterr()
        code = call([*words], house.app)
        house.out, house.err = capsys.readouterr()
        return int(code)

    return run_


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every OS user can reach, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="guard-agent-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
