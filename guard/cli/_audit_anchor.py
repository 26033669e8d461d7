"""guard audit anchor and guard audit checkpoint: what stands outside, and what others keep to prove a cut with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli._audit_verify import entries
from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guard.audit.anchoring import Holding


@click.command()
@click.option("--look", is_flag=True, help="Only show what each anchor holds.")
@pass_door
def anchor(door: Door, /, look: bool) -> int:
    """Give the newest checkpoint to every anchor. The daemon does this every hour.

    One that fails keeps none of the others from it: exit 4. One that holds another history: exit 11.

    \b
    Example: guard audit anchor --look
    """
    from guard.actions.audit import ANCHOR  # noqa: PLC0415  # keeps --help light

    if look:
        return _show(door.app.ledger.look())
    done = door.perform(ANCHOR)
    if door.as_json:
        show_json(done)
    else:
        click.echo(f"{entries(done.size)} anchored at {', '.join(done.held) or 'nowhere: guard.toml names no anchor'}")
    for problem in done.failed:
        say(problem, error=True)
    return Exit.PARTLY if done.failed else Exit.DONE


def _show(found: Sequence[Holding]) -> int:
    rows = [
        {
            "anchor": each.name,
            "entries": each.entries,
            "signed": each.at,
            "where": f"{each.where} (weak: on the ledger's own disk)" if each.weak else each.where,
        }
        for each in found
    ]
    show_rows(found if click.get_current_context().find_root().params["as_json"] else rows, empty="no anchor is named")
    for each in found:
        if each.problem:
            say(each.problem, error=True)
    return Exit.PARTLY if any(each.problem for each in found) else Exit.DONE


@click.command()
@click.option("--cosigned", is_flag=True, help="The newest one that a witness has cosigned, with its signatures.")
@click.option("--vkey", is_flag=True, help="The key it is verified with, for a witness or an auditor.")
@pass_door
def checkpoint(door: Door, /, cosigned: bool, vkey: bool) -> None:
    """Print the newest signed checkpoint; whoever keeps it can prove a later cut.

    \b
    Example: guard audit checkpoint > /media/usb/guard.checkpoint
    """
    if cosigned and vkey:
        raise click.UsageError("--cosigned and --vkey do not go together")
    ledger = door.app.ledger
    shown = {"vkey": ledger.vkey} if vkey else {"checkpoint": ledger.cosigned() if cosigned else ledger.checkpoint()}
    if door.as_json:
        show_json(shown)
    else:
        click.echo("".join(shown.values()), nl=vkey)
