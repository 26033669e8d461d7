"""A guard folder beside a shop whose columns are classified, and people of every role who look at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guard.access import Enrolment, code_at
from guard.actions import Action, Caller, perform
from guard.actions.data import ACCEPT, SCAN
from guard.actions.people import ADD
from guard.actions.setup import Answers, set_up
from guard.actions.view import LOOK, Seen, action_for
from guard.app import App
from guard.audit import Entry, Query
from guard.clock import SteppedClock
from guard.events import Principal, Role
from tests.access.conftest import STEP


@dataclass(slots=True)
class Office:
    """The folder, and one person of each role that was asked for; Ada is the owner."""

    app: App
    clock: SteppedClock
    secrets: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)

    def enrol(self, enrolment: Enrolment) -> tuple[str, str]:
        self.secrets[enrolment.os_user] = enrolment.secret_text
        first = self.code(enrolment.os_user)
        self.clock.step(STEP)
        return first, self.code(enrolment.os_user)

    def code(self, os_user: str) -> str:
        return code_at(self.secrets[os_user], self.clock.now())

    def who(self, role: Role) -> Principal:
        """Return the person of a role; they are called as their role is."""
        return self.app.access.person_of(role.value)

    def take_in(self, *roles: Role) -> None:
        for role in roles:
            enrolment = self.app.access.begin_enrolment(role.value.title(), role.value, role)
            member = self.app.access.confirm(enrolment, *self.enrol(enrolment))
            self.do(ADD, person=member.person.id)

    def caller(self, role: Role = Role.OWNER, ask: Callable[[str], str] | None = None) -> Caller:
        self.clock.step(STEP)
        return Caller(self.who(role), ask or (lambda _: self.code(role.value)), self.shown.append)

    def do(self, action: Action[object], by: Role = Role.OWNER, /, **args: object) -> object:
        return perform(self.app, self.caller(by), action, **args)

    def look(self, table: str, *key: str, role: Role, as_: Role | None = None, **more: object) -> Seen:
        """Look at a row as the command line does: the person's role chooses the action."""
        args = {"table": table, "key": list(key), "role": (as_ or role).value, "purpose": None, **more}
        caller = self.caller(role)
        return perform(self.app, caller, action_for(self.app, caller.who, args), **args)

    def only_look(self, table: str, *key: str, role: Role) -> Seen:
        args = {"table": table, "key": list(key), "role": role.value, "purpose": None}
        return perform(self.app, Caller(self.who(role)), LOOK, **args)

    def take(self, catalog: str) -> None:
        """Take a catalog of the test's own."""
        source = self.app.home / "own.toml"
        source.write_text(catalog)
        self.do(ACCEPT, source=str(source))

    def accept(self, change: Callable[[str], str] = str) -> None:
        """Take the catalog that guard proposes, changed."""
        self.do(SCAN)
        proposed = self.app.discovery.proposed
        proposed.write_text(change(proposed.read_text()))
        self.do(ACCEPT)

    def entries(self, what: str) -> list[Entry]:
        return list(self.app.ledger.list(Query(what=what), 1000))

    def policy(self, old: str, new: str) -> None:
        path = self.app.policies / "access.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def open_office(home: Path, url: str, clock: SteppedClock) -> Office:
    office = Office(None, clock)  # type: ignore[arg-type]
    done = set_up(home, Answers("Shop", url, "Ada", Role.OWNER.value), clock, office.enrol)
    office.app = done.app
    return office


def values(seen: Seen) -> Mapping[str, object]:
    return {each.column: each.value for each in seen.columns}


def forms(seen: Seen) -> Mapping[str, str]:
    return {each.column: each.form.value for each in seen.columns}
