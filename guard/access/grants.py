"""Step-up: what a code that was right allows. One action with these arguments and this plan, by this person.

Once, where something changes; until its time is over, where something is only read. The last one of each person is
kept with how it ended, so that they see what their code was last spent on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from guard.access.refusals import Refusal, refused
from guard.access.store import GRANT, Digest, Sealed, new_id
from guard.clock import parse, stamp
from guard.events import PrincipalId
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Given:
    """What a code was given for."""

    action: str
    digest: str
    at: datetime
    reads: bool = False
    """Whether it only reads, so that the same may be read again without another code."""


@dataclass(frozen=True, slots=True)
class Last:
    """What a person's last code was spent on. `ending` is None where no end was recorded, or not yet."""

    action: str
    at: datetime
    ending: str | None


class Grants:
    """The grants that were given, in state."""

    def __init__(self, digest: Digest, lifetime: timedelta) -> None:
        self._rows = Sealed(GRANT, digest)
        self._lifetime = lifetime

    def give(self, tx: Tx, person: PrincipalId, given: Given) -> str:
        """Store a grant for the action with this digest and return its id. The person's are deleted that are over."""
        return self._add(tx, person, given, None, None)

    def note(self, tx: Tx, person: PrincipalId, given: Given, ending: str) -> None:
        """Remember what a code was spent on that allows nothing yet: a request, say."""
        self._add(tx, person, given, stamp(given.at), ending)

    def spend(self, tx: Tx, grant: str, person: PrincipalId, digest: str, now: datetime) -> None:
        """Use a grant up.

        Raises DeniedError when there is none, it was given to another person or for another action, arguments or plan,
        its time is over, or it was spent before.
        """
        found = self._rows.find(tx, id=grant, person=person, digest=digest)
        live = [row for row in found if row["spent_at"] is None and now < parse(row["until"])]
        if not live or not self._rows.change(tx, live[0], spent_at=stamp(now)):
            raise refused(Refusal.NO_CODE, "no code was given for exactly this action", "run the command again")

    def still_reads(self, tx: Tx, person: PrincipalId, digest: str, now: datetime) -> datetime | None:
        """Return when the person gave a code to read exactly this, if that still holds."""
        found = self._rows.find(tx, person=person, digest=digest, reads=True, spent_at=None)
        return max((at for row in found if (at := parse(row["given_at"])) <= now < parse(row["until"])), default=None)

    def last(self, tx: Tx, person: PrincipalId) -> Last | None:
        """Return what the person's last code was spent on."""
        row = max(self._rows.find(tx, person=person), key=lambda row: str(row["given_at"]), default=None)
        return None if row is None else Last(row["action"], parse(row["given_at"]), row["ending"])

    def ended(self, tx: Tx, person: PrincipalId, digest: str, ending: str) -> None:
        """Keep how the action ended that the person's last grant for it let begin."""
        open_ = self._rows.find(tx, person=person, digest=digest, ending=None)
        for row in sorted(open_, key=lambda row: str(row["given_at"]))[-1:]:
            self._rows.change(tx, row, ending=ending)

    def _add(self, tx: Tx, person: PrincipalId, given: Given, spent_at: str | None, ending: str | None) -> str:
        self._rows.drop_before(tx, "until", stamp(given.at), person=person)
        grant = new_id("g")
        self._rows.add(
            tx,
            id=grant,
            person=person,
            action=given.action,
            digest=given.digest,
            reads=given.reads,
            given_at=stamp(given.at),
            until=stamp(given.at + self._lifetime),
            spent_at=spent_at,
            ending=ending,
        )
        return grant
