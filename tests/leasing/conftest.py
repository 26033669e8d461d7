"""Shops whose columns are sealed, with an agent of guard's own user."""

import getpass
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.clock import Clock, SteppedClock
from guard.daemon.socket import Listener
from tests.leasing.counter import CATALOG, GIVEN, SHOP, VAULT, Counter
from tests.telling.conftest import open_folder

__all__ = ["open_folder"]


@pytest.fixture
def make(tmp_path: Path, phone: Any, open_folder: Path) -> Iterator[Callable[..., Counter]]:
    """Set guard up beside a shop; nothing is sealed yet."""
    made: list[Counter] = []

    def counter(clock: Clock, url: str | None = None) -> Counter:
        where = url or f"sqlite:///{tmp_path}/shop.db"
        fill(where)
        for name in ("vault-one", "vault-two"):
            (tmp_path / name).mkdir(mode=0o700)
        done = set_up(tmp_path / "guard", Answers("Shop", where, "Ada", getpass.getuser()), phone.clock, phone.enrol)
        done.app.close()
        agent = f'\n[agent]\nsocket = "{open_folder}/agent/guard.sock"\n'
        done.config.write_text(done.config.read_text() + VAULT + agent)
        (tmp_path / "guard/policies/catalog.toml").write_text(CATALOG)
        policy = tmp_path / "guard/policies/access.toml"
        assert "[service.shop]" in policy.read_text()
        policy.write_text(re.sub(r"\[service\.shop\].*\n(?:.+\n)+", GIVEN, policy.read_text(), count=1))
        app = App.open(done.config, clock)
        digest = app.digest("catalog", CATALOG.encode())
        app.state.write(lambda tx: app.state.meta.set(tx, "privacy.catalog", digest))
        made.append(Counter(app, clock, where))
        return made[-1]

    yield counter
    for each in made:
        each.stop()
        each.app.close()


def fill(url: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as shop:
            shop.executescript(SHOP)
        return
    driver = "postgresql+psycopg:" if url.startswith("postgresql") else "mysql+pymysql:"
    engine = sa.create_engine(driver + url.partition(":")[2])
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if driver.startswith("mysql") else ""
    with engine.begin() as connection:
        for statement in re.sub(r"(VARCHAR\(\d+\))", rf"\1{exact}", SHOP).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def unsealed(make: Callable[..., Counter], clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A shop on SQLite, on a stepped clock; nothing of it is sealed, and no agent is there."""
    if os.geteuid() == 0:  # the tests' own process may call, though it is root's
        monkeypatch.setattr(Listener, "_make_room", lambda *_: None)
    return make(clock)


@pytest.fixture
def counter(unsealed: Counter) -> Counter:
    """The same with all of it sealed, and its agent at work."""
    unsealed.seal()
    unsealed.serve()
    return unsealed
