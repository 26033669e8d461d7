"""What guard does with its ledger: anchor it. That is the heartbeat too, for it records that guard was alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Task
from guard.events import Activity, Ending, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit import Anchored


def _anchor(app: App, _: Task) -> Outcome[Anchored]:
    done = app.ledger.anchor()
    return Outcome(
        done,
        objects=done.held,
        counts={"size": done.size, "held": len(done.held), "failed": len(done.failed)},
        ending=Ending.PARTLY if done.failed else Ending.DONE,
    )


ANCHOR: Action[Anchored] = Action("audit.anchor", Level.ROUTINE, Activity.COMPLIANCE, _anchor)
"""Give the newest checkpoint to every anchor. Its own two entries are a heartbeat: silence between them is proved."""
