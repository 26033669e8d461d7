"""guard demo: the sample shop, and the whole main job on it."""

from __future__ import annotations

from pathlib import Path

import click

from guard.cli._door import os_user
from guard.cli._output import drawn_progress, say, show_json
from guard.errors import ConfigError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-shop"))
@click.option("--customers", type=click.IntRange(50), default=20_000, show_default=True, help="How many customers.")
@click.option("--orders", type=click.IntRange(100), default=60_000, show_default=True, help="How many orders.")
@click.pass_context
def demo(context: click.Context, folder: Path, customers: int, orders: int) -> None:
    """Make a sample shop in FOLDER and run the whole main job on it.

    Needs no server and no terminal. Says in one line each what it did and what to look at, and ends with the report.

    \b
    Example: guard demo demo-shop
    """
    from guard.actions.tour import Tour  # noqa: PLC0415  # keeps --help light
    from guard.demo import Size  # noqa: PLC0415

    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", hint="name a new folder, or remove it: guard demo another-folder")
    as_json = bool(context.find_root().params["as_json"])
    with drawn_progress() as progress:
        tour = Tour(folder.absolute(), os_user(), progress, Size(customers, orders))
        steps = []
        for step in tour.steps():
            steps.append(step)
            if not as_json:
                click.echo(f"{step.name:11}{step.did}\n{'':11}look at: {step.look_at}")
    if as_json:
        show_json({"steps": steps, "report": tour.report, "folder": folder})
        return
    say(f"The phone of the demo's administrator is {folder}/demo-phone.txt; go on with: cd {folder} && guard status")
    click.echo(f"report: {tour.report}")
