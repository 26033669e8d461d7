"""guard report: what was done with personal data, in one file an auditor can check."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json
from guard.cli._time import Time
from guard.clock import stamp
from guard.errors import Exit


@click.group()
def report() -> None:
    """Build the report an auditor can check.

    \b
    Example: guard report build
    """


@report.command()
@click.option("--from", "since", type=Time(), help="What the report is about begins here  [default: the first entry].")
@click.option("--to", "until", type=Time(), help="And ends before this  [default: after the newest entry].")
@click.option("--out", type=click.Path(path_type=Path), help="File or folder  [default: report.folder of guard.toml].")
@pass_door
def build(door: Door, /, since: datetime | None, until: datetime | None, out: Path | None) -> Exit:
    """Write one HTML file: what is claimed, and the ledger entries that prove it. No script, nothing from outside.

    Exits 3 when a claim is not satisfied, 11 when the ledger does not verify. The file's SHA-256 is recorded.

    \b
    Example: guard report build --from 2026-01-01 --to 2026-04-01
    """
    from guard.actions.report import BUILD  # noqa: PLC0415  # keeps --help light

    period = {"from": stamp(since) if since else None, "to": stamp(until) if until else None}
    done = door.perform(BUILD, **period, out=str(out.absolute()) if out else None)
    if door.as_json:
        show_json(done)
    else:
        click.echo(done.path)
        tally = f"{done.not_satisfied} not satisfied, {done.not_evaluated} not evaluated, {done.satisfied} satisfied"
        say(f"claims: {tally}")
        say(f"SHA-256 {done.sha256}")
    return Exit.FINDINGS if done.not_satisfied else Exit.DONE
