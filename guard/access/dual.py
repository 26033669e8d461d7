"""Four eyes: whether a dual action may be asked for, approved or carried out by now, and what people are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from guard.access.factor import Factors
from guard.access.grants import Grants
from guard.access.pending import Approval, Request, Requests, Stage, Standing, stand
from guard.access.people import People
from guard.access.refusals import Refusal, refused
from guard.access.standing import Approvals
from guard.clock import Clock
from guard.config.access import AccessPolicy
from guard.errors import DeniedError, WaitingError
from guard.events import Level, PrincipalId, Role
from guard.state import Tx

if TYPE_CHECKING:
    from guard.canon import Json

_CANCEL = "`guard access refuse {}` cancels it"


@dataclass(frozen=True, slots=True)
class Approves:
    """What an approval is for: a request, and the digest of its action as the approver sees it now."""

    request: str
    action: str
    digest: str | None
    """None where the request expired: what it asked for is kept no longer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the door knows of an action beyond its name, level and plan."""

    lasting: bool = False
    """Whether it cannot be undone."""
    reads: bool = False
    """Whether it only reads, so that a code may stand for the same for some minutes."""
    args: Mapping[str, Json] = field(default_factory=dict)
    concerns: PrincipalId | None = None
    """The person it is done to."""
    approves: Approves | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """What the room keeps in state."""

    people: People
    factors: Factors
    grants: Grants
    approvals: Approvals
    requests: Requests


class Dual:
    """The rule of the policy, on the requests and approvals in state."""

    def __init__(self, policy: AccessPolicy, clock: Clock, books: Books) -> None:
        self._policy = policy
        self._clock = clock
        self._people = books.people
        self._factors = books.factors
        self._requests = books.requests

    # Who asks --------------------------------------------------------------------------------------------------------

    def refuse_early(self, tx: Tx, digest: str, who: PrincipalId, terms: Terms) -> Standing | None:
        """Return how the request for `digest` stands that is ready, None where none is open.

        Raises DeniedError for the person it is done to, WaitingError for what still waits: no code is spent on it.
        """
        if terms.concerns == who:
            raise _concerned()
        request = self._requests.of_digest(tx, digest)
        if request is None:
            return None
        found = self.standing(tx, request)
        if found.stage in {Stage.ASKS, Stage.WAITS}:
            raise self.waits(tx, request, terms.concerns)
        return found if found.stage is Stage.READY else None

    def before(self, found: Standing | None, *, lasting: bool) -> tuple[str, ...]:
        """Return what is said of four eyes before a code is asked for."""
        rule, lines = self._policy.dual, []
        if found is not None:
            by = f"approved by {', '.join(found.approved)}" if found.approved else "it has waited"
            return (f"It was asked for, and {by}: it is done now.",)
        if rule.people > 1:
            lines.append(f"It is done once {_people(rule.people - 1)} approved it within {rule.approve_in}.")
        if lasting or rule.people == 1:
            why = "This cannot be undone: it" if lasting else "It"
            lines.append(f"{why} waits {rule.wait} and can be cancelled till then.")
        return tuple(lines)

    def ask(self, tx: Tx, request: Request) -> Request | None:
        """Store a request where none is open for its digest; return what waits, None where it is ready.

        Whatever nobody came back for in time ends: its arguments are kept no longer.
        """
        for each in self._requests.list(tx):
            found = self.standing(tx, each)
            if found.stage is Stage.EXPIRED:
                self._requests.expire(tx, each, request.asked_by, request.asked_at)
            elif each.digest == request.digest:
                return None if found.stage is Stage.READY else each
        return self._requests.ask(tx, request)

    def require_ready(self, tx: Tx, digest: str) -> None:
        """Raise DeniedError when what was let through has been cancelled, or done by another process, since."""
        request = self._requests.of_digest(tx, digest)
        if request is None or self.standing(tx, request).stage is not Stage.READY:
            raise refused(Refusal.NOT_OPEN, "it was cancelled or done while this waited", "`guard access requests`")

    def waits(self, tx: Tx, request: Request, concerns: PrincipalId | None = None) -> WaitingError:
        """Return the error that says what a request waits for, and who can do something about it.

        `concerns`: the person it is done to, who can do nothing about it.
        """
        rule, found = self._policy.dual, self.standing(tx, request)
        if found.stage is Stage.ASKS:
            until, more = _minute(found.until), rule.people - 1 - len(found.approved)
            rest = f", and waits until {_minute(rule.wait.after(request.asked_at))} besides" if request.lasting else ""
            others = [each for each in self._others(tx, request) if each != concerns]
            who = f"one of {', '.join(others)}" if others else "nobody yet, `guard access add` takes people in"
            return WaitingError(
                f"{request.action} waits for the approval of {_people(more)} until {until}{rest}; "
                "run the same command again then",
                hint=f"`guard access approve {request.id}`, by {who}; {_CANCEL.format(request.id)}",
            )
        return WaitingError(
            f"{request.action} waits until {_minute(found.until)}; run the same command again then, "
            f"before {_minute(rule.open_for.after(found.until))}",
            hint=_CANCEL.format(request.id),
        )

    # Who approves ----------------------------------------------------------------------------------------------------

    def require_approver(self, tx: Tx, approves: Approves, who: PrincipalId, concerns: PrincipalId | None) -> Request:
        """Return the request. Raises DeniedError, with the ledger's word, when `who` may not approve it as it is."""
        request = self._requests.of_id(tx, approves.request)
        if request is None or request.ended not in {None, "expired"}:
            raise refused(Refusal.NOT_OPEN, f"nothing open has the id {approves.request}", "`guard access requests`")
        if request.asked_by == who:
            raise refused(Refusal.OWN, "what you asked for is approved by somebody else", "each approves for another")
        if concerns == who:
            raise _concerned()
        if who in {each.person for each in self._requests.approvals(tx, request)}:
            raise refused(Refusal.TWICE, f"you have approved {request.id} already", "it takes different people")
        self._require_open(tx, request)
        if approves.digest != request.digest:
            raise refused(
                Refusal.CHANGED,
                f"{request.id} would do something else by now than what was asked for",
                f"`guard access refuse {request.id}`, then whoever asked runs their command again",
            )
        return request

    def _require_open(self, tx: Tx, request: Request) -> None:
        stage = Stage.EXPIRED if request.ended else self.standing(tx, request).stage
        if stage is Stage.EXPIRED:
            rule = self._policy.dual
            raise refused(
                Refusal.EXPIRED,
                f"{request.id} was to be approved within {rule.approve_in}",
                "whoever asked runs their command again",
            )
        if stage is not Stage.ASKS:
            raise refused(Refusal.NOT_OPEN, f"{request.id} needs no further approval", "`guard access requests`")

    # How it stands ---------------------------------------------------------------------------------------------------

    def standing(self, tx: Tx, request: Request) -> Standing:
        """Return how a request stands now. Approvals of people who may no longer give them do not count."""
        approvals = [each for each in self._requests.approvals(tx, request) if self._counts(tx, each, request)]
        return stand(request, approvals, self._policy.dual, self._clock.now())

    def able(self, tx: Tx, action: str) -> tuple[PrincipalId, ...]:
        """Return the people who may ask for and approve a dual action today: enabled, listed, with an authenticator."""
        return tuple(
            each.id
            for each in self._people.list(tx)
            if each.enabled and self._may(each.role, action) and self._factors.standing(tx, each.id).active
        )

    def _others(self, tx: Tx, request: Request) -> tuple[PrincipalId, ...]:
        given = {each.person for each in self._requests.approvals(tx, request)} | {request.asked_by}
        return tuple(each for each in self.able(tx, request.action) if each not in given)

    def _counts(self, tx: Tx, approval: Approval, request: Request) -> bool:
        person = self._people.of_id(tx, approval.person)
        return person is not None and person.id != request.asked_by and self._may(person.role, request.action)

    def _may(self, role: Role, action: str) -> bool:
        return self._policy.role.of(role).may(action, Level.DUAL)


def _concerned() -> DeniedError:
    return refused(Refusal.CONCERNED, "this is done to you, so others ask for it and approve it", "`guard access list`")


def _people(count: int) -> str:
    return "another person" if count == 1 else f"{count} other people"


def _minute(at: datetime) -> str:
    return at.isoformat(timespec="minutes")
