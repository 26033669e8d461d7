"""The shape of `policies/access.toml`: what each role may ask for and see, and how hard a code is to guess."""

from typing import Annotated, Literal

import msgspec

from guard.config.span import Span
from guard.events import Level, Principal, Role

Pattern = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\*|[a-z]+\.(\*|[a-z][a-z.-]*))$",
        description='an action ("backup.run"), a group ("backup.*") or "*"',
    ),
]
Given = Annotated[str, msgspec.Meta(pattern=r"^(\*|[^.]+\.[^.]+)$", description='a column ("Customer.Email") or "*"')]
Form = Literal["clear", "masked", "pseudonym", "hidden"]
"""How a role sees the values of a tier."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def matches(action: str, patterns: tuple[Pattern, ...]) -> bool:
    """Tell whether one of `patterns` names the action."""
    return any(
        pattern in {"*", action} or (pattern.endswith(".*") and action.startswith(pattern[:-1])) for pattern in patterns
    )


class RoleRule(_Part, frozen=True, kw_only=True):
    """What a role may ask for: actions by the level they have. Everybody known may do what is open."""

    routine: tuple[Pattern, ...] = ()
    privileged: tuple[Pattern, ...] = ()
    dual: tuple[Pattern, ...] = ()

    def may(self, action: str, level: Level) -> bool:
        """Tell whether the role may ask for an action of this level."""
        asked = {Level.ROUTINE: self.routine, Level.PRIVILEGED: self.privileged, Level.DUAL: self.dual}
        return level is Level.OPEN or matches(action, asked[level])


class Roles(_Part, frozen=True, kw_only=True):
    """A rule for each role a person can have; a role without one may do what is open."""

    owner: RoleRule = RoleRule()
    security: RoleRule = RoleRule()
    ops: RoleRule = RoleRule()
    support: RoleRule = RoleRule()
    finance: RoleRule = RoleRule()
    auditor: RoleRule = RoleRule()

    def of(self, role: Role) -> RoleRule:
        """Return the rule of a person's role; services have none."""
        rules = {
            Role.OWNER: self.owner,
            Role.SECURITY: self.security,
            Role.OPS: self.ops,
            Role.SUPPORT: self.support,
            Role.FINANCE: self.finance,
            Role.AUDITOR: self.auditor,
        }
        return rules.get(role, RoleRule())


class ServiceRule(_Part, frozen=True, kw_only=True):
    """What a service may do alone, and for which privileged actions a standing approval may be given to it."""

    os_user: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """The OS user whose processes are this service at the agent's socket; absent: the agent's own user."""
    routine: tuple[Pattern, ...] = ()
    standing: tuple[Pattern, ...] = ()
    columns: tuple[Given, ...] = ()
    """Columns whose keys the service gets at the agent's socket, and whose values the agent seals and opens for it."""


Purpose = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$", description='a short word such as "delivery"; never a name')
]


class Purposes(_Part, frozen=True, kw_only=True):
    """For which purposes each role sees the columns of a tier clear; a role without any needs to name none."""

    owner: tuple[Purpose, ...] = ()
    security: tuple[Purpose, ...] = ()
    ops: tuple[Purpose, ...] = ()
    support: tuple[Purpose, ...] = ()
    finance: tuple[Purpose, ...] = ()
    auditor: tuple[Purpose, ...] = ()

    def of(self, role: Role) -> tuple[Purpose, ...]:
        """Return the purposes of a person's role; services have none."""
        found: tuple[Purpose, ...] = getattr(self, role.value, ())
        return found


class TierRule(_Part, frozen=True, kw_only=True):
    """How each role sees the columns of a tier."""

    owner: Form = "hidden"
    security: Form = "hidden"
    ops: Form = "hidden"
    support: Form = "hidden"
    finance: Form = "hidden"
    auditor: Form = "hidden"
    purpose: Purposes = Purposes()

    def form(self, role: Role, purpose: str | None = None) -> Form:
        """Return how a role sees the tier; what is clear for certain purposes only is masked for all others."""
        found: Form = getattr(self, role.value, "hidden")
        bound = self.purpose.of(role)
        return "masked" if found == "clear" and bound and purpose not in bound else found


def _exact(**spans: Span) -> None:
    if loose := [name for name, span in spans.items() if span.months]:
        raise ValueError(f"{', '.join(loose)} takes minutes, hours or days; months differ in length")


class CodeRule(_Part, frozen=True, kw_only=True):
    """How often codes may be tried."""

    tries: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    """Wrong codes in a row before guard locks for `lock`; each further one doubles it, up to `longest_lock`."""
    lock: Span = Span.parse("1 minute")
    longest_lock: Span = Span.parse("1 day")
    give_up: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    """Wrong codes in a row after which only a recovery code is taken."""
    grant: Span = Span.parse("5 minutes")
    """How long a code that was right may wait for its action to begin."""

    def __post_init__(self) -> None:
        _exact(lock=self.lock, longest_lock=self.longest_lock, grant=self.grant)
        if self.give_up < self.tries:
            raise ValueError("give_up is at least as many as tries")


class DualRule(_Part, frozen=True, kw_only=True):
    """How many people a dual action takes, how soon they approve it, how long it waits and then stays open."""

    people: Annotated[int, msgspec.Meta(ge=1, le=5)] = 2
    """Distinct people, whoever asks being the first. 1: nobody else is asked, and every dual action waits `wait`."""
    approve_in: Span = Span.parse("1 hour")
    wait: Span = Span.parse("24 hours")
    """From the request on, for what cannot be undone; with `people` = 1 for all."""
    open_for: Span = Span.parse("7 days")

    def __post_init__(self) -> None:
        _exact(approve_in=self.approve_in, wait=self.wait, open_for=self.open_for)


class AccessPolicy(_Part, frozen=True, kw_only=True):
    """The whole of `policies/access.toml`."""

    role: Roles
    service: dict[str, ServiceRule] = {}  # msgspec copies an empty default
    tier: dict[str, TierRule] = {}
    code: CodeRule = CodeRule()
    dual: DualRule = DualRule()

    def service_of(self, who: Principal) -> ServiceRule | None:
        """Return the rule of a service; None for people and for services that are not listed."""
        name = who.id.removeprefix("s-")
        return self.service.get(name) if who.role is Role.SERVICE and who.id == f"s-{name}" else None
