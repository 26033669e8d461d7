"""An incident is what its records say; none is ever changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from guard.breach.incident import Opening, corrected, fold, opened
from guard.errors import ConfigError
from guard.events import PrincipalId

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = PrincipalId("p-aaaaaaaaaa")
OPENING = Opening("Export sent to the wrong partner", NOW - 2 * HOUR, NOW - HOUR, "they confirmed it", NOW - 5 * HOUR)
FORM = {"title": "x", "reason": "y", "detected": "2026-01-05T08:00+01:00", "aware": "2026-01-05T08:30+01:00"}


def test_times_in_a_form_are_read_with_their_offset() -> None:
    opening = Opening.read({**FORM, "occurred": None})
    assert (opening.detected, opening.aware, opening.occurred) == (NOW - 2 * HOUR, NOW - 1.5 * HOUR, None)


def test_a_time_without_offset_is_refused_and_every_one_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Opening.read({**FORM, "detected": "2026-01-05T08:00", "occurred": "yesterday"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["detected", "occurred"]


def test_an_incident_begins_as_it_was_opened() -> None:
    incident = fold([opened("b-1", OPENING, WHO, NOW)])
    assert (incident.title, incident.aware, incident.by, incident.amended) == (OPENING.title, NOW - HOUR, WHO, 0)


def test_everything_may_happen_in_one_moment() -> None:
    opened("b-1", replace(OPENING, occurred=NOW, detected=NOW, aware=NOW), WHO, NOW)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"aware": NOW + HOUR}, "aware .* is after now"),
        ({"aware": NOW - 3 * HOUR}, "detected .* is after aware"),
        ({"occurred": NOW - HOUR}, "occurred .* is after detected"),
        ({"title": "  "}, "title is empty"),
        ({"reason": ""}, "reason is empty"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened("b-1", replace(OPENING, **wrong), WHO, NOW)  # type: ignore[arg-type]  # one field at a time


def test_a_correction_moves_awareness_and_keeps_the_first_record() -> None:
    first = opened("b-1", OPENING, WHO, NOW)
    record = corrected(fold([first]), NOW - 1.5 * HOUR, "an earlier mail was found", WHO, NOW)
    incident = fold([first, record])
    assert (incident.aware, incident.reason, incident.amended) == (NOW - 1.5 * HOUR, "an earlier mail was found", 1)
    assert first.aware == NOW - HOUR


def test_a_correction_obeys_the_order_of_times() -> None:
    incident = fold([opened("b-1", OPENING, WHO, NOW)])
    with pytest.raises(ConfigError, match=r"detected .* is after aware"):
        corrected(incident, NOW - 4 * HOUR, "x", WHO, NOW)


def test_a_file_without_its_opening_is_an_error() -> None:
    incident = fold([opened("b-1", OPENING, WHO, NOW)])
    with pytest.raises(ValueError, match="does not begin with its opening"):
        fold([corrected(incident, NOW - HOUR, "x", WHO, NOW)])
