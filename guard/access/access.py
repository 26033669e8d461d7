"""`Access`: the facade of this room."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from guard.access import recovery, totp
from guard.access.enrolment import Enrolment, Member
from guard.access.factor import Factors
from guard.access.gate import Asked, Asker, Books, Gate, Way
from guard.access.grants import Grants
from guard.access.pending import Request, Requests, Stage, stage
from guard.access.people import People, Person
from guard.access.refusals import Refusal, refused
from guard.access.standing import Approvals
from guard.access.store import new_id
from guard.clock import Clock
from guard.config.access import AccessPolicy, matches
from guard.crypto import random
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Activity, Ending, Event, Level, Principal, PrincipalId, Role, RunId
from guard.state import State, Tx


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
class Listed:
    """Somebody who may come through the door."""

    id: PrincipalId
    name: str
    os_user: str | None
    role: Role
    enabled: bool
    recovery_codes: int | None
    """How many are left; None for services."""


@dataclass(frozen=True, slots=True)
class Open:
    """Something that waits for its time, or an approval that stands."""

    id: str
    kind: str
    """ "waits" or "ready" for a dual action; "standing" for an approval."""
    action: str
    by: PrincipalId
    at: datetime
    until: datetime | None
    """Until when it waits, or may be carried out; None for an approval, which stands as long as its policy."""
    digest: str
    """Of the action, or of the approved policy."""


class Access:
    """Who may do what, and the proof that they are who they say."""

    def __init__(self, state: State, keyring: Keyring, policy: AccessPolicy, clock: Clock) -> None:
        self._state = state
        self._keyring = keyring
        self._policy = policy
        self._clock = clock
        self._books = Books(
            People(keyring.digest),
            Factors(state, keyring, policy.code, clock),
            Grants(keyring.digest, policy.code.grant.rest),
            Approvals(keyring.digest),
            Requests(keyring.digest),
        )
        self._gate = Gate(state, policy, clock, self._books)
        self._members: dict[PrincipalId, Member] = {}

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

    # Taking people in ------------------------------------------------------------------------------------------------

    def begin_enrolment(self, name: str, os_user: str, role: Role, issuer: str = "guard") -> Enrolment:
        """Return a secret for a new person. Nothing is stored. `issuer`: what the authenticator shows beside the name.

        Raises ConfigError when the OS user is somebody already, or the role is not one for people.
        """
        if role is Role.SERVICE:
            raise ConfigError("a service is no person", hint="list it in policies/access.toml")
        for what, text in (("name", name), ("OS user", os_user)):
            if not 0 < len(text) <= 100 or not text.isprintable() or text != text.strip():
                raise ConfigError(f"the {what} has 1 to 100 printable characters, with no space at its ends")
        with self._state.read() as tx:
            self._books.people.require_free(tx, os_user)
        secret = totp.new_secret()
        person = PrincipalId(new_id("p"))
        return Enrolment(person, name, os_user, role, totp.uri(secret, name, issuer), secret)

    def confirm(self, enrolment: Enrolment, code1: str, code2: str) -> Member:
        """Return the person with recovery codes, ready for `admit`. Nothing is stored.

        Raises DeniedError when the codes are not two consecutive ones, the second of now.
        """
        now = self._clock.now()
        step = enrolment.check(code1, code2, now)
        codes = recovery.new_codes()
        factor = self._books.factors.prepare(enrolment.id, enrolment.secret_text, step, codes)
        person = Person(enrolment.id, enrolment.name, enrolment.os_user, enrolment.role, enabled=True, since=now)
        member = self._members[person.id] = Member(person, factor, codes)
        return member

    def confirmed(self, person: str) -> Member:
        """Return what `confirm` made in this process. Raises ConfigError when it made none of this id."""
        member = self._members.get(PrincipalId(person))
        if member is None:
            raise ConfigError(f"{person} was not enrolled here", hint="use `guard access add`")
        return member

    def admit(self, tx: Tx, member: Member) -> None:
        """Store a person and their second factor. Raises ConfigError when the OS user is somebody by now."""
        self._books.people.add(tx, member.person)
        self._books.factors.add(tx, member.factor)

    def finish(self, enrolment: Enrolment, codes: tuple[str, str], *events: Event) -> tuple[str, ...]:
        """Take a person in, in one transaction with `events`; return the recovery codes, to be shown this once.

        For `guard init`, where nobody is there yet who could be allowed to.
        """
        member = self.confirm(enrolment, *codes)
        self._state.write(lambda tx: self.admit(tx, member), *events)
        return member.recovery_codes

    # What may be done ------------------------------------------------------------------------------------------------

    def allow(  # noqa: PLR0913  # the door hands over what it knows of one action
        self, caller: Asker, name: str, level: Level, digest: str, plan: Planned, policy: bytes | None
    ) -> Way:
        """Return what lets `caller` do the action `name` now; a code is asked for where the level needs one.

        `digest` binds action, arguments, plan and person; `policy` is what a standing approval would cover. Raises
        DeniedError whose `reason` is a `Refusal`; WaitingError for a dual action that waits; ClockError.
        """
        return self._gate.allow(caller, Asked(name, level, digest, plan.lines, policy, plan.beyond))

    def settle(self, tx: Tx, digest: str, who: PrincipalId) -> None:
        """End the request of a dual action that was carried out: another time waits again."""
        self._books.requests.done(tx, digest, who, self._clock.now())

    def policy_digest(self, action: str, policy: bytes) -> str:
        """Return the keyed digest a standing approval for `action` under these policy bytes would carry."""
        return self._books.approvals.policy_digest(action, policy)

    def services_for(self, action: str) -> tuple[str, ...]:
        """Return the names of the services that may do `action` under a standing approval."""
        return tuple(name for name, rule in sorted(self._policy.service.items()) if matches(action, rule.standing))

    def give_standing(self, tx: Tx, action: str, policy: str, by: PrincipalId) -> str:
        """Let services do `action` under the policy with this keyed digest; return the approval's id."""
        return self._books.approvals.give(tx, action, policy, by, self._clock.now())

    def secrets_under(self, tx: Tx, key_id: int) -> int:
        """Return how many second factors are sealed under a version of the TOTP key."""
        return self._books.factors.under(tx, key_id)

    def reseal(self, tx: Tx) -> int:
        """Seal all second factors under the TOTP key of now; return how many were under an older version."""
        return self._books.factors.reseal(tx)

    def refuse(self, tx: Tx, request: str, by: PrincipalId) -> None:
        """Cancel a request that waits, or end a standing approval. Raises ConfigError when there is none of this id."""
        now = self._clock.now()
        if not self._books.requests.cancel(tx, request, by, now) and not self._books.approvals.end(
            tx, request, by, now
        ):
            raise ConfigError(f"nothing open has the id {request}", hint="`guard access requests` lists what is")

    # What there is ---------------------------------------------------------------------------------------------------

    def people(self) -> tuple[Listed, ...]:
        """Return everybody who may come in, services last."""
        with self._state.read() as tx:
            people = [
                Listed(
                    each.id,
                    each.name,
                    each.os_user,
                    each.role,
                    each.enabled,
                    self._books.factors.recovery_left(tx, each.id),
                )
                for each in self._books.people.list(tx)
            ]
        services = [
            Listed(PrincipalId(f"s-{name}"), name, None, Role.SERVICE, enabled=True, recovery_codes=None)
            for name in sorted(self._policy.service)
        ]
        return (*people, *services)

    def requests(self) -> tuple[Open, ...]:
        """Return what waits or is ready, then the approvals that stand. What nobody came back for in time is over."""
        now = self._clock.now()
        with self._state.read() as tx:
            waiting, standing = self._books.requests.list(tx), self._books.approvals.list(tx)
        return (
            *(each for each in (self._open(each, now) for each in waiting) if each.kind != Stage.EXPIRED),
            *(
                Open(each.id, "standing", each.action, each.given_by, each.given_at, None, each.policy)
                for each in standing
            ),
        )

    def request(self, request: str) -> Open:
        """Return one of `requests`. Raises ConfigError when there is none of this id."""
        found = next((each for each in self.requests() if each.id == request), None)
        if found is None:
            raise ConfigError(f"nothing open has the id {request}", hint="`guard access requests` lists what is")
        return found

    def _open(self, request: Request, now: datetime) -> Open:
        how, rule = stage(request, self._policy.dual, now), self._policy.dual
        ready = rule.wait.after(request.asked_at)
        until = ready if how is Stage.WAITS else rule.open_for.after(ready)
        return Open(request.id, how, request.action, request.asked_by, request.asked_at, until, request.digest)


def _nothing(_: Tx) -> None:
    """Nothing but the event is to be remembered."""
