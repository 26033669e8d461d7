"""A store with keys, the shipped policy, and people whose phone is a function."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from guard.access import Access, code_at
from guard.clock import Clock, SteppedClock
from guard.config import load_policy
from guard.config.access import AccessPolicy
from guard.crypto import random
from guard.crypto.keyring import Keyring
from guard.errors import GuardError
from guard.events import Event, Level, Principal, Role
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
        self, at: At, name: str = "fields.encrypt", level: Level = Level.PRIVILEGED, digest: str = "d" * 64
    ) -> str:
        return self.access.allow(at, name, level, digest, Words(), None)

    def why(self, at: At, name: str = "fields.encrypt", level: Level = Level.PRIVILEGED, digest: str = "d" * 64) -> str:
        """Return the reason for which `allow` refuses; "" when it lets through."""
        try:
            self.allow(at, name, level, digest)
        except GuardError as error:
            return str(error.reason)  # type: ignore[attr-defined]
        return ""


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
