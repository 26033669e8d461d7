"""Those who may come through the door: taking them in, and what becomes of them and their second factor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from guard.access import recovery, totp
from guard.access.dual import Books
from guard.access.enrolment import ENROL_WITHIN, RENEW_WITHIN, Enrolment, Member
from guard.access.leave import Held, Holdings
from guard.access.people import Person
from guard.access.refusals import Refusal, refused
from guard.access.store import new_id
from guard.clock import Clock
from guard.config.access import AccessPolicy
from guard.crypto.keyring import Keyring
from guard.errors import ConfigError, InterlockError
from guard.events import Event, PrincipalId, Role
from guard.state import State, Tx


@dataclass(frozen=True, slots=True)
class Listed:
    """Somebody who may come through the door."""

    id: PrincipalId
    name: str
    os_user: str | None
    role: Role
    enabled: bool
    factor: str | None
    """ "active" or "none yet"; None for services, which have none."""
    recovery_codes: int | None
    """How many are left; None for services."""
    enrol_until: datetime | None
    """Until when they may enrol an authenticator themselves; None when they may not."""
    locked_until: datetime | None
    """Until when no code of theirs is taken, after wrong ones; None when codes are taken."""


class Members:
    """The part of `Access` that is about people, not about actions."""

    def __init__(self, state: State, keyring: Keyring, policy: AccessPolicy, clock: Clock, books: Books) -> None:
        self._state = state
        self._keyring = keyring
        self._policy = policy
        self._clock = clock
        self._books = books
        self._holdings = Holdings(books, keyring.digest)
        self._members: dict[PrincipalId, Member] = {}
        self._renewals: dict[PrincipalId, datetime] = {}
        """Until when somebody who gave a code in this process may enrol anew in it."""

    # Taking people in ------------------------------------------------------------------------------------------------

    def begin_enrolment(self, name: str, os_user: str, role: Role, issuer: str = "guard") -> Enrolment:
        """Return a secret for a new person. Nothing is stored. `issuer`: what the authenticator shows beside the name.

        Raises ConfigError when the OS user is somebody already, or the role is not one for people.
        """
        return self._enrolment(self._newcomer(name, os_user, role), issuer)

    def confirm(self, enrolment: Enrolment, code1: str, code2: str) -> Member:
        """Return the person with recovery codes, ready for `admit` or `renew`. Nothing is stored.

        Raises DeniedError when the codes are not two consecutive ones, the second of now.
        """
        now = self._clock.now()
        step = enrolment.check(code1, code2, now)
        codes = recovery.new_codes()
        factor = self._books.factors.prepare(enrolment.id, enrolment.secret_text, now, step, codes)
        person = Person(enrolment.id, enrolment.name, enrolment.os_user, enrolment.role, enabled=True, since=now)
        member = self._members[person.id] = Member(person, factor, codes)
        return member

    def expect(self, name: str, os_user: str, role: Role) -> Member:
        """Return a person without a second factor, ready for `admit`: they will enrol one themselves.

        Nothing is stored. Raises ConfigError as `begin_enrolment` does.
        """
        person = self._newcomer(name, os_user, role)
        member = self._members[person.id] = Member(person, None, ())
        return member

    def confirmed(self, person: str) -> Member:
        """Return what `confirm` or `expect` made in this process. Raises ConfigError when they made none of this id."""
        member = self._members.get(PrincipalId(person))
        if member is None:
            raise ConfigError(f"{person} was not enrolled here", hint="use `guard access add`")
        return member

    def admit(self, tx: Tx, member: Member) -> None:
        """Store a person and their second factor. Raises ConfigError when the OS user is somebody by now."""
        self._books.people.add(tx, member.person)
        if member.factor is None:
            self._books.factors.expect(tx, member.person.id, self._clock.now() + ENROL_WITHIN)
        else:
            self._books.factors.add(tx, member.factor)

    def finish(self, enrolment: Enrolment, codes: tuple[str, str], *events: Event) -> tuple[str, ...]:
        """Take a person in, in one transaction with `events`; return the recovery codes, to be shown this once.

        For `guard init`, where nobody is there yet who could be allowed to.
        """
        member = self.confirm(enrolment, *codes)
        self._state.write(lambda tx: self.admit(tx, member), *events)
        return member.recovery_codes

    def _newcomer(self, name: str, os_user: str, role: Role) -> Person:
        if role is Role.SERVICE:
            raise ConfigError("a service is no person", hint="list it in policies/access.toml")
        for what, text in (("name", name), ("OS user", os_user)):
            if not 0 < len(text) <= 100 or not text.isprintable() or text != text.strip():
                raise ConfigError(f"the {what} has 1 to 100 printable characters, with no space at its ends")
        with self._state.read() as tx:
            self._books.people.require_free(tx, os_user)
        return Person(PrincipalId(new_id("p")), name, os_user, role, enabled=True, since=self._clock.now())

    def _enrolment(self, person: Person, issuer: str) -> Enrolment:
        secret = totp.new_secret()
        uri = totp.uri(secret, person.name, issuer)
        return Enrolment(person.id, person.name, person.os_user, person.role, uri, secret)

    # A new second factor ---------------------------------------------------------------------------------------------

    def may_enrol(self, who: PrincipalId) -> bool:
        """Tell whether an enrolment is open to this person now.

        Raises DeniedError for one who has no authenticator and none may enrol: a code cannot open it.
        """
        with self._state.read() as tx:
            standing, too_late = self._books.factors.standing(tx, who), self._is_late(tx, who)
        if standing.open_until is None and not self._renews(who) and not standing.active:
            reset = "others open it again: one asks for `guard access reset` with your OS user, another approves it"
            raise refused(
                Refusal.NO_CODE,
                "you have no authenticator, and none may be enrolled for you now",
                "an owner opens it again: `guard access enable` with your OS user" if too_late else reset,
            )
        return standing.open_until is not None or self._renews(who)

    def begin_renewal(self, who: PrincipalId, issuer: str = "guard") -> Enrolment:
        """Return a secret for the new authenticator of somebody guard knows. Nothing is stored."""
        with self._state.read() as tx:
            return self._enrolment(self._books.people.named(tx, who), issuer)

    def open_renewal(self, who: PrincipalId) -> None:
        """Let a person who gave a code enrol anew in this process, for as long as that takes."""
        self._renewals[who] = self._clock.now() + RENEW_WITHIN

    def renew(self, tx: Tx, member: Member) -> None:
        """Put what was confirmed in the place of the person's second factor.

        Raises DeniedError when no enrolment is open to them or they may not come in, ConfigError when nothing was
        confirmed.
        """
        factors, who = self._books.factors, member.person.id
        if member.factor is None:
            raise ConfigError(f"{who} has enrolled nothing here", hint="use `guard access enrol`")
        factors.require_here(tx, who)
        if factors.standing(tx, who).open_until is None and not self._renews(who):
            raise refused(Refusal.NO_CODE, "no enrolment is open to you", "`guard access enrol` begins one")
        factors.renew(tx, member.factor, self._clock.now())

    def end_renewal(self, who: PrincipalId) -> None:
        """Forget what was opened and confirmed for this person in this process."""
        self._renewals.pop(who, None)
        self._members.pop(who, None)

    def new_recovery_codes(self, who: PrincipalId) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return fresh recovery codes, and what is to be stored of them with `renew_recovery`."""
        codes = recovery.new_codes()
        return codes, self._books.factors.recovery_digests(who, codes)

    def renew_recovery(self, tx: Tx, who: PrincipalId, digests: tuple[str, ...]) -> None:
        """Put new recovery codes in the place of the old ones."""
        self._books.factors.renew_recovery(tx, who, digests, self._clock.now())

    def _renews(self, who: PrincipalId) -> bool:
        until = self._renewals.get(who)
        return until is not None and self._clock.now() < until

    # What becomes of them --------------------------------------------------------------------------------------------

    def somebody(self, text: str) -> Person:
        """Return the person with this id or OS user. Raises ConfigError for none."""
        with self._state.read() as tx:
            return self._books.people.named(tx, text)

    def held(self, who: PrincipalId) -> Held:
        """Return what would end with this person."""
        with self._state.read() as tx:
            return self._holdings.of(tx, who, self._clock.now())

    def require_other_owner(self, who: PrincipalId, tx: Tx | None = None) -> None:
        """Raise InterlockError when this person is the last owner who may come in and has a second factor."""
        if tx is None:
            with self._state.read() as own:
                return self.require_other_owner(who, own)
        owners = {each.id for each in self._books.people.list(tx) if each.enabled and each.role is Role.OWNER}
        able = {each for each in owners if self._books.factors.standing(tx, each).active}
        if who in owners and not able - {who}:
            raise InterlockError(
                f"{who} is the last owner with a second factor: without them nobody could let anybody in",
                hint='take in another owner first: guard access add "NAME" --os-user USER --role owner',
            )
        return None

    def disable(self, tx: Tx, who: PrincipalId, by: PrincipalId) -> None:
        """Turn a person away from now on, and end what they hold. Raises InterlockError for the last owner."""
        self.require_other_owner(who, tx)
        self._books.people.enable(tx, who, enabled=False)
        self._holdings.end(tx, who, by, self._clock.now(), standing=True)

    def is_late(self, who: PrincipalId) -> bool:
        """Tell whether a person was taken in without an authenticator and let the time to enrol one pass."""
        with self._state.read() as tx:
            return self._is_late(tx, who)

    def enable(self, tx: Tx, who: PrincipalId, *, late: bool = False) -> None:
        """Let a person in again; with `late`, and where they still are, let them enrol within another day."""
        self._books.people.enable(tx, who, enabled=True)
        if late and self._is_late(tx, who):
            self._books.factors.reopen(tx, who, self._clock.now() + ENROL_WITHIN)

    def _is_late(self, tx: Tx, who: PrincipalId) -> bool:
        factors = self._books.factors
        return factors.is_new(tx, who) and factors.standing(tx, who).open_until is None

    def reset(self, tx: Tx, who: PrincipalId, by: PrincipalId) -> None:
        """Take a person's second factor away and what rests on it, and let them enrol another within a day.

        The standing approvals they gave stay. Raises InterlockError for the last owner.
        """
        now = self._clock.now()
        self.require_other_owner(who, tx)
        self._books.factors.reset(tx, who, now, now + ENROL_WITHIN)
        self._holdings.end(tx, who, by, now, standing=False)

    # Who there is ----------------------------------------------------------------------------------------------------

    def people(self) -> tuple[Listed, ...]:
        """Return everybody who may come in, services last."""
        with self._state.read() as tx:
            people = [self._listed(tx, each) for each in self._books.people.list(tx)]
        services = [
            Listed(PrincipalId(f"s-{name}"), name, None, Role.SERVICE, True, None, None, None, None)
            for name in sorted(self._policy.service)
        ]
        return (*people, *services)

    def _listed(self, tx: Tx, person: Person) -> Listed:
        factor = self._books.factors.standing(tx, person.id)
        return Listed(
            person.id,
            person.name,
            person.os_user,
            person.role,
            person.enabled,
            "active" if factor.active else "none yet",
            factor.recovery_codes,
            factor.open_until,
            factor.locked_until,
        )
