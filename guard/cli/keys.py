"""guard keys: what keys there are, new versions, the end of old ones, and what all of them hang from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, ask_code, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.cli._recovery import recovery
from guard.cli._shred import shred, tell_turned
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.actions.keys import Changed
    from guard.actions.rotate import Rotated

_key = click.argument("key", metavar="KEY")


@click.group()
def keys() -> None:
    """List keys, give them new versions, end old ones, and keep the recovery kit.

    \b
    Example: guard keys list
    """


@keys.command("list")
@pass_door
def list_(door: Door) -> None:
    """List every key: what it is for, of which column, since when, and whether the recovery kit opens it.

    Never shows material.

    "current" seals; "old" only opens; "waiting" is not used before a backup of state holds it; "retired" opens nothing;
    "destroyed" is gone.

    \b
    Example: guard keys list --json
    """
    from guard.actions.keys import listed  # noqa: PLC0415  # keeps --help light

    show_rows(listed(door.app))


@keys.command()
@click.argument("what", metavar="TABLE.COLUMN|PURPOSE")
@click.option("--later", is_flag=True, help="Leave values under older versions to the next guard fields encrypt.")
@click.option(
    "--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Processes that seal old values anew."
)
@click.option("--passphrase", is_flag=True, help="For repositories that also open with a passphrase: ask for it.")
@pass_door
def rotate(door: Door, what: str, later: bool, workers: int, passphrase: bool) -> Exit:
    """Give a column, an index, the ledger, the repositories or the second factors a new key. Needs a second factor.

    The new version is made, backed up with guard's state, and only then used. Old values are sealed anew while the shop
    goes on. Run it again after an interruption: it goes on where it stopped.

    \b
    Example: guard keys rotate Customer.Email
    """
    from guard.actions.rotate import ROTATE, ROTATE_LATER, rotate_with  # noqa: PLC0415  # keeps --help light

    action = ROTATE_LATER if later else ROTATE
    if passphrase:
        if what != "repository":
            raise click.UsageError("--passphrase goes with the repository key alone")
        action = rotate_with(ask_code("Passphrase of the repositories"))
    done = door.perform(action, what=what, later=later, workers=workers)
    if door.as_json:
        show_json(done)
    else:
        _tell_rotated(done)
    return Exit.PARTLY if done.left and not later else Exit.DONE


def _tell_rotated(done: Rotated) -> None:
    where = f" of {done.at}" if done.at else ""
    does = "signs the ledger" if done.vkey else f"seals what is new{where}"
    say(f"Version {done.version} of {done.purpose} (key {done.id}) {does}.")
    if done.moved:
        say(f"{done.moved} values were made anew.")
    if done.vkey:
        say(f"Verifier key of the ledger from now on, for auditors: {done.vkey}")
        say("Now guard audit anchor, so that others hold it too; runbooks/ledger-key.md")
    if done.left:
        say(f"{done.left} are still under older versions: guard fields encrypt moves them.", error=True)


@keys.command()
@click.option("--root", "roots", is_flag=True, help="Wrap the key of keys under the roots that guard.toml names now.")
@click.option("--passphrase", is_flag=True, help="With --root: ask for a new passphrase.")
@click.option("--epoch", is_flag=True, help="End the epoch of people's keys now, before its month is over.")
@pass_door
def rewrap(door: Door, roots: bool, passphrase: bool, epoch: bool) -> Exit:
    """Make a new key of keys (KEK) and wrap every key under it. Needs a second factor. What is sealed stays as it is.

    With --root the KEK stays, and the roots change: add [root.second] to guard.toml and run this. A root that it does
    not name any more opens nothing afterwards.

    With --epoch the keys of people are wrapped under a new epoch key, state is backed up, and the old one is deleted in
    every mirror of the vault: what was shredded is dead in all backups then. The job does so when a month is over.

    \b
    Example: guard keys rewrap --root
    """
    from guard.actions.epoch import TURN_NOW  # noqa: PLC0415  # keeps --help light
    from guard.actions.rewrap import REWRAP, REWRAP_ROOTS  # noqa: PLC0415

    if (passphrase and not roots) or (roots and epoch):
        raise click.UsageError("--passphrase goes with --root, and --epoch with neither")
    if epoch:
        return tell_turned(door, door.perform(TURN_NOW))
    done = door.perform(REWRAP_ROOTS, new_passphrase=passphrase) if roots else door.perform(REWRAP)
    if door.as_json:
        show_json(done)
        return Exit.DONE
    say(f"The KEK lies under {', '.join(done.roots)}." if roots else f"{done.keys} keys are wrapped under a new KEK.")
    say("Back guard's state up now: guard state backup. Older backups of it need the old root, or the recovery kit.")
    return Exit.DONE


@keys.command()
@_key
@click.option("--undo", is_flag=True, help="Let a retired key open again.")
@pass_door
def retire(door: Door, key: str, undo: bool) -> None:
    """End an old version: values that name it do not open any more. Needs a second factor.

    Refused while one value in the shop, one object in a store or one lease of a shop's process still needs it.

    \b
    Example: guard keys retire 000000000a
    """
    from guard.actions.keys import RETIRE, UNDO_RETIRE, named  # noqa: PLC0415  # keeps --help light

    _tell_changed(door, door.perform(UNDO_RETIRE if undo else RETIRE, key=named(key)))


@keys.command()
@_key
@pass_door
def destroy(door: Door, key: str) -> None:
    """Wipe a retired key for good. Needs two people and a day; guard keys cancel stops it till then.

    \b
    Example: guard keys destroy 000000000a
    """
    from guard.actions.keys import DESTROY, named  # noqa: PLC0415  # keeps --help light

    _tell_changed(door, door.perform(DESTROY, key=named(key)))


@keys.command()
@_key
@pass_door
def cancel(door: Door, key: str) -> None:
    """Cancel the destruction of a key that waits.

    \b
    Example: guard keys cancel 000000000a
    """
    from guard.actions.keys import CANCEL, named  # noqa: PLC0415  # keeps --help light

    _tell_changed(door, door.perform(CANCEL, key=named(key)), "not destroyed; it stays ")


@keys.command()
@_key
@click.option(
    "--recipient",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with the X25519 public key it is sealed to: 32 bytes in hex or base64.",
)
@click.option(
    "--to", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The new file to write."
)
@pass_door
def export(door: Door, key: str, recipient: Path, path: Path) -> None:
    """Seal one key to somebody outside, for escrow or to take it elsewhere. Needs two people and a day.

    docs/FORMATS.md, section 3, says how the holder of the private half opens the file, without guard.

    \b
    Example: guard keys export 000000000a --recipient escrow.pub --to column-17.json
    """
    from guard.actions.keys import EXPORT, named  # noqa: PLC0415  # keeps --help light
    from guard.crypto.escrow import read_recipient  # noqa: PLC0415

    public = read_recipient(recipient)
    done = door.perform(EXPORT, key=named(key), recipient=public.hex(), to=str(path.absolute()))
    if door.as_json:
        show_json(done)
        return
    say(f"{done.file} holds version {done.version} of {done.purpose}, for recipient {done.recipient}.")


keys.add_command(recovery)
keys.add_command(shred)


def _tell_changed(door: Door, done: Changed, still: str = "") -> None:
    if door.as_json:
        show_json(done)
        return
    say(f"Version {done.version} of {done.purpose} (key {done.id}) is {still}{done.state}.")
