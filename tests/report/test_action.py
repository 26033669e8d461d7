"""Building through the door's action and from the command line."""

from hashlib import sha256
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from guard.actions import Plan, Task
from guard.actions.report import BUILD
from guard.cli.report import report as command
from guard.errors import ConfigError
from guard.events import Level, Principal, PrincipalId, Role, RunId, silent

WHO = Principal(PrincipalId("p-abcdefghij"), Role.AUDITOR, "Anna")


@pytest.fixture
def build(good_story, tmp_path):
    """Carry out `report.build` over the story's ledger in a folder of its own."""
    settings = SimpleNamespace(report=SimpleNamespace(folder="reports"))
    app = SimpleNamespace(reports=good_story.reports(), home=tmp_path, settings=settings)

    def build(**args):
        task = Task({"from": None, "to": None, "out": None, **args}, Plan(), RunId("0" * 32), WHO, silent)
        return BUILD.work(app, task)

    return build


def test_it_is_routine():
    assert BUILD.level is Level.ROUTINE


def test_it_writes_into_the_settings_folder_and_tells_the_ledger_the_digest(build, tmp_path):
    done = build()
    assert done.result.path.parent == tmp_path / "reports"
    assert done.objects == (done.result.path.name,)
    digest = sha256(done.result.path.read_bytes()).hexdigest()
    assert (done.digests, done.result.sha256) == ({"sha256": digest}, digest)
    assert done.counts == {"entries": 20, "not_satisfied": 0, "not_evaluated": 0, "satisfied": 9}


def test_it_writes_where_it_was_asked_to(build, tmp_path):
    assert build(out=str(tmp_path / "q1.html")).result.path == tmp_path / "q1.html"
    assert build(out=str(tmp_path)).result.path.parent == tmp_path


def test_the_period_is_in_the_ledger(build):
    facts = {"from": "2026-01-05T00:00:00.000000Z", "to": "2026-02-01T00:00:00.000000Z"}
    assert build(**facts).facts == facts


def test_a_time_without_offset_is_refused(build):
    with pytest.raises(ConfigError, match="from"):
        build(**{"from": "2026-01-05"})


@pytest.mark.parametrize("text", ["2026-13-01", "yesterday", "2026-01-05T10:00:00"])
def test_a_wrong_time_on_the_command_line_is_a_usage_error(text):
    done = CliRunner().invoke(command, ["build", "--from", text])
    assert (done.exit_code, "write a day as 2026-11-22" in done.output) == (2, True)


def test_help_has_an_example():
    assert "Example: guard report build" in CliRunner().invoke(command, ["build", "--help"]).output
