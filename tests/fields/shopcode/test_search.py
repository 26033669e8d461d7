"""`fields search`: the rows that hold a value, by their keys, in every stage; what is not searchable says why."""

from dataclasses import replace

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from guard.crypto.random import hex_token
from guard.errors import ConfigError, InterlockError, TamperedError
from guard.events import RunId
from guard.fields import Fields, store
from guard.fields.store import Filling, Stage
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers

EMAILS = [f"c{n}@example.org" for n in range(300)]


def shop_with(kiosk: Kiosk, emails: list[str], *, index: str | None = "email", unique: bool = True) -> Models:
    models = customers()
    table = models.customer.__table__
    if not unique:
        table.constraints -= {each for each in table.constraints if isinstance(each, sa.UniqueConstraint)}
    kiosk.protect(models.customer, "email", index=index)
    kiosk.create(models.base)
    with kiosk.engine.begin() as connection:
        insert = sa.text("INSERT INTO customer (id, email, visits) VALUES (:id, :email, 0)")
        connection.execute(insert, [{"id": number, "email": each} for number, each in enumerate(emails, 1)])
    return models


def encrypted(kiosk: Kiosk) -> Fields:
    guard = kiosk.fields()
    guard.state.write(guard.remember(guard.encrypt(guard.plan(), RunId(hex_token(16)))))
    return kiosk.fields()


def test_a_value_is_found_in_any_spelling(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS)
    guard = encrypted(kiosk)
    for text in ("c7@example.org", " C7@Example.ORG "):
        found = guard.search("customer.email", text)
        assert (found.key, found.rows, found.passed) == (("id",), ((8,),), 0)
    assert guard.search("customer.email", "nobody@example.org").rows == ()


def test_short_tokens_are_looked_through(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS + EMAILS, unique=False)
    guard = encrypted(kiosk)
    found = [guard.search("customer.email", email) for email in EMAILS[:20]]
    assert [each.rows for each in found] == [((n,), (n + 300,)) for n in range(1, 21)]
    assert sum(each.passed for each in found) > 0  # 600 rows share 256 tokens


@pytest.mark.parametrize("stage", [Stage.INDEXING, Stage.SEALING, Stage.OPENING])
def test_plain_values_are_found_while_the_sweep_runs(kiosk: Kiosk, stage: Stage) -> None:
    models = shop_with(kiosk, EMAILS[:30])
    kiosk.stage(stage)
    with kiosk.session() as session:
        session.add(models.customer(id=500, email="new@example.org"))
        session.commit()
    guard = kiosk.fields()
    assert guard.search("customer.email", "C7@example.org").rows == ((8,),)
    assert guard.search("customer.email", "NEW@example.org").rows == ((500,),)


def test_during_a_rotation_both_versions_are_asked(kiosk: Kiosk) -> None:
    models = shop_with(kiosk, EMAILS[:30])
    encrypted(kiosk)
    key = kiosk.keyring.rotate("index/1/email")
    kiosk.state.write(lambda tx: kiosk.keyring.activate(tx, key.id, kiosk.clock.now()))
    with kiosk.state.read() as tx:
        [old] = store.indexes(tx)
    shop = kiosk.shop
    from guard.shop import alter

    alter.unguard(shop, shop.table("customer"), "email")
    alter.add_token(shop, shop.table("customer"), "email__guard2")
    new = replace(old, version=2, name="email__guard2", key_id=key.id, stage=Filling.FILLING)
    kiosk.state.write(lambda tx: store.keep_index(tx, new))
    kiosk.clock.step(__import__("datetime").timedelta(seconds=2))
    with kiosk.session() as session:
        session.add(models.customer(id=500, email="new@example.org"))
        session.commit()
    kiosk.sql("UPDATE customer SET email__guard1 = NULL WHERE id = 500")
    guard = kiosk.fields()
    assert guard.search("customer.email", "new@example.org").rows == ((500,),)  # by the new one alone
    assert guard.search("customer.email", "c7@example.org").rows == ((8,),)  # by the old one alone


def test_a_finished_column_is_asked_by_token_alone(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS[:30])
    encrypted(kiosk)
    kiosk.stage(Stage.STRICT)
    assert kiosk.fields().search("customer.email", "c7@example.org").rows == ((8,),)


def test_a_changed_candidate_is_tampering(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS[:30])
    guard = encrypted(kiosk)
    shop = kiosk.shop
    from guard.shop import alter

    alter.unguard(shop, shop.table("customer"), "email")
    one, two = (row[0] for row in kiosk.ask("SELECT email FROM customer WHERE id IN (7, 8) ORDER BY id"))
    kiosk.sql(f"UPDATE customer SET email = 'g1.{one[3:]}x' WHERE email = '{two}'".replace("x'", "A'"))
    with pytest.raises(TamperedError, match=r"customer\.email"):
        guard.search("customer.email", "c7@example.org")


def test_composite_keys_and_other_types(kiosk: Kiosk) -> None:
    class Base(DeclarativeBase):
        pass

    class Line(Base):
        __tablename__ = "line"
        order: Mapped[int] = mapped_column("order", primary_key=True, autoincrement=False)
        place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        serial: Mapped[int]

    kiosk.protect(Line, "serial", index="exact")
    kiosk.create(Base)
    with kiosk.session() as session:
        session.add_all([Line(order=n // 3, place=n % 3, serial=1000 + n % 70) for n in range(90)])
        session.commit()
    guard = encrypted(kiosk)
    found = guard.search("line.serial", "1007")
    assert (found.key, found.rows) == (("order", "place"), ((2, 1), (25, 2)))
    with kiosk.session() as session:
        kiosk.clock.step(__import__("datetime").timedelta(seconds=2))
        lines = session.scalars(sa.select(Line).where(Line.serial == 1007)).all()
        assert {(each.order, each.place) for each in lines if each.serial == 1007} == {(2, 1), (25, 2)}


def test_what_is_not_searchable_says_why(kiosk: Kiosk) -> None:
    shop_with(kiosk, EMAILS[:30], index=None, unique=False)
    with pytest.raises(ConfigError, match=r"customer\.email is not sealed"):
        kiosk.fields().search("customer.email", "x")
    with pytest.raises(ConfigError, match=r"customer\.emial is not in the catalog"):
        kiosk.fields().search("customer.emial", "x")
    guard = encrypted(kiosk)
    with pytest.raises(ConfigError, match="the catalog gives it no index") as caught:
        guard.search("customer.email", "secret@example.org")
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    kiosk.columns["customer.email"] = msgspec.structs.replace(kiosk.columns["customer.email"], index="email")
    with pytest.raises(InterlockError, match="not searchable yet"):
        kiosk.fields().search("customer.email", "x")


def test_a_value_without_a_normal_form_is_said(kiosk: Kiosk) -> None:
    shop_with(kiosk, ["+49 30 123456", "(030) 98765"], index="phone", unique=False)
    guard = encrypted(kiosk)
    assert guard.search("customer.email", "0049 30 123456").rows == ((1,),)
    with pytest.raises(ConfigError, match='nothing in it that index = "phone" reads'):
        guard.search("customer.email", "call me")
