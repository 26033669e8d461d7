"""`guard demo`: the whole main job, without server or terminal."""

import json
import shutil
from pathlib import Path

import pytest

from guard.cli.main import call

STEPS = 14


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = call([*words])
    out, err = capsys.readouterr()
    return code, out, err


def test_it_says_a_line_a_step_and_ends_with_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    code, out, err = run(capsys, "demo", str(folder), "--customers", "120", "--orders", "300")
    assert code == 0, err
    assert len([line for line in out.splitlines() if line.startswith(" ")]) == STEPS
    last = out.splitlines()[-1]
    assert last.startswith("report: ")
    html = Path(last.removeprefix("report: ")).read_text()
    assert "DEMO" in html
    assert "not satisfied" not in html.split("<table")[0].lower()

    # The folder is a real guard folder; it goes on from here with the real clock.
    config = str(folder / "guard.toml")
    code, out, _ = run(capsys, "--config", config, "status", "--json")
    assert {line["light"] for line in json.loads(out)} <= {"green", "yellow"}, out
    assert code == 0
    assert run(capsys, "--config", config, "doctor")[0] == 0
    assert run(capsys, "--config", config, "audit", "verify")[0] == 0
    assert run(capsys, "--config", config, "config", "check")[0] == 0

    # A second run into the same folder touches nothing.
    code, _, err = run(capsys, "demo", str(folder))
    assert code == 2
    assert "not empty" in err
    shutil.rmtree(folder)


def test_json_tells_seconds_of_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "demo", str(tmp_path / "demo"), "--customers", "60", "--orders", "100")
    assert code == 0
    told = json.loads(out)
    assert len(told["steps"]) == STEPS
    assert all(step["seconds"] >= 0 and step["did"] and step["look_at"] for step in told["steps"])
    assert Path(told["report"]).is_file()
