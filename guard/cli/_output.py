"""How commands print: data on stdout, talk on stderr, one JSON document with --json, progress on a terminal only."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import click
import msgspec

from guard.clock import stamp
from guard.errors import Exit, GuardError
from guard.events import Progress, silent


def plain(value: Any) -> Any:
    """Return `value` as JSON types; dataclasses become objects, times RFC 3339 in UTC, spans seconds, bytes hex."""
    match value:
        case _ if is_dataclass(value) and not isinstance(value, type):
            found: Any = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case Mapping():
            found = {str(key): plain(each) for key, each in value.items()}
        case Enum():
            found = value.value
        case datetime():
            found = stamp(value)
        case bytes() | timedelta():
            found = value.hex() if isinstance(value, bytes) else value.total_seconds()
        case None | bool() | int() | float() | str():
            found = value
        case Sequence() | Set():
            found = [plain(each) for each in value]
        case _:
            found = str(value)
    return found


def ended(failed: Mapping[str, GuardError], *, whole: bool = True) -> Exit:
    """Say which stores failed, and return how a command ends that worked on several."""
    for name, error in failed.items():
        say(f"store {name}: {error}", error=True)
        if error.hint:
            say(f"  {error.hint}")
    return Exit.DONE if whole and not failed else Exit.PARTLY


def show_json(value: Any) -> None:
    """Print `value` as one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2))


def say(text: str, *, error: bool = False) -> None:
    """Print talk: what happens, what to do next. It goes to stderr, red when it is an error."""
    click.echo(click.style(text, fg="red") if error else text, err=True)


def show_lines(lines: Sequence[str]) -> None:
    """Print lines as they are; on a terminal that is too narrow they are folded, hanging below their own text."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        hang = " " * len(_LABEL.match(line)[0])  # type: ignore[index]  # it matches every text
        click.echo(textwrap.fill(line, room, subsequent_indent=hang) if room and len(line) > room else line)


_LABEL = re.compile(r"(?: *(?:\w+:|\d+\.) +| *)")
"""What stands before a line's own text: blanks, a label, a number."""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, e.g. "1 column", "2 columns"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """Return a number of bytes for people, e.g. "1.2 MiB"."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def show_rows(rows: Sequence[Any], *, columns: Sequence[str] | None = None, empty: str = "nothing to show") -> None:
    """Print dataclasses or mappings as a table of `columns`, or as JSON, whole, when --json was given.

    No rows: says `empty`. On a terminal that is too narrow, a long last column goes below its row.
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.find_root().params.get("as_json"):
        show_json(rows)
    elif not rows:
        say(empty)
    else:
        shown = [
            {each.name: getattr(row, each.name) for each in fields(row)} if is_dataclass(row) else row for row in rows
        ]
        names = list(columns or shown[0])
        _print_table([names, *([_cell(row[name]) for name in names] for row in shown)])


_LONG = 24
"""Characters; what is longer is prose, and prose may be broken into lines."""


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print `lines`, the headings first, in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    is_wide = room is not None and sum(widths) + 2 * (len(widths) - 1) > room and widths[-1] > _LONG
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if not is_wide:
            click.echo("  ".join(cells).rstrip())
            continue
        click.echo("  ".join(cells[:-1]).rstrip())
        if line[-1] not in {"", "-"}:
            click.echo(textwrap.fill(line[-1], room or 80, initial_indent="    ", subsequent_indent="    "))


def _cell(value: Any) -> str:
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
        case Enum():
            text = str(value.value)
        case list() | tuple():
            text = ", ".join(map(_cell, value))
        case Mapping():
            text = ", ".join(f"{key} {_cell(each)}" for key, each in value.items())
        case _:
            text = str(value)
    return text


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
            self._tasks[what] = self._bars.add_task(what, total=total, completed=done, count="", pace="", left="")
        task = self._bars.tasks[self._tasks[what]]
        self._bars.update(
            task.id,
            completed=done,
            total=total,
            count=f"{done:,}" if total is None else f"{done:,}/{total:,}",
            pace=f"{task.speed:,.0f}/s" if task.speed else "",
            left="" if task.time_remaining is None else f"{timedelta(seconds=task.time_remaining)} left",
        )

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()


def _started() -> Any:
    from rich.console import Console  # noqa: PLC0415  # rich is slow to import and only draws
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    told = (TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "pace", "left"))  # none where none is known
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *told,
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=60,
    )
    bars.start()
    return bars
