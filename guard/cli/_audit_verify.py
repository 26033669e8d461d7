"""guard audit verify: does the ledger say what was signed, anchored, and kept by others?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import drawn_progress, show_json
from guard.cli._time import Time
from guard.clock import stamp
from guard.errors import Exit, UnanchoredError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from guard.audit import Verdict

_MOST = 1 << 20
"""Bytes that are read of a file: more than any checkpoint or proof has."""


class _TimeOrSize(Time):
    """A time, or a number of entries."""

    name = "time|size"

    def convert(  # type: ignore[override]  # wider than a time
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | int:
        """Return the number, or the time in UTC."""
        text = str(value)
        is_size = text.isascii() and text.isdigit() and len(text) < 20
        return int(text) if is_size else super().convert(value, param, ctx)


@click.command()
@click.option("--since", type=_TimeOrSize(), help="Read only what is behind the last checkpoint kept before this.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint or .tlog-proof that somebody kept: the ledger has to hold what it vouches for. Repeatable.",
)
@pass_door
def verify(door: Door, /, since: datetime | int | None, against: tuple[Path, ...]) -> int:
    """Recompute the ledger from its bytes and compare everything, anchors included.

    Exits 11 and names the entry when anything differs, 15 when all is consistent but no fresh anchor vouches for it.

    With --since, entries before a kept checkpoint are not read again; the hashes that are stored over them have to make
    the root that it signed. The answer says from which entry on was read.

    \b
    Example: guard audit verify --since 2026-11-01 --against /media/usb/guard.checkpoint
    """
    from guard.audit.against import Held  # noqa: PLC0415  # keeps --help light
    from guard.audit.anchors.enough import what_helps  # noqa: PLC0415

    held = [Held.read(str(path), _content(path)) for path in against]
    with drawn_progress() as progress:
        verdict = door.app.ledger.inspect(progress, since=since, against=held)
    if door.as_json:
        show_json(verdict)
    else:
        for line in _lines(verdict):
            click.echo(line)
    for each in verdict.against:
        if each.problem is not None:
            raise UnanchoredError(each.problem, hint="a later checkpoint, or one of an export, can be compared")
    if verdict.unanchored is not None:
        raise UnanchoredError(f"consistent, but not anchored: {verdict.unanchored}", hint=what_helps(verdict.anchors))
    return Exit.DONE


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST)


def _lines(verdict: Verdict) -> Iterator[str]:
    read = verdict.size - max(verdict.begin, verdict.minimum)
    yield f"{entries(read)} from {stamp(verdict.first)} to {stamp(verdict.last)}: consistent"
    if verdict.minimum:
        yield f"entries below {verdict.minimum} were removed by retention; the hashes over them agree"
    if verdict.begin > verdict.minimum:
        yield f"entries below {verdict.begin} were not read again; the hashes over them agree"
    yield f"root {verdict.root} of {entries(verdict.size)}; {verdict.checkpoints} kept checkpoints agree"
    for restart in verdict.restarts:
        lost = f"{entries(restart.lost)} known to be lost" if restart.ahead else "no entry known to be lost"
        yield f"restored at entry {restart.size}, where the log {restart.closed} ends: {lost}"
    if verdict.restarts:
        yield f"written to now: {verdict.origin}"
    for change in verdict.rekeys:
        yield f"signed by another key since entry {change.n}: {change.vkey}"
    yield from _vouching(verdict)


def _vouching(verdict: Verdict) -> Iterator[str]:
    for anchor in verdict.anchors:
        held = "nothing yet" if anchor.size is None else f"the first {entries(anchor.size)}"
        weak = "; weak: on the ledger's own disk" if anchor.weak else ""
        said = f"anchor {anchor.name}: {held}" if anchor.problem is None else anchor.problem  # which names it
        yield f"{said}{weak}"
    for each in verdict.against:
        if each.problem is None:
            what = f"holds for the first {entries(each.size)}" if each.size else "is about entries that a restore lost"
            yield f"{each.name}: {what}"
    if verdict.tail and verdict.anchors:
        yield f"{entries(verdict.tail)} above the newest anchor: a cut among them would not be found"


def entries(count: int) -> str:
    """Return a number of entries in words."""
    return f"{count} {'entry' if count == 1 else 'entries'}"
