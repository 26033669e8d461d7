"""What a restored state remembers as given holds no longer, and nothing else of it is touched."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from guard.access import Voided, code_at, totp, void
from guard.access.grants import Given, Grants
from guard.access.pending import Request, Requests
from guard.access.standing import Approvals
from guard.access.store import APPROVAL, FACTOR, GRANT, PENDING, PERSON, RECOVERY, STANDING
from guard.errors import DeniedError, TamperedError
from guard.events import PrincipalId, Role


def rows(house: Any, table: Any) -> list[Any]:
    with house.state.read() as tx:
        return list(tx.execute(table.select()).fetchall())


def given(house: Any) -> Any:
    """A person with a grant, a request that waits, somebody's approval of it, and an approval that stands."""
    phone, digest, now = house.phone(), house.keyring.digest, house.clock.now()
    given = Given("fields.encrypt", "d" * 64, now)
    house.state.write(lambda tx: Grants(digest, timedelta(minutes=5)).give(tx, phone.who.id, given))
    requests = Requests(house.keyring, house.state.store_id)
    asked = requests.draft(Request("", "fields.decrypt", "e" * 64, phone.who.id, now, lasting=False), {"columns": []})
    house.state.write(lambda tx: requests.approve(tx, requests.ask(tx, asked), PrincipalId("p-bbbbbbbbbb"), now))
    house.state.write(lambda tx: Approvals(digest).give(tx, "retention.run", "f" * 64, phone.who.id, now))
    return phone


def voided(house: Any, at: Any = None) -> Voided:
    return house.state.write(lambda tx: void(tx, house.keyring.digest, at or house.clock.now()))


def test_everything_given_ends_and_a_second_time_finds_nothing(house: Any) -> None:
    given(house)
    people = rows(house, PERSON)
    assert voided(house) == Voided(grants=1, requests=1, approved=1, approvals=1, recovery_codes=10, factors=1)
    assert all(row.spent_at for row in rows(house, GRANT))
    assert [(row.ended, row.ended_by, row.args) for row in rows(house, PENDING)] == [("cancelled", "guard", None)]
    assert all(row.ended_at for row in rows(house, APPROVAL))
    assert [row.ended_by for row in rows(house, STANDING)] == ["guard"]
    assert all(row.used_at for row in rows(house, RECOVERY))
    assert rows(house, PERSON) == people
    assert house.access.requests() == ()
    assert voided(house) == Voided(grants=0, requests=0, approved=0, approvals=0, recovery_codes=0, factors=1)


def test_no_step_is_taken_that_could_have_been_taken_before(house: Any) -> None:
    phone, now = house.phone(), house.clock.now()
    voided(house)
    (row,) = rows(house, FACTOR)
    ahead = [code_at(phone.secret, now + timedelta(seconds=30 * off)) for off in (0, 1, 2)]
    assert row.last_step == totp.step_at(now) + 2  # an authenticator whose clock was followed may be two steps ahead
    assert {house.why(phone.at_door(code)) for code in ahead[:2]} == {"used code"}
    house.clock.step(timedelta(seconds=30))
    assert house.why(phone.at_door(ahead[2])) == "used code"
    house.clock.step(timedelta(seconds=60))
    assert house.why(phone.at_door()) == ""
    last = rows(house, FACTOR)[0].last_step
    voided(house, now - timedelta(hours=1))
    assert rows(house, FACTOR)[0].last_step == last  # never back


@pytest.mark.parametrize("table", [FACTOR, RECOVERY, STANDING, PENDING, APPROVAL, GRANT], ids=lambda table: table.name)
def test_a_row_guard_did_not_write_stops_it(house: Any, table: Any) -> None:
    given(house)
    with house.state.database.writer.begin() as tx:
        tx.execute(update(table).values(seal="0" * 64))
    with pytest.raises(TamperedError, match=table.name):
        voided(house)


def test_an_enrolment_that_was_open_is_closed_for_it_may_have_been_made_since(house: Any) -> None:
    member = house.access.expect("Bob", "bob", Role.OPS)
    house.state.write(lambda tx: house.access.admit(tx, member))
    assert house.access.may_enrol(member.person.id)
    voided(house)
    with pytest.raises(DeniedError, match="none may be enrolled"):
        house.access.may_enrol(member.person.id)
