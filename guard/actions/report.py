"""Building the report an auditor can check; the ledger keeps the digest of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Task
from guard.clock import parse, stamp
from guard.errors import ConfigError
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json


@dataclass(frozen=True, slots=True)
class Built:
    """A report that was written: where, its digest, and how the claims stand."""

    path: Path
    sha256: str
    entries: int
    satisfied: int
    not_satisfied: int
    not_evaluated: int


def _time(args: Mapping[str, Json], name: str) -> datetime | None:
    if (text := args.get(name)) is None:
        return None
    try:
        return parse(str(text))
    except ValueError:
        raise ConfigError(f"{name}: {text!r} is no time with an offset", hint="e.g. 2026-01-05T00:00:00Z") from None


def _build(app: App, task: Task) -> Outcome[Built]:
    since, until = _time(task.args, "from"), _time(task.args, "to")
    report = app.reports.build(since, until)
    asked = task.args.get("out")
    folder = app.home / app.settings.report.folder
    path = app.reports.write(report, folder if asked is None else Path(str(asked)), folder=asked is None)
    period = {name: stamp(at) for name, at in (("from", since), ("to", until)) if at}
    return Outcome(
        Built(path, report.sha256, report.size, **report.tally),
        objects=(path.name,),
        counts={"entries": report.size, **report.tally},
        digests={"sha256": report.sha256},
        facts=period,
    )


BUILD: Action[Built] = Action("report.build", Level.ROUTINE, Activity.COMPLIANCE, _build)
"""Build a report: `from` and `to` (RFC 3339 or None), `out` (a file, a folder, or None for the settings' folder).

The digest it records is the plain SHA-256 of the file, so that anybody who holds the file can compare it.
"""
