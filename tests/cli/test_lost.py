"""On a machine whose state is lost every command says so, and how it comes back."""

import getpass
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest

from guard.access import Enrolment, code_at
from guard.actions.setup import Answers, set_up
from guard.cli.main import call, main
from guard.clock import SystemClock

WITHOUT_STATE = {"init", "demo", "config check", "config show", "config schema", "audit witness"}
"""What needs no state. `backup list|restore` and `state restore` need none either, when they are given a share."""


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif " ".join((*path, name)) not in WITHOUT_STATE:
            yield (*path, name)


def filled(path: tuple[str, ...]) -> list[str]:
    """The command with something for everything it requires."""
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    words = list(path)
    for param in command.params:
        if param.required or (isinstance(param, click.Argument) and param.nargs == -1):
            value = _value(param)
            words += [param.opts[0], value] if isinstance(param, click.Option) else [value]
    return words


def _value(param: click.Parameter) -> str:
    match param.type:
        case click.Choice():
            return str(param.type.choices[0])
        case click.types.IntParamType():
            return "1"
        case kind if kind.name.lower() in {"time", "datetime"} or param.name in {"at", "since", "aware", "detected"}:
            return "2026-01-05T09:00+00:00"
        case _:
            return "heartbeat" if param.name == "job" else "Customer.Email"


def enrol(enrolment: Enrolment) -> tuple[str, str]:
    """Type the code of now and the one before it."""
    now = SystemClock().now()
    return code_at(enrolment.secret_text, now - timedelta(seconds=30)), code_at(enrolment.secret_text, now)


@pytest.fixture(scope="module", params=["state is gone", "guard.toml is all there is"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard folder without its state."""
    folder = tmp_path_factory.mktemp("lost") / "home"
    answers = Answers("Shop", f"sqlite:///{folder.parent}/shop.db", "Ada", getpass.getuser())
    set_up(folder, answers, SystemClock(), enrol).app.close()
    for path in (folder / "var").iterdir():
        if path.is_file():
            path.unlink()
    if request.param != "state is gone":
        for name in ("keys", "policies", "runbooks", "anchors", "var"):
            shutil.rmtree(folder / name)
    return folder


@pytest.mark.parametrize("path", sorted(commands()), ids=" ".join)
def test_it_names_the_way_back(home: Path, path: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    shares = [word for share in sorted((home / "recovery-kit").iterdir())[:2] for word in ("--share-file", str(share))]
    more = {("run",): ["--due"], ("keys", "recovery", "use"): shares}.get(path, [])
    code = call(["--config", str(home / "guard.toml"), "--yes", *filled(path), *more])
    said = capfd.readouterr()
    assert code not in {0, 1}, said
    assert "guard state restore" in said.err + said.out or path == ("state", "restore"), said
    assert "unexpected" not in said.err
    assert not (home / "var/state.db").exists()
