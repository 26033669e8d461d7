"""What cannot be undone waits: asked for with a code, carried out a day later with another.

Till then anyone guard knows may cancel it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from guard.access.store import PENDING, Digest, Row, Sealed, new_id
from guard.clock import parse, stamp
from guard.config.access import DualRule
from guard.events import PrincipalId
from guard.state import Tx, onward


class Stage(StrEnum):
    """How a request stands."""

    WAITS = "waits"
    READY = "ready"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Request:
    """A dual action that was asked for; `digest` binds action, arguments, plan and person."""

    id: str
    action: str
    digest: str
    asked_by: PrincipalId
    asked_at: datetime


def stage(request: Request, rule: DualRule, now: datetime) -> Stage:
    """Return how `request` stands at `now`. Raises ClockError when it was asked for after `now`."""
    waited = onward(now, request.asked_at) - request.asked_at
    if waited < rule.wait.rest:
        return Stage.WAITS
    return Stage.READY if waited <= rule.wait.rest + rule.open_for.rest else Stage.EXPIRED


class Requests:
    """The requests that are neither cancelled nor carried out, in state."""

    def __init__(self, digest: Digest) -> None:
        self._rows = Sealed(PENDING, digest)

    def ask(self, tx: Tx, action: str, digest: str, by: PrincipalId, now: datetime) -> Request:
        """Store a request; an expired one for the same digest ends."""
        self._end(tx, self._rows.find(tx, digest=digest, ended=None), "expired", by, now)
        request = Request(new_id("r"), action, digest, by, now)
        self._rows.add(tx, id=request.id, action=action, digest=digest, asked_by=by, asked_at=stamp(now))
        return request

    def of_digest(self, tx: Tx, digest: str) -> Request | None:
        """Return the request for an action's digest; None when there is none that is open."""
        return next(map(_request, self._rows.find(tx, digest=digest, ended=None)), None)

    def cancel(self, tx: Tx, request: str, by: PrincipalId, now: datetime) -> bool:
        """Cancel a request; False when there is none with this id that is open."""
        return self._end(tx, self._rows.find(tx, id=request, ended=None), "cancelled", by, now)

    def done(self, tx: Tx, digest: str, by: PrincipalId, now: datetime) -> bool:
        """End the request for a digest that was carried out; False when there is none."""
        return self._end(tx, self._rows.find(tx, digest=digest, ended=None), "done", by, now)

    def list(self, tx: Tx) -> tuple[Request, ...]:
        """Return the open requests, expired ones included."""
        return tuple(map(_request, self._rows.find(tx, ended=None)))

    def _end(self, tx: Tx, rows: Sequence[Row], how: str, by: PrincipalId, now: datetime) -> bool:
        changed = [self._rows.change(tx, row, ended=how, ended_by=by, ended_at=stamp(now)) for row in rows]
        return any(changed)


def _request(row: Row) -> Request:
    return Request(row["id"], row["action"], row["digest"], PrincipalId(row["asked_by"]), parse(row["asked_at"]))
