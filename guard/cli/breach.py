"""guard breach: a personal data breach against the clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.clock import stamp
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.breach import Standing

COLUMNS = ("incident", "status", "hours_left", "due", "due_here", "to", "title")


@click.group()
def breach() -> None:
    """Handle a personal data breach against the 72-hour clock.

    \b
    Example: guard breach status
    """


@breach.command("open")
@click.option("--title", required=True, help="What happened, in your words; it stays in guard's state.")
@click.option("--detected", required=True, metavar="TIME", help="When somebody first noticed, with offset.")
@click.option(
    "--aware", required=True, metavar="TIME", help="When it was reasonably certain; the clocks run from here."
)
@click.option("--reason", required=True, help="Why it was certain then.")
@click.option("--occurred", metavar="TIME", help="When it happened, if that is known.")
@pass_door
def open_(door: Door, /, **facts: str | None) -> None:
    """Open an incident and start its clocks.

    TIME is written with its offset, as in 2026-01-05T10:15+01:00.

    \b
    Example: guard breach open --title "Export sent to the wrong partner" \\
               --detected 2026-01-05T09:40+01:00 --aware 2026-01-05T10:15+01:00 \\
               --reason "The partner confirmed that they opened it"
    """
    from guard.actions.breach import OPEN  # noqa: PLC0415  # keeps --help light

    incident = door.perform(OPEN, **facts)
    if door.as_json:
        show_json({"incident": incident})
        return
    click.echo(incident)
    standing = next(each for each in door.app.breaches.status() if each.incident.id == incident)
    for clock in standing.deadlines:
        say(f"tell the {clock.to} by {_both(clock.due)} ({clock.rule}, {clock.hours_left} hours left)")


@breach.command()
@click.argument("incident")
@click.option("--aware", required=True, metavar="TIME", help="When it was reasonably certain, with offset.")
@click.option("--reason", required=True, help="Why the time that was recorded is wrong.")
@pass_door
def aware(door: Door, /, incident: str, aware: str, reason: str) -> None:
    """Correct since when INCIDENT was known; its clocks run from there. Needs a second factor.

    What was recorded before stays in the record.

    \b
    Example: guard breach aware b-5yzjvhrp --aware 2026-01-05T09:50+01:00 --reason "The call was at ten to ten"
    """
    from guard.actions.breach import AWARE  # noqa: PLC0415  # keeps --help light

    door.perform(AWARE, incident=incident, aware=aware, reason=reason)
    if door.as_json:
        show_json({"incident": incident})
    else:
        say(f"{incident}: corrected; guard breach status shows its clocks")


@breach.command()
@pass_door
def status(door: Door) -> Exit:
    """Show every clock that runs. Exits 3 when one is near its end or over.

    \b
    Example: guard breach status --json
    """
    standing = door.app.breaches.status()
    show_rows([row for each in standing for row in _rows(each)], columns=COLUMNS, empty="no incident")
    return Exit.FINDINGS if any(each.pressing for each in standing) else Exit.DONE


def _rows(standing: Standing) -> list[dict[str, Any]]:
    return [
        {
            "incident": standing.incident.id,
            "title": standing.incident.title,
            "rule": clock.rule,
            "to": clock.to,
            "status": clock.urgency,
            "hours_left": clock.hours_left,
            "due": clock.due,
            "due_here": _local(clock.due),
            "aware": stamp(standing.incident.aware),
            "next_reminder": clock.next_reminder,
        }
        for clock in standing.deadlines
    ]


def _local(at: datetime) -> str:
    """Return a time by the clocks of this machine, with its offset."""
    return at.astimezone().isoformat(timespec="minutes")


def _both(at: datetime) -> str:
    return f"{stamp(at)}, here {_local(at)}"
