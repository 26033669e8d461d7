"""The whole way: command, door, state, ledger."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli.main import main
from guard.clock import SteppedClock
from guard.errors import ConfigError, DeniedError, Exit

OPEN = ["breach", "open", "--title", "Ada's laptop", "--reason", "it was not encrypted"]
TIMES = ["--detected", "2026-01-05T09:00+01:00", "--aware", "2026-01-05T10:00+01:00"]
Guard = Callable[..., Result]


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock) -> Iterator[App]:
    """A guard folder of a shop with nothing in it; the secret of its owner is in `app.secret`."""
    sqlite3.connect(tmp_path / "shop.db").close()
    answers = Answers("shop", f"sqlite:///{tmp_path}/shop.db", "Owner", os_user())
    secrets = []

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        secrets.append(enrolment.secret_text)
        return code_at(secrets[0], clock.now() - timedelta(seconds=30)), code_at(secrets[0], clock.now())

    made = set_up(tmp_path / "guard", answers, clock, enrol)
    made.app.secret = secrets[0]  # type: ignore[attr-defined]  # for this test only
    yield made.app
    made.app.close()


@pytest.fixture
def guard(app: App) -> Guard:
    """Run a command of guard on the app."""
    return lambda *words: CliRunner().invoke(main, words, obj=app, standalone_mode=False)


def opened(guard: Guard) -> str:
    return json.loads(guard("--json", *OPEN, *TIMES).stdout)["incident"]


def test_opening_prints_the_id_and_the_deadline_in_utc_and_here(guard: Guard) -> None:
    done = guard(*OPEN, *TIMES)
    assert done.stdout.startswith("b-")
    assert "by 2026-01-08T09:00:00.000000Z, here " in done.stderr
    assert "72.0 hours left" in done.stderr


def test_the_ledger_knows_the_id_and_the_times_and_not_the_words(guard: Guard, app: App) -> None:
    incident = opened(guard)
    entry = app.ledger.list(Query(what="breach.open", outcome="done"), 10)[0]
    assert entry.objects == (incident,)
    assert entry.facts["aware"] == "2026-01-05T09:00:00.000000Z"
    leaves = b"".join(
        row[0] for row in sqlite3.connect(app.home / "var/state.db").execute("SELECT leaf FROM ledger_entry")
    )
    assert incident.encode() in leaves
    assert b"laptop" not in leaves
    assert b"encrypted" not in leaves


@pytest.mark.parametrize(
    ("hours", "code", "status"), [(1, Exit.DONE, "ok"), (71, Exit.FINDINGS, "soon"), (73, Exit.FINDINGS, "overdue")]
)
def test_status_exits_3_from_the_last_day_on(
    guard: Guard, clock: SteppedClock, hours: int, code: Exit, status: str
) -> None:
    opened(guard)
    clock.step(timedelta(hours=hours))
    shown = guard("--json", "breach", "status")
    assert (shown.return_value, json.loads(shown.stdout)[0]["status"]) == (code, status)


def test_status_shows_utc_and_local_time_with_offset(guard: Guard) -> None:
    opened(guard)
    row = json.loads(guard("--json", "breach", "status").stdout)[0]
    assert row["due"] == "2026-01-08T09:00:00.000000Z"
    assert row["due_here"][16:17] in "+-"
    assert row["hours_left"] == 72.0


def test_no_incident_is_no_finding(guard: Guard) -> None:
    assert guard("breach", "status").return_value == Exit.DONE


def test_times_that_cannot_be_are_refused_before_anything_is_recorded(guard: Guard, app: App) -> None:
    size = len(app.ledger.list(Query(), 1000))
    refused = guard(*OPEN, "--detected", "2026-01-05T09:00", "--aware", "2027-01-05T09:00Z")
    assert isinstance(refused.exception, ConfigError)
    assert len(app.ledger.list(Query(), 1000)) == size


def test_awareness_is_corrected_with_a_code_and_on_the_record(guard: Guard, app: App, clock: SteppedClock) -> None:
    words = ("breach", "aware", opened(guard), "--aware", "2026-01-05T08:30+00:00", "--reason", "an earlier mail")
    assert isinstance(guard(*words).exception, DeniedError)
    clock.step(timedelta(minutes=1))
    app.ask_secret = lambda _: code_at(app.secret, clock.now())  # type: ignore[attr-defined]
    assert guard(*words).exception is None
    (standing,) = app.breaches.status()
    assert standing.incident.aware.isoformat() == "2026-01-05T08:30:00+00:00"
    outcomes = [entry.outcome for entry in app.ledger.list(Query(what="breach.aware"), 10)]
    assert outcomes == ["denied", "begun", "done"]
