"""What became of runs whose process was killed: told from the shop where it keeps a bracket, and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard.errors import GuardError
from guard.events import Activity, Ending, Event

if TYPE_CHECKING:
    from guard.app import App
    from guard.state import OpenRun, Tx

IN_SHOP = ("fields.", "retention.")
"""Actions that write a bracket into the shop in the transactions that change its rows."""


def resolve(app: App) -> tuple[Event, ...]:
    """Record the end of every run that was killed, and return the events.

    A run whose shop does not answer, or cannot be read, stays open: what became of it is not known yet, and whatever
    mends the shop must not wait for that.
    """
    events = []
    for run in app.state.stale_runs():
        try:
            fate, rows = _fate(app, run)
        except GuardError:
            continue
        event = Event(
            run.what, Ending.RESOLVED, run.who, run.run, Activity.API_UPDATE, counts={"rows": rows}, facts={"was": fate}
        )
        app.record(_nothing, event)
        events.append(event)
    return tuple(events)


def _fate(app: App, run: OpenRun) -> tuple[str, int]:
    if run.what.startswith("keys.shred"):  # its receipts say what it did, and what is left
        found = app.shredder.of_run(run.run)
        fate = "partly" if any(each.left for each in found) else "done" if found else "rolled back"
        return fate, sum(each.rows for each in found)
    if not run.what.startswith(IN_SHOP):
        return "killed", 0
    return app.fate_in_shop(run.run)


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
