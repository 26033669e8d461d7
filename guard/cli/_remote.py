"""Where guard belongs to another OS user: its agent runs the command, on this terminal, for whoever calls."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from guard.errors import ConfigError, InterlockError

if TYPE_CHECKING:
    from guard.config import Settings

LOCAL: Final = {
    ("init",): "it makes keys and a folder of its own",
    ("demo",): "it makes a shop and a folder of its own",
    ("daemon",): "it is the agent",
    ("config",): "it reads files that you can read yourself",
    ("audit", "witness"): "it belongs on another host",
    ("state", "restore"): "guard's state is lost then, so there is no agent",
    ("state", "migrate"): "the agent has to be stopped for it",
    ("keys", "recovery", "use"): "no root opens the keys then, so there is no agent",
}
"""Commands the agent does not run, and why."""

LOCAL_OPTIONS: Final = {
    ("run",): {"due": "`guard daemon` does that by itself"},
    ("backup", "list"): {"share_files": "it is for a lost state", "ask_passphrase": "it is for a lost state"},
    ("backup", "restore"): {"share_files": "it is for a lost state", "ask_passphrase": "it is for a lost state"},
}
"""Options of commands that it does run, which it does not take, by the names of their parameters."""


def owner(home: Path, settings: Settings) -> int | None:
    """Return whose uid guard belongs to where that is not who calls; None where it is theirs, or nobody's yet.

    The kernel says whose the folders are, so a variable or another guard.toml only leads to other folders.
    """
    places = [(home / settings.agent.socket).parent, home / "var"]
    for place in places:
        try:
            found = place.stat().st_uid
        except OSError:  # not there yet, or in a folder that who calls may not enter: the next one says it
            continue
        if found != os.geteuid():
            return found
    return None


def ask_the_agent(home: Path, settings: Settings) -> None:
    """Let the agent run this command and end with its exit code, where guard belongs to another OS user.

    Raises InterlockError for a command that only that user can run, and what `Agent.run` raises.
    """
    uid = owner(home, settings)
    if uid is None:
        return
    from guard.client import Agent  # noqa: PLC0415  # keeps --help light

    context = click.get_current_context()
    root = context.find_root()
    words = words_of(context)
    if (why := LOCAL.get(words)) is not None:
        raise not_here(words, why, name_of(uid))
    agent = Agent((home / settings.agent.socket).absolute())
    raise click.exceptions.Exit(agent.run(root.meta[ARGV]))


ARGV: Final = "guard.argv"
"""Where click's context keeps the words behind `guard`, without --config."""


def words_of(context: click.Context) -> tuple[str, ...]:
    """Return the words of the command that runs: ("backup", "list")."""
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, context.info_name or "")
        context = context.parent
    return tuple(words)


def not_here(words: tuple[str, ...], why: str, user: str) -> InterlockError:
    """Return the error for what the agent does not run."""
    command = f"guard {' '.join(words)}"
    return InterlockError(
        f"the agent does not run `{command}`: {why}",
        hint=f"whoever may be OS user {user} runs it as that user: sudo -u {user} {command}",
    )


def name_of(uid: int) -> str:
    """Return what an OS user is called."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def require_readable(config: Path) -> None:
    """Raise ConfigError where guard.toml may not be read by who calls."""
    try:
        with config.open("rb"):
            pass
    except PermissionError as error:
        raise ConfigError(
            f"cannot read {config}: you are {name_of(os.geteuid())}, and it is not for you",
            hint="whoever keeps guard adds you to the group that reads guard.toml; it holds no secret",
        ) from error
    except OSError:
        return  # whoever loads it says more
