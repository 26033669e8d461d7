"""The process in which the agent runs a command for somebody: `python -m guard.cli.served NUMBER`.

NUMBER is the descriptor of a pipe on which the agent says who calls, docs/FORMATS.md section 12. Nothing that the
caller says decides it, and nothing but this program can: `guard` itself knows no such way.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from copy import copy
from functools import partial
from pathlib import Path

import click
import msgspec

from guard.cli import _door
from guard.cli._exchange import Exchange, confine
from guard.cli._lazy import LazyGroup
from guard.cli._remote import LOCAL, LOCAL_OPTIONS, name_of, not_here
from guard.cli.main import call, main
from guard.config import load_settings
from guard.errors import ConfigError, Exit

_MOST = 1 << 16
_F_SETSIG = 10
"""fcntl(2): which signal O_ASYNC sends; Python has no name for it."""


class Given(msgspec.Struct, forbid_unknown_fields=True):
    """What the agent says."""

    argv: list[str]
    config: str
    cwd: str
    os_user: str


def run() -> int:
    """Run the command and return its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = _given(int(sys.argv[1]))
    if given is None:  # the agent is gone
        return Exit.INTERRUPTED
    config = Path(given.config)
    _door.serve(_door.Served(given.os_user, config))
    code = call(given.argv, first=lambda: _prepare(config, given.cwd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over: nothing is left to be interrupted
    return code


def _prepare(config: Path, cwd: str) -> None:
    """Make the command line what the agent runs. Raises ConfigError where its guard.toml does not allow it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # from here on Ctrl-C is told as what it is
    settings = load_settings(config)
    if settings.root.kind == "passphrase" and settings.root.passphrase is None:
        raise ConfigError(
            "the agent's root is a passphrase that somebody types, and it is not handed on to commands",
            hint='keep it where only the agent can read it: [root] passphrase = {file = "keys/passphrase"}',
        )
    folder = settings.agent.exchange
    exchange = Exchange(None if folder is None else config.parent / folder, config.parent, cwd)
    assert isinstance(main, LazyGroup)  # noqa: S101  # click's decorators do not say which group they make
    main.prepare = partial(_prepared, exchange)
    for param in main.params:
        if param.name == "config":
            param.type, param.envvar = (
                click.UNPROCESSED,
                None,
            )  # the agent's own counts, and nothing looks where it leads


def _given(pipe: int) -> Given | None:
    """Return what the agent says on the pipe, or None; from then on its end ends this process as Ctrl-C does.

    The agent holds the other end as long as it lives. No thread waits for it: the kernel signals (fcntl(2), F_SETSIG).
    """
    said = b""
    while not said.endswith(b"\n") and len(said) < _MOST and (some := os.read(pipe, _MOST)):
        said += some
    if not said.endswith(b"\n"):
        return None
    os.set_inheritable(pipe, False)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, _F_SETSIG, signal.SIGINT)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    return msgspec.json.decode(said, type=Given)


def _prepared(exchange: Exchange, name: str, command: click.Command) -> click.Command:
    """Return a command as the agent runs it: its paths confined; what the agent does not run, refused."""
    confine(command, exchange, (name,))
    return _narrowed((name,), command)


def _narrowed(words: tuple[str, ...], command: click.Command) -> click.Command:
    if words in LOCAL:
        return _refusing(words, command, LOCAL[words])
    for param in command.params:
        if (why := LOCAL_OPTIONS.get(words, {}).get(param.name or "")) is not None:
            param.callback = partial(_refuse_option, words, why)
    if isinstance(command, click.Group):
        command = copy(command)
        command.commands = {name: _narrowed((*words, name), each) for name, each in command.commands.items()}
    return command


def _refusing(words: tuple[str, ...], command: click.Command, why: str) -> click.Command:
    def refuse(**_: object) -> None:
        raise not_here(words, why, name_of(os.geteuid()))

    rest = click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        command.name, anything, refuse, [rest], short_help=command.get_short_help_str(), add_help_option=False
    )


def _refuse_option(words: tuple[str, ...], why: str, _: click.Context, param: click.Parameter, value: object) -> object:
    if value:
        raise not_here((*words, param.opts[0]), why, name_of(os.geteuid()))
    return value


if __name__ == "__main__":
    sys.exit(run())
