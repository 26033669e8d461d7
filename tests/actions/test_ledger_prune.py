"""Retention of the ledger as a whole: the job, its approval, incidents, and the report over what is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from guard import faults
from guard.actions.audit import is_prune_due
from guard.audit import Query
from guard.events import GUARD, Ending, Event
from tests.actions.test_keys import Desk, desk

__all__ = ["desk"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads


@pytest.fixture
def aged(desk: Desk) -> Desk:
    """A sealed shop, 600 entries, and fourteen months in which next to nothing happened."""
    desk.guard("fields encrypt Customer.Email")
    note(desk, 600)
    desk.clock.step(timedelta(days=430))
    desk.guard("backup run")
    note(desk, 10)
    desk.guard("audit anchor")
    return desk


def note(desk: Desk, count: int) -> None:
    app = desk.app()
    app.record(lambda tx: None, *[Event("test.note", Ending.DONE, GUARD, app.new_run()) for _ in range(count)])
    app.close()


def size(desk: Desk) -> int:
    return int(desk.json("audit verify")["size"])


def at_hand(desk: Desk) -> set[int]:
    app = desk.app()
    found = {entry.n for entry in app.ledger.entries()}
    app.close()
    return found


def test_a_person_runs_it_with_a_code(aged: Desk) -> None:
    before = size(aged)
    aged.guard("run ledger")
    assert "remove 256 entries of the ledger below number 512" in aged.err
    assert "256 that still count stay" in aged.err  # the sealing, and who has a second factor
    begun, made, done = aged.json("audit list --what audit.prune")
    assert (begun["outcome"], begun["facts"]) == ("begun", {"gate": "code"})
    assert made["counts"] == {"minimum": 512}
    assert made["facts"] == {"kept": "0"}
    assert done["counts"] == {"removed": 256, "kept": 256, "below": 512}
    assert begun["run"] == done["run"] != made["run"]
    assert at_hand(aged) == {*range(256), *range(512, before + 3)}
    aged.guard("audit anchor")
    assert "entries below 512 were removed by retention" in aged.guard("audit verify")
    aged.guard("run ledger")  # nothing is left to do, so nothing is asked
    assert len(aged.json("audit list --what audit.prune")) == 3


def test_the_night_does_it_only_where_it_was_approved(aged: Desk) -> None:
    aged.guard("run --due")  # the calendar begins
    aged.clock.step(timedelta(hours=24))
    aged.guard("audit anchor")
    aged.guard("run --due", expect=4)
    assert "no standing approval lets a service do audit.prune" in aged.err
    assert 300 in at_hand(aged)
    aged.guard("access grant audit.prune")
    aged.clock.step(timedelta(hours=24))
    aged.guard("audit anchor")
    aged.guard("run --due", expect=4)  # retention has no approval
    assert 300 not in at_hand(aged)
    (made,) = [
        each for each in aged.json("audit list --what audit.prune --outcome done") if "minimum" in each["counts"]
    ]
    assert made["who"] == "s-daemon"


def test_a_changed_policy_ends_the_approval(aged: Desk) -> None:
    aged.guard("access grant audit.prune")
    policy = aged.home / "policies/audit.toml"
    policy.write_text(policy.read_text().replace('keep = "12 months"', 'keep = "13 months"'))
    aged.guard("run --due")  # the calendar begins
    aged.clock.step(timedelta(hours=24))
    aged.guard("audit anchor")
    aged.guard("run --due", expect=4)
    assert "no standing approval lets a service do audit.prune" in aged.err


def test_less_than_a_year_is_refused_with_the_reason(aged: Desk) -> None:
    policy = aged.home / "policies/audit.toml"
    policy.write_text(policy.read_text().replace('keep = "12 months"', 'keep = "11 months"'))
    aged.guard("run ledger", expect=2)
    assert "PCI DSS 10.5.1" in aged.err


def test_nothing_goes_while_an_incident_is_on_record(aged: Desk) -> None:
    now = aged.clock.now()
    app = aged.app()
    from guard.breach import Opening

    opening = Opening("Wrong partner", now - timedelta(hours=2), now - timedelta(hours=1), "he said so")
    record = app.breaches.open(opening, GUARD)
    app.state.write(lambda tx: app.breaches.remember(tx, record))
    assert is_prune_due(app)
    app.close()
    aged.guard("run ledger")
    assert f"no entry is removed while an incident is on record: {record.incident}" in aged.err
    assert 300 in at_hand(aged)
    assert aged.json("audit list --what audit.prune") == []


def test_a_young_ledger_has_nothing_to_remove(desk: Desk) -> None:
    note(desk, 600)
    desk.clock.step(timedelta(days=300))
    desk.guard("audit anchor")
    desk.guard("run ledger")
    assert desk.json("audit list --what audit.prune") == []


def test_entries_have_to_be_a_month_late_before_the_job_begins(desk: Desk) -> None:
    note(desk, 600)
    desk.clock.step(timedelta(days=380))
    note(desk, 1)
    desk.guard("audit anchor")
    app = desk.app()
    assert app.pruning() is not None
    assert not is_prune_due(app)
    app.close()


def test_the_report_still_knows_what_is_sealed_and_says_from_when_on_it_knows_all(aged: Desk, tmp_path: Path) -> None:
    def claims(name: str) -> tuple[int, str]:
        found = aged.json(f"report build --out {tmp_path}/{name}.html", expect=3)
        return found["satisfied"], Path(found["path"]).read_text()

    before, _ = claims("before")
    aged.guard("run ledger")
    after, page = claims("after")
    assert after == before
    assert "all 1 columns are sealed" in page or "columns are sealed" in page
    assert "all entries from #512" in page
    assert "Older ones were removed" in page
    assert "entries before #512" in page


def test_the_export_of_what_is_left_is_right_by_itself(aged: Desk, tmp_path: Path) -> None:
    aged.guard("run ledger")
    aged.guard("audit anchor")
    app = aged.app()
    from guard.audit import export

    with app.state.read() as tx:
        done = export.export(tx, tmp_path / "tiles", app.ledger.vkey)
        vkey = app.ledger.vkey
    app.close()
    assert done.minimum == 512
    words = [sys.executable, "-I", str(tmp_path / "tiles/verify.py"), str(tmp_path / "tiles"), "--vkey", vkey]
    shown = subprocess.run(words, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr


def test_state_comes_back_from_before_and_after_the_removal(aged: Desk) -> None:
    aged.guard("run ledger")
    aged.guard("backup run")
    aged.guard("audit anchor")
    for end in ("", "-wal", "-shm"):
        (aged.home / f"var/state.db{end}").unlink(missing_ok=True)
    one, two = sorted((aged.home / "recovery-kit").iterdir())[:2]
    aged.guard(f"state restore --share-file {one} --share-file {two}")
    found = aged.json("audit verify")
    assert (found["minimum"], len(found["restarts"])) == (512, 1)
    assert 300 not in at_hand(aged)


def killed_at(point: str, work: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        faults.install(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("point", ["audit.prune.recorded", "audit.prune.removed"])
def test_a_killed_removal_is_finished_by_the_next_run(aged: Desk, point: str) -> None:
    assert killed_at(point, lambda: aged.guard("run ledger"))
    aged.wait(minutes=20)
    aged.guard("audit anchor")
    aged.guard("audit verify")
    aged.guard("run ledger")
    assert 300 not in at_hand(aged)
    aged.guard("audit anchor")
    aged.guard("audit verify")
    app = aged.app()
    made = [entry for entry in app.ledger.entries(Query(what="audit.prune")) if "minimum" in entry.counts]
    assert len(made) == 1
    assert app.pruning() is None
    app.close()
