"""Two people for what is dual: asked for by one, seen and approved by another, carried out by the first."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from guard.access import Approves, Stage, Terms
from guard.access.store import APPROVAL, PENDING
from guard.actions import Caller, perform
from guard.actions.access import APPROVE, GRANT, REFUSE, four_eyes
from guard.actions.doctor import Found, examine
from guard.actions.keys import EXPORT
from guard.actions.people import DISABLE, ENABLE
from guard.actions.status import Light, overview
from guard.app import App
from guard.audit import Query
from guard.cli.main import call
from guard.errors import ConfigError, DeniedError, TamperedError, WaitingError
from guard.events import Level, Role
from tests.access.conftest import STEP, Folder, House, Phone

DAY = timedelta(days=1)
PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"  # RFC 7748, 6.1: Bob's


@pytest.fixture
def two(folder: Folder) -> Folder:
    """Ada is the owner, Bob of security, Sue of support."""
    folder.take_in("bob", Role.SECURITY)
    folder.take_in("sue", Role.SUPPORT)
    return folder


def export(folder: Folder, to: str = "out.json") -> dict[str, Any]:
    key = next(each for each in folder.app.keyring.list() if each.purpose == "repository")
    return {"key": f"{key.id:010x}", "recipient": PUBLIC, "to": str(folder.app.home / to)}


def asked(folder: Folder, who: str = "ada", to: str = "out.json") -> str:
    """Ask for an export and return the request's id."""
    with pytest.raises(WaitingError) as caught:
        perform(folder.app, folder.caller(who), EXPORT, **export(folder, to))
    found = str(caught.value.hint).split("guard access approve ")[1].split("`")[0]
    assert found in {each.id for each in folder.app.access.requests()}
    return found


def why(folder: Folder, who: str, request: str, ask: Callable[[str], str] | None = None) -> str:
    """Return the reason for which an approval is refused, "" when it is not; the ledger has to have the same."""
    reason = ""
    try:
        perform(folder.app, folder.caller(who, ask), APPROVE, request=request)
    except DeniedError as error:
        reason = str(error.reason)
    assert folder.outcomes("access.approve")[-1] == (f"denied {reason}" if reason else "done")
    return reason


def test_two_people_and_a_day(two: Folder) -> None:
    request = asked(two)
    (open_,) = two.app.access.requests()
    assert (open_.kind, open_.approved, open_.until) == ("waits for a person", (), open_.at + timedelta(hours=1))
    assert why(two, "bob", request) == ""
    (open_,) = two.app.access.requests()
    bob = two.app.access.person_of("bob").id
    assert (open_.kind, open_.approved, open_.until) == ("waits", (bob,), open_.at + DAY)
    with pytest.raises(WaitingError, match="waits until"):
        perform(two.app, two.caller(), EXPORT, **export(two))
    two.clock.step(DAY)
    assert [each.kind for each in two.app.access.requests()] == ["ready"]
    perform(two.app, two.caller(), EXPORT, **export(two))
    assert json.loads((two.app.home / "out.json").read_text())["recipient"]
    assert two.app.access.requests() == ()
    assert two.outcomes("keys.export")[:3] == ["denied waits", "denied waits", "begun code"]
    entries = two.app.ledger.list(Query(), 100)
    begun = next(each for each in entries if each.what == "keys.export" and each.outcome == "begun")
    approved = next(each for each in entries if each.what == "access.approve" and each.outcome == "done")
    assert approved.objects == (request, "keys.export")
    assert approved.digests["asked"] == begun.digests["action"], "the ledger alone shows who approved what was done"
    assert approved.who != begun.who


def test_the_approver_sees_who_asked_and_the_plan_before_their_code(two: Folder) -> None:
    request = asked(two)
    seen: list[str] = []

    def ask(_: str) -> str:
        assert any("approve that p-" in line and "(Ada) does keys.export" in line for line in seen)
        assert any(PUBLIC in line for line in seen)
        return two.code("bob")

    caller = replace(two.caller("bob", ask), show=seen.append)
    perform(two.app, caller, APPROVE, request=request)
    assert seen[-1] == f"access.approve done: {request}, keys.export"


def test_nobody_approves_their_own_request(two: Folder) -> None:
    assert why(two, "ada", asked(two), never) == "own request"


def never(_: str) -> str:
    raise AssertionError("a code was asked for")


def policy(folder: Folder, old: str, new: str) -> None:
    path = folder.app.policies / "access.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    folder.app.close()
    folder.app = App.open(folder.app.home / "guard.toml", folder.clock)


def test_each_approves_once_and_where_three_are_asked_for_two_others_do(two: Folder) -> None:
    policy(two, "people = 2", "people = 3")
    two.take_in("cyd", Role.OWNER)
    request = asked(two)
    assert why(two, "bob", request) == ""
    assert why(two, "bob", request, never) == "approved before"
    assert two.app.access.request(request).kind == Stage.ASKS
    assert why(two, "cyd", request) == ""
    assert two.app.access.request(request).kind == Stage.WAITS
    two.take_in("dan", Role.OWNER)
    assert why(two, "dan", request, never) == "not open"


def test_an_approval_comes_within_the_hour(two: Folder) -> None:
    request = asked(two)
    two.clock.step(timedelta(hours=1) - STEP)
    late = two.clock.now() + STEP
    assert why(two, "bob", request, lambda _: (two.clock.step(STEP), two.code("bob"))[1]) == "expired"
    assert two.clock.now() > late
    assert why(two, "bob", request, never) == "expired"
    assert two.app.access.requests() == ()
    again = asked(two)
    assert again != request
    assert why(two, "bob", request, never) == "expired", "also when a new request took its place"
    assert why(two, "bob", again) == ""


def test_who_may_not_ask_for_it_may_not_approve_it(two: Folder) -> None:
    request = asked(two)
    assert why(two, "sue", request, never) == "role"
    with pytest.raises(DeniedError) as caught:
        perform(two.app, Caller(two.app.access.service("daemon")), APPROVE, request=request)
    assert caught.value.reason == "role"
    two.take_in("olga", Role.OPS)
    assert why(two, "olga", request, never) == "role"


def test_an_approval_takes_the_approvers_own_code(two: Folder) -> None:
    request = asked(two)
    assert why(two, "bob", request, lambda _: two.code("ada")) in {"wrong code", "used code"}
    two.clock.step(STEP)
    with pytest.raises(DeniedError, match="no terminal"):
        perform(two.app, Caller(two.app.access.person_of("bob")), APPROVE, request=request)
    assert two.outcomes("access.approve")[-1] == "denied no code"
    assert two.app.access.request(request).approved == ()


def test_other_arguments_are_another_request(two: Folder) -> None:
    assert why(two, "bob", asked(two)) == ""
    two.clock.step(DAY)
    other = asked(two, to="other.json")
    assert two.app.access.request(other).approved == ()
    assert asked(two, "bob") != other, "and so is the same by another person"
    assert list(two.app.home.glob("*.json")) == []


def test_anyone_cancels_it_even_while_somebody_types_their_approval(two: Folder) -> None:
    request = asked(two)

    def slow(_: str) -> str:
        perform(two.app, two.caller("sue"), REFUSE, request=request)
        return two.code("bob")

    assert why(two, "bob", request, slow) == "not open"
    with pytest.raises(ConfigError, match="nothing open has the id"):
        perform(two.app, two.caller("bob"), APPROVE, request=request)
    assert two.app.access.requests() == ()


def test_what_is_cancelled_while_the_command_waits_for_its_turn_is_not_done(
    two: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code was taken, and another run holds what this one needs: whoever sees it may still stop it."""
    request = asked(two)
    assert why(two, "bob", request) == ""
    two.clock.step(DAY)
    hold, looks = two.app.hold, []

    def held(*args: Any) -> Any:
        looks.append(args)
        if len(looks) == 2:  # the first look is before the code
            monkeypatch.undo()
            perform(two.app, two.caller("sue"), REFUSE, request=request)
        return hold(*args)

    monkeypatch.setattr(two.app, "hold", held)
    with pytest.raises(DeniedError, match="cancelled or done"):
        perform(two.app, two.caller(), EXPORT, **export(two))
    assert two.outcomes("keys.export")[-1] == "denied not open"
    assert not (two.app.home / "out.json").exists()


def test_the_word_of_somebody_who_was_disabled_since_does_not_count(two: Folder) -> None:
    request = asked(two)
    assert why(two, "bob", request) == ""
    perform(two.app, two.caller(), DISABLE, person=two.app.access.person_of("bob").id)
    two.clock.step(DAY)
    assert two.app.access.requests() == ()
    with pytest.raises(WaitingError):
        perform(two.app, two.caller(), EXPORT, **export(two))


def test_who_was_disabled_by_mistake_may_approve_again(two: Folder) -> None:
    request, bob = asked(two), two.app.access.person_of("bob").id
    assert why(two, "bob", request) == ""
    perform(two.app, two.caller(), DISABLE, person=bob)
    perform(two.app, two.caller(), ENABLE, person=bob)
    assert two.app.access.request(request).approved == ()
    assert why(two, "bob", request) == ""
    assert two.app.access.request(request).approved == (bob,)


def test_what_was_asked_for_lies_sealed_and_no_longer_than_it_is_open(two: Folder) -> None:
    request = asked(two)
    assert two.app.state.path is not None
    files = [path for path in two.app.state.path.parent.iterdir() if path.name.startswith(two.app.state.path.name)]
    assert not any(PUBLIC.encode() in path.read_bytes() for path in files)

    def args() -> Any:
        with two.app.state.read() as tx:
            return tx.execute(PENDING.select()).one().args

    assert args()
    perform(two.app, two.caller("sue"), REFUSE, request=request)
    assert args() is None


def test_a_warning_says_that_there_are_too_few_people(folder: Folder) -> None:
    lack = four_eyes(folder.app)
    assert lack is not None
    assert "take 2 people, and fewer may ask for and approve" in lack[0]
    with pytest.raises(WaitingError) as caught:
        perform(folder.app, folder.caller(), EXPORT, **export(folder))
    assert "nobody yet" in str(caught.value.hint)
    (check,) = [each for each in examine(folder.app) if each.what == "four eyes"]
    assert (check.found, check.detail) == (Found.WARNING, lack[0])
    assert [line.light for line in overview(folder.app) if line.text == lack[0]] == [Light.YELLOW]
    folder.take_in("bob", Role.SECURITY)
    assert four_eyes(folder.app) is None
    (check,) = [each for each in examine(folder.app) if each.what == "four eyes"]
    assert check.found is Found.WELL


def test_a_warning_says_that_one_person_is_enough(alone: Folder) -> None:
    lack = four_eyes(alone.app)
    assert lack is not None
    assert "people = 1" in lack[0]


def test_who_typed_a_code_is_told_what_was_done(two: Folder) -> None:
    seen: list[str] = []
    perform(two.app, replace(two.caller(), show=seen.append), GRANT, what="retention.run")
    assert seen[-1] == "access.grant done: retention.run"
    with pytest.raises(ConfigError):
        perform(two.app, replace(two.caller(), show=seen.append), GRANT, what="fields.decrypt")
    perform(two.app, replace(two.caller(), show=seen.append), REFUSE, request=two.app.access.requests()[0].id)
    assert seen[-1] == "access.grant done: retention.run", "what needs no code says nothing of codes"


# On the command line -------------------------------------------------------------------------------------------------


def test_requests_and_approvals_on_the_command_line(
    two: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(two)

    def guard(who: str, *words: str) -> int:
        monkeypatch.setattr("guard.cli._door.os_user", lambda: who)
        app = App.open(two.app.home / "guard.toml", two.clock, lambda _: two.code(who))
        two.clock.step(STEP)
        capsys.readouterr()
        try:
            return call([*words], app)
        finally:
            app.close()

    assert guard("bob", "access", "requests") == 0
    assert "waits for a person" in capsys.readouterr().out
    assert guard("sue", "access", "approve", request) == 10
    assert guard("bob", "--json", "access", "approve", request) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"approved": request, "action": "keys.export"}
    assert PUBLIC in shown.err
    assert guard("bob", "access", "approve", request) == 10
    assert guard("bob", "access", "approve", "r-aaaaaaaaaa") == 2
    assert guard("ada", "--json", "access", "requests") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["approved"]) == ("waits", [two.app.access.person_of("bob").id])
    two.clock.step(timedelta(hours=1))
    assert guard("sue", "--yes", "access", "refuse", request) == 0


# In the room alone ---------------------------------------------------------------------------------------------------


def test_the_person_it_is_done_to_neither_asks_nor_approves(house: House, ada: Phone) -> None:
    bob, cyd = house.phone("bob"), house.phone("cyd")
    about_bob = Terms(concerns=bob.who.id)
    assert house.why(bob.at_door(), "access.reset", Level.DUAL, terms=about_bob) == "concerned"
    assert house.why(ada.at_door(), "access.reset", Level.DUAL, terms=about_bob) == "waits"
    approves = Approves(house.access.requests()[0].id, "access.reset", "d" * 64)
    terms = replace(about_bob, approves=approves)
    assert house.why(bob.at_door(), "access.approve", digest="e" * 64, terms=terms) == "concerned"
    assert house.why(cyd.at_door(), "access.approve", digest="e" * 64, terms=terms) == ""


def test_what_would_be_done_by_now_has_to_be_what_was_asked_for(house: House, ada: Phone) -> None:
    bob = house.phone("bob")
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL) == "waits"
    request = house.access.requests()[0].id
    changed = Terms(approves=Approves(request, "fields.decrypt", "e" * 64))
    at = bob.at_door()
    at.ask = lambda _: pytest.fail("a code was asked for")
    assert house.why(at, "access.approve", terms=changed) == "changed"


def test_a_request_and_its_approval_outlive_a_new_key(house: House, ada: Phone) -> None:
    bob, terms = house.phone("bob"), Terms(args={"columns": ["Customer.Email"]})
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL, terms=terms) == "waits"
    (open_,) = house.access.requests()
    old = house.keyring.current("totp")
    with house.state.read() as tx:
        assert house.access.requests_under(tx, old.id) == 1
    new = house.keyring.rotate("totp")
    house.clock.step(STEP)
    house.state.write(lambda tx: house.keyring.activate(tx, new.id, house.clock.now()))
    assert house.state.write(house.access.reseal) == 3
    with house.state.read() as tx:
        assert (house.access.requests_under(tx, old.id), house.access.requests_under(tx, new.id)) == (0, 1)
    assert house.access.asked(open_.id)[1] == {"columns": ["Customer.Email"]}
    approves = Approves(open_.id, "fields.decrypt", open_.digest)
    house.state.write(lambda tx: house.access.approve(tx, approves, bob.who.id, None))
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL, terms=terms) == ""


def test_an_approval_that_guard_did_not_write_is_noticed(house: House, ada: Phone) -> None:
    bob, eve = house.phone("bob"), house.phone("eve", Role.SUPPORT)
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL) == "waits"
    (open_,) = house.access.requests()
    approves = Approves(open_.id, "fields.decrypt", open_.digest)
    house.state.write(lambda tx: house.access.approve(tx, approves, bob.who.id, None))
    house.state.write(lambda tx: tx.execute(update(APPROVAL).values(person=eve.who.id)))
    with pytest.raises(TamperedError, match="access_approval"):
        house.allow(ada.at_door(), "fields.decrypt", Level.DUAL)


def test_approvals_cannot_be_given_past_the_gate(house: House, ada: Phone) -> None:
    """Whatever calls the room: what the gate asks is asked again in the transaction that stores an approval."""
    assert house.why(ada.at_door(), "fields.decrypt", Level.DUAL) == "waits"
    (open_,) = house.access.requests()
    for digest, by in ((open_.digest, ada.who.id), ("e" * 64, house.phone("bob").who.id)):
        approves = Approves(open_.id, "fields.decrypt", digest)
        with pytest.raises(DeniedError):
            house.state.write(lambda tx, what=approves, who=by: house.access.approve(tx, what, who, None))
    assert house.access.requests()[0].approved == ()


def test_a_standing_approval_that_counts_no_longer_is_said_and_can_be_ended(two: Folder) -> None:
    bob = two.app.access.person_of("bob").id
    given = two.app.state.write(lambda tx: two.app.access.give_standing(tx, "retention.run", "d" * 64, bob))
    (line,) = [each for each in overview(two.app) if "standing approval" in each.text]
    assert (line.light, line.text.split(": ")[0]) == (
        Light.YELLOW,
        f"the standing approval of retention.run by {bob} no longer counts",
    )
    perform(two.app, two.caller(), REFUSE, request=given)
    assert not [each for each in overview(two.app) if "standing approval" in each.text]
