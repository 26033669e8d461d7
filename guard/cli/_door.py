"""What every command gets: the app of this folder, who is calling, and the way through `perform`."""

from __future__ import annotations

import functools
import getpass
import os
import pwd
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from guard.cli._output import drawn_progress, say
from guard.cli._remote import ask_the_agent, require_readable
from guard.config import load_settings
from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.actions import Action, Caller
    from guard.app import App
    from guard.canon import Json
    from guard.events import Principal, Progress

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Door:
    """The way from a command to the app."""

    app: App
    options: dict[str, Any]

    @property
    def as_json(self) -> bool:
        """Whether --json was given."""
        return bool(self.options["as_json"])

    def known(self) -> Principal:
        """Return the person whose OS user runs this process. Raises DeniedError, recorded, when nobody is."""
        return self.app.access.person_of(os_user())

    def perform(self, action: Action[R], **args: Json) -> R:
        """Carry out `action` as the OS user who runs this command."""
        from guard.actions import perform  # noqa: PLC0415  # keeps --help light

        with self.caller() as caller:
            return perform(self.app, caller, action, **args)

    @contextmanager
    def caller(self) -> Iterator[Caller]:
        """Give the caller: the person whose OS user runs this process."""
        from guard.actions import Caller  # noqa: PLC0415  # keeps --help light

        with drawn_progress() as drawn, stopped_between_steps(drawn) as progress:
            yield Caller(self.known(), self.app.ask_secret, say, progress, timedelta(seconds=self.options["wait"]))

    def confirm(self, question: str) -> None:
        """Ask whether to go on, unless --yes was given; anything but yes ends the command."""
        if self.options["yes"]:
            return
        try:
            click.confirm(question, abort=True, err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            raise ConfigError("nobody answered yes, and there is no terminal", hint="--yes goes on unasked") from None


@contextmanager
def stopped_between_steps(progress: Progress) -> Iterator[Progress]:
    """Give a progress at which Ctrl-C ends the work, between two steps; a second Ctrl-C ends it where it is.

    Before the first step Ctrl-C works as always: nothing has begun, and somebody may be asked for a code.
    """
    asked, before = False, signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("stopping after this step; Ctrl-C again stops at once")

    def step(what: str, done: int, total: int | None = None) -> None:
        if signal.getsignal(signal.SIGINT) is before:
            signal.signal(signal.SIGINT, ask)
        progress(what, done, total)
        if asked:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield progress
        return
    try:
        yield step
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, slots=True)
class Served:
    """For whom the agent runs this process, by the kernel's word to the agent, and on which shop."""

    os_user: str
    config: Path


_served: Served | None = None


def serve(served: Served) -> None:
    """Say for whom this process works; `guard.cli.served` says it, once. Raises RuntimeError the second time."""
    global _served  # noqa: PLW0603  # one process, one caller
    if _served is not None:
        raise RuntimeError("this process works for somebody already")
    _served = served


def os_user() -> str:
    """Return the user this process runs as, by the kernel's word: no variable of the environment changes it.

    In a process of the agent's it is who asked the agent.
    """
    if _served is not None:
        return _served.os_user
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def ask_code(question: str) -> str:
    """Ask for a one-time code or a passphrase on the terminal, without echo."""
    return getpass.getpass(f"{question}: ", stream=sys.stderr)


def opened_app() -> App:
    """Open the app of --config or ./guard.toml. Raises ConfigError when there is none.

    Where guard belongs to another OS user, its agent runs the command instead, and this process ends as that ends.
    """
    config = _served.config if _served is not None else opened_config()
    if _served is None:
        ask_the_agent(config.absolute().parent, load_settings(config))
    from guard.app import App  # noqa: PLC0415  # keeps --help light

    return App.open(config, ask_secret=ask_code if sys.stdin.isatty() else None)


def opened_config() -> Path:
    """Return the guard.toml of --config, or ./guard.toml. Raises ConfigError where it may not be read."""
    config = Path(click.get_current_context().find_root().params["config"] or "guard.toml")
    require_readable(config)
    return config


def pass_door(function: Callable[Concatenate[Door, P], R]) -> Callable[P, R]:
    """Give a command the `Door` as its first argument, and close the app after it.

    Everybody but a person guard knows is turned away: even what only reads is not for everyone.
    """

    def checked(door: Door, /, *args: P.args, **kwargs: P.kwargs) -> R:
        door.known()
        return function(door, *args, **kwargs)

    return functools.wraps(function)(pass_unchecked_door(checked))


def pass_unchecked_door(function: Callable[Concatenate[Door, P], R]) -> Callable[P, R]:
    """Do as `pass_door` for commands that services run, or that must work when state or keys do not open."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        context = click.get_current_context()
        injected: App | None = context.obj
        app = injected if injected is not None else opened_app()
        try:
            return function(Door(app, context.find_root().params), *args, **kwargs)
        finally:
            if injected is None:
                app.close()

    return command
