"""The story through the room that seals: no plan without a vault, keys before values, shred, and what is read then."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from guard import faults
from guard.actions.fields import ENCRYPT, VERIFY
from guard.actions.shred import SHRED
from guard.canon import key_bytes
from guard.crypto.envelope import looks_sealed
from guard.crypto.subjects import Person
from guard.errors import InterlockError, ShreddedError

COLUMNS = ["customer.email", "customer.note", "invoice.street"]
MANY = 150


@pytest.fixture
def plain(make_house: Callable[..., Any]) -> Any:
    """The shop in plain text, with tokens' columns out of the way. No backup of state was made yet."""
    house = make_house()
    for name in ("email", "note"):
        house.sql(f"ALTER TABLE customer DROP COLUMN {name}__guard1")
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
    seen: list[tuple[str, int, bool]] = []

    def look(name: str) -> None:
        if name in {"fields.encrypt.keys", "fields.encrypt.saved"}:
            sealed = any(looks_sealed(note) for (note,) in plain.sql("SELECT note FROM customer WHERE note NOT NULL"))
            seen.append((name, plain.app.subjects.unsaved(plain.app.backups.state_saved_at())[0], sealed))

    faults.install(look)
    plain.do(ENCRYPT, columns=["customer.note"])
    faults.install(None)
    assert seen == [("fields.encrypt.keys", 153, False), ("fields.encrypt.saved", 0, False)]
    assert plain.read(2, 100, 100) == "x"


def test_keys_of_few_people_are_backed_up_as_well(plain: Any) -> None:
    plain.do(ENCRYPT, columns=["customer.note"])
    assert plain.app.subjects.unsaved(plain.app.backups.state_saved_at()) == (0, 3)
    saved = plain.app.backups.state_saved_at()
    plain.clock.step(timedelta(minutes=1))
    plain.do(ENCRYPT, columns=["customer.email"])
    assert plain.app.backups.state_saved_at() == saved, "no key is newer"


def test_keys_that_no_backup_holds_are_in_the_plan_and_do_not_stop_it(plain: Any) -> None:
    plain.do(ENCRYPT, columns=["customer.note"])
    plain.clock.step(timedelta(minutes=1))
    plain.app.subjects.all_for_writing([Person("customer", key_bytes((100 + each,))) for each in range(MANY)], "tax")
    assert [str(each) for each in plain.app.lacks()] == [
        "a backup of guard's state with the keys of 150 people: guard state backup"
    ]
    plan = plain.app.fields.plan(["invoice.street"])
    assert plan.missing == ()
    assert plan.steps[0] == (
        "make a key for each person of invoice.street that has none, and back guard's state up and read it back: "
        "a backup of guard's state with the keys of 150 people"
    )


def test_sealed_shredded_verified(plain: Any) -> None:
    for column in COLUMNS:
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
