"""A standing approval holds for one action and the exact bytes of one policy, until it is ended or given anew."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy import update

from guard.access.store import STANDING
from guard.config.access import RoleRule
from guard.errors import ConfigError, DeniedError, TamperedError
from guard.events import Level
from tests.access.conftest import At, House, Phone, Words

POLICY = b'[class.account]\nkeep = "3 years"\n'


def why(house: House, name: str = "retention.run", policy: bytes | None = POLICY) -> str:
    try:
        house.access.allow(At(house.access.service("daemon")), name, Level.PRIVILEGED, "d" * 64, Words(), policy)
    except DeniedError as error:
        return str(error.reason)
    return ""


def give(house: House, ada: Phone, name: str = "retention.run", policy: bytes = POLICY) -> str:
    digest = house.access.policy_digest(name, policy)
    return house.state.write(lambda tx: house.access.give_standing(tx, name, digest, ada.who.id))


def test_without_an_approval_a_service_may_not(house: House) -> None:
    assert why(house) == "no approval"


def test_with_an_approval_a_service_may_again_and_again(house: House, ada: Phone) -> None:
    give(house, ada)
    assert [why(house), why(house)] == ["", ""]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(at=st.integers(0, len(POLICY) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_of_the_policy_ends_it(house: House, at: int, byte: int) -> None:
    ada = next((each for each in house.access.people() if each.os_user == "ada"), None) or house.phone().who
    digest = house.access.policy_digest("retention.run", POLICY)
    house.state.write(lambda tx: house.access.give_standing(tx, "retention.run", digest, ada.id))
    changed = POLICY[:at] + bytes([byte]) + POLICY[at + 1 :]
    assert why(house, policy=changed) == ("" if changed == POLICY else "no approval")


def test_a_plan_above_its_limit_waits_for_a_person_and_says_so(house: House, ada: Phone) -> None:
    daemon, much = At(house.access.service("daemon")), Words(beyond=("orders: 30 rows are more than 1.0% of 100",))

    def allow() -> str:
        return house.access.allow(daemon, "retention.run", Level.PRIVILEGED, "d" * 64, much, POLICY)

    with pytest.raises(DeniedError, match="no standing approval"):
        allow()
    give(house, ada)
    with pytest.raises(DeniedError, match="above the limit of its standing approval: orders: 30 rows") as caught:
        allow()
    assert caught.value.reason == "over limit"
    assert house.access.allow(ada.at_door(), "retention.run", Level.PRIVILEGED, "d" * 64, much, POLICY) == "code"


def test_it_holds_for_no_other_action(house: House, ada: Phone) -> None:
    give(house, ada)
    with house.state.read() as tx:
        assert house.access._books.approvals.covers(tx, "retention.run", POLICY)
        assert not house.access._books.approvals.covers(tx, "backup.prune", POLICY)
    assert why(house, "backup.prune") == "role"
    assert why(house, "fields.decrypt") == "role"


def test_an_action_without_a_policy_has_no_approval(house: House, ada: Phone) -> None:
    give(house, ada)
    assert why(house, policy=None) == "no approval"


def test_it_can_be_taken_back(house: House, ada: Phone) -> None:
    approval = give(house, ada)
    house.state.write(lambda tx: house.access.refuse(tx, approval, ada.who.id))
    assert why(house) == "no approval"
    with pytest.raises(ConfigError):
        house.state.write(lambda tx: house.access.refuse(tx, approval, ada.who.id))


def test_it_ends_to_count_when_its_giver_may_give_none_any_more(house: House, ada: Phone) -> None:
    approval = give(house, ada)
    role, policy = house.policy.role, house.policy
    house.policy = structs.replace(policy, role=structs.replace(role, owner=RoleRule(routine=("*",))))
    house.access = house.again()
    assert why(house) == "no approval"
    assert [(each.id, each.kind) for each in house.access.requests()] == [(approval, "no longer counts")]
    house.policy = policy
    house.access = house.again()
    assert why(house) == ""
    house.state.write(lambda tx: house.access._books.people.enable(tx, ada.who.id, enabled=False))
    assert why(house) == "no approval"
    house.state.write(lambda tx: house.access.refuse(tx, approval, ada.who.id))
    assert house.access.requests() == ()


def test_a_new_one_ends_the_old_ones(house: House, ada: Phone) -> None:
    give(house, ada)
    give(house, ada, policy=POLICY + b"# changed")
    assert why(house) == "no approval"
    assert why(house, policy=POLICY + b"# changed") == ""


def test_an_approval_that_guard_did_not_write_counts_for_nothing(house: House, ada: Phone) -> None:
    give(house, ada)
    house.state.write(
        lambda tx: tx.execute(update(STANDING).values(policy=house.access.policy_digest("retention.run", b"other")))
    )
    with pytest.raises(TamperedError):
        why(house, policy=b"other")


def test_services_that_may_stand_in_are_named(house: House) -> None:
    assert house.access.services_for("retention.run") == ("daemon",)
    assert house.access.services_for("fields.decrypt") == ()


def test_they_are_listed_until_they_end(house: House, ada: Phone) -> None:
    approval = give(house, ada)
    (listed,) = house.access.requests()
    assert (listed.id, listed.kind, listed.action, listed.by) == (approval, "standing", "retention.run", ada.who.id)
    assert listed.until is None
    assert house.access.request(approval) == listed
    house.state.write(lambda tx: house.access.refuse(tx, approval, ada.who.id))
    assert house.access.requests() == ()
