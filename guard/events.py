"""What happened, in words every room uses. Rooms speak events; none of them knows the ledger.

An event holds ids, counts and keyed digests, never personal data in clear and nothing that could be guessed back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NewType, Protocol

PrincipalId = NewType("PrincipalId", str)
"""`p-` and 10 base32 characters for people, `s-` and a name for services, `guard` for guard itself."""

RunId = NewType("RunId", str)
"""32 hex characters; joins the entries of one performed action."""

GUARD = PrincipalId("guard")


class Ending(StrEnum):
    """How an action stands. Every `BEGUN` is followed by one of the others under the same run id."""

    BEGUN = "begun"
    DONE = "done"
    PARTLY = "partly"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DENIED = "denied"
    GATE_FAILED = "gate failed"
    RESOLVED = "resolved"


class Activity(StrEnum):
    """OCSF class and activity as `class_uid.activity_id` (OCSF 1.5.0, schema.ocsf.io)."""

    AUTHENTICATE = "3002.1"
    ENTITY_CREATE = "3004.1"
    ENTITY_READ = "3004.2"
    ENTITY_UPDATE = "3004.3"
    ENTITY_DELETE = "3004.4"
    API_CREATE = "6003.1"
    API_READ = "6003.2"
    API_UPDATE = "6003.3"
    API_DELETE = "6003.4"
    DATA_READ = "6005.1"
    DATA_UPDATE = "6005.2"
    DATA_QUERY = "6005.4"
    DATA_CREATE = "6005.6"
    DATA_DELETE = "6005.7"
    DATA_ENCRYPT = "6005.9"
    DATA_DECRYPT = "6005.10"
    INCIDENT = "2005.1"
    COMPLIANCE = "2003.1"


class Level(StrEnum):
    """What an action asks of its principal. The table in docs/THREAT_MODEL.md says why."""

    OPEN = "open"
    ROUTINE = "routine"
    PRIVILEGED = "privileged"
    DUAL = "dual"


class Role(StrEnum):
    """What a principal is; `policies/access.toml` says what each may do and see."""

    OWNER = "owner"
    SECURITY = "security"
    OPS = "ops"
    SUPPORT = "support"
    FINANCE = "finance"
    AUDITOR = "auditor"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a person known by the OS user, or a service. Found by the door, never given as an argument."""

    id: PrincipalId
    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class About:
    """The person an event is about. The ledger puts their pseudonym in its place before anything is recorded."""

    kind: str
    """The catalog's kind of subject, e.g. "customer"."""
    key: bytes
    """The canonical key of the person's row (`guard.canon.key_bytes`)."""
    details: Mapping[str, Any] | None = None
    """What is said of them in clear, as JSON; sealed under their own key, and erased with it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `what` is an action's name such as "fields.encrypt"."""

    what: str
    ending: Ending
    who: PrincipalId
    run: RunId
    activity: Activity = Activity.API_UPDATE
    objects: tuple[str, ...] = ()
    """Names of tables, columns, keys, snapshots: of things, never of people."""
    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    """Hex digests under guard's digest key."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Short words from guard's own vocabulary: a reason, a state, an origin."""
    about: About | None = None
    """Whom it is about, before the ledger takes it."""
    subject: str | None = None
    """A person's pseudonym, 32 hex characters."""
    payload: bytes | None = None
    """The sealed details. The ledger makes it of `about`."""

    def ended(self, ending: Ending) -> "Event":
        """Return the same event with another ending."""
        return replace(self, ending=ending)


class Progress(Protocol):
    """Told how far a long work has come; the command line draws it, the daemon logs it."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Take note that `done` of `total` (None: unknown) are through `what`, e.g. "Customer.Email"."""
        ...


def silent(what: str, done: int, total: int | None = None) -> None:
    """Progress for nobody."""
