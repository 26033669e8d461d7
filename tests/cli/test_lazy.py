"""Options of the program may stand anywhere; Ctrl-C ends work between two steps."""

import signal

import click
import pytest

from guard.cli._door import stopped_between_steps
from guard.cli._lazy import LazyGroup
from guard.cli.main import call, main


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (["status", "--json"], ["--json", "status"]),
        (["fields", "plan", "--wait", "5", "A.b"], ["--wait", "5", "fields", "plan", "A.b"]),
        (["fields", "plan", "--wait=5"], ["--wait=5", "fields", "plan"]),
        (["breach", "open", "--title", "x", "--yes"], ["--yes", "breach", "open", "--title", "x"]),
        (["run", "--", "--json"], ["run", "--", "--json"]),
        (["run", "--wait"], ["--wait", "run"]),
    ],
)
def test_own_options_move_to_the_front(words: list[str], moved: list[str]) -> None:
    assert isinstance(main, LazyGroup)
    assert main._own_first(words) == moved


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["nosuch"]) == 2
    assert "No such command" in capsys.readouterr().err


def test_an_unexpected_error_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("a secret")

    main.table = {**main.table, "broken": ("tests.broken", "Broken.")}
    try:
        main.get_command = lambda *_: broken  # type: ignore[method-assign]
        assert call(["broken"]) == 1
    finally:
        del main.get_command
        main.table.pop("broken")
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "a secret" not in err


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_work_after_the_step_it_came_in(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with stopped_between_steps(lambda _, done, __=None: seen.append(done)) as step:
            step("rows", 1)
            press_ctrl_c()
            seen.append(-1)  # the step goes on to its end
            step("rows", 2)
            seen.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [1, -1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this step" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "presses"), [(1, 2), (0, 1)], ids=["a second time", "before the first step"])
def test_ctrl_c_ends_it_at_once(steps: int, presses: int) -> None:
    went_on = []

    def work() -> None:
        with stopped_between_steps(lambda *_: None) as step:
            for number in range(steps):
                step("rows", number)
            for _ in range(presses):
                press_ctrl_c()
            went_on.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert went_on == []
