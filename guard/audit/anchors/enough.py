"""Is what anchors vouch for enough? Pure: it takes what they said, the policy and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from guard.config.audit import AuditPolicy
from guard.config.span import Span

REMOVED: Final = "all it holds ends among entries that retention removed, so it cannot be compared"
"""The end of a problem that a newer checkpoint solves."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one anchor said: the size it vouches for, None when it holds nothing, or why it could not say."""

    name: str
    size: int | None
    problem: str | None = None
    weak: bool = False
    """Whether who can rewrite the ledger can most likely rewrite this too."""
    at: datetime | None = None
    """When the last entry was recorded that it vouches for; None also where that entry is not kept any more."""


def unanchored(seen: Sequence[Seen], policy: AuditPolicy, now: datetime) -> str | None:
    """Say why the ledger does not count as anchored; None when it does.

    An anchor that could not be asked may be the one that knows better: then it does not count, whatever others say.
    """
    if not seen:
        return "guard.toml names no anchor"
    if problems := [each.problem for each in seen if each.problem]:
        return "could not look at " + "; ".join(problems)
    return lack(seen, policy, now)


def what_helps(seen: Sequence[Seen]) -> str:
    """Say what helps where the ledger does not count as anchored."""
    if not seen:
        return "runbooks/anchors.md sets one up"
    if any(each.problem and not each.problem.endswith(REMOVED) for each in seen):
        return "bring it back: its disk, its mount, the network; where it is lost, runbooks/anchors.md"
    return "`guard audit anchor` anchors the newest checkpoint"


def lack(seen: Sequence[Seen], policy: AuditPolicy, now: datetime) -> str | None:
    """Say why those that could be asked are not enough; None when they are."""
    holding = sorted((each for each in seen if each.size), key=lambda each: each.size or 0)
    if not holding:
        return "no anchor holds a checkpoint yet"
    if vouching(seen, policy.anchor_age, now) >= policy.anchors:
        return None
    newest = holding[-1]
    at = "unknown time" if newest.at is None else f"{newest.at:%Y-%m-%d %H:%M:%S} UTC"
    old = f"the newest anchored entry, {(newest.size or 0) - 1} of {at}, is older than {policy.anchor_age}"
    if policy.anchors == 1:
        return old
    return (
        f"{vouching(seen, policy.anchor_age, now)} of the {policy.anchors} anchors that the policy asks for vouch "
        + (f"for an entry younger than {policy.anchor_age}")
    )


def late(seen: Sequence[Seen], policy: AuditPolicy, now: datetime) -> tuple[str, ...]:
    """Say which anchors vouch for nothing young enough, and whether all together soon will not any more."""
    found = [
        f"anchor {each.name} holds nothing yet"
        if each.size is None
        else f"the newest entry that anchor {each.name} vouches for is older than {policy.anchor_age}"
        for each in seen
        if not (each.size and each.at is not None and each.at >= policy.anchor_age.before(now))
    ]
    if not found and vouching(seen, policy.anchor_warn, now) < policy.anchors:
        found.append(f"the newest anchored entry is older than {policy.anchor_warn}: `audit verify` will soon exit 15")
    return tuple(found)


def vouching(seen: Sequence[Seen], age: Span, now: datetime) -> int:
    """Return how many anchors count that vouch for an entry younger than `age`.

    Weak ones together count as one, and only where no other is named.
    """
    fresh = [each.weak for each in seen if each.size and each.at is not None and each.at >= age.before(now)]
    others = any(not each.weak for each in seen)
    return fresh.count(False) if others else counting(fresh)


def counting(weak: Sequence[bool]) -> int:
    """Return how many anchors count of these: those that are not weak, or one where all are."""
    return weak.count(False) or min(1, len(weak))
