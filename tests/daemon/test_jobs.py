"""The real jobs on a small real shop with two stores: nights, a store that is down, approvals, catching up."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner, Result

from guard.access import Enrolment, code_at
from guard.actions import Caller, perform
from guard.actions.access import GRANT
from guard.actions.backup import INIT
from guard.actions.jobs import Ran, tick
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.cli._door import os_user
from guard.cli.main import main
from guard.clock import SteppedClock
from guard.errors import BusyError, ConfigError, Exit
from guard.jobs import RunState

NIGHT = datetime(2026, 1, 6, 2, tzinfo=UTC)
SECOND_STORE = '\n[[backup.store]]\nname = "second"\nkind = "local"\npath = "elsewhere"\n'


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock) -> Iterator[App]:
    """A guard folder whose calendar has begun, with two stores and a standing approval for retention."""
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT)")
        shop.execute("INSERT INTO customer (email) VALUES ('ada@example.com')")
    shop.close()
    secrets = []

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        secrets.append(enrolment.secret_text)
        return code_at(secrets[0], clock.now() - timedelta(seconds=30)), code_at(secrets[0], clock.now())

    made = set_up(
        tmp_path / "guard", Answers("shop", f"sqlite:///{tmp_path}/shop.db", "Owner", os_user()), clock, enrol
    )
    made.app.close()
    made.config.write_text(made.config.read_text() + SECOND_STORE)
    (made.config.parent / "policies/retention.toml").write_text(EMPTY_POLICY)
    app = App.open(made.config, clock)
    owner = Caller(app.access.person_of(os_user()), ask=lambda _: code_at(secrets[0], clock.now()))
    for action, arguments in ((INIT, {"stores": []}), (GRANT, {"what": "retention.run"})):
        clock.step(timedelta(minutes=1))
        perform(app, owner, action, **arguments)  # type: ignore[arg-type]  # actions of two results
    app.jobs.due(clock.now())
    yield app
    app.close()


EMPTY_POLICY = '[class.account]\nkeep = "1 year"\nbasis = "GDPR Art. 5(1)(e)"\n'


@pytest.fixture
def guard(app: App) -> Callable[..., Result]:
    """Run a command of guard on the app."""
    return lambda *words: CliRunner().invoke(main, words, obj=app, standalone_mode=False)


def at(app: App, when: datetime) -> dict[str, Ran]:
    app.clock.sleep(when - app.clock.now())
    return {ran.job: ran for ran in tick(app, app.clock.now())}


def snapshots(app: App) -> dict[str, int]:
    return {name: len(each) for name, each in app.backups.list().done.items()}


def outcomes(app: App, what: str) -> list[str]:
    return [entry.outcome.value for entry in app.ledger.list(Query(what=what), 100)]


def test_a_quiet_night_does_everything_as_the_service(app: App) -> None:
    done = at(app, NIGHT)
    jobs = ["backup", "prune", "verify", "retention", "epoch", "ledger", "heartbeat"]
    assert [(job, ran.state, ran.reason) for job, ran in done.items()] == [(job, RunState.OK, None) for job in jobs]
    assert snapshots(app) == {"local": 1, "second": 1}
    by_clock = [entry.what for entry in app.ledger.list(Query(who="s-daemon", outcome="done"), 100)]
    assert by_clock == [
        "backup.run", "backup.prune", "backup.verify", "backup.verify", "retention.run", "audit.anchor",
    ]  # fmt: skip


def test_a_store_that_is_down_is_reported_and_only_that_one_is_filled_later(app: App) -> None:
    away = (app.home / "elsewhere").rename(app.home / "unplugged")
    night = at(app, NIGHT)
    assert night["backup"].code is Exit.PARTLY
    assert (night["backup"].reason or "").startswith("store second: ")
    assert snapshots(app) == {"local": 1}
    assert outcomes(app, "backup.run")[-1] == "partly"
    away.rename(app.home / "elsewhere")
    later = at(app, NIGHT + timedelta(minutes=5))
    assert (later["backup"].state, later["backup"].slot) == (RunState.OK, NIGHT)
    assert snapshots(app) == {"local": 1, "second": 1}


def test_without_an_approval_retention_fails_and_says_what_to_do(app: App) -> None:
    policy = app.policies / "retention.toml"
    policy.write_text(policy.read_text().replace("1 year", "2 years"))
    fresh = App.open(app.home / "guard.toml", app.clock)
    retention = at(fresh, NIGHT)["retention"]
    fresh.close()
    assert (retention.state, retention.code, retention.again_at) == (RunState.FAILED, Exit.DENIED, None)
    assert "guard access grant retention.run" in (retention.reason or "")
    assert outcomes(app, "retention.run")[-1] == "denied"


def test_three_missed_nights_make_one_backup_and_three_records(app: App) -> None:
    at(app, NIGHT + timedelta(days=3, hours=7))
    assert snapshots(app) == {"local": 1, "second": 1}
    states = [run.state.value for run in app.jobs.runs("backup")]
    assert states == ["ok", "missed", "missed", "missed"]
    (missed,) = [entry for entry in app.ledger.list(Query(what="jobs.missed"), 100) if entry.objects == ("backup",)]
    assert missed.counts == {"slots": 3}


def test_damage_is_a_failed_verification_that_is_not_tried_again(app: App) -> None:
    at(app, NIGHT)
    next(path for path in (app.home / "elsewhere/packs").rglob("*") if path.is_file()).unlink()
    verified = at(app, NIGHT + timedelta(days=1))["verify"]
    assert (verified.state, verified.again_at) == (RunState.PARTLY, None)
    assert "store second: " in (verified.reason or "")
    assert "is missing" in (verified.reason or "")


def test_run_due_says_a_line_for_each_run_and_nothing_when_nothing_is(app: App, guard: Callable[..., Result]) -> None:
    assert guard("run", "--due").stderr == "nothing is due\n"
    app.clock.sleep(NIGHT - app.clock.now())
    done = guard("run", "--due")
    assert done.return_value is Exit.DONE
    assert "backup for 2026-01-06T02:00:00.000000Z: ok\n" in done.stderr


def test_run_due_exits_4_when_some_of_it_failed(app: App, guard: Callable[..., Result]) -> None:
    (app.home / "elsewhere").rename(app.home / "unplugged")
    app.clock.sleep(NIGHT - app.clock.now())
    done = guard("run", "--due")
    assert done.return_value is Exit.PARTLY
    assert "backup for 2026-01-06T02:00:00.000000Z: not done: store second: " in done.stderr
    assert "; next try 2026-01-06T02:05:00.000000Z\n" in done.stderr


def test_a_person_runs_one_job_as_themselves(app: App, guard: Callable[..., Result]) -> None:
    assert guard("run", "backup").return_value is Exit.DONE
    assert app.ledger.list(Query(what="backup.run"), 10)[-1].who == app.access.person_of(os_user()).id


def test_retention_for_a_person_without_a_terminal_is_denied(guard: Callable[..., Result]) -> None:
    assert guard("run", "retention").return_value is Exit.DENIED


def test_a_job_there_is_not_and_no_job_at_all_are_refused(guard: Callable[..., Result]) -> None:
    assert isinstance(guard("run", "bakup").exception, ConfigError)
    assert isinstance(guard("run").exception, UsageError)


def test_a_daemon_beside_a_daemon_is_refused(app: App, guard: Callable[..., Result]) -> None:
    with app.hold(("daemon",), timedelta(), "guard daemon"):
        assert isinstance(guard("daemon").exception, BusyError)
