"""Entries become acts, acts become states."""

from datetime import timedelta

import pytest

from guard.events import Ending
from guard.report.evidence import Evidence, acts


def told(story, since=None):
    return Evidence(tuple(story.entries), story.now, *([since] if since else []))


def test_entries_of_one_run_are_one_act(story):
    story.do("backup.run", "home")
    (act,) = acts(story.entries)
    assert (act.numbers, act.what, act.done, act.names("home")) == ((0, 1), "backup.run", True, True)


def test_an_act_without_an_end_stays_begun(story):
    story.say("backup.run", Ending.BEGUN)
    (act,) = acts(story.entries)
    assert (act.outcome, act.done, act.refused) == (Ending.BEGUN, False, False)


def test_two_runs_of_one_action_are_two_acts(story):
    story.do("backup.run")
    story.do("backup.run")
    assert [act.numbers for act in acts(story.entries)] == [(0, 1), (2, 3)]


def test_a_period_has_what_reaches_into_it(story):
    story.do("backup.run")
    border = story.now
    story.do("retention.run")
    evidence = told(story, since=border)
    assert [act.what for act in evidence.period] == ["backup.run", "retention.run"]
    story.wait(timedelta(seconds=1))
    assert [act.what for act in told(story, since=border + timedelta(seconds=1)).period] == ["retention.run"]


def test_a_group_of_names_is_found_with_a_star(story):
    for name in ("fields.encrypt", "fieldsman.run", "keys.rotate"):
        story.do(name)
    assert [act.what for act in told(story).acts("fields.*")] == ["fields.encrypt"]


@pytest.mark.parametrize(
    ("facts", "ending", "word", "sealed"),
    [
        ({"t.c": "sealed"}, Ending.DONE, "sealed", True),
        ({"t.c": "strict"}, Ending.DONE, "sealed; plain text is refused", True),
        ({"t.c": "sealing"}, Ending.PARTLY, "sealing was begun, not finished", False),
        ({}, Ending.DONE, "sealed", True),
        ({}, Ending.PARTLY, "sealing was begun, not finished", False),
        ({"t.c": "a stage of tomorrow"}, Ending.DONE, "a stage of tomorrow", False),
    ],
)
def test_a_column_stands_as_the_newest_act_says(story, facts, ending, word, sealed):
    story.do("fields.encrypt", "t.c", ending=ending, facts=facts)
    state = told(story).column("t.c")
    assert (state.word, state.sealed) == (word, sealed)


def test_a_column_that_was_opened_again_is_not_sealed(story):
    story.do("fields.encrypt", "t.c")
    story.do("fields.decrypt", "t.c", facts={"t.c": "plain"})
    assert told(story).column("t.c").word == "opened again, plain text"


def test_a_column_nobody_spoke_of_is_unknown(story):
    story.do("fields.encrypt", "t.c")
    assert told(story).column("t.d").word == "no entry says that it was sealed"


def test_a_refused_opening_changes_no_state(story):
    story.do("fields.encrypt", "t.c")
    story.say("fields.decrypt", Ending.DENIED, "t.c")
    assert told(story).column("t.c").sealed


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.INTERRUPTED, Ending.RESOLVED])
def test_an_opening_that_broke_off_leaves_doubt_until_a_clean_verification(story, ending):
    story.do("fields.encrypt", "t.c")
    story.do("fields.decrypt", ending=ending)
    state = told(story).column("t.c")
    assert not state.sealed
    assert state.word.startswith(f"in doubt: an opening ended as {ending.value}")
    story.do("fields.verify", "t.c", facts={"t.c": "findings"})
    assert not told(story).column("t.c").sealed
    story.do("fields.verify", "t.c", facts={"t.c": "clean"})
    assert told(story).column("t.c").sealed
