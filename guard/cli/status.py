"""guard status: one screen, what needs you first."""

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import show_json
from guard.errors import Exit


@click.command()
@pass_door
def status(door: Door) -> int:
    """Show one screen: what needs you first. Exits 3 while something is red.

    \b
    Example: guard status
    """
    from guard.actions.status import Light, overview  # noqa: PLC0415  # keeps --help light

    lines = overview(door.app)
    if door.as_json:
        show_json(lines)
    else:
        if door.app.demo:
            click.secho("DEMO: a sample shop, no real person's data", bold=True)
        for line in lines:
            click.echo(click.style(f"{line.light.value:7}", fg=line.light.value) + f"{line.what}: {line.text}")
            if line.remedy and line.light is not Light.GREEN:
                click.echo(f"       -> {line.remedy}")
    return Exit.FINDINGS if any(line.light is Light.RED for line in lines) else Exit.DONE
