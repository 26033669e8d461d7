"""A rotation while the shop writes: new values have the new key within a second, and the old one ends last of all."""

import getpass
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.access import Enrolment, code_at
from guard.actions import Caller, perform
from guard.actions.backup import INIT, RUN
from guard.actions.data import ACCEPT
from guard.actions.fields import ENCRYPT
from guard.actions.keys import RETIRE
from guard.actions.rotate import ROTATE
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.canon import key_bytes
from guard.clock import SteppedClock, SystemClock
from guard.crypto.envelope import from_text, key_id_of
from guard.errors import InterlockError
from guard.fields.keys import FieldKeys
from guard.fields.lease import STALE, TERM
from tests.actions.test_keys import CATALOG

CLOCK = SystemClock()
WRITERS = 2


class Shop:
    """A shop with many customers, its guard folder, and the processes that write to it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.rows = rows
        self.file, self.home, self.log = folder / "shop.db", folder / "home", folder / "log"
        with closing(self.connect()) as shop:
            shop.execute("PRAGMA journal_mode = WAL")
            shop.execute("CREATE TABLE Customer (CustomerId INTEGER PRIMARY KEY, Email TEXT, Phone TEXT)")
            shop.executemany(
                "INSERT INTO Customer (Email) VALUES (?)", ((f"customer{n}@example.org",) for n in range(rows))
            )
            shop.commit()
        made = set_up(self.home, Answers("Shop", f"sqlite:///{self.file}", "Ada", getpass.getuser()), CLOCK, _enrol)
        self.codes, self.config = list(made.recovery_codes), made.config
        made.app.close()
        self.children: list[int] = []
        (self.home / "catalog.toml").write_text(CATALOG)
        self.perform(ACCEPT, source=str(self.home / "catalog.toml"))
        self.perform(INIT)
        self.perform(RUN)
        self.perform(ENCRYPT, columns=["Customer.Email"])

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=60)

    def perform(self, action: Any, clock: Any = CLOCK, **args: Any) -> Any:
        app = App.open(self.config, clock)
        try:
            caller = Caller(app.access.person_of(getpass.getuser()), ask=lambda _: self.codes.pop())
            return perform(app, caller, action, **args)
        finally:
            app.close()

    def start_writers(self, first: int) -> None:
        for number in range(WRITERS):
            child = os.fork()
            if child == 0:
                try:
                    self._write(first + number * 10_000_000)
                finally:
                    os._exit(1)
            self.children.append(child)

    def stop_writers(self) -> None:
        (self.home / "stop").touch()
        for child in self.children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        self.children = []

    def _write(self, number: int) -> None:
        """Insert and change customers until told to stop; note when each was sealed, and under which key."""
        keys, rows = FieldKeys.open(self.config), []
        with closing(self.connect()) as shop:
            while not (self.home / "stop").exists():
                number += 1
                at = time.time_ns()
                stored = keys.column("Customer.Email").seal([key_bytes((number,))], [f"new{number}@example.org"])[0]
                shop.execute("INSERT INTO Customer (CustomerId, Email) VALUES (?, ?)", (number, stored))
                shop.commit()
                rows.append([at, key_id_of(from_text(str(stored)))])
                time.sleep(0.002)
        self.log.with_suffix(f".{os.getpid()}").write_text(json.dumps(rows))
        os._exit(0)

    def written(self) -> list[tuple[int, int]]:
        return sorted(tuple(row) for path in self.log.parent.glob("log.*") for row in json.loads(path.read_text()))


def _enrol(enrolment: Enrolment) -> tuple[str, str]:
    now = CLOCK.now()
    return code_at(enrolment.secret_text, now - timedelta(seconds=30)), code_at(enrolment.secret_text, now)


@pytest.fixture(
    params=[
        pytest.param(20_000, marks=pytest.mark.slow),
        pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ]
)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    made = Shop(tmp_path, request.param)
    yield made
    for child in made.children:
        os.kill(child, 9)
        os.waitpid(child, 0)


def activated(shop: Shop) -> datetime:
    app = App.open(shop.config)
    try:
        (entry,) = app.ledger.list(Query(what="keys.activate"), 10)
        return entry.at
    finally:
        app.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads
def test_a_rotation_under_load(shop: Shop) -> None:
    rows = shop.rows
    shop.start_writers(rows + 1_000)
    time.sleep(1)
    done = shop.perform(ROTATE, what="Customer.Email", later=False, workers=1)
    new = int(done.id, 16)
    app = App.open(shop.config)
    versions = {key.id: key.state for key in app.keyring.list() if key.purpose == "column/1"}
    app.close()
    old = next(key_id for key_id, state in versions.items() if state == "old")
    assert versions == {old: "old", new: "current"}
    with pytest.raises(InterlockError, match="leases of the shop's processes"):
        shop.perform(RETIRE, key=f"{old:010x}")
    time.sleep(0.5)
    shop.stop_writers()
    at = activated(shop).timestamp() * 1e9
    before, after = [], []
    for moment, key_id in shop.written():
        (after if moment > at + STALE.total_seconds() * 1e9 else before).append(key_id)
    assert set(before) <= {old, new}
    assert set(after) == {new}
    assert len(after) > 50
    later = SteppedClock(CLOCK.now() + TERM + timedelta(seconds=5))
    shop.perform(RETIRE, clock=later, key=f"{old:010x}")
    app = App.open(shop.config, later)
    try:
        read = app.fields.opener("Customer.Email")
        with closing(shop.connect()) as connection:
            found = connection.execute("SELECT CustomerId, Email FROM Customer").fetchall()
        assert {key_id_of(from_text(email)) for _, email in found} == {new}
        assert len(found) == rows + len(before) + len(after)
        for number, email in found:
            name = f"customer{number - 1}" if number <= rows else f"new{number}"
            assert read((number,), email) == f"{name}@example.org"
    finally:
        app.close()
