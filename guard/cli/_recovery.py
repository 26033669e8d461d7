"""guard keys recovery: the kit that outlives every root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door, pass_unchecked_door
from guard.cli._output import say, show_json
from guard.errors import ConfigError, Exit

if TYPE_CHECKING:
    from guard.actions.kit import MadeKit

_share_files = click.option(
    "--share-file",
    "share_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that holds one share; give it twice. Without it the shares are asked for.",
)


@click.group()
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
@click.option("--print", "printed", is_flag=True, help="With --to: as pages to print, each with a QR code.")
@pass_door
def make(door: Door, folder: Path | None, printed: bool) -> None:
    """Make a new kit and seal every key to it; the old kit is replaced. Needs a second factor.

    \b
    Example: guard keys recovery make --to /media/stick --print
    """
    from guard.actions.kit import RECOVERY_MAKE  # noqa: PLC0415  # keeps --help light

    if printed and folder is None:
        raise click.UsageError("--print writes pages into a folder: name it with --to")
    to = None if folder is None else str(folder.absolute())
    made = door.perform(RECOVERY_MAKE, to=to, print=printed)
    if door.as_json:
        show_json({"kit": made.kit, "keys": made.keys, "shares": made.shares, "files": made.files})
        return
    _show_kit(made)


def _show_kit(made: MadeKit) -> None:
    for line in made.shares or [str(path) for path in made.files]:
        click.echo(line)
    say(f"Kit {made.kit} opens {made.keys} keys. Give each share to another person or place; any two are enough.")
    say("They are shown once and kept nowhere. Now check what was written down: guard keys recovery test")
    say("Then back up, so that the repositories open with it: guard backup run")


@recovery.command()
@_share_files
@pass_door
def test(door: Door, share_files: tuple[Path, ...]) -> Exit:
    """Prove with two shares that the kit opens every key and every repository. Do it once a year.

    \b
    Example: guard keys recovery test --share-file one.txt --share-file two.txt
    """
    from guard.actions.kit import recovery_test  # noqa: PLC0415  # keeps --help light

    tested = door.perform(recovery_test(_private(share_files)))
    if door.as_json:
        show_json(tested)
    else:
        say(f"Kit {tested.kit} opens all {tested.keys} keys.")
        for name in tested.stores:
            say(f"It opens the repository in store {name}.")
        for name, why in tested.shut.items():
            say(f"It does not open store {name}: {why}", error=True)
    return Exit.FINDINGS if tested.shut else Exit.DONE


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

    The new file must not exist yet; no other root opens anything of this state afterwards.

    \b
    Example: guard keys recovery use --share-file one.txt --share-file two.txt
    """
    from guard.actions.kit import RECOVERY_USE, recover  # noqa: PLC0415  # keeps --help light

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
    if root.second is not None:
        say("The second root has to be wrapped anew: guard keys rewrap --root.")
    say("The shares met on this machine: make a new kit with `guard keys recovery make`.")


def _private(share_files: tuple[Path, ...]) -> bytes:
    from guard.crypto.recovery import combine, read_share_file  # noqa: PLC0415  # keeps --help light

    if share_files:
        return combine([read_share_file(path) for path in share_files])
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the shares", hint="give --share-file FILE twice")
    return combine([click.prompt(f"{which} share", hide_input=True, err=True) for which in ("First", "Second")])
