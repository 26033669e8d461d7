"""Set guard up for a shop: folder, root key, key hierarchy, recovery kit, first administrator, entry 0, first anchor.

The one thing that cannot go through `perform`: before it there is nobody who could be allowed. It happens once per folder
and is entry 0 of the ledger. What fails half-way leaves nothing behind.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guard.app import App
from guard.errors import ConfigError
from guard.events import GUARD, Activity, Ending, Event, Role, RunId

if TYPE_CHECKING:
    from guard.access import Enrolment
    from guard.clock import Clock

PACKAGE = Path(__file__).parent.parent
FOLDERS = ("keys", "var")
COPIED = ("policies", "runbooks")


@dataclass(frozen=True, slots=True)
class Answers:
    """What `guard init` has to know."""

    shop_name: str
    shop_url: str
    admin_name: str
    os_user: str
    root: str = "file"
    passphrase: str | None = None
    backup_folder: str = "backups"
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What `guard init` made, for the person to read and to keep."""

    app: App
    config: Path
    store_id: str
    vkey: str
    recovery_codes: tuple[str, ...]
    shares: tuple[Path, ...] = field(default=())


Enrol = Callable[["Enrolment"], tuple[str, str]]
"""Shows the administrator the TOTP secret and returns two consecutive codes."""


def set_up(home: Path, answers: Answers, clock: Clock, enrol: Enrol) -> Made:
    """Make `home` a guard folder. Raises ConfigError when it already is one, DeniedError for wrong codes."""
    config = home / "guard.toml"
    if config.exists():
        raise ConfigError(f"{config} exists: guard is set up here already", hint="guard status shows how it stands")
    before = set(home.iterdir()) if home.exists() else None
    try:
        return _set_up(home, answers, clock, enrol)
    except BaseException:
        _undo(home, before)
        raise


def _undo(home: Path, before: set[Path] | None) -> None:
    """Remove what a failed set-up made, and nothing that was there before."""
    if before is None:
        shutil.rmtree(home, ignore_errors=True)
        return
    for path in set(home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
