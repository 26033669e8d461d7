"""What a restored state remembers as given holds no longer, and nothing else of it is touched."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from guard.access import Voided, code_at, totp, void
from guard.access.grants import Grants
from guard.access.pending import Requests
from guard.access.standing import Approvals
from guard.access.store import FACTOR, GRANT, PENDING, PERSON, RECOVERY, STANDING
from guard.errors import TamperedError


def rows(house: Any, table: Any) -> list[Any]:
    with house.state.read() as tx:
        return list(tx.execute(table.select()).fetchall())


def given(house: Any) -> Any:
    """A person with a grant, a request that waits and an approval that stands."""
    phone, digest, now = house.phone(), house.keyring.digest, house.clock.now()
    house.state.write(lambda tx: Grants(digest, timedelta(minutes=5)).give(tx, phone.who.id, "d" * 64, now))
    house.state.write(lambda tx: Requests(digest).ask(tx, "fields.decrypt", "e" * 64, phone.who.id, now))
    house.state.write(lambda tx: Approvals(digest).give(tx, "retention.run", "f" * 64, phone.who.id, now))
    return phone


def voided(house: Any, at: Any = None) -> Voided:
    return house.state.write(lambda tx: void(tx, house.keyring.digest, at or house.clock.now()))


def test_everything_given_ends_and_a_second_time_finds_nothing(house: Any) -> None:
    given(house)
    people = rows(house, PERSON)
    assert voided(house) == Voided(grants=1, requests=1, approvals=1, recovery_codes=10, factors=1)
    assert all(row.spent_at for row in rows(house, GRANT))
    assert [(row.ended, row.ended_by) for row in rows(house, PENDING)] == [("cancelled", "guard")]
    assert [row.ended_by for row in rows(house, STANDING)] == ["guard"]
    assert all(row.used_at for row in rows(house, RECOVERY))
    assert rows(house, PERSON) == people
    assert house.access.requests() == ()
    assert voided(house) == Voided(grants=0, requests=0, approvals=0, recovery_codes=0, factors=1)


def test_no_step_is_taken_that_could_have_been_taken_before(house: Any) -> None:
    phone, now = house.phone(), house.clock.now()
    voided(house)
    (row,) = rows(house, FACTOR)
    ahead = code_at(phone.secret, now + timedelta(seconds=30))  # by an authenticator whose clock runs ahead
    assert totp.match(phone.secret, ahead, now) == row.last_step
    assert house.why(phone.at_door()) == house.why(phone.at_door(ahead)) == "used code"
    house.clock.step(timedelta(seconds=60))
    assert house.why(phone.at_door()) == ""
    last = rows(house, FACTOR)[0].last_step
    voided(house, now - timedelta(hours=1))
    assert rows(house, FACTOR)[0].last_step == last  # never back


@pytest.mark.parametrize("table", [FACTOR, RECOVERY, STANDING, PENDING, GRANT], ids=lambda table: table.name)
def test_a_row_guard_did_not_write_stops_it(house: Any, table: Any) -> None:
    given(house)
    with house.state.database.writer.begin() as tx:
        tx.execute(update(table).values(seal="0" * 64))
    with pytest.raises(TamperedError, match=table.name):
        voided(house)
