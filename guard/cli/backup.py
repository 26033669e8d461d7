"""guard backup: make repositories, fill them, look into them, bring back, verify, prune."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, ask_code, pass_door, pass_unchecked_door
from guard.cli._lost import opened, opening, passphrase_option, restore_without_state, share_option
from guard.cli._output import ended, say, show_json, show_rows, size
from guard.errors import ConfigError, Exit, GuardError, TamperedError

if TYPE_CHECKING:
    from guard.backup import Listed, StoreRun, Verified
    from guard.canon import Json

_stores = click.option("--store", "stores", multiple=True, metavar="NAME", help="Only this store; may be repeated.")


@click.group()
def backup() -> None:
    """Back up, list, restore, verify, prune.

    \b
    Example: guard backup run
    """


@backup.command()
@_stores
@click.option("--passphrase", "with_passphrase", is_flag=True, help="Ask for a passphrase that opens it without state.")
@pass_door
def init(door: Door, stores: tuple[str, ...], with_passphrase: bool) -> Exit:
    """Make a repository in every store that has none. Needs a second factor.

    The recovery kit can open it; --passphrase adds a slot for whoever knows that passphrase.

    \b
    Example: guard backup init --store offsite
    """
    from guard.actions.backup import INIT, init_with  # noqa: PLC0415  # keeps --help light

    action = init_with(_new_passphrase()) if with_passphrase else INIT
    found = door.perform(action, stores=list(stores))
    show_rows(list(found.done.values()))
    for each in found.done.values():
        if each.made and not each.slots:
            say(f"store {each.store}: no key slot; without guard's state and root key nobody can open it", error=True)
    return ended(found.failed)


@backup.command()
@_stores
@pass_door
def run(door: Door, stores: tuple[str, ...]) -> Exit:
    """Back up the shop, guard's state and the configured files into every store.

    Ends with 4 when a store failed or something could not be read as it was.

    \b
    Example: guard backup run
    """
    from guard.actions.backup import RUN  # noqa: PLC0415  # keeps --help light

    found = door.perform(RUN, stores=list(stores))
    runs = list(found.done.values())
    if door.as_json:
        show_json({"stores": runs, "failed": found.failed})
    else:
        show_rows([_summary(each) for each in runs])
    for each in runs:
        _tell_gaps(each)
    return ended(found.failed, whole=not any(each.partial for each in runs))


@backup.command("list")
@_stores
@share_option
@passphrase_option
@pass_unchecked_door
def list_(door: Door, stores: tuple[str, ...], share_files: tuple[Path, ...], ask_passphrase: bool) -> Exit:
    """List the snapshots in every store, the oldest first.

    \b
    Example: guard backup list --json
    """
    if share_files or ask_passphrase:
        stores = (_one(door, stores),)
        backups = opened(door, stores[0], opening(share_files, ask_passphrase))
    else:
        door.known()
        backups = door.app.backups
    found = backups.list(stores)
    rows = [each for rows in found.done.values() for each in rows]
    if door.as_json:
        show_json({"snapshots": rows, "failed": found.failed})
    else:
        show_rows([_row(each) for each in rows], empty="no snapshot yet: guard backup run makes one")
    return ended(found.failed)


@backup.command()
@click.argument("snapshot", default="latest")
@click.option("--to", "to", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option("--store", metavar="NAME", help="Store to restore from  [default: the first in guard.toml]")
@click.option(
    "--source", "sources", multiple=True, metavar="NAME", help="Only this source, e.g. shop; may be repeated."
)
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Only what fits, with all below it.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@share_option
@passphrase_option
@pass_unchecked_door
def restore(
    door: Door,
    snapshot: str,
    to: Path,
    store: str | None,
    sources: tuple[str, ...],
    paths: tuple[str, ...],
    overwrite: bool,
    share_files: tuple[Path, ...],
    ask_passphrase: bool,
) -> None:
    """Bring a snapshot back into a folder, each source below its own name. Needs a second factor.

    SNAPSHOT is "latest" or the beginning of an id from `guard backup list`. Databases are checked after writing. On a
    machine that has lost guard's state, two shares of the recovery kit or the repository's passphrase open it.

    \b
    Example: guard backup restore latest --to restored --source shop
    """
    from guard.actions.backup import RESTORE  # noqa: PLC0415  # keeps --help light

    name = _one(door, (store,) if store else ())
    args: dict[str, Json] = {
        "store": name,
        "snapshot": snapshot,
        "to": str(to.absolute()),
        "sources": list(sources),
        "paths": list(paths),
        "overwrite": overwrite,
    }
    if share_files or ask_passphrase:
        done = restore_without_state(door, args, opening(share_files, ask_passphrase))
    else:
        done = door.perform(RESTORE, **args)
    if door.as_json:
        show_json(done)
        return
    say(f"{done.files} files, {size(done.bytes)} restored to {to}")
    for path, said in done.checks.items():
        say(f"{path}: {'sound' if said == 'ok' else said}")


@backup.command()
@_stores
@click.option("--data", is_flag=True, help="Read every byte of every pack, not only the structure.")
@pass_door
def verify(door: Door, stores: tuple[str, ...], data: bool) -> Exit:
    """Look for damage: every object, chain and reference; with --data every byte. Ends with 11 when there is any.

    \b
    Example: guard backup verify --data
    """
    from guard.actions.backup import VERIFY  # noqa: PLC0415  # keeps --help light

    done: dict[str, Verified] = {}
    failed: dict[str, GuardError] = {}
    for name in stores or door.app.backups.stores:
        try:
            done[name] = door.perform(VERIFY, store=name, data=data)
        except GuardError as error:
            failed[name] = error
    if failed and not done:
        raise next(iter(failed.values()))
    _show_verified(door, done)
    ending = ended(failed)
    damaged = any(isinstance(error, TamperedError) for error in failed.values())
    return Exit.TAMPERED if damaged or not all(each.is_sound for each in done.values()) else ending


@backup.command()
@_stores
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option("--large", is_flag=True, help="Drop the backups of more than ten days at once. Needs a second factor.")
@pass_door
def prune(door: Door, stores: tuple[str, ...], dry_run: bool, large: bool) -> Exit:
    """Drop the snapshots that policies/backup.toml does not keep, and bytes that nothing has used for the grace time.

    \b
    Example: guard backup prune --dry-run
    """
    from guard.actions.backup import PRUNE, PRUNE_LARGE  # noqa: PLC0415  # keeps --help light

    if dry_run:
        found = door.app.backups.plan_prune(stores)
    else:
        found = door.perform(PRUNE_LARGE if large else PRUNE, stores=list(stores))
    rows = [
        {
            "store": name,
            "kept": len(each.kept),
            "dropped": len(each.dropped),
            "late": len(each.late),
            "packs marked": len(each.to_mark),
            "bytes marked": each.mark_bytes if door.as_json else size(each.mark_bytes),
            "packs deleted": len(each.to_delete),
            "bytes deleted": each.delete_bytes if door.as_json else size(each.delete_bytes),
        }
        for name, each in found.done.items()
    ]
    show_rows(rows)
    return ended(found.failed)


def _one(door: Door, stores: tuple[str, ...]) -> str:
    names = stores or door.app.backups.stores[:1]
    if len(names) != 1:
        raise ConfigError("name one store", hint="with --store NAME")
    return names[0]


def _summary(each: StoreRun) -> dict[str, object]:
    return {
        "store": each.store,
        "snapshot": each.snapshot[:12],
        "files": each.files,
        "size": size(each.bytes),
        "new": size(each.new),
        "known": size(each.bytes - min(each.new, each.bytes)),
        "stored": size(each.stored),
        "state": "partly" if each.partial else "whole",
    }


def _tell_gaps(each: StoreRun) -> None:
    for problem in each.problems:
        say(f"store {each.store}: {problem}", error=True)
    if any(source.problems for source in each.sources):
        say("  --json names them")


def _row(each: Listed) -> dict[str, object]:
    return {
        "store": each.store,
        "snapshot": each.id[:12],
        "at": each.at,
        "state": each.state,
        "sources": each.sources,
        "files": each.files,
        "size": size(each.bytes),
        "stored": size(each.stored),
    }


def _show_verified(door: Door, done: Mapping[str, Verified]) -> None:
    if door.as_json:
        show_json(done)
        return
    show_rows(
        [
            {
                "store": name,
                "read": "all data" if each.data else "structure",
                "snapshots": each.snapshots,
                "packs": each.packs,
                "size": size(each.bytes),
                "late": len(each.late),
                "found": "sound" if each.is_sound else f"{len(each.findings)} findings",
            }
            for name, each in done.items()
        ]
    )
    for name, each in done.items():
        for finding in each.findings:
            say(f"store {name}: {finding.object}: {finding.what}", error=True)


def _new_passphrase() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the passphrase")
    first = ask_code("Passphrase for the repository")
    if first != ask_code("Again"):
        raise ConfigError("the two passphrases differ")
    return first
