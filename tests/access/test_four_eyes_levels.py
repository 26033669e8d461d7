"""Every action guard declares stands in this table; each that needs a code is refused, and let through, at the door."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from guard.access import Approves, Terms
from guard.actions import Action, Caller, Plan, perform
from guard.actions.access import declared
from guard.actions.setup import Answers, set_up
from guard.clock import SteppedClock
from guard.config import load_policy
from guard.config.access import AccessPolicy
from guard.errors import DeniedError, WaitingError
from guard.events import Level, Principal, Role
from tests.access.conftest import POLICIES, Folder

OPEN = "data.scan keys.recovery.use"
ROUTINE = """
access.enrol access.look access.refuse audit.anchor audit.export audit.find backup.run backup.verify breach.open
fields.search fields.verify keys.cancel keys.epoch report.build state.backup
"""
PRIVILEGED = """
access.add access.approve access.disable access.enable access.grant access.renew access.view access.view-as access.views
audit.prune audit.reveal backup.init backup.prune backup.restore breach.aware data.accept data.rename fields.encrypt
fields.finalize fields.rebind keys.recovery.make keys.retire keys.retire.undo keys.rewrap keys.rewrap.epoch
keys.rewrap.root keys.rotate keys.shred retention.run
"""
DUAL = "access.reset fields.decrypt keys.destroy keys.export keys.shred.many shop.uninstall"
LASTING = {"keys.destroy", "keys.export", "keys.shred.many"}
READS = {"access.view", "access.view-as", "audit.reveal"}
"""What a code lets be read again for some minutes."""

TABLE = {
    name: level
    for level, names in (
        (Level.OPEN, OPEN),
        (Level.ROUTINE, ROUTINE),
        (Level.PRIVILEGED, PRIVILEGED),
        (Level.DUAL, DUAL),
    )
    for name in names.split()
}
CODED = [name for name, level in TABLE.items() if level in {Level.PRIVILEGED, Level.DUAL}]
POLICY = load_policy(POLICIES, "access", AccessPolicy)


def test_every_action_is_in_the_table_with_its_level() -> None:
    """Who adds an action decides here, too, what it asks of a person."""
    assert {name: action.level for name, action in declared().items()} == TABLE


def test_what_cannot_be_undone_and_what_only_reads_is_listed() -> None:
    actions = declared()
    assert {name for name, each in actions.items() if each.lasting} == LASTING
    assert {name for name, each in actions.items() if each.reads} == READS
    assert all(TABLE[name] is Level.DUAL for name in LASTING)
    assert all(TABLE[name] is Level.PRIVILEGED for name in READS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """One folder for all actions, with a person in each role."""
    home, clock = tmp_path_factory.mktemp("levels"), SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
    made = Folder(None, clock)  # type: ignore[arg-type]
    done = set_up(home / "guard", Answers("Music", f"sqlite:///{home}/shop.db", "Ada", "ada"), clock, made.enrol)
    made.app = done.app
    for role in Role:
        if role is not Role.SERVICE:
            made.take_in(role.value, role)
    yield made
    made.app.close()


def stubbed(name: str) -> Action[Any]:
    """Return the action as declared, but for a plan that needs no shop and a work that must not begin."""

    def work(*_: object) -> Any:
        raise AssertionError("the work began")

    return replace(declared()[name], plan=lambda app, args: Plan(("what it does",)), work=work, standing=None, holds=())


def refused(folder: Folder, caller: Caller, action: Action[Any]) -> str:
    with pytest.raises(DeniedError) as caught:
        perform(folder.app, caller, action)
    assert caught.value.exit_code == 10
    assert folder.outcomes(action.name)[-1] == f"denied {caught.value.reason}"
    return str(caught.value.reason)


def outsiders(name: str) -> list[Role]:
    """Return the roles that may not ask for the action."""
    return [role for role in Role if role is not Role.SERVICE and not POLICY.role.of(role).may(name, TABLE[name])]


@pytest.mark.parametrize("name", CODED)
def test_it_is_refused_to_the_wrong_role_without_a_code_and_with_a_wrong_one(folder: Folder, name: str) -> None:
    action = stubbed(name)
    for role in outsiders(name):
        never = folder.caller(role.value, lambda _: pytest.fail("a code was asked for"))
        assert refused(folder, never, action) == "role"
    service = Principal(folder.app.access.service("shop").id, Role.SERVICE, "shop")
    assert refused(folder, Caller(service), action) == "role"
    who = folder.caller("owner").who
    assert refused(folder, Caller(who), action) == "no code"
    assert refused(folder, folder.caller("owner", lambda _: ""), action) == "no code"
    assert refused(folder, folder.caller("owner", lambda _: "not a code"), action) == "wrong code"
    right = folder.caller("owner")
    assert folder.app.access.allow(right, "test.right", Level.PRIVILEGED, "b" * 64, Plan(), None) == "code", "no lock"


@pytest.mark.parametrize("name", CODED)
def test_it_is_let_through_with_a_code_and_where_it_is_dual_with_another_persons(folder: Folder, name: str) -> None:
    action = declared()[name]
    access, plan, digest = folder.app.access, Plan(("what it does",)), folder.app.digest("test", name.encode())
    terms = Terms(lasting=action.lasting, reads=action.reads)
    if action.level is Level.DUAL:
        with pytest.raises(WaitingError):
            access.allow(folder.caller("owner"), name, action.level, digest, plan, None, terms)
        (request,) = [each for each in access.requests() if each.digest == digest]
        approves = Terms(approves=Approves(request.id, name, digest))
        other = folder.caller("ada")
        assert access.allow(other, "access.approve", Level.PRIVILEGED, "a" * 64, plan, None, approves) == "code"
        folder.app.state.write(lambda tx: access.approve(tx, approves.approves, other.who.id, None))  # type: ignore[arg-type]  # set above
        folder.clock.step(timedelta(days=1) if action.lasting else timedelta())
    assert access.allow(folder.caller("owner"), name, action.level, digest, plan, None, terms) == "code"


def test_two_people_of_the_shipped_roles_are_enough_for_all_that_is_dual() -> None:
    """An owner and one of security: no dual action needs a second owner."""
    assert all(
        POLICY.role.of(role).may(name, Level.DUAL) for role in (Role.OWNER, Role.SECURITY) for name in DUAL.split()
    )
