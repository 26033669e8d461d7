"""Whether the agent answers, and whether those who are to reach its socket can. Reads only."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard.client import Agent
from guard.config import load_policy
from guard.config.access import AccessPolicy
from guard.errors import BusyError, DeniedError, GuardError

if TYPE_CHECKING:
    from guard.app import App

_PATIENCE = 2.0
"""Seconds a look waits for an answer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the agent stands. `is_well` is None where there is none."""

    is_well: bool | None
    text: str
    remedy: str = ""


def standing(app: App) -> Standing:
    """Say hello at the agent's socket, as whoever looks."""
    path = app.agent_socket
    agent = Agent(path, patience=_PATIENCE)
    if not agent.is_there:
        return Standing(None, f"no socket at {path}: commands and the shop open guard themselves")
    try:
        agent.hello()
    except (DeniedError, BusyError):
        pass  # it answered
    except GuardError as error:
        return Standing(False, str(error), error.hint or "guard daemon")
    return Standing(True, f"answers at {path}")


@dataclass(frozen=True, slots=True)
class Mode:
    """Who opens guard: each person's own process, or the agent for them; and what that does not protect from."""

    is_well: bool
    text: str
    remedy: str = ""
    exchange: str = ""
    """What is wrong with the folder for files of theirs."""


def mode(app: App) -> Mode:
    """Say which mode is in force: embedded for guard's own OS user, through the agent for all others."""
    own = _called(os.geteuid())
    people = [each.os_user for each in app.access.people() if each.os_user is not None and each.enabled]
    others = sorted(set(people) - {own})
    if others and own not in people and os.geteuid() != 0:
        text = (
            f"agent: commands of {', '.join(others)} run as OS user {own}, who alone reads root key and state."
            f" It does not protect from root on this host, nor from who can become {own}"
        )
        return Mode(True, text, exchange=_amiss(app))
    text = (
        f"embedded: whoever is OS user {own} reads root key and state: the second factor is a reminder, not a boundary"
    )
    why = "" if not others else f"; commands of {', '.join(others)} go through the agent"
    return Mode(False, text + why, "runbooks/several-people.md; docs/THREAT_MODEL.md", _amiss(app))


def _amiss(app: App) -> str:
    """Return what is wrong with `[agent] exchange`; empty where nothing is."""
    if app.settings.agent.exchange is None:
        return ""
    folder = Path(os.path.realpath(app.home / app.settings.agent.exchange))
    home = Path(os.path.realpath(app.home))
    if folder.is_relative_to(home) or home.is_relative_to(folder):
        return f"{folder} is not apart from {home}: a command may name no file there"
    return "" if folder.is_dir() else f"{folder} is no folder"


def _called(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def shut_out(app: App) -> dict[str, Path]:
    """Return the services of other OS users that cannot reach the socket, with the folder that they may not enter."""
    own = None
    with suppress(KeyError):
        own = pwd.getpwuid(os.getuid()).pw_name
    services = load_policy(app.policies, "access", AccessPolicy).service
    shut = next((each for each in app.agent_socket.parents if each.exists() and not each.stat().st_mode & 0o001), None)
    return {name: shut for name, rule in services.items() if shut and rule.os_user not in {None, own}}
