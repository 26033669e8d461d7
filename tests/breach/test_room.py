"""The room on a real state."""

from datetime import timedelta

import pytest

from guard.breach import Breaches, Opening, Record
from guard.clock import SteppedClock
from guard.errors import ConfigError
from guard.events import PrincipalId
from guard.state import State

WHO = PrincipalId("p-aaaaaaaaaa")
HOUR = timedelta(hours=1)


def written(state: State, breaches: Breaches, record: Record) -> str:
    state.write(lambda tx: breaches.remember(tx, record))
    return record.incident


def opening(clock: SteppedClock, ago: timedelta = timedelta()) -> Opening:
    return Opening("Lost laptop", clock.now() - ago, clock.now() - ago, "it was not encrypted")


def test_what_was_opened_is_found_again(state: State, breaches: Breaches, clock: SteppedClock) -> None:
    identity = written(state, breaches, breaches.open(opening(clock), WHO))
    incident = breaches.find(identity)
    assert (incident.title, incident.aware, incident.opened) == ("Lost laptop", clock.now(), clock.now())


def test_a_title_in_any_script_comes_back_as_it_was(state: State, breaches: Breaches, clock: SteppedClock) -> None:
    record = breaches.open(Opening("数据泄露 – Kundenliste", clock.now(), clock.now(), "ja"), WHO)
    assert breaches.file(written(state, breaches, record)) == (record,)


def test_an_unknown_incident_says_where_to_look(breaches: Breaches) -> None:
    with pytest.raises(ConfigError, match="no incident b-nothing") as caught:
        breaches.find("b-nothing")
    assert caught.value.hint == "guard breach status lists them"


def test_hours_71_and_73(state: State, breaches: Breaches, clock: SteppedClock) -> None:
    written(state, breaches, breaches.open(opening(clock), WHO))
    (before,) = breaches.status(clock.now() + 71 * HOUR)
    (after,) = breaches.status(clock.now() + 73 * HOUR)
    assert (before.deadlines[0].urgency, before.pressing) == ("soon", True)
    assert (after.deadlines[0].urgency, after.pressing) == ("overdue", True)


def test_a_fresh_incident_does_not_press_and_the_oldest_comes_first(
    state: State, breaches: Breaches, clock: SteppedClock
) -> None:
    new = written(state, breaches, breaches.open(opening(clock), WHO))
    old = written(state, breaches, breaches.open(opening(clock, 60 * HOUR), WHO))
    assert [(each.incident.id, each.pressing) for each in breaches.status()] == [(old, True), (new, False)]


def test_a_correction_is_added_and_the_deadline_follows(state: State, breaches: Breaches, clock: SteppedClock) -> None:
    identity = written(state, breaches, breaches.open(opening(clock, 10 * HOUR), WHO))
    later = clock.now() - 5 * HOUR
    written(state, breaches, breaches.correct(identity, later.isoformat(), "confirmed only then", WHO))
    assert len(breaches.file(identity)) == 2
    (standing,) = breaches.status()
    assert (standing.incident.aware, standing.deadlines[0].due) == (later, later + 72 * HOUR)


def test_no_incident_no_clock(breaches: Breaches) -> None:
    assert breaches.status() == ()
