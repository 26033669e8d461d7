"""guard uninstall: take guard out of the shop's database."""

from __future__ import annotations

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import counted, say, show_json, show_lines
from guard.errors import Exit

_AFTER = """\
The shop's database holds nothing of guard any more. What to do next:
  1. take guard out of the shop's own code, and stop guard daemon
  2. keep {home} with its root key, and the recovery kit, as long as there are backups of the shop from before:
     what is sealed in them opens with nothing else
  3. keep the ledger as long as you have to prove what was done: guard report build
  4. when the last such backup is gone: delete {home}, its stores, and guard's account in the database"""


@click.command()
@click.option("--plan", "only_plan", is_flag=True, help="Show what guard put into the shop, and end.")
@pass_door
def uninstall(door: Door, only_plan: bool) -> Exit:
    """Put everything back into plain text and take guard out of the shop's database. Needs two people.

    Triggers, token columns, indexes and guard_progress are dropped, types are given back, and the schema is looked
    through for anything left. guard's own folder stays. Run it again after an interruption.

    \b
    Example: guard uninstall --plan
    """
    from guard.actions.uninstall import UNINSTALL  # noqa: PLC0415  # keeps --help light

    if only_plan:
        found = door.app.fields.leaving.plan()
        if door.as_json:
            show_json(found)
        else:
            show_lines(found.lines)
        return Exit.FINDINGS if found.halves else Exit.DONE
    done = door.perform(UNINSTALL)
    if door.as_json:
        show_json(done)
    else:
        say(
            f"Put back into plain text: {counted(len(done.columns), 'column')}, {counted(done.values, 'value')}. "
            f"Dropped from the schema: {counted(len(done.dropped), 'thing')}."
        )
        say(_AFTER.format(home=door.app.home))
    for note in done.notes:
        say(note, error=True)
    return Exit.FINDINGS if done.notes else Exit.DONE
