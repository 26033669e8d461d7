"""guard audit ingest: events of the shop from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door, stopped_between_steps
from guard.cli._output import drawn_progress, say, show_json
from guard.errors import ConfigError, Exit

if TYPE_CHECKING:
    from guard.actions.ingest import File, Taken
    from guard.audit.ingest import Checked, Input


@click.command("ingest")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE|-")
@click.option("--dry-run", is_flag=True, help="Check every line and take none.")
@pass_door
def ingest(door: Door, /, file: Path, dry_run: bool) -> Exit:
    """Take events of the shop from FILE into the ledger: JSON lines, "-" for standard input.

    Every line is checked first; when one is wrong, nothing is taken, and each is named. What was interrupted goes
    on where it stopped when the same file is given again; nothing is ever taken twice. The members of an event are
    in docs/FORMATS.md, section 4.

    \b
    Example: guard audit ingest /var/log/shop/access.jsonl
    """
    from guard.audit.ingest import opened  # noqa: PLC0415  # keeps --help light

    with opened(file, sys.stdin.buffer, door.app.home / "var" / "scratch") as given:
        return _ingested(door, file, given, dry_run=dry_run)


def _ingested(door: Door, path: Path, given: Input, *, dry_run: bool) -> Exit:
    from guard.actions.ingest import Taken, checked, ingest_with, looked_at  # noqa: PLC0415  # keeps --help light

    name = "standard input" if str(path) == "-" else str(path)
    file = looked_at(door.app, given)
    if file.is_finished:
        _show(door, Taken(file.source, given.lines, file.taken, 0), f"{name} holds nothing that was not taken before")
        return Exit.DONE
    with drawn_progress() as drawn, stopped_between_steps(drawn) as progress:
        found = checked(door.app, file, progress)
    if found.wrong:
        raise _refused(door, name, file, found)
    if dry_run:
        would = Taken(file.source, given.lines, file.taken, found.events)
        _show(door, would, f"{name}: {found.events} events are right; none was taken")
        return Exit.DONE
    done = door.perform(ingest_with(file, found), source=file.source, lines=given.lines)
    _show(door, done, f"{name}: {_words(done)}")
    return Exit.DONE


def _words(done: Taken) -> str:
    new = done.events - done.known
    where = f", from entry {done.first} on" if done.first is not None else ""
    known = f"; {done.known} were recorded before" if done.known else ""
    before = f"; {done.before} lines were taken by an earlier run" if done.before else ""
    return f"{new} events taken{where}{known}{before}"


def _show(door: Door, taken: Taken, words: str) -> None:
    if door.as_json:
        show_json(taken)
    else:
        say(words)


def _refused(door: Door, name: str, file: File, found: Checked) -> ConfigError:
    """Return the error that names what is wrong, after printing it as JSON where that was asked for."""
    from guard.actions.tell import explained  # noqa: PLC0415  # keeps --help light

    if door.as_json:
        problems = [
            {"line": line, "field": each.field, "what": each.what, "how": each.how} for line, each in found.wrong
        ]
        show_json({"source": file.source, "problems": problems, "more": found.more})
    return ConfigError(
        f"{name}: nothing was taken\n{explained('line', found.wrong, found.more)}",
        hint="correct these lines and run it again; docs/FORMATS.md, section 4, has the members of an event",
    )
