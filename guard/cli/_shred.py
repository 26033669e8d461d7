"""guard keys shred, and what `guard keys rewrap --epoch` says."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json
from guard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guard.actions.epoch import Turned
    from guard.actions.receipts import Shown


@click.command()
@click.argument("kind", required=False)
@click.argument("people", metavar="[KEY]...", nargs=-1)
@click.option("--class", "classes", multiple=True, metavar="CLASS", help="Only this class of data; may be given twice.")
@click.option("--receipt", is_flag=True, help="Show receipts instead: of the people named, or all.")
@pass_door
def shred(door: Door, kind: str | None, people: tuple[str, ...], classes: tuple[str, ...], receipt: bool) -> Exit:
    """Destroy the keys of people, so that what is sealed under them is never read again. Needs a second factor.

    KIND is a [subject] of the catalog, KEY what its key column holds. Without --class every class goes. For several
    people at once another person approves it, and it waits a day. What has to be kept is refused, exit 14.

    The receipt says since when the data is dead in live stores, and when in all backups: at the end of the epoch.

    \b
    Example: guard keys shred customer 4711 --class account
             guard keys shred --receipt
    """
    from guard.actions.receipts import receipts  # noqa: PLC0415  # keeps --help light
    from guard.actions.shred import SHRED, SHRED_MANY, refuse  # noqa: PLC0415

    if receipt:
        found = [each for key in people or (None,) for each in receipts(door.app, kind, key)]
        _show(door, found)
        return Exit.DONE
    if kind is None or not people:
        raise click.UsageError("name a kind of subject and whom to shred, or give --receipt")
    refuse(door.app, kind, people, classes)
    whom = people[0] if len(people) == 1 else f"({len(people)} of them)"
    door.confirm(f"Destroy the keys of {kind} {whom} for good?")
    done = door.perform(SHRED if len(people) == 1 else SHRED_MANY, kind=kind, keys=list(people), classes=list(classes))
    _show(door, done.receipts)
    for what, error in done.failed.items():
        say(f"not done yet: {what}: {error}; the daily job does it again, or guard run epoch", error=True)
    return Exit.PARTLY if done.failed else Exit.DONE


def _show(door: Door, receipts: Sequence[Shown]) -> None:
    if door.as_json:
        show_json(receipts)
        return
    for each in receipts:
        click.echo(each.line)
    say(f"Note: {receipts[0].note}." if receipts else "nothing was shredded")


def tell_turned(door: Door, done: Turned) -> Exit:
    """Show what the end of an epoch did, and return the exit code of it."""
    if door.as_json:
        failed = {name: str(error) for name, error in done.failed.items()}
        show_json({**{each.name: getattr(done, each.name) for each in fields(done)}, "failed": failed})
    else:
        say(f"{done.rewrapped} keys of people are under the epoch's new key.")
        for name in done.deleted:
            say(f"The key of epoch {name} is deleted: what was shredded in it is dead in all backups.")
    for what, error in done.failed.items():
        say(f"not done yet: {what}: {error}", error=True)
    return Exit.PARTLY if done.failed else Exit.DONE
