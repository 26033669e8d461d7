"""Through the door of a real guard folder: what passes, what is refused, and the word the ledger keeps for it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs
from sqlalchemy import text

from guard.actions import Action, Caller, Outcome, Plan, Task, perform
from guard.actions.access import GRANT, REFUSE, declared
from guard.actions.people import ADD
from guard.app import App
from guard.audit import Query
from guard.config import Secret
from guard.config.settings import ShopSettings
from guard.errors import BusyError, ConfigError, DeniedError, InterlockError, WaitingError
from guard.events import Activity, Ending, Event, Level, Principal, PrincipalId, Role
from tests.access.conftest import Folder, action, touch

DAY = timedelta(days=1)


SERVICE = Principal(PrincipalId("s-daemon"), Role.SERVICE, "daemon")


# Refused and recorded ------------------------------------------------------------------------------------------------


def never(_: str) -> str:
    raise AssertionError("a code was asked for")


def refusals(folder: Folder) -> Iterator[tuple[str, Caller, Action[str]]]:
    privileged = action(Level.PRIVILEGED)
    yield "no code", Caller(folder.caller().who), privileged
    yield "no code", folder.caller(ask=lambda _: ""), privileged
    yield "wrong code", folder.caller(ask=lambda _: "nonsense"), privileged
    ada = folder.caller()
    used = folder.code()
    perform(folder.app, ada, action(Level.PRIVILEGED, "test.before"))
    yield "used code", Caller(ada.who, lambda _: used), privileged
    yield "role", folder.caller("bob", ask=never), privileged
    yield "unknown principal", Caller(Principal(PrincipalId("p-aaaaaaaaaa"), Role.OWNER, "Eve"), never), privileged
    yield "no approval", Caller(SERVICE), action(Level.PRIVILEGED, "retention.run")
    yield "waits", folder.caller(), action(Level.DUAL)
    yield "locked", _lock_out(folder), privileged


def _lock_out(folder: Folder) -> Caller:
    for _ in range(5):
        with pytest.raises(DeniedError):
            perform(folder.app, folder.caller(ask=lambda _: "000"), action(Level.PRIVILEGED, "test.guess"))
    return folder.caller()


def test_each_refusal_is_recorded_as_denied_with_its_word_and_changes_nothing(folder: Folder) -> None:
    folder.take_in("bob", Role.SUPPORT)
    for reason, caller, asked in refusals(folder):
        folder.app.state.write(lambda tx: folder.app.state.meta.remove(tx, "touched"))
        with pytest.raises((DeniedError, WaitingError)) as caught:
            perform(folder.app, caller, asked)
        assert caught.value.reason == reason
        assert folder.outcomes(asked.name)[-1] == f"denied {reason}"
        assert folder.app.ledger.list(Query(what=asked.name), 1)[0].who == caller.who.id
        assert folder.app.state.meta.get("touched") is None


def test_an_error_of_the_gate_is_no_refusal(folder: Folder) -> None:
    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(folder.app, folder.caller(ask=interrupt), action(Level.PRIVILEGED))
    assert folder.outcomes("test.touch") == ["gate failed"]


def test_somebody_unknown_is_recorded_before_they_have_a_name(folder: Folder) -> None:
    with pytest.raises(DeniedError):
        folder.app.access.person_of("mallory")
    assert folder.outcomes("access.enter") == ["denied unknown principal"]
    assert "mallory" not in repr(folder.app.ledger.list(Query(), 100))
    folder.app.ledger.verify()


# Allowed -------------------------------------------------------------------------------------------------------------


def test_a_code_carries_one_action_with_its_arguments(folder: Folder) -> None:
    assert perform(folder.app, folder.caller(), action(Level.PRIVILEGED), n=1) == "touched"
    used = folder.code()
    with pytest.raises(DeniedError):
        perform(folder.app, Caller(folder.app.access.person_of("ada"), lambda _: used), action(Level.PRIVILEGED), n=2)
    assert folder.app.state.meta.get("touched") == "1"
    assert folder.outcomes("test.touch") == ["begun code", "done", "denied used code"]


def test_the_entry_an_action_begins_with_says_what_let_it_through(folder: Folder) -> None:
    """So that the ledger alone shows, for each privileged act, by which proof it was allowed."""
    daemon = Caller(folder.app.access.service("daemon"))
    perform(folder.app, Caller(folder.caller().who), action(Level.OPEN))
    perform(folder.app, daemon, action(Level.ROUTINE, "backup.run"))
    perform(folder.app, folder.caller(), action(Level.PRIVILEGED))
    perform(folder.app, folder.caller(ask=lambda _: folder.recovery[0]), action(Level.PRIVILEGED))
    perform(folder.app, folder.caller(), GRANT, what="retention.run")
    policy = declared()["retention.run"].standing
    perform(folder.app, daemon, replace(action(Level.PRIVILEGED, "retention.run"), standing=policy))
    begun = [each for each in folder.app.ledger.list(Query(), 100) if each.outcome is Ending.BEGUN]
    assert [each.facts["gate"] for each in begun] == ["open", "role", "code", "recovery code", "code", "standing"]


def test_a_service_above_the_limit_is_recorded_as_that(folder: Folder) -> None:
    perform(folder.app, folder.caller(), GRANT, what="retention.run")
    much = Plan(("touch all",), beyond=("orders: too many",))
    night = replace(
        action(Level.PRIVILEGED, "retention.run"),
        plan=lambda app, args: much,
        standing=declared()["retention.run"].standing,
    )
    with pytest.raises(DeniedError, match="orders: too many"):
        perform(folder.app, Caller(folder.app.access.service("daemon")), night)
    assert folder.outcomes("retention.run") == ["denied over limit"]
    assert perform(folder.app, folder.caller(), night) == "touched"


def test_a_place_taken_while_a_code_was_typed_is_recorded(folder: Folder) -> None:
    held = ExitStack()

    def slow(_: str) -> str:
        held.enter_context(folder.app.hold(("shop",), timedelta()))
        return folder.code()

    with held, pytest.raises(BusyError):
        perform(folder.app, folder.caller(ask=slow), replace(action(Level.PRIVILEGED), holds=("shop",)))
    assert folder.outcomes("test.touch") == ["gate failed"]
    perform(folder.app, folder.caller(), replace(action(Level.PRIVILEGED), holds=("shop",)))


def test_an_interrupt_after_the_end_was_written_writes_no_second_end(folder: Folder) -> None:
    """Ctrl-C that comes when the commit has landed: what is done stays done."""
    dialect = folder.app.state.database.writer.dialect
    commit, armed = dialect.do_commit, []

    def landed(connection: object) -> None:
        commit(connection)  # type: ignore[arg-type]  # the driver's
        if armed:
            raise armed.pop()

    def work(app: App, task: Task) -> Outcome[str]:
        armed.append(KeyboardInterrupt())
        return touch(app, task)

    dialect.do_commit = landed  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            perform(folder.app, folder.caller(), replace(action(Level.PRIVILEGED), work=work))
    finally:
        dialect.do_commit = commit  # type: ignore[method-assign]
    assert folder.outcomes("test.touch") == ["begun code", "done"]
    assert folder.app.state.meta.get("touched") == "0"
    assert folder.app.state.open_runs() == ()


def test_a_killed_run_whose_shop_cannot_be_asked_does_not_stop_what_would_mend_it(folder: Folder) -> None:
    lost = Event("fields.encrypt", Ending.BEGUN, folder.caller().who.id, folder.app.new_run())
    folder.app.record(lambda tx: None, lost)
    folder.app.state.write(lambda tx: tx.execute(text("UPDATE run_open SET started = 'long ago'")))
    folder.app.settings = structs.replace(
        folder.app.settings, shop=ShopSettings(url=Secret(env="GUARD_TEST_URL_THAT_IS_NOT_SET"))
    )
    assert perform(folder.app, folder.caller(), action(Level.PRIVILEGED, "backup.restore")) == "touched"
    assert [each.run for each in folder.app.state.stale_runs()] == [lost.run]


def test_a_dual_action_waits_a_day_is_done_once_and_then_waits_again(alone: Folder) -> None:
    dual = action(Level.DUAL)
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual, n=1)
    alone.clock.step(DAY)
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual, n=2)
    assert perform(alone.app, alone.caller(), dual, n=1) == "touched"
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual, n=1)
    assert alone.outcomes("test.touch") == ["denied waits", "denied waits", "begun code", "done", "denied waits"]


@pytest.mark.parametrize("error", [InterlockError("no space"), KeyboardInterrupt()])
def test_a_dual_action_that_did_not_end_may_be_tried_again(alone: Folder, error: BaseException) -> None:
    broken = [error]

    def work(app: App, task: Task) -> Outcome[str]:
        if broken:
            raise broken.pop()
        return touch(app, task)

    dual = Action("test.touch", Level.DUAL, Activity.API_UPDATE, work)
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual)
    alone.clock.step(DAY)
    with pytest.raises(type(error)):
        perform(alone.app, alone.caller(), dual)
    assert perform(alone.app, alone.caller(), dual) == "touched"


def test_a_dual_action_that_was_done_in_part_may_be_gone_on_with(alone: Folder) -> None:
    dual = Action("test.touch", Level.DUAL, Activity.API_UPDATE, lambda app, task: Outcome("", ending=Ending.PARTLY))
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual)
    alone.clock.step(DAY)
    for _ in range(2):
        perform(alone.app, alone.caller(), dual)
    assert alone.outcomes("test.touch")[1:] == ["begun code", "partly", "begun code", "partly"]


def test_a_dual_action_that_found_its_place_taken_keeps_its_turn(alone: Folder) -> None:
    dual = Action("test.touch", Level.DUAL, Activity.API_UPDATE, touch, holds=("shop",))
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), dual)
    alone.clock.step(DAY)
    with alone.app.hold(("shop",), timedelta()), pytest.raises(BusyError):
        perform(alone.app, alone.caller(), dual)
    assert perform(alone.app, alone.caller(), dual) == "touched"


# access.add ----------------------------------------------------------------------------------------------------------


def test_an_owner_takes_a_person_in(folder: Folder) -> None:
    codes = folder.take_in("bob", Role.OPS)
    assert len(codes) == 10
    bob = folder.app.access.person_of("bob")
    assert bob.role is Role.OPS
    entry = folder.app.ledger.list(Query(what="access.add"), 1)[0]
    assert (entry.outcome, entry.objects, dict(entry.facts)) == (Ending.DONE, (bob.id,), {"role": "ops"})
    assert perform(folder.app, folder.caller("bob"), action(Level.PRIVILEGED, "backup.restore")) == "touched"
    assert perform(folder.app, folder.caller("bob", lambda _: codes[0]), action(Level.PRIVILEGED, "backup.prune"))


def test_nobody_is_taken_in_without_the_owners_code(folder: Folder) -> None:
    enrolment = folder.app.access.begin_enrolment("Bob", "bob", Role.OWNER)
    member = folder.app.access.confirm(enrolment, *folder.enrol(enrolment))
    with pytest.raises(DeniedError):
        perform(folder.app, folder.caller(ask=lambda _: "no"), ADD, person=member.person.id)
    assert [each.name for each in folder.app.access.people()] == ["Ada", "daemon", "shop"]


def test_the_owner_sees_who_is_to_be_taken_in(folder: Folder) -> None:
    enrolment = folder.app.access.begin_enrolment("Bob", "bob", Role.OPS)
    member = folder.app.access.confirm(enrolment, *folder.enrol(enrolment))
    seen: list[str] = []
    caller = folder.caller()
    perform(folder.app, Caller(caller.who, caller.ask, seen.append), ADD, person=member.person.id)
    assert "  take in Bob, OS user bob, as ops" in seen


# access.grant, access.refuse -----------------------------------------------------------------------------------------


def test_what_has_no_policy_cannot_be_approved(folder: Folder) -> None:
    for name in ("fields.decrypt", "no.such", "access.add"):
        with pytest.raises(ConfigError, match=name):
            perform(folder.app, folder.caller(), GRANT, what=name)


def test_what_no_service_may_do_cannot_be_approved(folder: Folder) -> None:
    path = folder.app.policies / "access.toml"
    path.write_text(path.read_text().replace('standing = ["retention.run", "audit.prune"]', "standing = []"))
    again = App.open(folder.app.home / "guard.toml", folder.clock)
    with pytest.raises(ConfigError, match="no service may stand in"):
        perform(again, folder.caller(), GRANT, what="retention.run")
    again.close()


def test_what_waits_is_refused_by_anyone_without_a_code(alone: Folder) -> None:
    alone.take_in("bob", Role.SUPPORT)
    with pytest.raises(WaitingError):
        perform(alone.app, alone.caller(), action(Level.DUAL))
    (waiting,) = alone.app.access.requests()
    perform(alone.app, Caller(alone.app.access.person_of("bob")), REFUSE, request=waiting.id)
    assert alone.app.access.requests() == ()
    entry = alone.app.ledger.list(Query(what="access.refuse"), 1)[0]
    assert (entry.objects, dict(entry.facts)) == ((waiting.id, "test.touch"), {"was": "waits"})
    with pytest.raises(ConfigError):
        perform(alone.app, alone.caller(), REFUSE, request=waiting.id)


def test_a_night_job_runs_under_an_approval_until_it_is_refused(folder: Folder) -> None:
    job = declared()["retention.run"]
    assert job.standing is not None
    digest = perform(folder.app, folder.caller(), GRANT, what="retention.run")
    (standing,) = folder.app.access.requests()
    assert (standing.kind, standing.digest) == ("standing", digest)
    night = Action(job.name, job.level, job.activity, touch, standing=job.standing)
    assert perform(folder.app, Caller(folder.app.access.service("daemon")), night) == "touched"
    perform(folder.app, folder.caller(), REFUSE, request=standing.id)
    with pytest.raises(DeniedError, match="no standing approval"):
        perform(folder.app, Caller(folder.app.access.service("daemon")), night)


def test_every_action_that_is_declared_has_a_name_and_a_level() -> None:
    found = declared()
    assert {"access.add", "access.grant", "access.refuse", "access.approve"} <= found.keys()
    assert all(name.count(".") >= 1 and isinstance(each.level, Level) for name, each in found.items())
