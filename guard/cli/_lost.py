"""What commands share that work where guard's state is lost: what a person opens a repository with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, ask_code, os_user
from guard.cli._output import drawn_progress, say
from guard.errors import BusyError, ConfigError, GuardError, InterlockError

if TYPE_CHECKING:
    from guard.actions.lost import Opening
    from guard.backup import Backups, Restored
    from guard.canon import Json

share_option = click.option(
    "--share-file",
    "share_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Without guard's state: a file with one share of the recovery kit; give it twice.",
)
passphrase_option = click.option(
    "--passphrase", "ask_passphrase", is_flag=True, help="Without guard's state: ask for the repository's passphrase."
)


def opening(share_files: tuple[Path, ...], ask_passphrase: bool) -> Opening:
    """Return what opens the repository: the shares that were named, the passphrase that is asked for, or both."""
    from guard.actions.lost import Opening  # noqa: PLC0415  # keeps --help light
    from guard.crypto.recovery import combine, read_share_file  # noqa: PLC0415  # keeps --help light

    private = combine([read_share_file(path) for path in share_files]) if share_files else None
    if ask_passphrase and not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the passphrase", hint="give --share-file FILE twice")
    return Opening(private, ask_code("Passphrase of the repository") if ask_passphrase else None)


def opened(door: Door, store: str, with_: Opening) -> Backups:
    """Open a store by what the person holds or knows; only where guard's state is lost, lest its rules be avoided."""
    try:
        _ = door.app.state
    except BusyError:
        raise
    except GuardError:
        return with_.backups(door.app.backups, store)
    raise InterlockError("guard's state is here, so its rules apply", hint="leave out --share-file and --passphrase")


def restore_without_state(door: Door, args: dict[str, Json], with_: Opening) -> Restored:
    """Restore where there is no ledger: it is noted in a file that `guard state restore` takes into the ledger."""
    from guard.actions.lost import restore_noted  # noqa: PLC0415  # keeps --help light

    backups = opened(door, str(args["store"]), with_)
    plan = backups.plan_restore(str(args["store"]), str(args["snapshot"]), backups.wanted(args))
    for each in plan.not_covered:
        say(f"not in the snapshot: {each}", error=True)
    with drawn_progress() as progress:
        done, noted = restore_noted(door.app, backups, plan, (str(args["store"]), with_.by, os_user()), progress)
    say(f"guard's state is lost: this restore is noted in {noted}, and recorded when state is restored.")
    return done
