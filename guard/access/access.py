"""`Access`: the facade of this room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from guard.access.dual import Approves, Books, Terms
from guard.access.factor import Factors
from guard.access.gate import Asked, Asker, Gate, Way
from guard.access.grants import Grants
from guard.access.members import Members
from guard.access.pending import Request, Requests, Stage
from guard.access.people import People
from guard.access.refusals import Refusal, refused
from guard.access.standing import Approvals, Standing
from guard.clock import Clock
from guard.config.access import AccessPolicy, matches
from guard.crypto import random
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Activity, Ending, Event, Level, Principal, PrincipalId, Role, RunId
from guard.state import State, Tx

if TYPE_CHECKING:
    from guard.canon import Json


class Planned(Protocol):
    """The part of an action's plan that this room shows."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What will be done, in words and counts."""
        ...

    @property
    def beyond(self) -> tuple[str, ...]:
        """Why no standing approval covers it; empty when one may."""
        ...


@dataclass(frozen=True, slots=True)
class Open:
    """Something that waits for its time, or an approval that stands."""

    id: str
    kind: str
    """ "waits for a person", "waits" or "ready" for a dual action; "standing" for an approval, or "no longer counts"
    where who gave it may give none today."""
    action: str
    by: PrincipalId
    at: datetime
    until: datetime | None
    """Until when it waits, or may be carried out; None for an approval, which stands as long as its policy."""
    digest: str
    """Of the action, or of the approved policy."""
    approved: tuple[PrincipalId, ...] = ()
    """Who approved a dual action so far."""


class Access(Members):
    """Who may do what, and the proof that they are who they say."""

    def __init__(self, state: State, keyring: Keyring, policy: AccessPolicy, clock: Clock) -> None:
        books = Books(
            People(keyring.digest),
            Factors(state, keyring, policy.code, clock),
            Grants(keyring.digest, policy.code.grant.rest),
            Approvals(keyring.digest),
            Requests(keyring, state.store_id),
        )
        super().__init__(state, keyring, policy, clock, books)
        self._gate = Gate(state, policy, clock, books)

    # Who is there ----------------------------------------------------------------------------------------------------

    def person_of(self, os_user: str) -> Principal:
        """Return the person whose OS user this is.

        Raises DeniedError, after recording it, when nobody is or they are disabled.
        """
        with self._state.read() as tx:
            person = self._books.people.of_os_user(tx, os_user)
        if person is None:
            raise self._unknown("OS user", os_user, "an owner adds people with `guard access add`")
        return person.principal

    def service(self, name: str) -> Principal:
        """Return the service of this name.

        Raises DeniedError, after recording it, when policies/access.toml has none.
        """
        if name not in self._policy.service:
            raise self._unknown("service", name, "policies/access.toml lists the services")
        return Principal(PrincipalId(f"s-{name}"), Role.SERVICE, name)

    def at_socket(self, os_user: str, service: str | None, *, own: bool) -> Principal:
        """Return who a process of `os_user` is at the agent's socket: the service it calls as, or the person.

        A service belongs to the OS user policies/access.toml names for it, else to the agent's `own`. Raises
        DeniedError; whoever serves the socket records it, once for many calls.
        """
        if service is not None:
            rule = self._policy.service.get(service)
            if rule is not None and (own if rule.os_user is None else rule.os_user == os_user):
                return Principal(PrincipalId(f"s-{service}"), Role.SERVICE, service)
            how = f'os_user = "{os_user}" below [service.{service}] in policies/access.toml lets it in, if it should be'
            raise refused(Refusal.UNKNOWN, f"this OS user is not the service {service}", how)
        with self._state.read() as tx:
            person = self._books.people.of_os_user(tx, os_user)
        if person is None:
            raise refused(Refusal.UNKNOWN, "this OS user is nobody guard knows", "`guard access add` takes people in")
        return person.principal

    def _unknown(self, kind: str, name: str, hint: str) -> DeniedError:
        self._state.write(
            _nothing,
            Event(
                "access.enter",
                Ending.DENIED,
                GUARD,
                RunId(random.hex_token(16)),
                Activity.AUTHENTICATE,
                digests={kind.lower().replace(" ", "_"): self._keyring.digest(kind, name.encode())},
                facts={"reason": Refusal.UNKNOWN.value},
            ),
        )
        return refused(Refusal.UNKNOWN, f"this {kind} is nobody guard knows", hint)

    # What may be done ------------------------------------------------------------------------------------------------

    def allow(  # noqa: PLR0913  # the door hands over what it knows of one action
        self,
        caller: Asker,
        name: str,
        level: Level,
        digest: str,
        plan: Planned,
        policy: bytes | None,
        terms: Terms | None = None,
    ) -> Way:
        """Return what lets `caller` do the action `name` now; a code is asked for where the level needs one.

        `digest` binds action, arguments, plan and person; `policy` is what a standing approval would cover. Raises
        DeniedError whose `reason` is a `Refusal`; WaitingError for a dual action that waits; ClockError.
        """
        return self._gate.allow(caller, Asked(name, level, digest, plan.lines, policy, plan.beyond, terms or Terms()))

    def require_ready(self, digest: str) -> None:
        """Raise DeniedError when a dual action that was let through has been cancelled, or done elsewhere, since."""
        with self._state.read() as tx:
            self._gate.dual.require_ready(tx, digest)

    def settle(self, tx: Tx, digest: str, who: PrincipalId) -> None:
        """End the request of a dual action that was carried out: another time waits again."""
        self._books.requests.done(tx, digest, who, self._clock.now())

    def ended(self, tx: Tx, digest: str, who: PrincipalId, ending: Ending) -> None:
        """Keep how the action ended that a person's code let begin: it is shown before their next code."""
        self._books.grants.ended(tx, who, digest, ending)

    def asked(self, request: str) -> tuple[Request, Mapping[str, Json] | None]:
        """Return a request and what it asks for, so that somebody else can look at it.

        One that expired has no arguments any more, or none that matter. Raises ConfigError when it is not open.
        """
        with self._state.read() as tx:
            found = self._books.requests.of_id(tx, request)
            if found is None or found.ended not in {None, Stage.EXPIRED}:
                raise ConfigError(f"nothing open has the id {request}", hint="`guard access requests` lists what is")
            is_over = found.ended or self._gate.dual.standing(tx, found).stage is Stage.EXPIRED
            return found, None if is_over else self._books.requests.args(found)

    def approve(self, tx: Tx, approves: Approves, by: PrincipalId, concerns: PrincipalId | None) -> None:
        """Store the approval of a request. Raises DeniedError when it may not be given (any more)."""
        self._books.factors.require_here(tx, by)
        request = self._gate.dual.require_approver(tx, approves, by, concerns)
        self._books.requests.approve(tx, request, by, self._clock.now())

    def too_few(self, actions: Iterable[str]) -> tuple[str, ...]:
        """Return those of these dual actions that fewer people may approve today than the policy asks for."""
        with self._state.read() as tx:
            return tuple(each for each in actions if len(self._gate.dual.able(tx, each)) < self._policy.dual.people)

    @property
    def people_needed(self) -> int:
        """How many different people a dual action takes."""
        return self._policy.dual.people

    def policy_digest(self, action: str, policy: bytes) -> str:
        """Return the keyed digest a standing approval for `action` under these policy bytes would carry."""
        return self._books.approvals.policy_digest(action, policy)

    def services_for(self, action: str) -> tuple[str, ...]:
        """Return the names of the services that may do `action` under a standing approval."""
        return tuple(name for name, rule in sorted(self._policy.service.items()) if matches(action, rule.standing))

    def is_given(self, who: Principal, at: str) -> bool:
        """Tell whether the shop's code may have the column "Table.Column" in the name of the service `who`."""
        rule = self._policy.service_of(who)
        return rule is not None and not {"*", at}.isdisjoint(rule.columns)

    def give_standing(self, tx: Tx, action: str, policy: str, by: PrincipalId) -> str:
        """Let services do `action` under the policy with this keyed digest; return the approval's id."""
        return self._books.approvals.give(tx, action, policy, by, self._clock.now())

    def secrets_under(self, tx: Tx, key_id: int) -> int:
        """Return how many second factors are sealed under a version of the TOTP key."""
        return self._books.factors.under(tx, key_id)

    def requests_under(self, tx: Tx, key_id: int) -> int:
        """Return how many open requests are sealed under a version of the TOTP key."""
        return self._books.requests.under(tx, key_id)

    def reseal(self, tx: Tx) -> int:
        """Seal second factors and open requests under the TOTP key of now; return how many were under an older one."""
        return self._books.factors.reseal(tx) + self._books.requests.reseal(tx)

    def refuse(self, tx: Tx, request: str, by: PrincipalId) -> None:
        """Cancel a request that waits, or end a standing approval. Raises ConfigError when there is none of this id."""
        now = self._clock.now()
        if not self._books.requests.cancel(tx, request, by, now) and not self._books.approvals.end(
            tx, request, by, now
        ):
            raise ConfigError(f"nothing open has the id {request}", hint="`guard access requests` lists what is")

    # What there is ---------------------------------------------------------------------------------------------------

    def requests(self) -> tuple[Open, ...]:
        """Return what waits or is ready, then the approvals that stand. What nobody came back for in time is over."""
        with self._state.read() as tx:
            waiting = [self._open(tx, each) for each in self._books.requests.list(tx)]
            given = [self._given(tx, each) for each in self._books.approvals.list(tx)]
        return (*(each for each in waiting if each.kind != Stage.EXPIRED), *given)

    def request(self, request: str) -> Open:
        """Return one of `requests`. Raises ConfigError when there is none of this id."""
        found = next((each for each in self.requests() if each.id == request), None)
        if found is None:
            raise ConfigError(f"nothing open has the id {request}", hint="`guard access requests` lists what is")
        return found

    def _given(self, tx: Tx, each: Standing) -> Open:
        kind = "standing" if self._gate.may_give(tx, each.given_by) else "no longer counts"
        return Open(each.id, kind, each.action, each.given_by, each.given_at, None, each.policy)

    def _open(self, tx: Tx, request: Request) -> Open:
        found = self._gate.dual.standing(tx, request)
        return Open(
            request.id,
            found.stage,
            request.action,
            request.asked_by,
            request.asked_at,
            found.until,
            request.digest,
            found.approved,
        )


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
