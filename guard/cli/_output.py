"""How commands print: data on stdout, talk on stderr, one JSON document with --json, progress on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import click
import msgspec

from guard.clock import stamp
from guard.events import Progress, silent


def plain(value: Any) -> Any:
    """Return `value` as JSON types; dataclasses become objects, times RFC 3339 in UTC, bytes hex."""
    match value:
        case _ if is_dataclass(value) and not isinstance(value, type):
            found: Any = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case Mapping():
            found = {str(key): plain(each) for key, each in value.items()}
        case Enum():
            found = value.value
        case datetime():
            found = stamp(value)
        case bytes():
            found = value.hex()
        case None | bool() | int() | float() | str():
            found = value
        case Sequence() | Set():
            found = [plain(each) for each in value]
        case _:
            found = str(value)
    return found


def show_json(value: Any) -> None:
    """Print `value` as one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2))


def say(text: str, *, error: bool = False) -> None:
    """Print talk: what happens, what to do next. It goes to stderr, red when it is an error."""
    click.secho(text, err=True, fg="red" if error else None)


def show_rows(rows: Sequence[Any], *, columns: Sequence[str] | None = None, as_json: bool | None = None) -> None:
    """Print dataclasses or mappings as a table, or as JSON when --json was given."""
    context = click.get_current_context(silent=True)
    if as_json or (as_json is None and context is not None and context.find_root().params.get("as_json")):
        show_json(rows)
        return
    flat = [plain(row) for row in rows]
    names = list(columns or (flat[0] if flat else ()))
    table = [[_cell(row.get(name)) for name in names] for row in flat]
    widths = [max([len(name), *(len(line[at]) for line in table)]) for at, name in enumerate(names)]
    for line in [names, *table] if names else []:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_cell, value))
        case dict():
            return ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
        case _:
            return str(value)


@contextmanager
def drawn_progress() -> Iterator[Progress]:
    """Give a progress that draws bars when stderr is a terminal, and says nothing elsewhere.

    Nothing is drawn before the first call: codes are asked for on the same terminal.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()


class _Bars:
    """Draws one bar for each thing that is told of."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        if self._bars is None:
            self._bars = _started()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def _started() -> Any:
    from rich.console import Console  # noqa: PLC0415  # rich is slow to import and only draws
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    look = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*look, console=Console(stderr=True), transient=True)
    bars.start()
    return bars
