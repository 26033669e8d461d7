"""Claims pass only with entries; without them they are not evaluated."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config import Catalog
from guard.events import Ending
from guard.report.controls import CONTROLS, Finding, Promises, Result, judge
from guard.report.evidence import Evidence


def judged(story, **period):
    return {verdict.control.id: verdict for verdict in story.reports().build(**period).verdicts}


def test_everything_done_satisfies_every_claim(good_story):
    assert {name: verdict.result for name, verdict in judged(good_story).items()} == dict.fromkeys(
        [control.id for control in CONTROLS], Result.SATISFIED
    )


def test_nothing_done_evaluates_nothing(story):
    verdicts = judge(Evidence((), story.now), Promises(Catalog()))
    assert {verdict.result for verdict in verdicts} == {Result.NOT_EVALUATED}


@pytest.mark.parametrize("result", [Result.SATISFIED, Result.NOT_SATISFIED])
def test_a_result_without_entries_cannot_be_made(result):
    with pytest.raises(ValueError, match="without evidence"):
        Finding(result, ("because",))


_WHATS = ["init", "data.accept", "fields.encrypt", "fields.verify", "fields.decrypt", "retention.run", "backup.run"]
_WHATS += ["backup.verify", "backup.restore", "breach.open", "access.add", "audit.heartbeat", "jobs.missed"]


@given(st.lists(st.tuples(st.sampled_from(_WHATS), st.sampled_from(list(Ending))), max_size=25))
def test_whatever_happened_each_result_names_entries_that_exist(happened):
    from datetime import UTC, datetime
    from types import SimpleNamespace

    entries = tuple(
        SimpleNamespace(
            n=n,
            at=datetime(2026, 1, 5, 9, n, tzinfo=UTC),
            who="p-abcdefghij",
            what=what,
            run=f"{n // 2:032x}",
            outcome=ending,
            objects=("customer.email", "backup", "p-abcdefghij"),
            counts={},
            facts={},
            digests={},
        )
        for n, (what, ending) in enumerate(happened)
    )
    from guard.config import Column, Protect

    catalog = Catalog(column=(Column(at="customer.email", id=1, protect=Protect.ENCRYPT),))
    for verdict in judge(Evidence(entries, datetime(2026, 1, 6, tzinfo=UTC)), Promises(catalog)):
        assert set(verdict.finding.entries) <= set(range(len(entries)))
        assert bool(verdict.finding.entries) is (verdict.result is not Result.NOT_EVALUATED)


def test_red_comes_first(good_story):
    good_story.do("backup.verify", ending=Ending.FAILED)
    good_story.columns = []
    results = [verdict.result for verdict in good_story.reports().build().verdicts]
    assert results == sorted(results, key=list(Result).index)
    assert results[0] is Result.NOT_SATISFIED


def test_a_column_left_in_clear_is_named(good_story, add_column):
    add_column("customer.birth_date")
    verdict = judged(good_story)["encryption"]
    assert verdict.result is Result.NOT_SATISFIED
    assert "customer.birth_date: no entry says that it was sealed" in verdict.finding.reasons


def test_an_accepted_catalog_of_which_nothing_is_sealed_is_red(story):
    story.do("data.accept", "catalog")
    assert judged(story)["encryption"].result is Result.NOT_SATISFIED


def test_findings_of_a_verification_are_red_although_it_was_done(good_story):
    good_story.do("fields.verify", "customer.email", facts={"customer.email": "findings"})
    assert judged(good_story)["verification"].result is Result.NOT_SATISFIED


@pytest.mark.parametrize(("control", "action"), [("retention", "retention.run"), ("backup", "backup.run")])
def test_a_nightly_job_is_red_after_two_nights_without_it(story, control, action):
    story.do(action)
    story.wait(timedelta(hours=48))
    story.say("audit.heartbeat")
    assert judged(story)[control].result is Result.SATISFIED
    story.wait(timedelta(minutes=1))
    story.say("audit.heartbeat")
    assert judged(story)[control].result is Result.NOT_SATISFIED


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.PARTLY, Ending.INTERRUPTED])
def test_a_nightly_job_whose_newest_try_was_not_done_is_red(good_story, ending):
    good_story.do("backup.run", ending=ending)
    assert judged(good_story)["backup"].result is Result.NOT_SATISFIED


def test_a_refused_try_does_not_count_as_a_try(good_story):
    good_story.refuse("backup.run")
    assert judged(good_story)["backup"].result is Result.SATISFIED


def test_missed_nights_are_told(good_story):
    good_story.say("jobs.missed", Ending.FAILED, "backup", who="guard")
    assert "nights missed: 1" in judged(good_story)["backup"].finding.reasons


def test_a_backup_nobody_restored_is_not_evaluated(story):
    story.do("backup.run")
    assert judged(story)["restore"].result is Result.NOT_EVALUATED


def test_a_person_without_a_recorded_second_factor_is_red(good_story):
    good_story.do("keys.rotate", who="p-nobodyknows")
    verdict = judged(good_story)["access"]
    assert verdict.result is Result.NOT_SATISFIED
    assert verdict.finding.reasons == ("acted without a recorded second factor: p-nobodyknows",)


def test_every_act_says_what_let_it_through(good_story):
    finding = judged(good_story)["access"].finding
    assert "acts by what let them through: code 6, role 3" in finding.reasons


def test_an_act_that_does_not_say_what_let_it_through_is_red(good_story):
    good_story.say("keys.rotate", Ending.BEGUN)
    good_story.say("keys.rotate")
    verdict = judged(good_story)["access"]
    assert verdict.result is Result.NOT_SATISFIED
    assert verdict.finding.reasons == ("acts that do not say what let them through: 1",)
    assert verdict.finding.entries == (len(good_story.entries) - 2, len(good_story.entries) - 1)


def test_an_entry_that_goes_back_in_time_is_red(good_story):
    good_story.wait(-timedelta(days=9))
    good_story.say("audit.heartbeat")
    assert judged(good_story)["ledger"].result is Result.NOT_SATISFIED


@pytest.mark.parametrize(("hours", "result"), [(72, Result.SATISFIED), (73, Result.NOT_SATISFIED)])
def test_a_breach_is_red_once_its_deadline_has_passed(good_story, hours, result):
    known = next(entry for entry in good_story.entries if entry.facts.get("aware"))
    good_story.now = known.at - timedelta(minutes=1) + timedelta(hours=hours)
    good_story.say("audit.heartbeat")
    assert judged(good_story)["breach"].result is result


def test_a_corrected_time_moves_the_deadline(good_story):
    from guard.clock import stamp

    known = next(entry for entry in good_story.entries if entry.facts.get("aware"))
    good_story.do("breach.aware", "b-abc", facts={"aware": stamp(known.at - timedelta(hours=80))})
    assert judged(good_story)["breach"].result is Result.NOT_SATISFIED


def test_a_breach_that_was_told_in_time_stays_green(good_story):
    good_story.do("breach.notify", "b-abc")
    good_story.wait(timedelta(days=9))
    good_story.say("audit.heartbeat")
    assert judged(good_story)["breach"].result is Result.SATISFIED


def test_the_period_decides_what_counts(good_story):
    border = good_story.now + timedelta(hours=1)
    good_story.wait(timedelta(hours=2))
    good_story.say("audit.heartbeat")
    verdicts = judged(good_story, since=border)
    assert verdicts["encryption"].result is Result.SATISFIED  # a state lasts
    assert verdicts["verification"].result is Result.NOT_EVALUATED  # a check does not
    assert verdicts["restore"].result is Result.NOT_EVALUATED
