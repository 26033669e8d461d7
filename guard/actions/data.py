"""What guard does to know the shop's personal data: look for it, and take a catalog as the one that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from guard.actions._perform import Action, Outcome, Plan, Task
from guard.events import Activity, Level
from guard.fields.rename import row_keys
from guard.fields.value import purposes

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.privacy import Acceptance, Proposal, RenamePlan
    from guard.state import Tx


def _scan(app: App, task: Task) -> Outcome[Proposal]:
    proposal = app.discovery.scan(task.progress)
    return Outcome(
        proposal,
        objects=(app.discovery.proposed.name,),
        counts={
            "columns": len(proposal.findings),
            "encrypt": len(proposal.catalog.encrypted()),
            "undecided": len(proposal.undecided),
            "values": sum(finding.sample for finding in proposal.findings),
        },
        facts={looked.by: looked.outcome for looked in proposal.looked},
    )


def _plan_accept(app: App, args: Mapping[str, Json]) -> Plan:
    """Check everything before a code is asked for."""
    source = args.get("source")
    acceptance = app.discovery.prepare(Path(str(source)) if source else None)
    protect = Counter(column.protect.value for column in acceptance.catalog.column)
    left = acceptance.unclassified
    lines = (
        f"accept a catalog of {len(acceptance.catalog.column)} columns: {protect['encrypt']} to be sealed, "
        f"{len(acceptance.fresh)} new",
        *([f"leave {len(left)} columns unclassified: {', '.join(left)}"] if left else []),
    )
    return Plan(lines, {"catalog": acceptance.digest}, acceptance)


def _accept(app: App, task: Task) -> Outcome[Acceptance]:
    acceptance: Acceptance = task.plan.payload  # type: ignore[assignment]  # _plan_accept put it there
    for purpose in purposes(acceptance.catalog):
        app.keyring.ensure(purpose)  # so that the next backup of state holds the key already
    remember = app.discovery.accept(acceptance)
    return Outcome(
        acceptance,
        objects=("catalog.toml",),
        counts={
            "columns": len(acceptance.catalog.column),
            "encrypt": len(acceptance.catalog.encrypted()),
            "new": len(acceptance.fresh),
            "unclassified": len(acceptance.unclassified),
        },
        digests={"catalog": acceptance.digest},
        remember=remember,
    )


def _plan_rename(app: App, args: Mapping[str, Json]) -> Plan:
    """Check everything before a code is asked for."""
    plan = app.discovery.plan_rename(str(args["old"]), str(args["new"]), row_keys(app.fields.records()))
    return Plan(plan.lines, {"catalog": plan.acceptance.digest}, plan)


def _rename(app: App, task: Task) -> Outcome[RenamePlan]:
    plan: RenamePlan = task.plan.payload  # type: ignore[assignment]  # _plan_rename put it there
    seals = app.fields.renamed(plan.rename)
    catalog = app.discovery.rename(plan)

    def remember(tx: Tx) -> None:
        seals(tx)
        catalog(tx)

    return Outcome(
        plan,
        objects=(plan.rename.old, plan.rename.new),
        counts={"columns": len(plan.moved), "by hand": len(plan.by_hand)},
        digests={"catalog": plan.acceptance.digest},
        remember=remember,
    )


SCAN: Action[Proposal] = Action("data.scan", Level.OPEN, Activity.DATA_READ, _scan)
"""Open, because it shows no value to anybody; recorded, because guard read them."""
ACCEPT: Action[Acceptance] = Action(
    "data.accept", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _accept, _plan_accept, holds=("shop",)
)
RENAME: Action[RenamePlan] = Action(
    "data.rename", Level.PRIVILEGED, Activity.ENTITY_UPDATE, _rename, _plan_rename, holds=("shop",)
)
