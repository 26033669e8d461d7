"""May this caller do this now? The order of the questions, and the ways out that a refusal names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from guard.access import recovery
from guard.access.factor import Factors
from guard.access.grants import Grants
from guard.access.pending import Request, Requests, Stage, stage
from guard.access.people import People
from guard.access.refusals import Refusal, refused
from guard.access.standing import Approvals
from guard.clock import Clock
from guard.config.access import AccessPolicy, ServiceRule, matches
from guard.errors import WaitingError
from guard.events import Level, Principal
from guard.state import State, Tx


class Asker(Protocol):
    """Who stands at the door. Real ones: a person at a terminal, and a job or pipe where `ask` is None."""

    @property
    def who(self) -> Principal:
        """Whoever the door found there."""
        ...

    @property
    def ask(self) -> Callable[[str], str] | None:
        """Ask for a code; None where nobody can type one."""
        ...

    @property
    def show(self) -> Callable[[str], None]:
        """Show a line."""
        ...


class Way(StrEnum):
    """What let somebody through: the fact `gate` of the entry an action begins with."""

    OPEN = "open"
    ROLE = "role"
    STANDING = "standing"
    CODE = "code"
    RECOVERY = "recovery code"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the action, its digest (arguments, plan and person included), the plan in words."""

    action: str
    level: Level
    digest: str
    lines: tuple[str, ...]
    policy: bytes | None
    """The policy whose standing approval would let a service do it; None: no service ever may."""
    beyond: tuple[str, ...] = ()
    """Why this plan is above the limit of any standing approval; empty: it is not."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the room keeps in state."""

    people: People
    factors: Factors
    grants: Grants
    approvals: Approvals
    requests: Requests


class Gate:
    """Lets through what may pass, and raises for all else."""

    def __init__(self, state: State, policy: AccessPolicy, clock: Clock, books: Books) -> None:
        self._state = state
        self._policy = policy
        self._clock = clock
        self._books = books

    def allow(self, caller: Asker, asked: Asked) -> Way:
        """Return what lets `caller` do what is asked, after asking for a code where one is needed.

        Raises DeniedError with a reason, WaitingError for a dual action that was put down to wait.
        """
        who = caller.who
        service = self._policy.service_of(who)
        if service is None:
            self._require_person(who)
        if asked.level is Level.OPEN:
            return Way.OPEN
        if service is not None:
            return self._allow_service(service, asked)
        if not self._policy.role.of(who.role).may(asked.action, asked.level):
            raise refused(
                Refusal.ROLE,
                f"the role {who.role} may not do {asked.action}",
                "policies/access.toml says which roles may; `guard access list` says who has them",
            )
        return Way.ROLE if asked.level is Level.ROUTINE else self._step_up(caller, asked)

    def _require_person(self, who: Principal) -> None:
        with self._state.read() as tx:
            person = self._books.people.of_id(tx, who.id)
        if person is None or person.role is not who.role:
            raise refused(Refusal.UNKNOWN, f"{who.id} is nobody guard knows", "`guard access list` shows who is")

    def _allow_service(self, rule: ServiceRule, asked: Asked) -> Way:
        if asked.level is Level.ROUTINE and matches(asked.action, rule.routine):
            return Way.ROLE
        if asked.level is not Level.PRIVILEGED or not matches(asked.action, rule.standing):
            raise refused(
                Refusal.ROLE,
                f"this service may not do {asked.action}",
                "policies/access.toml says what a service may do",
            )
        with self._state.read() as tx:
            stands = asked.policy is not None and self._books.approvals.covers(tx, asked.action, asked.policy)
        if not stands:
            raise refused(
                Refusal.NO_APPROVAL,
                f"no standing approval lets a service do {asked.action} under the policy as it is now",
                f"a person gives one with `guard access grant {asked.action}`",
            )
        if asked.beyond:
            raise refused(
                Refusal.OVER_LIMIT,
                f"{asked.action} is above the limit of its standing approval: {'; '.join(asked.beyond)}",
                "a person looks at the plan and carries it out with a code",
            )
        return Way.STANDING

    def _step_up(self, caller: Asker, asked: Asked) -> Way:
        """Show the plan, ask for a code, and turn it into a grant for exactly this, spent at once."""
        if caller.ask is None:
            raise refused(
                Refusal.NO_CODE,
                "no terminal to ask for a code",
                "run it on a terminal; no option and no variable takes a code",
            )
        if asked.level is Level.DUAL:
            self._refuse_early(asked)
        caller.show(f"{asked.action} needs a code. It will:")
        for line in asked.lines or ("do what the command's help says",):
            caller.show(f"  {line}")
        if asked.level is Level.DUAL:
            caller.show(f"  This cannot be undone: it waits {self._policy.dual.wait} and can be cancelled till then.")
        try:
            typed = caller.ask("Code")
        except EOFError:
            typed = ""
        given = self._books.factors.take(caller.who.id, typed, lambda tx: self._given(tx, caller.who, asked))
        if isinstance(given, Request):
            raise self._waits(given)
        self._state.write(
            lambda tx: self._books.grants.spend(tx, given, caller.who.id, asked.digest, self._clock.now())
        )
        return Way.RECOVERY if recovery.looks_like_code(recovery.plain(typed)) else Way.CODE

    def _given(self, tx: Tx, who: Principal, asked: Asked) -> str | Request:
        """Turn a code that was taken into a grant; or, for a dual action, into a request where none is ready."""
        now = self._clock.now()
        if asked.level is Level.DUAL:
            request = self._books.requests.of_digest(tx, asked.digest)
            if request is None or self._stage(request, now) is Stage.EXPIRED:
                return self._books.requests.ask(tx, asked.action, asked.digest, who.id, now)
        return self._books.grants.give(tx, who.id, asked.digest, now)

    def _refuse_early(self, asked: Asked) -> None:
        """Spend nobody's code on what still waits."""
        with self._state.read() as tx:
            request = self._books.requests.of_digest(tx, asked.digest)
        if request is not None and self._stage(request, self._clock.now()) is Stage.WAITS:
            raise self._waits(request)

    def _stage(self, request: Request, now: datetime) -> Stage:
        return stage(request, self._policy.dual, now)

    def _waits(self, request: Request) -> WaitingError:
        rule = self._policy.dual
        ready = rule.wait.after(request.asked_at)
        return WaitingError(
            f"{request.action} waits until {ready.isoformat(timespec='minutes')}; run the same command again then, "
            f"before {rule.open_for.after(ready).isoformat(timespec='minutes')}",
            hint=f"`guard access refuse {request.id}` cancels it",
        )
