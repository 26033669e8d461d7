"""Standing approvals: a person lets services do one action alone, for as long as one policy stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access.store import STANDING, Digest, Row, Sealed, new_id
from guard.canon import parts
from guard.clock import parse, stamp
from guard.events import PrincipalId
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing approval that has not ended. `policy` is the keyed digest of action name and policy bytes."""

    id: str
    action: str
    policy: str
    given_by: PrincipalId
    given_at: datetime


class Approvals:
    """The standing approvals, in state."""

    def __init__(self, digest: Digest) -> None:
        self._rows = Sealed(STANDING, digest)
        self._digest = digest

    def policy_digest(self, action: str, policy: bytes) -> str:
        """Return the keyed digest that ties an approval to an action and the bytes of its policy."""
        return self._digest("standing", parts(action.encode(), policy))

    def give(self, tx: Tx, action: str, policy: str, by: PrincipalId, now: datetime) -> str:
        """Approve `action` under a policy's digest and return the approval's id; earlier ones for it end."""
        for row in self._rows.find(tx, action=action, ended_at=None):
            self._rows.change(tx, row, ended_by=by, ended_at=stamp(now))
        approval = new_id("a")
        self._rows.add(tx, id=approval, action=action, policy=policy, given_by=by, given_at=stamp(now))
        return approval

    def covers(self, tx: Tx, action: str, policy: bytes) -> tuple[Standing, ...]:
        """Return the approvals that stand for `action` under exactly these policy bytes."""
        found = self._rows.find(tx, action=action, policy=self.policy_digest(action, policy), ended_at=None)
        return tuple(map(_standing, found))

    def end(self, tx: Tx, approval: str, by: PrincipalId, now: datetime) -> bool:
        """Take an approval back; False when there is none with this id that stands."""
        found = self._rows.find(tx, id=approval, ended_at=None)
        changed = [self._rows.change(tx, row, ended_by=by, ended_at=stamp(now)) for row in found]
        return any(changed)

    def list(self, tx: Tx) -> tuple[Standing, ...]:
        """Return the approvals that stand."""
        return tuple(map(_standing, self._rows.find(tx, ended_at=None)))


def _standing(row: Row) -> Standing:
    return Standing(row["id"], row["action"], row["policy"], PrincipalId(row["given_by"]), parse(row["given_at"]))
