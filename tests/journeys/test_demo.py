"""`guard demo`: the whole main job, without server or terminal."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from guard import demo
from guard.cli.main import call
from guard.clock import SystemClock
from tests.journeys._public import Watch, in_clear, look_over

STEPS = 15


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = call([*words])
    out, err = capsys.readouterr()
    return code, out, err


def shop_of_old(folder: Path, size: demo.Size) -> Watch:
    """What a demo's shop held before anything was sealed: the sample shop is the same every time."""
    demo.make_shop(folder / "twin.db", SystemClock().now(), size=size)
    watch = Watch()
    watch.add(in_clear(make_url(f"sqlite:///{folder}/twin.db")))
    assert len({value for column, value in watch.values if column == "customer.email"}) == size.customers
    return watch


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
    _, out, _ = run(capsys, "--config", config, "status")
    assert out.startswith("DEMO")
    assert "green" in out
    assert run(capsys, "--config", config, "doctor")[0] == 0
    assert run(capsys, "--config", config, "audit", "verify")[0] == 0
    assert run(capsys, "--config", config, "config", "check")[0] == 0

    # A second run into the same folder touches nothing.
    code, _, err = run(capsys, "demo", str(folder))
    assert code == 2
    assert "not empty" in err
    twin = shop_of_old(tmp_path, demo.Size(120, 300))
    assert look_over(tmp_path, lambda _: twin) == 1
    shutil.rmtree(folder)


def test_json_tells_seconds_of_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json", "demo", str(tmp_path / "demo"), "--customers", "60", "--orders", "100")
    assert code == 0
    told = json.loads(out)
    assert len(told["steps"]) == STEPS
    assert all(step["seconds"] >= 0 and step["did"] and step["look_at"] for step in told["steps"])
    assert Path(told["report"]).is_file()
    twin = shop_of_old(tmp_path, demo.Size(60, 100))
    now = Watch()
    now.look(tmp_path / "demo")
    cities = [{value for column, value in each.values if column == "address.city"} for each in (twin, now)]
    assert cities[0] == cities[1] != set(), "the demo's shop is another one"
    assert look_over(tmp_path, lambda _: twin) == 1


def test_verbose_logs_json_lines_on_stderr(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "guard", "--verbose", "--log-format", "json", "demo", str(tmp_path / "demo")]
    done = subprocess.run([*words, "--customers", "60", "--orders", "100"], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    texts = [line["text"] for line in lines if line["from"] == "guard.app"]
    assert any(text.startswith("fields.encrypt by p-") and ": done" in text for text in texts)
    assert {line["level"] for line in lines} <= {"info", "debug"}
