"""guard keys: what keys there are, and the recovery kit that outlives the root key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door, pass_unchecked_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.actions.keys import MadeKit

_share_files = click.option(
    "--share-file",
    "share_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that holds one share; give it twice. Without it the shares are asked for.",
)


@click.group()
def keys() -> None:
    """List keys and keep the recovery kit.

    \b
    Example: guard keys list
    """


@keys.command("list")
@pass_door
def list_(door: Door) -> None:
    """List every key: what it is for, since when, and whether the recovery kit opens it. Never shows material.

    \b
    Example: guard keys list --json
    """
    rows = [
        {
            "id": f"{key.id:010x}",
            "purpose": key.purpose,
            "version": key.version,
            "made_at": key.made_at,
            "state": key.state,
            "recoverable": key.recoverable,
        }
        for key in door.app.keyring.list()
    ]
    show_rows(rows)


@keys.group()
def recovery() -> None:
    """The recovery kit: a key in three shares, any two of which open everything when the root key is lost.

    \b
    Example: guard keys recovery test
    """


@recovery.command()
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write the shares to three files in this folder instead of the terminal.",
)
@pass_door
def make(door: Door, folder: Path | None) -> None:
    """Make a new kit and seal every key to it; the old kit is replaced. Needs a second factor.

    \b
    Example: guard keys recovery make --to /media/stick
    """
    from guard.actions.keys import RECOVERY_MAKE  # noqa: PLC0415  # keeps --help light

    made = door.perform(RECOVERY_MAKE, to=None if folder is None else str(folder.absolute()))
    if door.as_json:
        show_json({"kit": made.kit, "keys": made.keys, "shares": made.shares, "files": made.files})
        return
    _show_kit(made)


def _show_kit(made: MadeKit) -> None:
    for line in made.shares or [str(path) for path in made.files]:
        click.echo(line)
    say(f"Kit {made.kit} opens {made.keys} keys. Give each share to another person or place; any two are enough.")
    say("They are shown once and kept nowhere. Now check what was written down: guard keys recovery test")


@recovery.command()
@_share_files
@pass_door
def test(door: Door, share_files: tuple[Path, ...]) -> None:
    """Prove with two shares that the kit opens every key. Changes nothing. Do it once a year.

    \b
    Example: guard keys recovery test --share-file one.txt --share-file two.txt
    """
    from guard.actions.keys import recovery_test  # noqa: PLC0415  # keeps --help light

    tested = door.perform(recovery_test(_private(share_files)))
    if door.as_json:
        show_json(tested)
        return
    say(f"Kit {tested.kit} opens all {tested.keys} keys.")


@recovery.command()
@_share_files
@click.option(
    "--to",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The new root key file  [default: root.path of guard.toml]",
)
@pass_unchecked_door
def use(door: Door, share_files: tuple[Path, ...], path: Path | None) -> None:
    """Open the keys with two shares and write a new root key file. For when the root key is lost.

    The new file must not exist yet; the old root key opens nothing of this state afterwards.

    \b
    Example: guard keys recovery use --share-file one.txt --share-file two.txt
    """
    from guard.actions.keys import RECOVERY_USE, recover  # noqa: PLC0415  # keeps --help light

    root = door.app.settings.root
    target = (door.app.home / root.path) if path is None else path.absolute()
    recover(door.app, _private(share_files))
    written = door.perform(RECOVERY_USE, to=str(target))
    if door.as_json:
        show_json({"root": str(written)})
        return
    say(f"{written} is the root key now.")
    if root.kind != "file" or door.app.home / root.path != written:
        say(f'Set root.kind = "file" and root.path = "{written}" in guard.toml.')
    say("The shares met on this machine: make a new kit with `guard keys recovery make`.")


def _private(share_files: tuple[Path, ...]) -> bytes:
    from guard.crypto.recovery import combine, read_share_file  # noqa: PLC0415  # keeps --help light

    if share_files:
        return combine([read_share_file(path) for path in share_files])
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the shares", hint="give --share-file FILE twice")
    return combine([click.prompt(f"{which} share", hide_input=True, err=True) for which in ("First", "Second")])
