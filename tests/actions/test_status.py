"""`status` and `doctor`: what is missing is said, whatever else is well."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.actions import Caller, perform
from guard.actions.backup import INIT, RUN
from guard.actions.doctor import Check, Found, examine
from guard.actions.setup import Answers, set_up
from guard.actions.status import Light, Line, overview
from guard.app import App
from guard.clock import SteppedClock
from guard.jobs import Result, RunState

STORES = """
[[backup.store]]
name = "second"
path = "second"
"""


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as shop:
        shop.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)")
    return path


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock, phone: Any, shop_file: Path) -> Iterator[App]:
    """A shop with a fresh whole snapshot in two stores."""
    made = set_up(tmp_path / "guard", Answers("Shop", f"sqlite:///{shop_file}", "Ada", "ada"), clock, phone.enrol)
    made.app.close()
    with made.config.open("a") as file:
        file.write(STORES)
    opened = App.open(made.config, clock)
    caller = Caller(opened.access.person_of("ada"), ask=phone.code)
    perform(opened, caller, INIT)
    perform(opened, caller, RUN)
    clock.step(timedelta(minutes=1))
    yield opened
    opened.close()


def lines(app: App, what: str) -> list[Line]:
    return [line for line in overview(app) if line.what == what]


def stores(app: App) -> list[Check]:
    return [check for check in examine(app) if check.what.startswith("store ")]


def run_again(app: App) -> None:
    perform(app, Caller(app.access.person_of("ada")), RUN)


def test_fresh_whole_snapshots_are_green(app: App) -> None:
    assert {line.light for line in lines(app, "backup")} == {Light.GREEN}
    assert {check.found for check in stores(app)} == {Found.WELL}


def test_a_newest_snapshot_without_the_shop_is_red_and_says_so(app: App, shop_file: Path) -> None:
    shop_file.rename(shop_file.with_name("gone"))
    run_again(app)
    for line in lines(app, "backup"):
        assert line.light is Light.RED
        assert "shop is not backed up" in line.text
    for check in stores(app):
        assert check.found is Found.WARNING
        assert "shop is not backed up" in check.detail


def test_a_newest_snapshot_with_a_damaged_shop_is_yellow_and_says_so(app: App, shop_file: Path) -> None:
    with shop_file.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    run_again(app)
    for line in lines(app, "backup"):
        assert line.light is Light.YELLOW
        assert "shop: 1 could not be read" in line.text


def test_a_store_that_is_gone_hides_no_other(app: App) -> None:
    shutil.rmtree(app.home / app.settings.backup.store[0].path)
    found = lines(app, "backup")
    assert [line.light for line in found] == [Light.RED, Light.GREEN]
    assert "store local could not be looked at" in found[0].text


def test_a_job_that_fails_and_is_tried_again_is_red_until_it_succeeds(app: App, clock: SteppedClock) -> None:
    app.jobs.due(clock.now())
    clock.step(timedelta(days=1))
    app.jobs.due(clock.now())
    claim = app.jobs.claim("me", clock.now())
    assert claim
    done = app.jobs.finish(claim, Result(RunState.FAILED, "the store does not answer"))
    assert done.state is RunState.DUE
    (line,) = [line for line in lines(app, "job") if line.text.startswith(done.job)]
    assert line.light is Light.RED
    assert "the store does not answer; next try 2026-" in line.text
    clock.step(timedelta(minutes=30))
    while (claim := app.jobs.claim("me", clock.now())) is not None:
        app.jobs.finish(claim, Result(RunState.OK))
    assert {line.light for line in lines(app, "job")} == {Light.GREEN}


def test_a_ledger_that_was_emptied_is_a_finding_of_doctor(app: App) -> None:
    assert app.state.path
    with closing(sqlite3.connect(app.state.path)) as state:
        state.execute("DELETE FROM ledger_entry")
        state.commit()
    found = {check.what: check.found for check in examine(app)}
    assert found["ledger"] is Found.WRONG
    assert found["keys"] is Found.WELL


def test_what_cannot_be_looked_at_is_a_finding_and_no_traceback(app: App) -> None:
    home = app.home
    app.close()
    shutil.rmtree(home)
    found = {check.what: check for check in examine(app)}
    assert found["disk"].found is Found.WRONG
    assert str(home) in found["disk"].detail


def test_a_broken_policy_is_red_in_both(app: App) -> None:
    (app.home / "policies/breach.toml").write_text("rule = 3\n")
    red = [line for line in overview(app) if line.what == "policy"]
    assert [line.light for line in red] == [Light.RED]
    assert "breach.toml" in red[0].text
    checks = {check.what: check for check in examine(app)}
    assert checks["policy breach"].found is Found.WRONG
    assert "of 8 read" in checks["policies"].detail
    assert not checks["policies"].detail.startswith("8")
