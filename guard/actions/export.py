"""Handing the ledger out: to auditors as a folder of tiles, to a SIEM as OCSF lines. Both are recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Task
from guard.audit.export import export
from guard.audit.ship import Mark, Part, ship
from guard.clock import parse
from guard.events import Activity, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit.export import Exported
    from guard.audit.ship import Shipped, Sink


def _tiles(app: App, task: Task) -> Outcome[Exported]:
    vkey, folder = app.ledger.vkey, Path(task.text("folder"))
    with app.state.read() as tx:
        done = export(tx, folder, vkey, task.progress, app.ledger.witnesses)
    return Outcome(
        done,
        objects=(folder.name,),
        counts={"entries": done.size, "before": done.before, "minimum": done.minimum, "files": done.files},
        digests={"root": done.root},
        facts={"as": "tiles"},
    )


TILES: Action[Exported] = Action("audit.export", Level.ROUTINE, Activity.API_READ, _tiles, holds=("export",))
"""Bring the folder `folder` up to the newest checkpoint, which holds the beginning of this action."""


def ocsf_to(sink: Sink) -> Action[Shipped]:
    """Return the action that writes entries as OCSF lines to `sink`.

    `since` and `until` are RFC 3339 or None, `after` the mark the part before ended with or None, `limit` a number or
    None.
    """

    def work(app: App, task: Task) -> Outcome[Shipped]:
        part = _part(task)
        with app.state.read() as tx, sink() as write:
            done = ship(tx, write, part, app.settings.name, task.progress)
        between = {name: at for name, at in (("first", done.first), ("last", done.last)) if at is not None}
        return Outcome(done, counts={"entries": done.entries, **between}, facts={"as": "ocsf"})

    return Action("audit.export", Level.ROUTINE, Activity.API_READ, work)


def _part(task: Task) -> Part:
    given = {name: str(value) for name, value in task.args.items() if value is not None}
    part = Part(
        since=parse(given["since"]) if "since" in given else None,
        until=parse(given["until"]) if "until" in given else None,
        limit=int(given["limit"]) if "limit" in given else None,
    )
    return replace(part, after=Mark.read(given["after"])) if "after" in given else part
