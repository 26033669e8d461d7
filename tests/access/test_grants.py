"""A code that was right allows one action with these arguments and this plan, by this person, once, and soon."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from guard.access.grants import Given, Grants
from guard.errors import DeniedError
from guard.events import PrincipalId
from tests.access.conftest import House

LIFETIME = timedelta(minutes=5)
ADA, BOB = PrincipalId("p-aaaaaaaaaa"), PrincipalId("p-bbbbbbbbbb")
people = st.sampled_from([ADA, BOB])
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
waits = st.timedeltas(timedelta(), timedelta(minutes=10))


@dataclass(frozen=True, slots=True)
class Desk:
    house: House
    grants: Grants

    def give(self, person: PrincipalId, digest: str) -> str:
        given = Given("fields.encrypt", digest, self.house.clock.now())
        return self.house.state.write(lambda tx: self.grants.give(tx, person, given))

    def spend(self, grant: str, person: PrincipalId, digest: str) -> None:
        self.house.state.write(lambda tx: self.grants.spend(tx, grant, person, digest, self.house.clock.now()))

    def refuses(self, grant: str, person: PrincipalId, digest: str) -> bool:
        with pytest.raises(DeniedError) as caught:
            self.spend(grant, person, digest)
        return caught.value.reason == "no code"


@pytest.fixture
def desk(house: House) -> Desk:
    return Desk(house, Grants(house.keyring.digest, LIFETIME))


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)  # one store for all


@shared
@given(person=people, digest=digests)
def test_a_grant_is_good_once(desk: Desk, person: PrincipalId, digest: str) -> None:
    grant = desk.give(person, digest)
    desk.spend(grant, person, digest)
    assert desk.refuses(grant, person, digest)


@shared
@given(person=people, other=people, digest=digests, changed=digests)
def test_a_grant_for_other_arguments_or_another_person_is_refused(
    desk: Desk, person: PrincipalId, other: PrincipalId, digest: str, changed: str
) -> None:
    assume((person, digest) != (other, changed))
    grant = desk.give(person, digest)
    assert desk.refuses(grant, other, changed)
    desk.spend(grant, person, digest)


@shared
@given(waited=waits)
def test_a_grant_is_good_for_five_minutes(desk: Desk, waited: timedelta) -> None:
    grant = desk.give(ADA, "a" * 64)
    desk.house.clock.step(waited)
    if waited < LIFETIME:
        desk.spend(grant, ADA, "a" * 64)
    else:
        assert desk.refuses(grant, ADA, "a" * 64)


def test_a_grant_that_was_never_given_is_refused(desk: Desk) -> None:
    assert desk.refuses("g-aaaaaaaaaa", ADA, "a" * 64)


def test_grants_that_are_over_are_forgotten_but_for_the_last_of_each_person(desk: Desk) -> None:
    for person in (ADA, BOB, ADA):
        desk.give(person, "a" * 64)
        desk.house.clock.step(timedelta(minutes=6))
    with desk.house.state.read() as tx:
        assert sorted(row["person"] for row in desk.grants._rows.find(tx)) == [ADA, BOB]


def test_of_several_grants_for_the_same_the_newest_gets_the_ending(desk: Desk) -> None:
    desk.give(ADA, "a" * 64)
    desk.house.clock.step(timedelta(minutes=1))
    desk.give(ADA, "a" * 64)
    desk.house.state.write(lambda tx: desk.grants.ended(tx, ADA, "a" * 64, "done"))
    with desk.house.state.read() as tx:
        assert sorted(str(row["ending"]) for row in desk.grants._rows.find(tx)) == ["None", "done"]
        last = desk.grants.last(tx, ADA)
        assert last is not None
        assert (last.action, last.at, last.ending) == ("fields.encrypt", desk.house.clock.now(), "done")
        assert desk.grants.last(tx, BOB) is None
