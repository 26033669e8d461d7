"""Nobody is taken in before their authenticator has shown two consecutive codes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.access import Enrolment, code_at
from guard.access.totp import new_secret
from guard.errors import ConfigError, DeniedError
from guard.events import GUARD, Ending, Event, PrincipalId, Role, RunId
from tests.access.conftest import STEP, House, Phone


def codes_of(enrolment: Enrolment, house: House, *steps: int) -> list[str]:
    return [code_at(enrolment.secret_text, house.clock.now() + off * STEP) for off in steps]


@pytest.mark.parametrize("steps", [(0, 0), (-1, -1), (1, 0), (0, -1), (-1, 1), (-3, -2), (5, 6)])
def test_codes_that_are_not_two_consecutive_ones_of_now_take_nobody_in(house: House, steps: tuple[int, int]) -> None:
    enrolment = house.access.begin_enrolment("Ada", "ada", Role.OWNER)
    with pytest.raises(DeniedError) as caught:
        house.access.finish(enrolment, tuple(codes_of(enrolment, house, *steps)))  # type: ignore[arg-type]
    assert caught.value.reason == "wrong code"
    assert all(each.role is Role.SERVICE for each in house.access.people())


@pytest.mark.parametrize("steps", [(-2, -1), (-1, 0), (0, 1)])
def test_two_consecutive_codes_take_a_person_in(house: House, steps: tuple[int, int]) -> None:
    enrolment = house.access.begin_enrolment("Ada", "ada", Role.OPS)
    first, second = codes_of(enrolment, house, *steps)
    recovery = house.access.finish(enrolment, (f"{first[:3]} {first[3:]}", second))
    assert len(recovery) == 10
    assert house.access.person_of("ada").id == enrolment.id
    assert house.access.person_of("ada").role is Role.OPS


@given(first=st.from_regex(r"[0-9]{6}", fullmatch=True), second=st.from_regex(r"[0-9]{6}", fullmatch=True))
def test_guessed_codes_take_nobody_in(first: str, second: str) -> None:
    enrolment = Enrolment(PrincipalId("p-x"), "Ada", "ada", Role.OWNER, "otpauth://", new_secret())
    with pytest.raises(DeniedError):
        enrolment.check(first, second, datetime(2026, 1, 5, tzinfo=UTC))


def test_a_person_and_the_events_of_taking_them_in_are_stored_together(house: House) -> None:
    enrolment = house.access.begin_enrolment("Ada", "ada", Role.OWNER)
    event = Event("setup", Ending.DONE, GUARD, RunId("0" * 32))
    house.access.finish(enrolment, tuple(codes_of(enrolment, house, 0, 1)), event)  # type: ignore[arg-type]
    assert house.events == [event]

    other = house.access.begin_enrolment("Bob", "bob", Role.OPS)

    def full(*_: object) -> None:
        raise OSError("disk full")

    house.state.attach(full)
    with pytest.raises(OSError, match="disk full"):
        house.access.finish(other, tuple(codes_of(other, house, 0, 1)), event)  # type: ignore[arg-type]
    assert [each.name for each in house.access.people() if each.role is not Role.SERVICE] == ["Ada"]


def test_an_os_user_is_one_person(house: House, ada: Phone) -> None:
    with pytest.raises(ConfigError, match=ada.who.id):
        house.access.begin_enrolment("Eve", "ada", Role.OPS)


def test_two_enrolments_of_one_os_user_at_once_take_in_one(house: House) -> None:
    pair = [house.access.begin_enrolment(name, "ada", Role.OPS) for name in ("Ada", "Eve")]
    house.access.finish(pair[0], tuple(codes_of(pair[0], house, 0, 1)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        house.access.finish(pair[1], tuple(codes_of(pair[1], house, 0, 1)))  # type: ignore[arg-type]
    assert house.access.person_of("ada").name == "Ada"


def test_a_service_is_not_enrolled(house: House) -> None:
    with pytest.raises(ConfigError, match="no person"):
        house.access.begin_enrolment("daemon", "daemon", Role.SERVICE)


@pytest.mark.parametrize(
    ("name", "os_user"), [("", "ada"), (" Ada", "ada"), ("Ada\n", "ada"), ("A" * 101, "ada"), ("Ada", "")]
)
def test_names_that_would_break_a_list_are_refused(house: House, name: str, os_user: str) -> None:
    with pytest.raises(ConfigError, match="printable"):
        house.access.begin_enrolment(name, os_user, Role.OPS)


def test_who_enrols_later_is_looked_at_as_closely(house: House, ada: Phone) -> None:
    for name, os_user, role in [("Eve", "ada", Role.OPS), ("Eve\n", "eve", Role.OPS), ("Eve", "eve", Role.SERVICE)]:
        with pytest.raises(ConfigError):
            house.access.expect(name, os_user, role)
    first, second = (house.access.expect(name, "eve", Role.OPS) for name in ("Eve", "Mallory"))
    house.state.write(lambda tx: house.access.admit(tx, first))
    with pytest.raises(ConfigError, match=first.person.id):
        house.state.write(lambda tx: house.access.admit(tx, second))
    assert house.access.person_of("eve").name == "Eve"


def test_an_id_that_was_not_confirmed_here_is_nobody(house: House) -> None:
    with pytest.raises(ConfigError, match="not enrolled here"):
        house.access.confirmed("p-aaaaaaaaaa")


def test_the_secret_shows_in_no_repr(house: House) -> None:
    enrolment = house.access.begin_enrolment("Ada", "ada", Role.OWNER)
    member = house.access.confirm(enrolment, *codes_of(enrolment, house, 0, 1))
    shown = repr((enrolment, member))
    assert enrolment.secret_text not in shown
    assert all(code not in shown for code in member.recovery_codes)
