"""The story through the room that seals: no plan without a vault, keys before values, shred, and what is read then."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from guard.actions.fields import ENCRYPT, VERIFY
from guard.actions.shred import SHRED
from guard.actions.state import BACKUP
from guard.crypto.envelope import looks_sealed
from guard.errors import InterlockError, ShreddedError

COLUMNS = ["customer.email", "customer.note", "invoice.street"]
MANY = 150


@pytest.fixture
def plain(make_house: Callable[..., Any]) -> Any:
    """The shop in plain text, with tokens' columns out of the way."""
    house = make_house()
    for name in ("email", "note"):
        house.sql(f"ALTER TABLE customer DROP COLUMN {name}__guard1")
    house.do(BACKUP, stores=[])
    return house


def test_the_plan_refuses_until_the_vault_was_read(make_house: Callable[..., Any]) -> None:
    house = make_house("")
    with pytest.raises(InterlockError) as told:
        house.do(ENCRYPT, columns=["customer.note"])
    assert 'bind = "subject" needs the vault of epoch keys: a vault with 2 mirrors' in str(told.value)


def test_the_plan_refuses_while_a_mirror_is_away(plain: Any) -> None:
    plain.mirrors[1].rmdir()
    with pytest.raises(InterlockError, match="a sound mirror two of the vault"):
        plain.do(ENCRYPT, columns=["customer.note"])
    assert plain.objects() == {}


def test_keys_of_many_people_are_backed_up_before_anything_is_sealed(plain: Any) -> None:
    for number in range(100, 100 + MANY):
        plain.sql("INSERT INTO customer (id, email, note) VALUES (?, 'x@example.org', 'x')", number)
    with pytest.raises(InterlockError, match="a backup of guard's state with the keys of 153 people"):
        plain.do(ENCRYPT, columns=["customer.note"])
    assert not any(looks_sealed(note) for (note,) in plain.sql("SELECT note FROM customer"))
    plain.clock.step(datetime(2026, 1, 6, tzinfo=UTC) - plain.clock.now())
    plain.do(BACKUP, stores=[])
    plain.do(ENCRYPT, columns=["customer.note"])
    assert plain.read(2, 100, 100) == "x"


def test_sealed_shredded_verified(plain: Any) -> None:
    for column in COLUMNS:
        try:
            plain.do(ENCRYPT, columns=[column])
        except InterlockError:  # the first one makes the vault's key, which a backup must hold
            plain.clock.step(datetime(2026, 1, 6, tzinfo=UTC) - plain.clock.now())
            plain.do(BACKUP, stores=[])
            plain.do(ENCRYPT, columns=[column])
    assert plain.read(1, 1, 1) == "ada@example.org"
    assert plain.read(3, 12, 2) == "Side Street 1"
    fields = plain.app.fields
    assert fields.opener("customer.note")((1,), plain.sql("SELECT note FROM customer WHERE id = 1")[0][0]) == "first"
    plain.do(SHRED, kind="customer", keys=["1"], classes=["account"])
    assert fields.opener("customer.note")((1,), plain.sql("SELECT note FROM customer WHERE id = 1")[0][0]) is None
    with pytest.raises(ShreddedError):
        plain.read(2, 1, 1)
    checks = {check.at: check for check in plain.do(VERIFY, columns=[])}
    assert (checks["customer.email"].opened, checks["customer.email"].shredded) == (2, 1)
    assert checks["invoice.street"].opened == 3
    assert plain.read(1, 2, 2) == "bob@example.org"
    assert plain.read(3, 11, 1) == "Main Street 2"
