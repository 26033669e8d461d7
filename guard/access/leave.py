"""What somebody was given, asked for and approved: it ends when they are disabled or their second factor is reset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access.dual import Books
from guard.access.store import APPROVAL, GRANT, Digest, Sealed
from guard.clock import stamp
from guard.events import PrincipalId
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Held:
    """How much of each kind one person holds."""

    grants: int
    """Codes that were taken and still allow something."""
    requests: int
    approved: int
    """Requests of others, which have not ended."""
    approvals: int
    """Standing approvals they gave."""


class Holdings:
    """What people hold, in state."""

    def __init__(self, books: Books, digest: Digest) -> None:
        self._books = books
        self._grants, self._approved = Sealed(GRANT, digest), Sealed(APPROVAL, digest)

    def of(self, tx: Tx, person: PrincipalId, now: datetime) -> Held:
        """Return how much the person holds now."""
        open_ = self._books.requests.list(tx)
        given = {row["request"] for row in self._approved.find(tx, person=person, ended_at=None)}
        return Held(
            sum(row["until"] > stamp(now) for row in self._grants.find(tx, person=person, spent_at=None)),
            sum(each.asked_by == person for each in open_),
            sum(each.id in given for each in open_),
            sum(each.given_by == person for each in self._books.approvals.list(tx)),
        )

    def end(self, tx: Tx, person: PrincipalId, by: PrincipalId, now: datetime, *, standing: bool) -> None:
        """End all of it; standing approvals only where `standing` says so."""
        for row in self._grants.find(tx, person=person, spent_at=None):
            self._grants.change(tx, row, spent_at=stamp(now))
        for row in self._approved.find(tx, person=person, ended_at=None):
            self._approved.change(tx, row, ended_at=stamp(now))
        for request in self._books.requests.list(tx):
            if request.asked_by == person:
                self._books.requests.cancel(tx, request.id, by, now)
        for approval in self._books.approvals.list(tx) if standing else ():
            if approval.given_by == person:
                self._books.approvals.end(tx, approval.id, by, now)
