"""guard fields: seal the columns the catalog names, look after them, and open them again."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_lines, show_rows
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.fields import Swept
    from guard.fields.rebind import Rebound

_columns = click.argument("columns", nargs=-1, metavar="[TABLE.COLUMN]...")


@click.group()
def fields() -> None:
    """Seal, verify and open columns of the shop's database.

    \b
    Example: guard fields plan
    """


@fields.command()
@_columns
@pass_door
def plan(door: Door, columns: tuple[str, ...]) -> Exit:
    """Show what sealing would do, what stops working by it, and what stands against it. Changes nothing.

    Without TABLE.COLUMN it looks at every column with protect = "encrypt" in the catalog. Ends with 3 when something
    stands against it, or could not be looked at. Durations and sizes are estimates.

    \b
    Example: guard fields plan Customer.Email
    """
    found = door.app.fields.plan(columns)
    if door.as_json:
        show_json(found)
    else:
        show_lines(found.lines)
    unseen = any(place.unseen for place in found.remains) or any(column.unseen for column in found.columns)
    return Exit.FINDINGS if found.refused or found.missing or unseen else Exit.DONE


@fields.command()
@_columns
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Processes at most that seal side by side: one for each 100,000 rows that are due.",
)
@pass_door
def encrypt(door: Door, columns: tuple[str, ...], workers: int) -> Exit:
    """Seal columns in place while the shop goes on. Needs a second factor. Run it again after an interruption.

    Without TABLE.COLUMN it seals every column with protect = "encrypt" in the catalog.

    \b
    Example: guard fields encrypt Customer.Email Customer.Phone
    """
    from guard.actions.fields import ENCRYPT  # noqa: PLC0415  # keeps --help light

    return _show_swept(door.perform(ENCRYPT, columns=list(columns), workers=workers), "sealed")


@fields.command()
@_columns
@pass_door
def verify(door: Door, columns: tuple[str, ...]) -> Exit:
    """Open every sealed value in its row and compare counts and digests with those taken while sealing.

    Ends with 11 when a value was changed or moved, with 3 when something is plain, when tokens are missing or wrong, or
    when rows were changed between sealing and the first verify; later the shop may change its rows.

    "same": the values that were sealed, and no others; "proven": verified before; "shredded": values whose person's key
    was destroyed; "untold": values that a search does not find, or finds for another value, "lost" the first of their
    rows in the order of the key: guard fields encrypt fills in missing tokens; "amiss": triggers that harm, or lack.

    \b
    Example: guard fields verify
    """
    from guard.actions.fields import VERIFY  # noqa: PLC0415  # keeps --help light

    checks = door.perform(VERIFY, columns=list(columns))
    show_rows(checks)
    for check in checks:
        if check.plain:
            say(f"{check.at}: {check.plain} values are in plain text; guard fields encrypt seals them", error=True)
        if check.same is False:
            say(f"{check.at}: every value opens, but since it was sealed the shop or retention changed rows of it")
        if check.untold:
            rows = ", ".join(map(str, check.lost)) + (" and more" if check.untold > len(check.lost) else "")
            say(f"{check.at}: {check.untold} values have a token that is not theirs, or none: row {rows}", error=True)
        for what in check.amiss:
            say(f"{check.at}: {what}", error=True)
        if check.shredded:
            say(f"{check.at}: {check.shredded} values were shredded, and open for nobody")
    return Exit.DONE if all(check.clean for check in checks) else Exit.FINDINGS


@fields.command()
@_columns
@pass_door
def finalize(door: Door, columns: tuple[str, ...]) -> Exit:
    """Finish sealed columns: refuse plain text from now on, and clear old values from the database.

    Needs a second factor. Each table is written anew, and the shop waits for it meanwhile. What keeps old values
    elsewhere (logs, archives, replicas, backups) is listed; where guard may not look, it says so and ends with 3.

    \b
    Example: guard fields finalize Customer.Email
    """
    from guard.actions.fields import FINALIZE  # noqa: PLC0415  # keeps --help light

    done = door.perform(FINALIZE, columns=list(columns))
    if door.as_json:
        show_json(done)
    else:
        show_rows(done.columns)
        say("old values may remain in:")
        for place in done.remains:
            say(f"  {place.line}")
    return Exit.FINDINGS if any(place.unseen for place in done.remains) else Exit.DONE


@fields.command()
@click.argument("columns", nargs=-1, required=True, metavar="TABLE.COLUMN...")
@pass_door
def decrypt(door: Door, columns: tuple[str, ...]) -> Exit:
    """Put columns back into plain text, with their own types. Needs two people; run it again after an interruption.

    \b
    Example: guard fields decrypt Customer.Email
    """
    from guard.actions.fields import DECRYPT  # noqa: PLC0415  # keeps --help light

    return _show_swept(door.perform(DECRYPT, columns=list(columns)), "opened")


@fields.command()
@click.argument("table", metavar="TABLE")
@click.option(
    "--was", metavar="COLUMN[,COLUMN]", help="Columns of the same table that hold the former key, in its order."
)
@click.option(
    "--map",
    "map_",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file: the parts of the former key, then those of the key a row has now.",
)
@pass_door
def rebind(door: Door, table: str, was: str | None, map_: Path | None) -> Exit:
    """Bind sealed values to the keys their rows have now, where primary keys were changed. Needs a second factor.

    Values that open under neither key stay as they are and are named by their place; then it ends with 4. Run it again
    after an interruption.

    \b
    Example: guard fields rebind Customer --was OldCustomerId
    """
    from guard.actions.rebind import REBIND  # noqa: PLC0415  # keeps --help light

    former = [name.strip() for name in was.split(",")] if was else []
    return _show_rebound(door.perform(REBIND, table=table, was=former, map=str(map_.absolute()) if map_ else None))


@fields.command()
@pass_door
def status(door: Door) -> Exit:
    """Show how each column stands: plain, sealing, sealed, strict or opening, and what lies in it now.

    \b
    Example: guard fields status --json
    """
    found = door.app.fields.status()
    columns = ("at", "state", "rows", "sealed", "plain", "nulls", "verified_at", "trouble")
    show_rows(
        found, columns=columns, empty='no column has protect = "encrypt" in the catalog; begin with guard data scan'
    )
    return Exit.DONE if all(each.done for each in found) else Exit.FINDINGS


@fields.command()
@click.argument("column", metavar="TABLE.COLUMN")
@click.argument("value")
@pass_door
def search(door: Door, column: str, value: str) -> None:
    """Find the rows that hold VALUE in a sealed column. Shows their keys, no values; routine, and recorded.

    VALUE is compared as the column's index reads it: an e-mail address in any case, a phone number in any spelling.
    With - it is read from standard input, so that it stays out of the shell's history and the list of processes.

    \b
    Example: guard fields search Customer.Email - < address.txt
    """
    from guard.actions.fields import SEARCH  # noqa: PLC0415  # keeps --help light

    found = door.perform(SEARCH, column=column, value=_value() if value == "-" else value)
    if door.as_json:
        show_json(found)
        return
    rows = [dict(zip(found.key, row, strict=True)) for row in found.rows]
    show_rows(rows, empty=f"no row of {found.at} holds it")


def _value() -> str:
    """Return one line from standard input, asked for without echo on a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass("Value: ", stream=sys.stderr)
    return sys.stdin.readline().rstrip("\r\n")


def _show_swept(swept: tuple[Swept, ...], what: str) -> Exit:
    show_rows([_swept_row(each, what) for each in swept])
    for each in swept:
        if each.note:
            say(each.note)
        if each.left:
            say(f"{each.at}: {each.left} values are left, the shop keeps writing them; run it again", error=True)
    return Exit.PARTLY if any(each.left for each in swept) else Exit.DONE


def _swept_row(each: Swept, what: str) -> dict[str, object]:
    """Return a line of the table: beside what was done how long the shop may have waited for a row meanwhile."""
    median, p99 = (round(span.total_seconds() * 1000) for span in (each.times.median, each.times.p99))
    row = {"at": each.at, what: each.rows, "left": each.left, "state": each.record.stage}
    return {**row, "median_ms": median, "p99_ms": p99}


def _show_rebound(done: tuple[Rebound, ...]) -> Exit:
    show_rows(done, columns=("at", "rows", "done", "broken"))
    for each in done:
        if each.broken:
            places = ", ".join(map(str, each.places)) + (" and more" if each.broken > len(each.places) else "")
            say(f"{each.at}: {each.broken} values open under neither key, and were left: row {places}", error=True)
    return Exit.PARTLY if any(each.broken for each in done) else Exit.DONE
