"""What commands print: whole JSON, tables that fit, plain text where nobody asked for colors."""

import os
import pty
import re
import subprocess
import sys
import termios
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guard.cli._output import drawn_progress, plain, show_lines, show_rows, size
from guard.cli.main import call

PROSE = "one word after the other, until the terminal has no more room for any of them"


@dataclass(frozen=True)
class Row:
    at: datetime
    parts: tuple[str, ...]
    why: str | None


ROWS = [Row(datetime(2026, 1, 5, 9, tzinfo=UTC), ("a", "b"), PROSE), Row(datetime(2026, 1, 6, tzinfo=UTC), (), None)]


def on_terminal(code: str, columns: int = 40, **environment: str) -> str:
    """What `code` writes on a terminal of its own."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    words = [sys.executable, "-c", code]
    plain = {name: text for name, text in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=plain | environment)
    os.close(slave)
    text = b""
    while True:
        try:
            found = os.read(master, 65536)
        except OSError:
            break
        text += found
        if not found:
            break
    os.close(master)
    process.wait(60)
    return text.decode().replace("\r\n", "\n")


def test_a_table_in_a_pipe_is_whole_and_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "at                    parts  why",
        f"2026-01-05 09:00:00Z  a, b   {PROSE}",
        "2026-01-06 00:00:00Z         -",
    ]


def test_a_table_on_a_narrow_terminal_has_its_prose_below_the_row() -> None:
    code = (
        f"from guard.cli._output import show_rows; show_rows([{{'n': 1, 'why': {PROSE!r}}}, {{'n': 2, 'why': None}}])"
    )
    lines = on_terminal(code).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["n", "1", "2"]
    assert " ".join(line.strip() for line in lines[2:] if line.startswith(" ")).startswith(PROSE[:60])
    assert all(len(line) <= 40 for line in lines)
    assert len(on_terminal(code, columns=120).splitlines()) == 3


def test_no_rows_say_so_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], columns=("n",), empty="nothing waits")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing waits\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_220_608, "1.2 MiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_colors_only_on_a_terminal_that_did_not_refuse_them(tmp_path: Path) -> None:
    code = f"from guard.cli.main import call; call(['--config', {str(tmp_path / 'none.toml')!r}, 'status'])"
    assert "\x1b" in on_terminal(code)
    assert "\x1b" not in on_terminal(code, NO_COLOR="1")
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert piped.stdout == ""
    assert "does not exist" in piped.stderr
    assert "\x1b" not in piped.stderr


def test_a_misspelled_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["stauts"]) == 2
    assert "No such command 'stauts'. Did you mean 'status'?\n" in capsys.readouterr().err
    assert call(["xyzzy"]) == 2
    assert "No such command 'xyzzy'." in (said := capsys.readouterr().err)
    assert "Did you mean" not in said


def test_config_check_in_a_folder_without_guard_says_one_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["config", "check"]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0].endswith("guard.toml does not exist")
    assert "guard init" in shown.err
    assert len(shown.err.splitlines()) == 2


def test_completion_is_there() -> None:
    environment = os.environ | {"_GUARD_COMPLETE": "bash_complete", "COMP_WORDS": "guard fields ver", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "guard"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["plain,verify"]


def test_long_lines_are_folded_below_their_own_text_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"  does:    {PROSE}", f"  12. {PROSE}", f"{PROSE}"]
    show_lines(lines)
    assert capsys.readouterr().out.splitlines() == lines
    folded = on_terminal(f"from guard.cli._output import show_lines; show_lines({lines!r})").splitlines()
    assert all(len(line) <= 40 for line in folded)
    assert [len(line) - len(line.lstrip()) for line in folded] == [2, 11, 11, 2, 6, 6, 0, 0, 0]
    assert " ".join(line.strip() for line in folded) == " ".join(line.strip() for line in lines)


def test_spans_are_seconds_in_json() -> None:
    assert plain({"takes": timedelta(minutes=2), "key": b"\x01"}) == {"takes": 120.0, "key": "01"}


def test_progress_is_drawn_with_what_is_left_on_a_terminal_only(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "from guard.cli._output import drawn_progress\n"
        "with drawn_progress() as tell:\n"
        "    [tell('Customer.Email', done, 50) for done in range(0, 51, 10)]"
    )
    drawn = on_terminal(code, columns=100, TERM="xterm")
    assert "Customer.Email" in drawn
    assert "50/50" in drawn
    assert "left" in drawn
    unknown = on_terminal(code.replace(", 50)", ")"), columns=100, TERM="xterm")
    shown = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", unknown)
    assert re.search(r"Customer\.Email .* 50 ", shown)
    assert not re.search(r"\?|-:--|left", shown)
    with drawn_progress() as tell:
        tell("Customer.Email", 1, 2)
    assert capfd.readouterr().err == ""
