"""What becomes of people: taken in, disabled, enabled, reset, enrolled anew; through the door of a guard folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard import faults
from guard.access import Approves, Enrolment, Listed, Refusal, code_at
from guard.actions import Action, Caller, Outcome, perform
from guard.actions.access import APPROVE, GRANT
from guard.actions.people import ADD, DISABLE, ENABLE, ENROL, RENEW, RESET
from guard.actions.setup import Answers, set_up
from guard.app import App
from guard.audit import Query
from guard.clock import SteppedClock
from guard.errors import ConfigError, DeniedError, GuardError, InterlockError, WaitingError
from guard.events import Activity, Level, PrincipalId, Role
from tests.access.conftest import STEP

TOUCH: Action[str] = Action("keys.rotate", Level.PRIVILEGED, Activity.API_UPDATE, lambda app, task: Outcome("touched"))
LOOK: Action[str] = Action("report.look", Level.ROUTINE, Activity.API_READ, lambda app, task: Outcome("seen"))
DUAL: Action[str] = Action("fields.decrypt", Level.DUAL, Activity.API_DELETE, lambda app, task: Outcome("gone"))


@dataclass(slots=True)
class Town:
    """A guard folder whose owner is Ada, and everybody's authenticator."""

    app: App
    clock: SteppedClock
    secrets: dict[str, str] = field(default_factory=dict)
    recovery: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def show(self, enrolment: Enrolment) -> tuple[str, str]:
        """Scan a secret and read two codes off."""
        self.secrets[enrolment.os_user] = enrolment.secret_text
        first = self.code(enrolment.os_user)
        self.clock.step(STEP)
        return first, self.code(enrolment.os_user)

    def code(self, os_user: str) -> str:
        return code_at(self.secrets[os_user], self.clock.now())

    def do(self, who: str, action: Action[Any], ask: Callable[[str], str] | None = None, **args: Any) -> Any:
        """Carry an action out as `who`, with a fresh code at hand."""
        self.clock.step(STEP)
        caller = Caller(self.app.access.person_of(who), ask or (lambda _: self.code(who)))
        return perform(self.app, caller, action, **args)

    def why(self, who: str, action: Action[Any], ask: Callable[[str], str] | None = None, **args: Any) -> str:
        """Return the reason for which an action is refused; "" when it is not."""
        try:
            self.do(who, action, ask, **args)
        except DeniedError as error:
            return str(error.reason)
        return ""

    def take_in(self, os_user: str, role: Role = Role.OWNER) -> PrincipalId:
        enrolment = self.app.access.begin_enrolment(os_user.title(), os_user, role)
        member = self.app.access.confirm(enrolment, *self.show(enrolment))
        self.recovery[os_user] = self.do("ada", ADD, person=member.person.id)
        return member.person.id

    def expect(self, os_user: str, role: Role = Role.OWNER) -> PrincipalId:
        member = self.app.access.expect(os_user.title(), os_user, role)
        assert self.do("ada", ADD, person=member.person.id) == ()
        return member.person.id

    def reset(self, os_user: str) -> PrincipalId:
        """Do what the work of `RESET` does, without the other people it takes."""
        who = self.id(os_user)
        self.app.state.write(lambda tx: self.app.access.reset(tx, who, self.id("ada")))
        return who

    def enrol(self, os_user: str) -> None:
        """Do what `guard access enrol` does after its question for an old code."""
        room, who = self.app.access, self.id(os_user)
        enrolment = room.begin_renewal(who)
        room.confirm(enrolment, *self.show(enrolment))
        self.recovery[os_user] = self.do(os_user, ENROL, person=who)

    def id(self, os_user: str) -> PrincipalId:
        return self.app.access.somebody(os_user).id

    def listed(self, os_user: str) -> Listed:
        return next(each for each in self.app.access.people() if each.os_user == os_user)

    def outcomes(self, what: str) -> list[str]:
        return [" ".join([each.outcome, *each.facts.values()]) for each in self.app.ledger.list(Query(what=what), 100)]


@pytest.fixture
def town(tmp_path: Path, shop_url: str, clock: SteppedClock) -> Iterator[Town]:
    made = Town(None, clock)  # type: ignore[arg-type]
    done = set_up(tmp_path / "guard", Answers("Music", shop_url, "Ada", "ada"), clock, made.show)
    made.app, made.recovery["ada"] = done.app, done.recovery_codes
    yield made
    made.app.close()


# Disabled ------------------------------------------------------------------------------------------------------------


def test_a_disabled_person_is_turned_away_at_once_and_let_in_again_with_their_factor(town: Town) -> None:
    bob = town.take_in("bob")
    before = Caller(town.app.access.person_of("bob"), lambda _: town.code("bob"))
    town.do("ada", DISABLE, person=bob)
    with pytest.raises(DeniedError, match="nobody guard knows"):
        town.app.access.person_of("bob")
    with pytest.raises(DeniedError) as caught:
        perform(town.app, before, TOUCH)  # a program of theirs that was running already
    assert caught.value.reason == "unknown principal"
    assert not town.listed("bob").enabled
    town.do("ada", ENABLE, person=bob)
    assert town.why("bob", TOUCH) == ""
    assert town.listed("bob").recovery_codes == 10
    assert town.outcomes("access.disable") == ["begun code", "done"]


def test_a_person_disabled_while_they_are_asked_for_a_code_does_not_get_through(town: Town) -> None:
    bob = town.take_in("bob")

    def meanwhile(_: str) -> str:
        town.do("ada", DISABLE, person=bob)
        return town.code("bob")

    assert town.why("bob", TOUCH, meanwhile) == "unknown principal"


def test_what_a_disabled_person_held_asked_for_and_approved_ends(town: Town) -> None:
    bob, room = town.take_in("bob"), town.app.access

    def die(name: str) -> None:
        if name == "access.code.spent":
            raise KeyboardInterrupt

    faults.install(die)  # after the code was taken, before what it gives is used
    try:
        with pytest.raises(KeyboardInterrupt):
            town.do("bob", TOUCH)
    finally:
        faults.install(None)
    with pytest.raises(WaitingError):
        town.do("bob", DUAL)
    town.do("bob", GRANT, what="retention.run")
    held = room.held(bob)
    assert (held.grants, held.requests, held.approvals) == (1, 1, 1)
    shown: list[str] = []
    town.clock.step(STEP)
    caller = Caller(room.person_of("ada"), lambda _: town.code("ada"), shown.append)
    perform(town.app, caller, DISABLE, person=bob)
    assert any("requests they made: 1, standing approvals: 1" in line for line in shown)
    held = room.held(bob)
    assert (held.grants, held.requests, held.approvals) == (0, 0, 0)
    assert room.requests() == ()
    town.do("ada", ENABLE, person=bob)
    assert room.requests() == (), "it does not come back"


def test_a_person_of_another_role_disables_nobody(town: Town) -> None:
    town.take_in("eve", Role.SECURITY)
    bob = town.take_in("bob", Role.OPS)
    assert town.why("eve", DISABLE, person=bob) == "role"
    assert town.listed("bob").enabled


@pytest.mark.parametrize("action", [DISABLE, ENABLE, RESET])
def test_nobody_is_not_disabled(town: Town, action: Action[Any]) -> None:
    with pytest.raises(ConfigError, match="nobody has this id"):
        town.do("ada", action, person="p-aaaaaaaaaa")


def test_who_is_disabled_or_enabled_already_is_said_before_a_code_is_asked_for(town: Town) -> None:
    bob = town.take_in("bob")
    with pytest.raises(ConfigError, match="enabled already"):
        town.do("ada", ENABLE, person=bob)
    town.do("ada", DISABLE, person=bob)
    with pytest.raises(ConfigError, match="disabled already"):
        town.do("ada", DISABLE, person=bob)


# The last owner ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [DISABLE, RESET])
def test_the_last_owner_with_a_second_factor_is_neither_disabled_nor_reset(town: Town, action: Action[Any]) -> None:
    ada = town.id("ada")
    town.take_in("eve", Role.SECURITY)
    town.expect("bob")  # an owner, but one who could let nobody in
    with pytest.raises(InterlockError, match="last owner") as caught:
        town.do("ada", action, person=ada)
    assert "guard access add" in str(caught.value.hint)
    town.enrol("bob")
    town.do("ada", DISABLE, person=ada)
    with pytest.raises(InterlockError, match="last owner"):
        town.do("bob", DISABLE, person=town.id("bob"))


def test_two_owners_who_turn_each_other_away_at_once_leave_one(town: Town) -> None:
    ada, bob = town.id("ada"), town.take_in("bob")

    def meanwhile(_: str) -> str:
        town.do("bob", DISABLE, person=ada)
        return town.code("ada")

    assert town.why("ada", DISABLE, meanwhile, person=bob) == "unknown principal"
    assert (town.listed("ada").enabled, town.listed("bob").enabled) == (False, True)
    with pytest.raises(InterlockError, match="last owner"):  # and where the plan was made before, the work is refused
        town.app.state.write(lambda tx: town.app.access.disable(tx, bob, ada))


# Reset ---------------------------------------------------------------------------------------------------------------


def test_a_reset_takes_factor_and_recovery_codes_and_lets_the_person_enrol_for_a_day(town: Town) -> None:
    town.take_in("bob", Role.SECURITY)
    old = dict(town.secrets)
    town.reset("bob")
    listed = town.listed("bob")
    assert (listed.factor, listed.recovery_codes) == ("none yet", 0)
    assert listed.enrol_until == town.clock.now() + timedelta(hours=24)
    assert town.why("bob", TOUCH) == "no code"
    assert town.why("bob", TOUCH, lambda _: town.recovery["bob"][0]) == "no code"
    town.enrol("bob")
    listed = town.listed("bob")
    assert (listed.factor, listed.recovery_codes, listed.enrol_until) == ("active", 10, None)
    assert town.why("bob", TOUCH) == ""
    assert town.why("bob", TOUCH, lambda _: code_at(old["bob"], town.clock.now())) == "wrong code"
    assert town.why("bob", TOUCH, lambda _: town.recovery["bob"][0]) == ""
    assert town.outcomes("access.enrol") == ["begun role", "done"]


def test_a_reset_during_a_try_takes_what_was_typed_away_with_it(town: Town) -> None:
    """The code was compared with the secret there was; by the time it is to be spent there is another."""
    bob = town.take_in("bob", Role.SECURITY)

    def meanwhile(name: str) -> None:
        if name == "access.code.compared":
            faults.install(None)
            town.reset("bob")

    faults.install(meanwhile)
    try:
        assert town.why("bob", TOUCH) == "wrong code"
    finally:
        faults.install(None)
    assert town.app.access.held(bob).grants == 0


def test_the_plan_of_a_reset_names_whom_it_concerns(town: Town) -> None:
    bob = town.take_in("bob")
    assert RESET.level is Level.DUAL
    assert RESET.plan is not None
    plan = RESET.plan(town.app, {"person": bob})
    assert plan.concerns == bob
    assert any("OS user bob" in line for line in plan.lines)
    assert plan.facts == RESET.plan(town.app, {"person": "bob"}).facts


def test_after_a_day_nobody_enrols_any_more_and_the_way_out_is_named(town: Town) -> None:
    town.take_in("bob")
    bob = town.reset("bob")
    assert town.app.access.may_enrol(bob)
    town.clock.step(timedelta(hours=24))
    with pytest.raises(DeniedError, match="none may be enrolled") as caught:
        town.app.access.may_enrol(bob)
    assert "guard access reset" in str(caught.value.hint)
    with pytest.raises(DeniedError, match="no enrolment is open"):
        town.enrol("bob")
    assert town.listed("bob").factor == "none yet"


def test_wrong_codes_before_a_reset_do_not_lock_the_new_authenticator(town: Town) -> None:
    town.take_in("bob", Role.SECURITY)
    for _ in range(5):
        assert town.why("bob", TOUCH, lambda _: "AAAA-BBBB-CCCC-DDDD") == "wrong code"
    assert town.listed("bob").locked_until is not None
    town.reset("bob")
    town.enrol("bob")
    assert town.listed("bob").locked_until is None
    assert town.why("bob", TOUCH) == ""


def test_a_reset_takes_two_others_and_never_the_person_it_concerns(town: Town) -> None:
    bob = town.take_in("bob")
    town.take_in("eve", Role.SECURITY)
    assert town.why("bob", RESET, person=bob) == Refusal.CONCERNED
    with pytest.raises(WaitingError):
        town.do("ada", RESET, person=bob)
    (asked,) = town.app.access.requests()
    assert town.why("bob", APPROVE, request=asked.id) == Refusal.CONCERNED
    assert town.why("ada", APPROVE, request=asked.id) == Refusal.OWN
    assert town.listed("bob").factor == "active"
    town.do("eve", APPROVE, request=asked.id)
    assert town.listed("bob").factor == "active", "approved is not done"
    town.do("ada", RESET, person=bob)
    assert town.listed("bob").factor == "none yet"
    town.enrol("bob")
    assert town.why("bob", TOUCH) == ""
    assert town.outcomes("access.reset") == [
        f"denied {Refusal.CONCERNED}",
        "denied waits",
        "begun code",
        "done",
    ]


def test_the_person_a_reset_concerns_is_not_named_as_somebody_who_could_approve_it(town: Town) -> None:
    bob = town.take_in("bob", Role.SECURITY)
    for _ in ("asked for", "asked again"):
        with pytest.raises(WaitingError) as caught:
            town.do("ada", RESET, person=bob)
        assert bob not in str(caught.value.hint)
        assert "guard access add" in str(caught.value.hint)
    eve = town.take_in("eve", Role.SECURITY)
    with pytest.raises(WaitingError) as caught:
        town.do("ada", RESET, person=bob)
    assert f"by one of {eve};" in str(caught.value.hint)


@pytest.mark.parametrize("how", ["disabled", "reset"])
def test_the_approval_of_somebody_who_is_disabled_or_reset_ends_and_may_be_given_anew(town: Town, how: str) -> None:
    eve = town.take_in("eve", Role.SECURITY)
    town.take_in("bob")
    with pytest.raises(WaitingError):
        town.do("bob", DUAL)
    (asked,) = town.app.access.requests()
    town.app.state.write(lambda tx: town.app.access.approve(tx, Approves(asked.id, DUAL.name, asked.digest), eve, None))
    assert town.app.access.requests()[0].approved == (eve,)
    assert town.app.access.held(eve).approved == 1
    if how == "disabled":
        town.do("ada", DISABLE, person=eve)
        town.do("ada", ENABLE, person=eve)
    else:
        town.reset("eve")
    assert town.app.access.requests()[0].approved == ()
    town.app.state.write(lambda tx: town.app.access.approve(tx, Approves(asked.id, DUAL.name, asked.digest), eve, None))
    assert town.app.access.requests()[0].approved == (eve,)


def test_who_is_disabled_while_they_approve_has_not_approved(town: Town) -> None:
    eve = town.take_in("eve", Role.SECURITY)
    with pytest.raises(WaitingError):
        town.do("ada", DUAL)
    (asked,) = town.app.access.requests()
    town.do("ada", DISABLE, person=eve)
    with pytest.raises(DeniedError, match="nobody guard knows"):
        town.app.state.write(
            lambda tx: town.app.access.approve(tx, Approves(asked.id, DUAL.name, asked.digest), eve, None)
        )
    town.do("ada", ENABLE, person=eve)
    assert town.app.access.request(asked.id).approved == ()


# Enrolled anew -------------------------------------------------------------------------------------------------------


def test_without_a_code_nobody_puts_an_authenticator_in_the_place_of_another(town: Town) -> None:
    """A session left open is not enough: nothing is stored before the old code or a recovery code was given."""
    secret = town.secrets["ada"]
    assert not town.app.access.may_enrol(town.id("ada"))
    with pytest.raises(DeniedError):
        town.enrol("ada")
    town.secrets["ada"] = secret
    assert town.why("ada", TOUCH) == ""


@pytest.mark.parametrize("by", ["the old phone", "a recovery code"])
def test_a_new_phone_takes_the_place_of_the_old_one(town: Town, by: str) -> None:
    secret, codes = town.secrets["ada"], town.recovery["ada"]
    ask = None if by == "the old phone" else lambda _: codes[0]
    assert town.do("ada", RENEW, ask, what="authenticator") == ()
    assert town.why("ada", LOOK) == "", "until the new one is there the old one counts"
    town.enrol("ada")
    assert town.why("ada", TOUCH) == ""
    assert town.why("ada", TOUCH, lambda _: code_at(secret, town.clock.now())) == "wrong code"
    assert town.why("ada", TOUCH, lambda _: codes[1]) == "used code"
    assert town.why("ada", TOUCH, lambda _: town.recovery["ada"][1]) == ""
    assert town.listed("ada").recovery_codes == 9


def test_what_a_code_opened_is_good_once_for_ten_minutes_and_in_this_process_alone(town: Town, tmp_path: Path) -> None:
    ada = town.id("ada")
    town.do("ada", RENEW, what="authenticator")
    other = App.open(tmp_path / "guard/guard.toml", town.clock)
    try:
        assert not other.access.may_enrol(ada)
    finally:
        other.close()
    town.enrol("ada")
    assert not town.app.access.may_enrol(ada)
    town.do("ada", RENEW, what="authenticator")
    town.clock.step(timedelta(minutes=10))
    with pytest.raises(DeniedError):
        town.enrol("ada")


def test_everybody_enrols_for_themselves_alone(town: Town) -> None:
    town.take_in("bob")
    bob = town.reset("bob")
    enrolment = town.app.access.begin_renewal(bob)
    town.app.access.confirm(enrolment, *town.show(enrolment))
    with pytest.raises(DeniedError, match="their own"):
        town.do("ada", ENROL, person=bob)
    assert town.listed("bob").factor == "none yet"


def test_new_recovery_codes_end_the_old_ones_and_keep_the_authenticator(town: Town) -> None:
    old = town.recovery["ada"]
    new = town.do("ada", RENEW, what="recovery codes")
    assert len(set(new)) == 10
    assert not set(new) & set(old)
    assert town.listed("ada").recovery_codes == 10
    assert town.why("ada", TOUCH, lambda _: old[0]) == "used code"
    assert town.why("ada", TOUCH, lambda _: new[0]) == ""
    assert town.why("ada", TOUCH) == ""


def test_an_auditor_renews_their_own_factor(town: Town) -> None:
    town.take_in("eve", Role.AUDITOR)
    assert len(town.do("eve", RENEW, what="recovery codes")) == 10
    town.do("eve", RENEW, what="authenticator")
    town.enrol("eve")
    assert town.why("eve", TOUCH) == "role"


# Taken in without being there ----------------------------------------------------------------------------------------


def test_who_was_taken_in_for_later_enrols_themselves_within_a_day(town: Town) -> None:
    bob = town.expect("bob", Role.SECURITY)
    assert town.outcomes("access.add") == ["begun code", "done none yet security"]
    assert (town.listed("bob").factor, town.listed("bob").recovery_codes) == ("none yet", 0)
    assert town.why("bob", LOOK) == ""
    asked: list[str] = []
    assert town.why("bob", TOUCH, asked.append) == "no code"  # type: ignore[arg-type]  # it is not called
    assert asked == []
    town.clock.step(timedelta(hours=23))
    assert town.app.access.may_enrol(bob)
    town.enrol("bob")
    assert town.why("bob", TOUCH) == ""
    assert len(town.recovery["bob"]) == 10


@pytest.mark.parametrize("how", ["enabled", "disabled"])
def test_who_let_the_day_pass_is_let_enrol_by_one_owner_and_nobody_else_is_needed(town: Town, how: str) -> None:
    """With one owner nobody could approve a reset, and the OS user is taken: it would be the end of that person."""
    bob = town.expect("bob", Role.SECURITY)
    with pytest.raises(ConfigError, match="enabled already"):
        town.do("ada", ENABLE, person=bob)
    town.clock.step(timedelta(hours=24))
    with pytest.raises(DeniedError, match="none may be enrolled") as caught:
        town.app.access.may_enrol(bob)
    assert "guard access enable" in str(caught.value.hint)
    if how == "disabled":
        town.do("ada", DISABLE, person=bob)
    town.do("ada", ENABLE, person=bob)
    assert town.listed("bob").enrol_until == town.clock.now() + timedelta(hours=24)
    assert town.outcomes("access.enable")[-1] == "done none yet"
    town.enrol("bob")
    assert town.why("bob", TOUCH) == ""


def test_one_owner_alone_opens_no_enrolment_to_who_had_an_authenticator(town: Town) -> None:
    town.take_in("bob")
    bob = town.reset("bob")
    town.clock.step(timedelta(hours=24))
    with pytest.raises(ConfigError, match="enabled already"):
        town.do("ada", ENABLE, person=bob)
    town.do("ada", DISABLE, person=bob)
    town.do("ada", ENABLE, person=bob)
    assert town.listed("bob").enrol_until is None
    late = town.expect("eve")
    town.enrol("eve")
    town.app.state.write(lambda tx: town.app.access.enable(tx, late, late=True))  # planned before they enrolled
    assert town.listed("eve").enrol_until is None


def test_an_open_enrolment_is_good_once(town: Town) -> None:
    """Two terminals of one person, or somebody at the second: who is later is refused."""
    bob = town.expect("bob", Role.SECURITY)
    room = town.app.access
    late = room.confirm(enrolment := room.begin_renewal(bob), *town.show(enrolment))
    town.enrol("bob")
    with pytest.raises(DeniedError):
        town.app.state.write(lambda tx: room.renew(tx, late))
    assert town.why("bob", TOUCH) == ""


def test_a_disabled_person_enrols_nothing(town: Town) -> None:
    bob, room = town.expect("bob"), town.app.access
    late = room.confirm(enrolment := room.begin_renewal(bob), *town.show(enrolment))
    town.do("ada", DISABLE, person=bob)
    with pytest.raises(GuardError):
        town.app.state.write(lambda tx: room.renew(tx, late))
    with pytest.raises(DeniedError):
        room.person_of("bob")


def test_secrets_of_people_without_an_authenticator_are_none_to_count_or_seal_anew(town: Town) -> None:
    town.expect("bob")
    key = town.app.keyring.current("totp").id
    with town.app.state.read() as tx:
        assert town.app.access.secrets_under(tx, key) == 1
    assert town.app.state.write(town.app.access.reseal) == 0
