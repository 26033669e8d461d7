"""A sealed value that SQL of the shop copies or moves does not take the token of the row it comes into.

The shop's own code writes value and token; whatever it does, the token stays the value's.
"""

import pytest
import sqlalchemy as sa

from guard.crypto.random import hex_token
from guard.events import RunId
from guard.fields import Pace
from guard.fields.column import seal
from guard.fields.store import Bind
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers

EMAILS = [f"c{n}@example.org" for n in range(1, 51)]
COPY = "UPDATE customer SET email = (SELECT e FROM (SELECT email AS e FROM customer WHERE id = 1) AS s) WHERE id = 2"


def shop_with(kiosk: Kiosk, *, unique: bool, bind: Bind = "column") -> Models:
    """Make a shop with fifty customers, sealed and searchable."""
    models = customers()
    table = models.customer.__table__
    table.c.email.nullable = True
    if not unique:
        table.constraints -= {each for each in table.constraints if isinstance(each, sa.UniqueConstraint)}
    kiosk.protect(models.customer, "email", index="email", bind=bind)
    kiosk.create(models.base)
    with kiosk.session() as session:
        session.add_all(models.customer(id=number, email=email) for number, email in enumerate(EMAILS, 1))
        session.commit()
    encrypt(kiosk)
    return models


def encrypt(kiosk: Kiosk) -> None:
    guard = kiosk.fields(Pace(start=20, least=20, most=20))
    guard.state.write(guard.remember(guard.encrypt(guard.plan(), RunId(hex_token(16)))))
    kiosk.close()


def tokens(kiosk: Kiosk) -> list[bytes | None]:
    return [row[0] for row in kiosk.ask("SELECT email__guard1 FROM customer ORDER BY id")]


def untold(kiosk: Kiosk) -> tuple[int, tuple[int, ...]]:
    [check] = kiosk.fields().verify()
    return check.untold, check.lost


def found(kiosk: Kiosk, models: Models, email: str) -> set[int]:
    with kiosk.session() as session:
        return set(session.scalars(sa.select(models.customer.id).where(models.customer.email == email)))


def test_a_copy_is_not_found_by_what_the_row_held_before(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, unique=False)
    kiosk.sql(COPY)
    assert 2 not in found(kiosk, models, EMAILS[1])
    assert untold(kiosk) == (1, (2,))
    assert kiosk.fields().search("customer.email", EMAILS[0]).rows == ((1,), (2,)), "found though it has no token"
    encrypt(kiosk)
    assert untold(kiosk) == (0, ())
    assert {1, 2} <= found(kiosk, models, EMAILS[0])


def test_a_value_that_is_moved_in_a_unique_column_is_refused(kiosk: Kiosk) -> None:
    """It is in one row only at any time, so that the shop's own UNIQUE sees nothing."""
    models = shop_with(kiosk, unique=True)
    [(value,)] = kiosk.ask("SELECT email FROM customer WHERE id = 1")
    kiosk.sql("UPDATE customer SET email = NULL, email__guard1 = NULL WHERE id = 1")
    with pytest.raises(sa.exc.DBAPIError, match="only sealed values with their tokens"):
        kiosk.sql(f"UPDATE customer SET email = '{value}' WHERE id = 2")
    assert found(kiosk, models, EMAILS[1]) == {2}


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("bind", ["row", "column"])
def test_a_value_that_is_sealed_anew_by_the_shops_code_keeps_its_token(kiosk: Kiosk, unique: bool, bind: Bind) -> None:
    models = shop_with(kiosk, unique=unique, bind=bind)
    table, before, stored = models.customer.__table__, tokens(kiosk), kiosk.ask("SELECT email FROM customer")
    with kiosk.session() as session:
        for each in session.scalars(sa.select(models.customer)):
            each.email = each.email.upper()
        session.commit()
        changed = [{"id": number, "email": EMAILS[number - 1].title()} for number in (3, 4, 5)]
        where = sa.update(table).where(table.c.id == sa.bindparam("b_id"))
        session.connection().execute(where, [{**row, "b_id": row["id"]} for row in seal(table, changed)])
        values = seal(table, [{"id": 6, "email": EMAILS[5].title()}])[0]
        session.connection().execute(sa.update(table).where(table.c.id == 6).values(values))
        session.commit()
    assert tokens(kiosk) == before
    assert None not in before
    assert not {row[0] for row in kiosk.ask("SELECT email FROM customer")} & {row[0] for row in stored}
    assert 4 in found(kiosk, models, EMAILS[3])
    assert untold(kiosk) == (0, ())


def test_a_new_value_brings_a_new_token(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, unique=True)
    with kiosk.session() as session:
        session.get(models.customer, 7).email = "new@example.org"
        session.commit()
    assert found(kiosk, models, "new@example.org") == {7}
    assert found(kiosk, models, EMAILS[6]) == set()


@pytest.mark.parametrize("unique", [True, False])
def test_re_keying_and_sealing_keep_the_tokens(kiosk: Kiosk, unique: bool) -> None:
    shop_with(kiosk, unique=unique)
    before = tokens(kiosk)
    key = kiosk.keyring.rotate("column/1")
    kiosk.state.write(lambda tx: kiosk.keyring.activate(tx, key.id, kiosk.clock.now()))
    encrypt(kiosk)
    assert {row[0][:13] for row in kiosk.ask("SELECT email FROM customer")} != set()
    assert tokens(kiosk) == before
    assert untold(kiosk) == (0, ())
    guard = kiosk.fields()
    guard.state.write(guard.remember((guard.rekey("customer.email", RunId(hex_token(16))),)))
    assert tokens(kiosk) == before
