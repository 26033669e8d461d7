"""`guard audit` prints what the ledger says and exits as documented."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

from guard.access import Enrolment
from guard.access.totp import code_at
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli.main import main
from guard.clock import SteppedClock
from guard.events import Ending, Event

Make = Callable[[int], Event]


@pytest.fixture
def run(sixty) -> Callable[..., Result]:
    """Run `guard ...` on the ledger of sixty entries."""

    def call(*words: str) -> Result:
        anybody = SimpleNamespace(person_of=lambda os_user: None)
        app = SimpleNamespace(ledger=sixty.ledger, access=anybody)
        return CliRunner().invoke(main, words, obj=app, standalone_mode=False)

    return call


def test_list_shows_the_last_entries_that_fit(run: Callable[..., Result]) -> None:
    shown = json.loads(run("--json", "audit", "list", "--outcome", "denied", "--limit", "2").output)
    assert [entry["n"] for entry in shown] == [56, 59]
    shown = json.loads(run("--json", "audit", "list", "--since", "2026-01-05T12:00:00+01:00", "--limit", "999").output)
    assert 0 < len(shown) < 60
    assert shown[0]["at"] >= "2026-01-05T11:00:00.000000Z"
    assert json.loads(run("--json", "audit", "list", "--until", "2026-01-05").output) == []
    table = run("audit", "list", "--what", "test.work-1").output.splitlines()
    assert table[0].split()[:4] == ["n", "at", "who", "what"]
    assert len(table) == 16


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "2026-01-05T12:00:00", ""])
def test_a_time_without_its_offset_is_not_guessed(run: Callable[..., Result], time: str) -> None:
    assert isinstance(run("audit", "list", "--since", time).exception, click.UsageError)


def test_verify_shows_what_was_compared(run: Callable[..., Result]) -> None:
    result = run("audit", "verify")
    assert result.exception is None
    assert result.return_value == 0
    assert "60 entries from 2026-01-05T09:00:00.000000Z to" in result.output
    assert "anchor here: the first 40 entries" in result.output
    assert "20 entries above the newest anchor" in result.output
    assert json.loads(run("--json", "audit", "verify").output)["anchored"] == 40


def test_verify_without_a_fresh_anchor_exits_15_and_still_shows(run: Callable[..., Result], sixty) -> None:
    sixty.clock.step(timedelta(days=2))
    result = run("audit", "verify")
    assert result.exception.exit_code == 15
    assert "60 entries" in result.output


def test_verify_of_a_changed_ledger_exits_11_and_names_the_entry(run: Callable[..., Result], sixty) -> None:
    with sixty.state.database.writer.begin() as tx:
        tx.exec_driver_sql("UPDATE ledger_entry SET who = 'x' WHERE n = 17")
    result = run("audit", "verify")
    assert result.exception.exit_code == 11
    assert "ledger entry 17" in str(result.exception)


def test_checkpoint_prints_the_note_as_it_was_signed(run: Callable[..., Result], sixty) -> None:
    assert run("audit", "checkpoint").output == sixty.ledger.checkpoint()


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock) -> Iterator[App]:
    """A guard folder as `guard init` makes it."""
    sqlite3.connect(tmp_path / "shop.db").close()
    answers = Answers("shop", f"sqlite:///{tmp_path}/shop.db", "Owner", os_user())

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        before = clock.now() - timedelta(seconds=30)
        return code_at(enrolment.secret_text, before), code_at(enrolment.secret_text, clock.now())

    made = set_up(tmp_path / "guard", answers, clock, enrol)
    yield made.app
    made.app.close()


def test_anchor_records_itself_and_anchors_its_own_beginning(app: App) -> None:
    before = app.ledger.inspect()
    done = CliRunner().invoke(main, ["audit", "anchor"], obj=app, standalone_mode=False)
    assert (done.return_value, done.output) == (0, f"{before.size + 1} entries anchored at folder\n")
    verdict = app.ledger.verify()
    assert (verdict.size, verdict.anchored, verdict.tail) == (before.size + 2, before.size + 1, 1)
    assert [found.outcome for found in app.ledger.list(Query(what="audit.anchor"))] == [Ending.BEGUN, Ending.DONE]


def test_anchor_that_reaches_no_anchor_exits_13(app: App) -> None:
    shutil.rmtree(app.ledger.anchors[0].folder)
    done = CliRunner().invoke(main, ["audit", "anchor"], obj=app, standalone_mode=False)
    assert done.exception.exit_code == 13
    assert [found.outcome for found in app.ledger.list(Query(what="audit.anchor"))] == [Ending.BEGUN, Ending.FAILED]
