"""Values that are bound to a person: sealed with that person's key, dead for the shop once the key is shredded."""

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, load_only, mapped_column

from guard.canon import key_bytes
from guard.crypto.mirrors import FolderMirror
from guard.crypto.random import hex_token
from guard.crypto.receipts import Death, Shredder
from guard.crypto.subjects import Person, SubjectKeys
from guard.crypto.vault import Vault
from guard.errors import ConfigError, TamperedError
from guard.events import RunId
from guard.fields.column import SealedColumnError
from tests.fields.shopcode.conftest import Kiosk
from tests.fields.shopcode.models import Models, customers


@pytest.fixture
def subjects(kiosk: Kiosk, tmp_path: Path) -> SubjectKeys:
    """The keys of people, in a vault of two folders."""
    mirrors = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        mirrors.append(FolderMirror(name, tmp_path / name))
    made = SubjectKeys(kiosk.state, kiosk.keyring, Vault(kiosk.state, kiosk.keyring, mirrors, nullcontext))
    kiosk.subjects = made
    return made


def open_shop(kiosk: Kiosk) -> Models:
    """Names belong to their own row's person, addresses of orders to the customer's."""
    models = customers()
    kiosk.protect(models.customer, "name", bind="subject")
    kiosk.protect(models.order, "ship_to", bind="subject")
    kiosk.persons = {"customer.name": ("id",), "purchase.ship_to": ("customer_id",)}
    kiosk.create(models.base)
    seal_all(kiosk)
    return models


def seal_all(kiosk: Kiosk) -> None:
    guard = kiosk.fields()
    guard.state.write(guard.remember(guard.encrypt(guard.plan(), RunId(hex_token(16)))))
    kiosk.clock.step(timedelta(seconds=2))


def buy(kiosk: Kiosk, models: Models) -> None:
    with kiosk.session() as session:
        for name in ("Anna", "Bert"):
            orders = [models.order(number=n, ship_to=f"{name}'s street {n}") for n in (1, 2)]
            session.add(models.customer(email=f"{name}@example.org", name=name, orders=orders))
        session.commit()


def seen(kiosk: Kiosk, models: Models) -> list[tuple[Any, list[Any]]]:
    with kiosk.session() as session:
        found = session.scalars(sa.select(models.customer).order_by(models.customer.email))
        return [(each.name, [order.ship_to for order in each.orders]) for each in found]


WANTED = [("Anna", ["Anna's street 1", "Anna's street 2"]), ("Bert", ["Bert's street 1", "Bert's street 2"])]


def test_values_are_sealed_for_their_person(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    models = open_shop(kiosk)
    buy(kiosk, models)
    assert seen(kiosk, models) == WANTED
    assert all(value.startswith("g1.") for (value,) in kiosk.ask("SELECT ship_to FROM purchase"))
    (anna,), (bert,) = kiosk.ask("SELECT ship_to FROM purchase WHERE number = 1 ORDER BY customer_id")
    kiosk.sql(f"UPDATE purchase SET ship_to = '{anna}' WHERE ship_to = '{bert}'")
    with pytest.raises(TamperedError, match="not its person's"):
        seen(kiosk, models)


def test_an_order_that_changes_hands_is_sealed_for_the_other(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    models = open_shop(kiosk)
    buy(kiosk, models)
    with kiosk.session() as session:
        anna, bert = session.scalars(sa.select(models.customer).order_by(models.customer.email))
        moved = models.order(number=9, ship_to="Between", customer=anna)
        session.add(moved)
        session.commit()
        moved.customer = bert
        session.commit()
    assert [street for _, streets in seen(kiosk, models) for street in streets] == [
        "Anna's street 1", "Anna's street 2", "Bert's street 1", "Bert's street 2", "Between",
    ]  # fmt: skip


def test_what_was_shredded_is_none_and_the_rest_lives(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    models = open_shop(kiosk)
    buy(kiosk, models)
    [(key,)] = kiosk.ask("SELECT id FROM customer WHERE email = 'Anna@example.org'")
    person = Person("customer", key_bytes((key,)))  # type: ignore[arg-type]  # an int
    shredder = Shredder(kiosk.state, kiosk.keyring, subjects)
    assert shredder.shred(Death(person, "account", hex_token(16), ()))
    subjects.forget()
    assert seen(kiosk, models) == [(None, [None, None]), WANTED[1]]


def test_the_persons_key_has_to_be_loaded_too(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    models = customers()

    class Note(models.base):  # type: ignore[name-defined, misc]  # made for each test
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"))
        words: Mapped[str] = mapped_column(sa.String(60))

    kiosk.protect(Note, "words", bind="subject")
    kiosk.persons = {"note.words": ("customer_id",)}
    kiosk.create(models.base)
    seal_all(kiosk)
    with kiosk.session() as session:
        session.add(models.customer(email="anna@example.org"))
        session.flush()
        session.add(Note(customer_id=session.scalars(sa.select(models.customer.id)).one(), words="Hello"))
        session.commit()
    with kiosk.session() as session:
        assert session.scalars(sa.select(Note)).one().words == "Hello"
    with kiosk.session() as session, pytest.raises(SealedColumnError, match="opened by customer_id, which this query"):
        session.scalars(sa.select(Note).options(load_only(Note.words))).all()
    with kiosk.session() as session:
        only = load_only(Note.words, Note.customer_id)
        assert session.scalars(sa.select(Note).options(only)).one().words == "Hello"


def test_a_person_too_far_away_is_said(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    models = open_shop(kiosk)

    def far(at: str) -> tuple[str, ...]:
        raise ConfigError(f"{at}: its person is 2 tables away")

    kiosk.persons_of = far
    kiosk.keys.close()
    with pytest.raises(ConfigError, match="2 tables away"):
        seen(kiosk, models)


def test_bulk_rows_name_their_person(kiosk: Kiosk, subjects: SubjectKeys) -> None:
    from guard.fields.column import seal

    models = open_shop(kiosk)
    buy(kiosk, models)
    row = {"customer_id": 1, "number": 7, "ship_to": "Bulk"}
    with kiosk.session() as session:
        session.execute(sa.insert(models.order), seal(models.order, [row]))
        session.commit()
        assert session.get(models.order, (1, 7)).ship_to == "Bulk"
        with pytest.raises(SealedColumnError, match="a row without customer_id"):
            seal(models.order, {"number": 8, "ship_to": "Bulk"})
