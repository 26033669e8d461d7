"""Step-up: what a code that was right allows. One action with these arguments and this plan, by this person, once."""

from __future__ import annotations

from datetime import datetime, timedelta

from guard.access.refusals import Refusal, refused
from guard.access.store import GRANT, Digest, Sealed, new_id
from guard.clock import parse, stamp
from guard.events import PrincipalId
from guard.state import Tx


class Grants:
    """The grants that were given and may still be spent, in state."""

    def __init__(self, digest: Digest, lifetime: timedelta) -> None:
        self._rows = Sealed(GRANT, digest)
        self._lifetime = lifetime

    def give(self, tx: Tx, person: PrincipalId, digest: str, now: datetime) -> str:
        """Store a grant for the action with this digest and return its id. Those whose time is over are deleted."""
        self._rows.drop_before(tx, "until", stamp(now))
        grant = new_id("g")
        self._rows.add(tx, id=grant, person=person, digest=digest, until=stamp(now + self._lifetime))
        return grant

    def spend(self, tx: Tx, grant: str, person: PrincipalId, digest: str, now: datetime) -> None:
        """Use a grant up.

        Raises DeniedError when there is none, it was given to another person or for another action, arguments or plan,
        its time is over, or it was spent before.
        """
        found = self._rows.find(tx, id=grant, person=person, digest=digest)
        live = [row for row in found if row["spent_at"] is None and now < parse(row["until"])]
        if not live or not self._rows.change(tx, live[0], spent_at=stamp(now)):
            raise refused(Refusal.NO_CODE, "no code was given for exactly this action", "run the command again")
