"""The people and services behind the door; who is nobody is on the record."""

import pytest
from sqlalchemy import insert, update

from guard.access.store import PERSON
from guard.errors import DeniedError, TamperedError
from guard.events import GUARD, Activity, Ending, Role
from tests.access.conftest import House, Phone


def test_a_person_is_known_by_their_os_user(house: House, ada: Phone) -> None:
    assert house.access.person_of("ada") == ada.who
    assert ada.who.id[:2] == "p-"
    assert len(ada.who.id) == 12
    assert house.again().person_of("ada") == ada.who


@pytest.mark.parametrize("os_user", ["eve", "", "ADA", "ada ", "p-aaaaaaaaaa", "x" * 5000])
def test_an_unknown_os_user_is_refused_and_recorded_without_the_name(house: House, ada: Phone, os_user: str) -> None:
    with pytest.raises(DeniedError) as caught:
        house.access.person_of(os_user)
    assert caught.value.reason == "unknown principal"
    (event,) = house.events
    assert (event.what, event.ending, event.who) == ("access.enter", Ending.DENIED, GUARD)
    assert event.activity is Activity.AUTHENTICATE
    assert dict(event.facts) == {"reason": "unknown principal"}
    assert dict(event.digests) == {"os_user": house.keyring.digest("OS user", os_user.encode())}


def test_a_service_is_known_by_the_policy(house: House) -> None:
    assert house.access.service("daemon").id == "s-daemon"
    assert house.access.service("daemon").role is Role.SERVICE
    with pytest.raises(DeniedError):
        house.access.service("other")
    assert dict(house.events[0].facts) == {"reason": "unknown principal"}


def test_everybody_is_listed_with_the_recovery_codes_they_have_left(house: House, ada: Phone) -> None:
    house.allow(ada.at_door(ada.recovery[0]))
    people = {each.name: each for each in house.access.people()}
    assert (people["Ada"].os_user, people["Ada"].role, people["Ada"].recovery_codes) == ("ada", Role.OWNER, 9)
    assert (people["daemon"].os_user, people["daemon"].recovery_codes) == (None, None)


@pytest.mark.parametrize("change", [{"role": "owner"}, {"os_user": "eve"}, {"enabled": False}, {"name": "Eve"}])
def test_a_person_changed_in_the_database_is_noticed(house: House, change: dict[str, object]) -> None:
    bob = house.phone("bob", Role.SUPPORT)
    house.state.write(lambda tx: tx.execute(update(PERSON).values(**change)))
    with pytest.raises(TamperedError, match=f"access_person {bob.who.id}"):
        house.access.person_of("eve" if "os_user" in change else "bob")
    with pytest.raises(TamperedError):
        house.access.people()


def test_a_person_written_into_the_database_is_noticed(house: House) -> None:
    row = {"id": "p-aaaaaaaaaa", "name": "Eve", "os_user": "eve", "role": "owner", "enabled": True}
    house.state.write(
        lambda tx: tx.execute(insert(PERSON).values(**row, since="2026-01-05T09:00:00.000000Z", seal="0" * 64))
    )
    with pytest.raises(TamperedError):
        house.access.person_of("eve")


def test_a_disabled_person_is_nobody(house: House, ada: Phone) -> None:
    rows = house.access._books.people._rows

    house.state.write(lambda tx: rows.change(tx, rows.find(tx, id=ada.who.id)[0], enabled=False))
    with pytest.raises(DeniedError):
        house.access.person_of("ada")
    assert house.why(ada.at_door()) == "unknown principal"
    assert not house.access.people()[0].enabled
