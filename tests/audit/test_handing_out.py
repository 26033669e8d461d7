"""`guard audit prove` and `guard audit export`: what is written, what is recorded, what is refused."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

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
from guard.events import Ending
from guard.faults import install
from tests.audit.auditor import check

Run = Callable[..., Result]


@pytest.fixture
def app(tmp_path: Path, clock: SteppedClock) -> Iterator[App]:
    """A guard folder as `guard init` makes it."""
    sqlite3.connect(tmp_path / "shop.db").close()
    answers = Answers("Shop & Co", f"sqlite:///{tmp_path}/shop.db", "Owner", os_user())

    def enrol(enrolment: Enrolment) -> tuple[str, str]:
        before = clock.now() - timedelta(seconds=30)
        return code_at(enrolment.secret_text, before), code_at(enrolment.secret_text, clock.now())

    made = set_up(tmp_path / "guard", answers, clock, enrol)
    yield made.app
    made.app.close()


@pytest.fixture
def run(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `guard audit ...` in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*words: str) -> Result:
        return CliRunner().invoke(main, ["audit", *words], obj=app, standalone_mode=False)

    return call


def test_a_proof_is_written_and_says_who_did_what_when(run: Run, app: App) -> None:
    found = run("prove", "0")
    assert found.exception is None, found.output
    head, line = found.stdout.splitlines()
    first = app.ledger.list(limit=1000)[0]
    assert head.split() == ["n", "at", "who", "what", "outcome", "proof"]
    assert line.split()[0] == "0"
    assert {first.who, first.what, first.outcome, "0.tlog-proof"} < set(line.split())
    assert sorted(path.name for path in Path().iterdir()) == ["0.json", "0.tlog-proof"]
    assert json.loads(Path("0.json").read_bytes())["n"] == 0
    assert f"--vkey '{app.ledger.vkey}'" in found.stderr
    assert check(Path("0.tlog-proof").absolute(), "--vkey", app.ledger.vkey)[0] == 0


def test_a_folder_for_an_auditor_needs_nothing_else(run: Run, app: App) -> None:
    run("anchor")
    found = run("prove", "1", "2", "--out", "for auditor")
    assert found.exception is None, found.output
    out = Path("for auditor").absolute()
    assert sorted(path.name for path in out.iterdir()) == [
        *("1.json", "1.tlog-proof", "2.json", "2.tlog-proof", "keys", "verify.py", "vkey"),
    ]
    for n in (1, 2):
        assert check(out / f"{n}.tlog-proof", program=out / "verify.py")[0] == 0
    shown = json.loads(run("prove", "1", "--json").stdout)
    assert shown[0]["entry"]["n"] == 1


def test_the_entries_of_a_run_are_proved_together(run: Run, app: App) -> None:
    run("anchor")
    begun, done = app.ledger.list(Query(what="audit.anchor"))
    found = run("prove", "--run", begun.run)
    assert found.exception is None, found.output
    assert sorted(path.name for path in Path().glob("*.json")) == sorted(f"{each.n}.json" for each in (begun, done))
    found = run("prove", "0", "--anchored")
    assert found.exception is None
    size = int(Path("0.tlog-proof").read_text().partition("\n\n")[2].split("\n")[1])
    assert size == begun.n + 1
    assert run("prove", str(begun.n + 1), "--anchored").exception.exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prove",), "name the number of an entry"),
        (("prove", "x"), "'x' is not a valid integer range"),
        (("prove", "--", "-1"), "-1 is not in the range"),
        (("prove", "4711"), "the ledger has no entry 4711"),
        (("prove", "--run", "ab" * 16), "no entry has the run"),
        (("export",), "name one of --tiles DIR and --ocsf"),
        (("export", "--tiles", "x", "--ocsf"), "name one of"),
        (("export", "--tiles", "x", "--limit", "3"), "go with --ocsf"),
        (("export", "--tiles", "x", "--out", "y"), "go with --ocsf"),
        (("export", "--ocsf", "--after", "x"), "'x' is not where an export ended"),
        (("export", "--ocsf", "--limit", "0"), "0 is not in the range"),
        (("export", "--ocsf", "--limit", "9" * 20), "is not in the range"),
        (("list", "--limit", "9" * 20), "is not in the range"),
        (("list", "--since", "9999-12-31T23:59:59-23:59"), "write a day as"),
        (("verify", "--since", "9" * 5000), "write a day as"),
        (("export", "--ocsf", "--since", "yesterday"), "write a day as"),
        (("export", "--ocsf", "--after", "4711"), "no entry 4711"),
    ],
)
def test_wrong_use_is_named_and_ends_with_2(run: Run, words: tuple[str, ...], said: str) -> None:
    error = run(*words).exception
    assert error is not None
    assert said in (error.format_message() if isinstance(error, click.ClickException) else str(error))
    assert error.exit_code == 2
    assert list(Path().iterdir()) == []


def test_nothing_that_lies_there_is_written_over(run: Run) -> None:
    Path("0.json").write_text("mine")
    assert run("prove", "0").exception.exit_code == 14
    assert Path("0.json").read_text() == "mine"
    Path("0.json").unlink()
    for content in (b"mine", b"\xff"):
        Path("0.tlog-proof").write_bytes(content)
        assert run("prove", "0").exception.exit_code == 14
    Path("0.tlog-proof").unlink()
    assert run("prove", "0").exception is None
    assert run("prove", "0").exception is None
    Path("file").write_text("")
    assert run("prove", "0", "--out", "file/x").exception.exit_code == 13


def test_what_lies_beside_is_not_written_over_either(run: Run, app: App) -> None:
    other = app.ledger.vkey.replace("guard-ledger/", "guard-ledger/x")
    for name, content in (("verify.py", "mine"), ("keys", "mine"), ("vkey", other), ("vkey", "mine")):
        Path("out").mkdir()
        Path("out", name).write_text(content)
        assert run("prove", "0", "--out", "out").exception.exit_code == 14
        assert {path.name: path.read_text() for path in Path("out").iterdir()} == {name: content}
        Path("out", name).unlink()
        Path("out").rmdir()
    assert run("prove", "0", "--out", "out").exception is None
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    Path("out/verify.py").write_bytes(before["verify.py"][:200])
    assert run("prove", "0", "--out", "out").exception is None
    assert Path("out/verify.py").read_bytes() == before["verify.py"]


def test_tiles_are_exported_checked_and_recorded(run: Run, app: App) -> None:
    found = run("export", "--tiles", "out")
    assert found.exception is None, found.output
    assert found.stdout == "out\n"
    out = Path("out").absolute()
    begun, done = app.ledger.list(Query(what="audit.export"))
    assert (begun.outcome, done.outcome) == (Ending.BEGUN, Ending.DONE)
    assert (done.counts["entries"], done.counts["before"], done.facts) == (begun.n + 1, 0, {"as": "tiles"})
    code, said, _ = check(out, "--vkey", app.ledger.vkey)
    assert code == 0
    assert (
        f"{begun.n + 1} entries of {app.ledger.vkey.split('+')[0]}, root {done.digests['root']}: all is right" in said
    )
    again = json.loads(run("export", "--tiles", "out", "--json").stdout)
    assert (again["before"], again["size"]) == (begun.n + 1, begun.n + 3)
    assert check(out, "--vkey", app.ledger.vkey)[0] == 0


def test_an_export_that_fails_is_recorded_as_failed(run: Run, app: App) -> None:
    Path("out").mkdir()
    Path("out/letter").write_text("")
    assert run("export", "--tiles", "out").exception.exit_code == 14
    assert app.ledger.list(Query(what="audit.export"))[-1].outcome is Ending.FAILED

    def stop(name: str) -> None:
        raise KeyboardInterrupt

    install(stop)
    try:
        assert isinstance(run("export", "--tiles", "new").exception, KeyboardInterrupt | click.Abort)
    finally:
        install(None)
    assert app.ledger.list(Query(what="audit.export"))[-1].outcome is Ending.INTERRUPTED
    assert check(Path("new").absolute(), "--vkey", app.ledger.vkey)[0] == 11
    assert run("export", "--tiles", "new").exception is None
    assert check(Path("new").absolute(), "--vkey", app.ledger.vkey)[0] == 0


def test_a_siem_takes_each_entry_once(run: Run, app: App) -> None:
    taken, mark = [], []
    for _ in range(5):
        found = run("export", "--ocsf", "--limit", "3", *mark)
        assert found.exception is None, found.output
        taken += [json.loads(line)["unmapped"]["n"] for line in found.stdout.splitlines()]
        mark = ["--after", found.stderr.rsplit("--after ", 1)[1].strip()]
    assert taken == list(range(len(taken)))
    assert len(taken) == 10  # each sees the end of the one before, and its own beginning
    event = json.loads(run("export", "--ocsf", "--limit", "1").stdout)
    assert (event["metadata"]["tenant_uid"], event["metadata"]["sequence"]) == ("Shop & Co", 0)
    begun, done = app.ledger.list(Query(what="audit.export"))[-2:]
    assert done.facts == {"as": "ocsf"}
    assert done.counts == {"entries": 1, "first": 0, "last": 0}
    assert begun.outcome is Ending.BEGUN


def test_a_part_goes_into_a_new_file(run: Run) -> None:
    shown = json.loads(run("export", "--ocsf", "--out", "part", "--json").stdout)
    lines = Path("part").read_text().splitlines()
    assert shown["entries"] == len(lines) == shown["last"] + 1
    assert shown["next"].startswith(f"{shown['last']}:")
    assert run("export", "--ocsf", "--out", "part").exception.exit_code == 14
    assert Path("part").read_text().splitlines() == lines
    since = run("export", "--ocsf", "--until", "2000-01-01")
    assert (since.stdout, since.stderr) == ("", "0 entries\n")


def test_a_reader_that_goes_away_is_no_traceback(app: App, tmp_path: Path) -> None:
    """`guard audit export --ocsf | head -1`, with the program as it is installed."""
    app.close()
    words = [str(Path(sys.executable).with_name("guard")), "audit", "export", "--ocsf"]
    end, out = os.pipe()
    os.close(end)
    done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, cwd=app.home)
    os.close(out)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_full_disk_behind_standard_output_is_named(app: App) -> None:
    app.close()
    words = [str(Path(sys.executable).with_name("guard")), "audit", "export", "--ocsf"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, cwd=app.home)
    assert done.returncode == 13
    assert "cannot write standard output: No space left on device" in done.stderr
