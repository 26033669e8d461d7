"""May this caller do this now? The order of the questions, and the ways out that a refusal names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from guard.access import recovery
from guard.access.dual import Books, Dual, Terms
from guard.access.grants import Given
from guard.access.pending import Request, Standing
from guard.access.refusals import Refusal, refused
from guard.clock import Clock
from guard.config.access import AccessPolicy, ServiceRule, matches
from guard.errors import DeniedError
from guard.events import Level, Principal, PrincipalId
from guard.state import State, Tx

GIVES = "access.grant"
"""The action by which a person gives a standing approval."""


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
    GRANT = "grant"
    """A code given some minutes before, to read the same."""


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
    terms: Terms = field(default_factory=Terms)

    @property
    def right(self) -> tuple[str, Level]:
        """What the person's role has to list: whoever approves something might have asked for it."""
        approves = self.terms.approves
        return (approves.action, Level.DUAL) if approves else (self.action, self.level)


class Gate:
    """Lets through what may pass, and raises for all else."""

    def __init__(self, state: State, policy: AccessPolicy, clock: Clock, books: Books) -> None:
        self._state = state
        self._policy = policy
        self._clock = clock
        self._books = books
        self.dual = Dual(policy, clock, books)

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
        if not self._policy.role.of(who.role).may(*asked.right):
            raise refused(
                Refusal.ROLE,
                f"the role {who.role} may not do {asked.right[0]}",
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
            given = () if asked.policy is None else self._books.approvals.covers(tx, asked.action, asked.policy)
            stands = any(self.may_give(tx, each.given_by) for each in given)
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

    def may_give(self, tx: Tx, who: PrincipalId) -> bool:
        """Tell whether this person may give standing approvals today: else those that they gave count no longer."""
        person = self._books.people.of_id(tx, who)
        return person is not None and self._policy.role.of(person.role).may(GIVES, Level.PRIVILEGED)

    def _step_up(self, caller: Asker, asked: Asked) -> Way:
        """Show the plan, ask for a code, and turn it into a grant for exactly this, spent at once unless it reads."""
        who = caller.who.id
        if asked.terms.reads and self._still_reads(caller, asked):
            return Way.GRANT
        if caller.ask is None:
            raise self._no_terminal(asked)
        with self._state.read() as tx:
            ready = self._early(tx, who, asked)
        self._show(caller, asked, ready)
        draft = self._draft(who, asked) if asked.level is Level.DUAL else None
        try:
            typed = caller.ask("Code")
        except EOFError:
            typed = ""
        given = self._books.factors.take(who, typed, lambda tx: self._given(tx, who, asked, draft))
        if isinstance(given, Request):
            with self._state.read() as tx:
                raise self.dual.waits(tx, given, asked.terms.concerns)
        if not asked.terms.reads:
            self._state.write(lambda tx: self._books.grants.spend(tx, given, who, asked.digest, self._clock.now()))
        return Way.RECOVERY if recovery.looks_like_code(recovery.plain(typed)) else Way.CODE

    def _still_reads(self, caller: Asker, asked: Asked) -> bool:
        with self._state.read() as tx:
            given = self._books.grants.still_reads(tx, caller.who.id, asked.digest, self._clock.now())
        if given is not None:
            caller.show(f"{asked.action}: your code of {given:%Y-%m-%d %H:%M:%S} UTC still holds for this")
        return given is not None

    def _early(self, tx: Tx, who: PrincipalId, asked: Asked) -> Standing | None:
        """Spend nobody's code on what still waits, or on an approval that would not count; ask nobody who has none."""
        self._books.factors.require_active(tx, who)
        if asked.level is Level.DUAL:
            return self.dual.refuse_early(tx, asked.digest, who, asked.terms)
        if asked.terms.approves:
            self.dual.require_approver(tx, asked.terms.approves, who, asked.terms.concerns)
        return None

    def _show(self, caller: Asker, asked: Asked, ready: Standing | None) -> None:
        """Show what the person's last code was spent on, so that a stolen one is seen, and what this one will do."""
        with self._state.read() as tx:
            last = self._books.grants.last(tx, caller.who.id)
        if last is not None:
            caller.show(f"last code: {last.at:%Y-%m-%d %H:%M} UTC {last.action} {last.ending or 'without an end'}")
        caller.show(f"{asked.action} needs a code. It will:")
        more = self.dual.before(ready, lasting=asked.terms.lasting) if asked.level is Level.DUAL else ()
        for line in (*(asked.lines or ("do what the command's help says",)), *more):
            caller.show(f"  {line}")

    def _draft(self, who: PrincipalId, asked: Asked) -> Request:
        request = Request("", asked.action, asked.digest, who, self._clock.now(), asked.terms.lasting)
        return self._books.requests.draft(request, asked.terms.args)

    def _given(self, tx: Tx, who: PrincipalId, asked: Asked, draft: Request | None) -> str | Request:
        """Turn a code that was taken into a grant; or, for a dual action, into a request where none is ready."""
        given = Given(asked.action, asked.digest, self._clock.now(), asked.terms.reads)
        if draft is not None:
            waiting = self.dual.ask(tx, replace(draft, asked_at=given.at))
            if waiting is not None:
                self._books.grants.note(tx, who, given, Refusal.WAITS)
                return waiting
        elif asked.terms.approves:
            self.dual.require_approver(tx, asked.terms.approves, who, asked.terms.concerns)
        return self._books.grants.give(tx, who, given)

    def _no_terminal(self, asked: Asked) -> DeniedError:
        """Return the refusal where nobody can type a code, with the way out that fits the action."""
        alone = [name for name, rule in sorted(self._policy.service.items()) if matches(asked.action, rule.routine)]
        if asked.level is Level.DUAL and self._policy.dual.people > 1:
            how = "run it on a terminal; another person approves it on theirs, with `guard access approve`"
        elif asked.policy is not None:
            how = f"run it on a terminal, or let night jobs do it: `guard access grant {asked.action}`"
        elif alone:
            how = f"run it on a terminal, or leave it to the service {alone[0]}, which may do it within its policy"
        else:
            how = "run it on a terminal; no option and no variable takes a code"
        return refused(Refusal.NO_CODE, "no terminal to ask for a code", how)
