"""guard fields: seal the columns the catalog names, look after them, and open them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.fields import Swept

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
    """Show what sealing would do, and what stands against it. Changes nothing.

    Without TABLE.COLUMN it looks at every column with protect = "encrypt" in the catalog.

    \b
    Example: guard fields plan Customer.Email
    """
    found = door.app.fields.plan(columns)
    if door.as_json:
        show_json(found)
    else:
        click.echo("\n".join(found.lines))
    return Exit.FINDINGS if found.refused or found.missing else Exit.DONE


@fields.command()
@_columns
@pass_door
def encrypt(door: Door, columns: tuple[str, ...]) -> Exit:
    """Seal columns in place while the shop goes on. Needs a second factor. Run it again after an interruption.

    Without TABLE.COLUMN it seals every column with protect = "encrypt" in the catalog.

    \b
    Example: guard fields encrypt Customer.Email Customer.Phone
    """
    from guard.actions.fields import ENCRYPT  # noqa: PLC0415  # keeps --help light

    return _show_swept(door.perform(ENCRYPT, columns=list(columns)), "sealed")


@fields.command()
@_columns
@pass_door
def verify(door: Door, columns: tuple[str, ...]) -> Exit:
    """Open every sealed value in its row and compare counts and digests with those taken while sealing.

    Ends with 11 when a value was changed or moved, with 3 when something is plain or rows were changed since.

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
    return Exit.DONE if all(check.clean for check in checks) else Exit.FINDINGS


@fields.command()
@_columns
@pass_door
def finalize(door: Door, columns: tuple[str, ...]) -> None:
    """Finish sealed columns: refuse plain text from now on, and clear old values from the database's file.

    Needs a second factor. Rewrites the whole file; the shop waits meanwhile.

    \b
    Example: guard fields finalize
    """
    from guard.actions.fields import FINALIZE  # noqa: PLC0415  # keeps --help light

    done = door.perform(FINALIZE, columns=list(columns))
    if door.as_json:
        show_json(done)
        return
    show_rows(done.columns)
    for place in done.remains:
        say(f"plain text may remain in {place}")


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


def _show_swept(swept: tuple[Swept, ...], what: str) -> Exit:
    show_rows([{"at": each.at, what: each.rows, "left": each.left, "state": each.record.stage} for each in swept])
    for each in swept:
        if each.note:
            say(each.note)
        if each.left:
            say(f"{each.at}: {each.left} values are left, the shop keeps writing them; run it again", error=True)
    return Exit.PARTLY if any(each.left for each in swept) else Exit.DONE
