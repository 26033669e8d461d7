"""A store with keys, the shipped policy, and people whose phone is a function."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from guard.access import Access, Enrolment, Terms, code_at
from guard.actions import Action, Caller, Outcome, Plan, Task, perform
from guard.actions.people import ADD
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.clock import Clock, SteppedClock
from guard.config import load_policy
from guard.config.access import AccessPolicy
from guard.crypto import random
from guard.crypto.keyring import Keyring
from guard.errors import GuardError
from guard.events import Activity, Event, Level, Principal, Role
from guard.state import State

STEP = timedelta(seconds=30)
POLICIES = Path(__file__).parents[2] / "policies"


@dataclass(frozen=True, slots=True)
class Words:
    """A plan in words."""

    lines: tuple[str, ...] = ("delete 12 rows of Customer",)
    beyond: tuple[str, ...] = ()


@dataclass(slots=True)
class At:
    """Somebody at the door, with or without a terminal; keeps what was shown and asked."""

    who: Principal
    ask: Callable[[str], str] | None = None
    seen: list[str] = field(default_factory=list)

    @property
    def show(self) -> Callable[[str], None]:
        return self.seen.append


@dataclass(frozen=True, slots=True)
class Phone:
    """A person who was taken in, their authenticator and their recovery codes."""

    who: Principal
    secret: str
    recovery: tuple[str, ...]
    clock: Clock

    def code(self, steps: int = 0) -> str:
        return code_at(self.secret, self.clock.now() + steps * STEP)

    def at_door(self, code: str | None = None) -> At:
        return At(self.who, lambda _: self.code() if code is None else code)


@dataclass(slots=True)
class House:
    """One store and its access room; `again` is a new process on the same store."""

    url: str
    root: bytes
    clock: SteppedClock
    policy: AccessPolicy
    state: State
    keyring: Keyring
    access: Access
    events: list[Event] = field(default_factory=list)

    def again(self) -> Access:
        self.state.close()
        state = self.state = State.open(self.url, self.clock)
        state.attach(lambda _, events: self.events.extend(events))
        return Access(state, Keyring.open(state, self.root), self.policy, self.clock)

    def phone(self, os_user: str = "ada", role: Role = Role.OWNER) -> Phone:
        enrolment = self.access.begin_enrolment(os_user.title(), os_user, role)
        first = code_at(enrolment.secret_text, self.clock.now())
        self.clock.step(STEP)
        codes = self.access.finish(enrolment, (first, code_at(enrolment.secret_text, self.clock.now())))
        self.clock.step(STEP)
        return Phone(self.access.person_of(os_user), enrolment.secret_text, codes, self.clock)

    def allow(
        self,
        at: At,
        name: str = "fields.encrypt",
        level: Level = Level.PRIVILEGED,
        digest: str = "d" * 64,
        terms: Terms | None = None,
    ) -> str:
        return self.access.allow(at, name, level, digest, Words(), None, terms)

    def why(
        self,
        at: At,
        name: str = "fields.encrypt",
        level: Level = Level.PRIVILEGED,
        digest: str = "d" * 64,
        terms: Terms | None = None,
    ) -> str:
        """Return the reason for which `allow` refuses; "" when it lets through."""
        try:
            self.allow(at, name, level, digest, terms)
        except GuardError as error:
            return str(error.reason)  # type: ignore[attr-defined]
        return ""


def one_is_enough(house: House) -> House:
    """Let the policy ask for one person, who waits a day."""
    house.policy = structs.replace(house.policy, dual=structs.replace(house.policy.dual, people=1))
    house.access = house.again()
    return house


def wrong(phone: Phone) -> str:
    """Return six digits that no step near now has."""
    near = {phone.code(off) for off in range(-3, 4)}
    return next(
        code
        for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
        if code not in near
    )


def make_house(url: str, clock: SteppedClock) -> House:
    root = random.token(32)
    policy = load_policy(POLICIES, "access", AccessPolicy)
    state = State.create(url, clock)
    keyring = Keyring.create(state, root, None)
    house = House(url, root, clock, policy, state, keyring, Access(state, keyring, policy, clock))
    state.attach(lambda _, events: house.events.extend(events))
    return house


@pytest.fixture
def house(tmp_path: Path, clock: SteppedClock) -> Iterator[House]:
    made = make_house(f"sqlite:///{tmp_path}/state.db", clock)
    yield made
    made.state.close()


@pytest.fixture
def shop_url(tmp_path: Path) -> str:
    """An empty shop."""
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT)")
    connection.close()
    return f"sqlite:///{path}"


@pytest.fixture
def ada(house: House) -> Phone:
    """An owner."""
    return house.phone()


@dataclass(slots=True)
class Folder:
    """A guard folder with Ada as its owner, and her authenticator."""

    app: App
    clock: SteppedClock
    secrets: dict[str, str] = field(default_factory=dict)
    recovery: tuple[str, ...] = ()

    def enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self.secrets[enrolment.os_user] = enrolment.secret_text
        first = self.code(enrolment.os_user)
        self.clock.step(STEP)
        return first, self.code(enrolment.os_user)

    def code(self, os_user: str = "ada") -> str:
        return code_at(self.secrets[os_user], self.clock.now())

    def caller(self, os_user: str = "ada", ask: Callable[[str], str] | None = None) -> Caller:
        """Return the person with a fresh code at hand, unless `ask` says otherwise."""
        self.clock.step(STEP)
        return Caller(self.app.access.person_of(os_user), ask or (lambda _: self.code(os_user)))

    def take_in(self, os_user: str, role: Role) -> tuple[str, ...]:
        enrolment = self.app.access.begin_enrolment(os_user.title(), os_user, role)
        member = self.app.access.confirm(enrolment, *self.enrol(enrolment))
        return perform(self.app, self.caller(), ADD, person=member.person.id)

    def outcomes(self, what: str) -> list[str]:
        return [" ".join([each.outcome, *each.facts.values()]) for each in self.app.ledger.list(Query(what=what), 100)]


@pytest.fixture
def folder(tmp_path: Path, shop_url: str, clock: SteppedClock) -> Iterator[Folder]:
    made = Folder(None, clock)  # type: ignore[arg-type]
    answers = Answers("Music", shop_url, "Ada", "ada")
    done = set_up(tmp_path / "guard", answers, clock, made.enrol)
    made.app, made.recovery = done.app, done.recovery_codes
    yield made
    made.app.close()


@pytest.fixture
def alone(folder: Folder) -> Folder:
    """The same where one person is enough, who waits a day."""
    path = folder.app.policies / "access.toml"
    path.write_text(path.read_text().replace("people = 2", "people = 1"))
    folder.app.close()
    folder.app = App.open(folder.app.home / "guard.toml", folder.clock)
    return folder


def touch(app: App, task: Task) -> Outcome[str]:
    """Change one fact of state, so that a test can tell whether anything was changed."""
    return Outcome("touched", remember=lambda tx: app.state.meta.set(tx, "touched", str(task.args.get("n", 0))))


def plan(app: App, args: object) -> Plan:
    return Plan(("touch one fact",), {"rows": 1})


def action(level: Level, name: str = "test.touch") -> Action[str]:
    standing = (lambda app: b"policy 1") if level is Level.PRIVILEGED else None
    return Action(name, level, Activity.API_UPDATE, touch, plan, standing=standing)
