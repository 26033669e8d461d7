"""guard doctor: check everything guard needs."""

import click

from guard.cli._door import Door, pass_unchecked_door
from guard.cli._output import show_json
from guard.errors import Exit

COLORS = {"ok": "green", "warning": "yellow", "wrong": "red"}


@click.command()
@pass_unchecked_door
def doctor(door: Door) -> int:
    """Check everything guard needs, with the remedy for what is missing. Changes nothing.

    \b
    Example: guard doctor
    """
    from guard.actions.doctor import Found, examine  # noqa: PLC0415  # keeps --help light

    checks = list(examine(door.app))
    if door.as_json:
        show_json(checks)
    else:
        for check in checks:
            click.echo(click.style(f"{check.found.value:8}", fg=COLORS[check.found]) + f"{check.what}: {check.detail}")
            if check.remedy and check.found is not Found.WELL:
                click.echo(f"        -> {check.remedy}")
    return Exit.FINDINGS if any(check.found is Found.WRONG for check in checks) else Exit.DONE
