"""Where one person is enough, a dual action waits 24 hours, stays open for seven days, and can be cancelled."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from guard.access.pending import Approval, Request, Stage, stand
from guard.access.store import PENDING
from guard.clock import stamp
from guard.config.access import DualRule
from guard.errors import ClockError, ConfigError, TamperedError, WaitingError
from guard.events import Level, PrincipalId
from tests.access.conftest import House, Phone, one_is_enough

DAY = timedelta(days=1)
ASKED = datetime(2026, 1, 5, 9, tzinfo=UTC)
REQUEST = Request("r-aaaaaaaaaa", "fields.decrypt", "d" * 64, PrincipalId("p-aaaaaaaaaa"), ASKED, lasting=False)
ALONE = DualRule(people=1)


@pytest.fixture(autouse=True)
def one_person(house: House) -> None:
    one_is_enough(house)


def ask(house: House, ada: Phone, digest: str = "d" * 64) -> str:
    return house.why(ada.at_door(), "fields.decrypt", Level.DUAL, digest)


def test_it_waits_a_day_and_passes_with_a_fresh_code(house: House, ada: Phone) -> None:
    with pytest.raises(WaitingError, match=r"waits until 2026-01-06T09:01\+00:00") as caught:
        house.allow(ada.at_door(), "fields.decrypt", Level.DUAL)
    assert "guard access refuse r-" in str(caught.value.hint)
    house.clock.step(DAY - timedelta(seconds=1))
    assert ask(house, ada) == "waits"
    house.clock.step(timedelta(seconds=1))
    assert house.why(ada.at_door(""), "fields.decrypt", Level.DUAL) == "no code"
    assert ask(house, ada) == ""


def test_while_it_waits_no_code_is_spent(house: House, ada: Phone) -> None:
    ask(house, ada)
    at = ada.at_door()
    at.ask = None if at.ask is None else lambda _: pytest.fail("a code was asked for")
    assert house.why(at, "fields.decrypt", Level.DUAL) == "waits"


def test_a_wrong_code_asks_for_nothing(house: House, ada: Phone) -> None:
    assert house.why(ada.at_door("no"), "fields.decrypt", Level.DUAL) == "wrong code"
    assert house.access.requests() == ()


def test_other_arguments_wait_on_their_own(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.clock.step(DAY)
    assert ask(house, ada, "e" * 64) == "waits"
    house.clock.step(timedelta(seconds=30))
    assert ask(house, ada) == ""


def test_it_may_be_tried_again_for_seven_days_until_it_is_done(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.clock.step(8 * DAY)
    assert ask(house, ada) == ""  # begun, and say it was interrupted
    house.clock.step(timedelta(seconds=1))
    assert house.access.requests() == ()  # nobody came back in time


def test_after_seven_days_it_waits_anew(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.clock.step(8 * DAY + timedelta(seconds=1))
    assert ask(house, ada) == "waits"
    (waiting,) = house.access.requests()
    assert waiting.kind == "waits"


def test_once_done_it_waits_anew(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.clock.step(DAY)
    assert ask(house, ada) == ""
    house.state.write(lambda tx: house.access.settle(tx, "d" * 64, ada.who.id))
    house.clock.step(timedelta(seconds=30))
    assert ask(house, ada) == "waits"


def test_anyone_may_cancel_it(house: House, ada: Phone) -> None:
    bob = house.phone("bob")
    ask(house, ada)
    (waiting,) = house.access.requests()
    house.state.write(lambda tx: house.access.refuse(tx, waiting.id, bob.who.id))
    house.clock.step(DAY)
    assert ask(house, ada) == "waits"


def test_what_is_cancelled_while_the_code_is_typed_does_not_pass(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.clock.step(DAY)
    at = ada.at_door()
    (waiting,) = house.access.requests()

    def typed(_: str) -> str:
        house.state.write(lambda tx: house.access.refuse(tx, waiting.id, ada.who.id))
        return ada.code()

    at.ask = typed
    assert house.why(at, "fields.decrypt", Level.DUAL) == "waits"


def test_what_is_listed_says_until_when(house: House, ada: Phone) -> None:
    ask(house, ada)
    asked = house.clock.now()
    (waiting,) = house.access.requests()
    assert (waiting.kind, waiting.by, waiting.until) == ("waits", ada.who.id, asked + DAY)
    house.clock.step(DAY)
    (ready,) = house.access.requests()
    assert (ready.kind, ready.until) == ("ready", asked + 8 * DAY)


def test_what_is_not_open_cannot_be_cancelled(house: House, ada: Phone) -> None:
    with pytest.raises(ConfigError, match="r-aaaaaaaaaa"):
        house.state.write(lambda tx: house.access.refuse(tx, "r-aaaaaaaaaa", ada.who.id))
    with pytest.raises(ConfigError, match="r-aaaaaaaaaa"):
        house.access.request("r-aaaaaaaaaa")


def test_a_request_made_older_in_the_database_is_noticed(house: House, ada: Phone) -> None:
    ask(house, ada)
    house.state.write(lambda tx: tx.execute(update(PENDING).values(asked_at=stamp(house.clock.now() - DAY))))
    with pytest.raises(TamperedError):
        house.allow(ada.at_door(), "fields.decrypt", Level.DUAL)


@given(waited=st.timedeltas(timedelta(), timedelta(days=30)))
def test_stages_follow_each_other_exactly_at_their_ends(waited: timedelta) -> None:
    found = stand(REQUEST, (), ALONE, ASKED + waited)
    assert (found.stage is Stage.WAITS) == (waited < DAY)
    assert (found.stage is Stage.EXPIRED) == (waited > 8 * DAY)


@given(back=st.timedeltas(timedelta(seconds=6), timedelta(days=30)))
def test_a_clock_before_the_request_is_an_error(back: timedelta) -> None:
    with pytest.raises(ClockError):
        stand(REQUEST, (), ALONE, ASKED - back)


HOUR = timedelta(hours=1)
minutes = st.integers(0, 90).map(lambda count: timedelta(minutes=count))


@given(
    people=st.integers(2, 5),
    lasting=st.booleans(),
    given_after=st.lists(minutes, max_size=5),
    waited=st.timedeltas(timedelta(), timedelta(days=10)),
)
def test_it_is_ready_only_with_enough_approvals_within_the_hour_and_for_seven_days_then(
    people: int, lasting: bool, given_after: list[timedelta], waited: timedelta
) -> None:
    came = sorted(after for after in given_after if after <= waited)
    approvals = [Approval(PrincipalId(f"p-{number:010}"), ASKED + after) for number, after in enumerate(came)]
    found = stand(replace(REQUEST, lasting=lasting), approvals, DualRule(people=people), ASKED + waited)
    in_time = [after for after in came if after <= HOUR]
    if len(in_time) < people - 1:
        assert found.stage is (Stage.ASKS if waited <= HOUR else Stage.EXPIRED)
        return
    ready = max(in_time[people - 2], DAY if lasting else timedelta())
    expected = Stage.WAITS if waited < ready else Stage.READY if waited <= ready + 7 * DAY else Stage.EXPIRED
    assert found.stage is expected
    assert len(found.approved) == len(in_time)
