"""guard state: back guard's own state up, bring it back where it is lost, bring an older one up to date."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, os_user, pass_door, pass_unchecked_door, stopped_between_steps
from guard.cli._lost import opening, passphrase_option, share_option
from guard.cli._output import drawn_progress, ended, say, show_json, show_rows, size
from guard.clock import stamp
from guard.errors import ConfigError, Exit

if TYPE_CHECKING:
    from guard.actions.lost import Back
    from guard.backup import StoreRun


@click.group()
def state() -> None:
    """Back up, restore and migrate guard's own state: keys, people, the ledger.

    \b
    Example: guard state backup
    """


@state.command()
@click.option("--store", "stores", multiple=True, metavar="NAME", help="Only this store; may be repeated.")
@pass_door
def backup(door: Door, stores: tuple[str, ...]) -> Exit:
    """Back guard's state and policies up into every store, and read them back.

    `guard backup run` does the same with the shop. Ends with 4 when a store failed.

    \b
    Example: guard state backup
    """
    from guard.actions.state import BACKUP  # noqa: PLC0415  # keeps --help light

    found = door.perform(BACKUP, stores=list(stores))
    runs = list(found.done.values())
    if door.as_json:
        show_json({"stores": runs, "failed": found.failed})
    else:
        show_rows([_row(each) for each in runs])
    return ended(found.failed)


def _row(each: StoreRun) -> dict[str, object]:
    return {
        "store": each.store,
        "snapshot": each.snapshot[:12],
        "size": size(each.bytes),
        "stored": size(each.stored),
        "state": "read back",
    }


@state.command()
@click.argument("snapshot", default="latest")
@click.option("--store", metavar="NAME|PATH", help="Store, or its folder  [default: the first in guard.toml]")
@share_option
@passphrase_option
@pass_unchecked_door
def restore(door: Door, snapshot: str, store: str | None, share_files: tuple[Path, ...], ask_passphrase: bool) -> Exit:
    """Bring guard's state back on a machine that has lost it, to where guard.toml wants it.

    SNAPSHOT is "latest" or the beginning of an id from `guard backup list`. Two shares of the recovery kit open the
    repository, or its passphrase. The keys need the root key or the two shares. Never done over a state that is there.

    \b
    Example: guard state restore --share-file share-1.txt --share-file share-2.txt
    """
    from guard.actions.lost import Lost, bring_back, require_lost  # noqa: PLC0415  # keeps --help light

    require_lost(door.app)
    name = store or next(iter(door.app.backups.stores), None)
    if name is None:
        raise ConfigError("no store for backups is configured", hint="name its folder with --store PATH")
    lost = Lost(
        name, snapshot, opening(share_files, ask_passphrase), os_user(), timedelta(seconds=door.options["wait"])
    )
    with drawn_progress() as drawn, stopped_between_steps(drawn) as progress:
        back = bring_back(door.app, lost, progress)
    if door.as_json:
        show_json(back)
    else:
        _tell(back)
    for problem in back.problems:
        say(problem, error=True)
    return Exit.PARTLY if back.problems else Exit.DONE


def _tell(back: Back) -> None:
    restart, voided = back.restart, back.voided
    say(f"guard's state of {stamp(back.taken)} is back, from snapshot {back.snapshot[:12]} in store {back.store}.")
    say("Lost is what it learned after that: keys, people, approvals and entries of the ledger.")
    known = f"at least {restart.lost}, by what the anchors hold" if restart.ahead else "no anchor held any"
    say(f"The ledger's log ends at entry {restart.size - 1} and a new one begins. Entries lost: {known}.")
    if restart.unread:
        say(f"  anchors that could not be asked: {', '.join(restart.unread)}")
    if restart.unknown:
        say(f"  anchors hold what the key {' and '.join(restart.unknown)} signed, which this state does not know: the")
        say("  ledger's key was changed later. Now the older one signs again, until guard keys rotate ledger.")
    say(
        f"No longer valid: {voided.grants} grants, {voided.requests} requests that waited, {voided.approvals} standing "
        f"approvals, {voided.recovery_codes} recovery codes, and all one-time codes of this minute and the next."
    )
    if back.erasures:
        say(
            f"{back.erasures} entries of the erasure register are newer than this state; {back.shredded} keys of people"
        )
        say("  that were shredded since are shredded again. The rest is to be done again: runbooks/lost-state.md")
    if back.told_later:
        say(f"{back.told_later} entries were taken into the ledger about restores while it was lost.")
    if back.policies:
        say("The policies came back with it.")
    if not back.known:
        say(f"guard does not know the OS user {os_user()}; it knows {', '.join(back.os_users)}: work as one of them.")
    say(f"Verifier key of the new log, for auditors: {back.vkey}")
    say("Next: guard keys recovery use if the root key is lost; then runbooks/lost-state.md, from the check on.")


@state.command()
@pass_unchecked_door
def migrate(door: Door) -> None:
    """Bring the state of an older guard up to this one's schema, after copying it. Stop the daemon first.

    A SQLite state is copied to a file beside it, one in PostgreSQL to a schema beside its own.

    \b
    Example: guard state migrate
    """
    from guard.actions.state import bring_up  # noqa: PLC0415  # keeps --help light

    steps = bring_up(door.app, door.known, timedelta(seconds=door.options["wait"]))
    if door.as_json:
        show_json({"steps": steps})
        return
    for each in steps:
        say(f"schema {each}")
    say("What it was before lies beside it, under its old version and the time." if steps else "Nothing to do.")
