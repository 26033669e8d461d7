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


def shut_out(app: App) -> dict[str, Path]:
    """Return the services of other OS users that cannot reach the socket, with the folder that they may not enter."""
    own = None
    with suppress(KeyError):
        own = pwd.getpwuid(os.getuid()).pw_name
    services = load_policy(app.policies, "access", AccessPolicy).service
    shut = next((each for each in app.agent_socket.parents if each.exists() and not each.stat().st_mode & 0o001), None)
    return {name: shut for name, rule in services.items() if shut and rule.os_user not in {None, own}}
