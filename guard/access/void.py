"""What a restored state remembers as given may have been spent or taken back since: it holds no longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access import totp
from guard.access.store import APPROVAL, FACTOR, GRANT, PENDING, RECOVERY, STANDING, Digest, Sealed
from guard.clock import stamp
from guard.events import GUARD
from guard.state import Tx


@dataclass(frozen=True, slots=True)
class Voided:
    """How much of each kind no longer holds."""

    grants: int
    requests: int
    approved: int
    """Approvals of such requests by other people."""
    approvals: int
    """Standing ones."""
    recovery_codes: int
    factors: int
    """People whose authenticator counts from now on: no code of an earlier step is taken."""


def void(tx: Tx, digest: Digest, at: datetime) -> Voided:
    """End every grant, request and approval, use up all recovery codes, spend all steps up to `at`.

    The two steps after that of `at` are spent as well, for they were taken until now where a clock runs ahead.
    Enrolments that were open are closed: they may have been made since. Raises TamperedError for a row that guard did
    not write.
    """
    now = stamp(at)
    ended = {"ended_by": GUARD, "ended_at": now}
    last = totp.step_at(at) + totp.WINDOW + totp.DRIFT
    grants, requests, approvals = Sealed(GRANT, digest), Sealed(PENDING, digest), Sealed(STANDING, digest)
    codes, factors, eyes = Sealed(RECOVERY, digest), Sealed(FACTOR, digest), Sealed(APPROVAL, digest)
    return Voided(
        sum(grants.change(tx, row, spent_at=now) for row in grants.find(tx, spent_at=None)),
        sum(requests.change(tx, row, args=None, ended="cancelled", **ended) for row in requests.find(tx, ended=None)),
        sum(eyes.change(tx, row, ended_at=now) for row in eyes.find(tx, ended_at=None)),
        sum(approvals.change(tx, row, **ended) for row in approvals.find(tx, ended_at=None)),
        sum(codes.change(tx, row, used_at=now) for row in codes.find(tx, used_at=None)),
        sum(
            factors.change(tx, row, last_step=max(row["last_step"], last), open_until=None) for row in factors.find(tx)
        ),
    )
