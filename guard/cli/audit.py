"""guard audit: read and verify the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import drawn_progress, say, show_json, show_rows
from guard.cli._time import Time
from guard.clock import stamp
from guard.errors import Exit, UnanchoredError

if TYPE_CHECKING:
    from guard.audit import Entry, Verdict


@click.group()
def audit() -> None:
    """Read and verify the ledger: who did what, when, and how it ended.

    \b
    Example: guard audit verify
    """


@audit.command("list")
@click.option("--since", type=Time(), help="From this time on.")
@click.option("--until", type=Time(), help="Before this time.")
@click.option("--who", help="A principal id.")
@click.option("--what", help='An action, e.g. "fields.encrypt".')
@click.option("--outcome", help='How it ended, e.g. "denied".')
@click.option("--run", help="The entries of one run, by its id; --json shows it.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most the last so many.")
@pass_door
def list_(door: Door, /, limit: int, **fits: object) -> None:
    """List the last entries that fit, oldest first.

    \b
    Example: guard audit list --outcome denied --since 2026-11-01
    """
    from guard.audit import Query  # noqa: PLC0415  # keeps --help light

    entries = door.app.ledger.list(Query(**fits), limit)  # type: ignore[arg-type]  # click's names are the fields
    if door.as_json:
        show_json(entries)
    else:
        show_rows([_row(entry) for entry in entries], empty="no entry fits")


def _row(entry: Entry) -> dict[str, object]:
    """Return what a line shows; counts and facts come last, as they may be long."""
    parts = (
        ", ".join(entry.objects),
        *(f"{name} {each}" for name, each in (*entry.counts.items(), *entry.facts.items())),
    )
    return {
        "n": entry.n,
        "at": entry.at,
        "who": entry.who,
        "what": entry.what,
        "outcome": entry.outcome,
        "details": "; ".join(part for part in parts if part),
    }


@audit.command()
@pass_door
def verify(door: Door, /) -> int:
    """Recompute the ledger from its bytes and compare everything, anchors included.

    Exits 11 and names the entry when anything differs, 15 when all is consistent but no fresh anchor vouches for it.

    \b
    Example: guard audit verify --json
    """
    with drawn_progress() as progress:
        verdict = door.app.ledger.inspect(progress)
    if door.as_json:
        show_json(verdict)
    else:
        _show(verdict)
    if verdict.unanchored is not None:
        raise UnanchoredError(
            f"consistent, but not anchored: {verdict.unanchored}", hint="`guard audit anchor` anchors it now"
        )
    return Exit.DONE


def _show(verdict: Verdict) -> None:
    click.echo(f"{_entries(verdict.size)} from {stamp(verdict.first)} to {stamp(verdict.last)}: consistent")
    click.echo(f"root {verdict.root}; {verdict.checkpoints} kept checkpoints agree")
    for restart in verdict.restarts:
        lost = f"{_entries(restart.lost)} known to be lost" if restart.ahead else "no entry known to be lost"
        click.echo(f"restored at entry {restart.size}, where the log {restart.closed} ends: {lost}")
    if verdict.restarts:
        click.echo(f"written to now: {verdict.origin}")
    for anchor in verdict.anchors:
        held = "nothing yet" if anchor.size is None else f"the first {_entries(anchor.size)}"
        click.echo(f"anchor {anchor.name}: {anchor.problem or held}")
    if verdict.tail and verdict.anchors:
        click.echo(f"{_entries(verdict.tail)} above the newest anchor: a cut among them would not be found")


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


@audit.command()
@pass_door
def checkpoint(door: Door, /) -> None:
    """Print the newest signed checkpoint; whoever keeps it can prove a later cut.

    \b
    Example: guard audit checkpoint > /media/usb/guard.checkpoint
    """
    note = door.app.ledger.checkpoint()
    if door.as_json:
        show_json({"checkpoint": note})
    else:
        click.echo(note, nl=False)


@audit.command()
@pass_door
def anchor(door: Door, /) -> int:
    """Give the newest checkpoint to every anchor. The daemon does this every hour.

    \b
    Example: guard audit anchor
    """
    from guard.actions.audit import ANCHOR  # noqa: PLC0415  # keeps --help light

    done = door.perform(ANCHOR)
    if door.as_json:
        show_json(done)
    else:
        click.echo(f"{_entries(done.size)} anchored at {', '.join(done.held) or 'nowhere: guard.toml names no anchor'}")
    for problem in done.failed:
        say(problem, error=True)
    return Exit.PARTLY if done.failed else Exit.DONE
