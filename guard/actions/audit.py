"""What guard does with its ledger: anchor it, and remove entries that are older than the policy keeps.

Anchoring is the heartbeat too, for it records that guard was alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.config.span import Span
from guard.errors import InterlockError
from guard.events import Activity, Ending, Level

if TYPE_CHECKING:
    from guard.app import App
    from guard.audit import Anchored
    from guard.audit.pruning import Pruning
    from guard.canon import Json


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


_LATE = Span.parse("1 month")
"""How much older than the policy keeps entries have to be before the job removes them: the record of a removal stays,
and the 256 entries around it with it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What retention removed of the ledger. `kept`: entries among them that stay."""

    minimum: int
    entries: int
    kept: int


def is_prune_due(app: App) -> bool:
    """Tell whether the job has something to remove, or a removal to finish."""
    return app.pruning(_LATE) is not None


def _plan_prune(app: App, _: Mapping[str, Json]) -> Plan:
    """Plan; refuse before a code is asked for."""
    if incidents := app.incidents():
        raise InterlockError(
            f"no entry is removed while an incident is on record: {', '.join(incidents)}",
            hint="its file needs what was recorded before it, however old",
        )
    found = app.pruning()
    if found is None:
        raise InterlockError(f"no entry is older than {app.ledger.policy.keep}", hint="policies/audit.toml: keep")
    minimum = found.prune.minimum
    lines = (
        f"remove {found.entries} entries of the ledger below number {minimum}, recorded more than "
        f"{app.ledger.policy.keep} ago; {found.kept} that still count stay",
        "their hashes stay: every checkpoint, and every proof of a later entry, holds as before",
        *(["an earlier run recorded this, and was interrupted"] if found.begun else []),
    )
    return Plan(lines, {"minimum": minimum, "entries": found.entries}, found)


def _prune(app: App, task: Task) -> Outcome[Removed]:
    found: Pruning = task.plan.payload  # type: ignore[assignment]  # _plan_prune put it there
    app.ledger.prune(found, (task.who.id, app.new_run()), task.progress)
    done = Removed(found.prune.minimum, found.entries, found.kept)
    return Outcome(done, counts={"removed": done.entries, "kept": done.kept, "below": done.minimum})


PRUNE: Action[Removed] = Action(
    "audit.prune",
    Level.PRIVILEGED,
    Activity.DATA_DELETE,
    _prune,
    _plan_prune,
    holds=("ledger",),
    standing=lambda app: app.policy_bytes("audit"),
)
"""Remove entries of the ledger that are older than policies/audit.toml keeps."""
