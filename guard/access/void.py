"""What a restored state remembers as given may have been spent or taken back since: it holds no longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access import totp
from guard.access.store import FACTOR, GRANT, PENDING, RECOVERY, STANDING, Digest, Sealed
from guard.clock import stamp
from guard.events import GUARD
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Voided:
    """How much of each kind no longer holds."""

    grants: int
    requests: int
    approvals: int
    recovery_codes: int
    factors: int
    """People whose authenticator counts from now on: no code of an earlier step is taken."""


def void(tx: Tx, digest: Digest, at: datetime) -> Voided:
    """End every grant, request and standing approval, use up all recovery codes, spend all steps up to `at`.

    The step after that of `at` is spent as well, for it was taken until now where a clock runs ahead. Raises
    TamperedError for a row that guard did not write.
    """
    now = stamp(at)
    ended = {"ended_by": GUARD, "ended_at": now}
    last = totp.step_at(at) + totp.WINDOW
    grants, requests, approvals = Sealed(GRANT, digest), Sealed(PENDING, digest), Sealed(STANDING, digest)
    codes, factors = Sealed(RECOVERY, digest), Sealed(FACTOR, digest)
    return Voided(
        sum(grants.change(tx, row, spent_at=now) for row in grants.find(tx, spent_at=None)),
        sum(requests.change(tx, row, ended="cancelled", **ended) for row in requests.find(tx, ended=None)),
        sum(approvals.change(tx, row, **ended) for row in approvals.find(tx, ended_at=None)),
        sum(codes.change(tx, row, used_at=now) for row in codes.find(tx, used_at=None)),
        sum(factors.change(tx, row, last_step=max(row["last_step"], last)) for row in factors.find(tx)),
    )
