"""What is dual is asked for with a code and waits: for other people, and a day where it cannot be undone.

Till it is carried out anyone guard knows may cancel it. How a request stands is worked out from it, from who approved
it and from the policy; nothing of that is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from guard.access.store import APPROVAL, PENDING, Row, Sealed, new_id
from guard.canon import json_bytes, key_bytes
from guard.clock import parse, stamp
from guard.config.access import DualRule
from guard.crypto.envelope import Binding, Opener, Place, Sealer, key_id_of
from guard.crypto.keyring import Key, Keyring
from guard.errors import TamperedError
from guard.events import PrincipalId
from guard.state import Tx, onward

if TYPE_CHECKING:
    from uuid import UUID

    from guard.canon import Json

COLUMN = 0
"""The column number of what this room seals: the catalog numbers its columns from 1."""


class Stage(StrEnum):
    """How a request stands."""

    ASKS = "waits for a person"
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
    lasting: bool
    """Whether it cannot be undone, and waits for that."""
    args: bytes | None = None
    """Its arguments, sealed; None once it ended."""
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody else's word that a request may be carried out."""

    person: PrincipalId
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands, until when, and who approved it."""

    stage: Stage
    until: datetime
    approved: tuple[PrincipalId, ...] = ()


def stand(request: Request, approvals: Sequence[Approval], rule: DualRule, now: datetime) -> Standing:
    """Return how `request` stands at `now`, with these approvals of other people.

    Raises ClockError when it was asked for, or approved, after `now`.
    """
    asked, last = request.asked_at, rule.approve_in.after(request.asked_at)
    counted = sorted((each for each in approvals if each.at <= last), key=lambda each: each.at)
    now = onward(now, max([asked, *(each.at for each in counted)]))
    people, needed = tuple(each.person for each in counted), rule.people - 1
    if len(counted) < needed:
        return Standing(Stage.ASKS if now <= last else Stage.EXPIRED, last, people)
    waits = request.lasting or needed == 0
    ready = max(rule.wait.after(asked) if waits else asked, counted[needed - 1].at if needed else asked)
    if now < ready:
        return Standing(Stage.WAITS, ready, people)
    until = rule.open_for.after(ready)
    return Standing(Stage.READY if now <= until else Stage.EXPIRED, until, people)


class Requests:
    """The requests and who approved them, in state. Arguments may name somebody, so they lie sealed."""

    def __init__(self, keyring: Keyring, store_id: UUID) -> None:
        self._keyring = keyring
        self._place = Place(store_id, COLUMN, Binding.ROW)
        self._rows = Sealed(PENDING, keyring.digest)
        self._approvals = Sealed(APPROVAL, keyring.digest)

    # Asking ----------------------------------------------------------------------------------------------------------

    def draft(self, request: Request, args: Mapping[str, Json]) -> Request:
        """Return a request with an id and its arguments sealed, ready to be stored."""
        id_ = new_id("r")
        sealer = Sealer(self._place, self._keyring.current("totp"), padded=True)
        return replace(request, id=id_, args=sealer.seal(json_bytes(args), key_bytes((id_,))))

    def ask(self, tx: Tx, draft: Request) -> Request:
        """Store a request and return it."""
        self._rows.add(
            tx,
            id=draft.id,
            action=draft.action,
            digest=draft.digest,
            args=draft.args,
            lasting=draft.lasting,
            asked_by=draft.asked_by,
            asked_at=stamp(draft.asked_at),
        )
        return draft

    def args(self, request: Request) -> Mapping[str, Json]:
        """Return the arguments of a request that has not ended. Raises TamperedError when they do not open."""
        if request.args is None:
            raise TamperedError(f"state: the arguments of {request.id} are gone, though it has not ended")
        opened = Opener(self._place, self._key).open(request.args, key_bytes((request.id,)))
        found: dict[str, Json] = json.loads(opened)  # type: ignore[arg-type]  # `draft` sealed bytes
        return found

    # Looking ---------------------------------------------------------------------------------------------------------

    def of_digest(self, tx: Tx, digest: str) -> Request | None:
        """Return the request for an action's digest; None when there is none that is open."""
        return next(map(_request, self._rows.find(tx, digest=digest, ended=None)), None)

    def of_id(self, tx: Tx, request: str) -> Request | None:
        """Return the request with this id, ended or not."""
        return next(map(_request, self._rows.find(tx, id=request)), None)

    def list(self, tx: Tx) -> tuple[Request, ...]:
        """Return the open requests, expired ones included."""
        return tuple(map(_request, self._rows.find(tx, ended=None)))

    # Approving and ending --------------------------------------------------------------------------------------------

    def approve(self, tx: Tx, request: Request, by: PrincipalId, now: datetime) -> None:
        """Store somebody's approval. Whether they may give it was asked before."""
        given = {"digest": request.digest, "at": stamp(now)}
        ended = self._approvals.find(tx, request=request.id, person=by)  # they were disabled meanwhile, or reset
        if not ended:
            self._approvals.add(tx, request=request.id, person=by, **given)
        for row in ended:
            self._approvals.change(tx, row, **given, ended_at=None)

    def approvals(self, tx: Tx, request: Request) -> tuple[Approval, ...]:
        """Return the approvals of exactly what was asked for."""
        found = self._approvals.find(tx, request=request.id, digest=request.digest, ended_at=None)
        return tuple(Approval(PrincipalId(row["person"]), parse(row["at"])) for row in found)

    def cancel(self, tx: Tx, request: str, by: PrincipalId, now: datetime) -> bool:
        """Cancel a request; False when there is none with this id that is open."""
        return self._end(tx, self._rows.find(tx, id=request, ended=None), "cancelled", by, now)

    def expire(self, tx: Tx, request: Request, by: PrincipalId, now: datetime) -> None:
        """End a request that nobody came back for in time, so that its arguments are kept no longer."""
        self._end(tx, self._rows.find(tx, id=request.id, ended=None), "expired", by, now)

    def done(self, tx: Tx, digest: str, by: PrincipalId, now: datetime) -> bool:
        """End the request for a digest that was carried out; False when there is none."""
        return self._end(tx, self._rows.find(tx, digest=digest, ended=None), "done", by, now)

    # When the key changes --------------------------------------------------------------------------------------------

    def under(self, tx: Tx, key_id: int) -> int:
        """Return how many requests have their arguments sealed under a version of the TOTP key."""
        return sum(row["args"] is not None and key_id_of(bytes(row["args"])) == key_id for row in self._rows.find(tx))

    def reseal(self, tx: Tx) -> int:
        """Seal all arguments under the TOTP key of now; return how many were under an older version."""
        key, count = self._keyring.current("totp"), 0
        sealer = Sealer(self._place, key, padded=True)
        for row in self._rows.find(tx):
            if row["args"] is not None and key_id_of(bytes(row["args"])) != key.id:
                plain = json_bytes(self.args(_request(row)))
                count += self._rows.change(tx, row, args=sealer.seal(plain, key_bytes((row["id"],))))
        return count

    def _end(self, tx: Tx, rows: Sequence[Row], how: str, by: PrincipalId, now: datetime) -> bool:
        end = {"args": None, "ended": how, "ended_by": by, "ended_at": stamp(now)}
        changed = [self._rows.change(tx, row, **end) for row in rows]
        return any(changed)

    def _key(self, key_id: int) -> Key:
        key = self._keyring.by_id(key_id)
        if key.purpose != "totp":
            raise LookupError(key_id)
        return key


def _request(row: Row) -> Request:
    return Request(
        row["id"],
        row["action"],
        row["digest"],
        PrincipalId(row["asked_by"]),
        parse(row["asked_at"]),
        row["lasting"],
        None if row["args"] is None else bytes(row["args"]),
        row["ended"],
    )
