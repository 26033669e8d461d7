"""A small shop whose customers' data guard seals: register, log in, change the e-mail address, order, list orders.

What its staff looks at is on guard's record.

Run it: python shop.py register anna@example.org "Anna Muster". What guard added to it are the lines marked "guard".
"""

import hashlib
import hmac
import os
import sys
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from guard.audit import Emitter  # guard
from guard.fields.column import FieldKeys, protect, seal  # guard

keys = FieldKeys.open(os.environ.get("GUARD_CONFIG", "guard.toml"))  # guard: reads nothing before it is used
record = Emitter.open(os.environ.get("GUARD_CONFIG", "guard.toml"))  # guard: nor does this


class Base(DeclarativeBase):
    """All tables of the shop."""


class Customer(Base):
    """Somebody who has registered. The e-mail address is what they log in with."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(80), unique=True)
    name: Mapped[str] = mapped_column(sa.String(80))
    password: Mapped[str] = mapped_column(sa.String(200))
    newsletter: Mapped[bool] = mapped_column(default=False)
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.id")


class Order(Base):
    """What a customer has ordered, and where it goes."""

    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"))
    street: Mapped[str] = mapped_column(sa.String(200))
    total_cents: Mapped[int]
    placed_at: Mapped[datetime]
    customer: Mapped[Customer] = relationship(back_populates="orders")


protect(Customer, keys, "email", "name")  # guard
protect(Order, keys, "street")  # guard


class TakenError(Exception):
    """Somebody else has this e-mail address already."""


def register(session: Session, email: str, name: str, password: str) -> Customer:
    """Take a new customer in. Raises TakenError."""
    customer = Customer(email=email, name=name, password=hashed(password))
    session.add(customer)
    return _saved(session, customer)


def login(session: Session, email: str, password: str) -> Customer | None:
    """Return the customer with this e-mail address, in any case, if the password is theirs."""
    found = session.scalars(sa.select(Customer).where(Customer.email == email)).one_or_none()
    return found if found is not None and matches(password, found.password) else None


def change_email(session: Session, customer: Customer, email: str) -> Customer:
    """Give a customer another e-mail address. Raises TakenError."""
    customer.email = email
    return _saved(session, customer)


def order(session: Session, customer: Customer, street: str, total_cents: int) -> Order:
    """Place an order."""
    placed = Order(customer=customer, street=street, total_cents=total_cents, placed_at=now())
    session.add(placed)
    session.commit()
    return placed


def orders_of(session: Session, email: str) -> list[tuple[int, str, int]]:
    """Return number, address and total of a customer's orders."""
    query = sa.select(Order).join(Order.customer).where(Customer.email == email).order_by(Order.id)
    return [(each.id, each.street, each.total_cents) for each in session.scalars(query)]


def show_order(session: Session, staff: str, number: int) -> tuple[str, str, int]:
    """Return name, address and total of an order to somebody of the staff. Without a record nothing is shown."""
    found = session.get_one(Order, number)
    record.emit(  # guard
        "order.read",
        class_="read",
        actor=staff,
        subject=("customer", found.customer_id),
        objects=["customer.name", "purchase.street"],
        purpose="support",
    )
    return found.customer.name, found.street, found.total_cents


def import_customers(session: Session, rows: list[dict[str, object]]) -> None:
    """Take over customers of another shop, ids included, in one statement: no object is made for each."""
    session.execute(sa.insert(Customer), seal(Customer, rows))  # guard: seal() marks what is bound to its row
    session.commit()


def mailing_list(session: Session) -> list[str]:
    """Return whom the newsletter goes to, in alphabetical order: sealed columns are sorted in Python."""
    found = session.scalars(sa.select(Customer).where(Customer.newsletter))
    return sorted(each.email for each in found)


def _saved(session: Session, customer: Customer) -> Customer:
    try:
        session.commit()
    except IntegrityError as error:
        session.rollback()
        raise TakenError from error
    return customer


def hashed(password: str) -> str:
    """Return what is stored of a password."""
    salt = os.urandom(16)
    return f"{salt.hex()}:{hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


def matches(password: str, stored: str) -> bool:
    """Tell whether a password is the one that was stored."""
    salt, _, wanted = stored.partition(":")
    made = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()
    return hmac.compare_digest(made, wanted)


def now() -> datetime:
    """Return the time orders are placed at."""
    return datetime.now(UTC).replace(tzinfo=None)


def main(url: str, words: list[str]) -> None:
    """Do what the command line says: `register EMAIL NAME`, `orders EMAIL`, or `show STAFF ORDER`."""
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        match words:
            case ["register", email, name]:
                print(register(session, email, name, input("Password: ")).id)
            case ["orders", email]:
                print(*orders_of(session, email), sep="\n")
            case ["show", staff, number]:
                print(*show_order(session, staff, int(number)), sep="\n")
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main(os.environ.get("SHOP_URL", "sqlite:///shop.db"), sys.argv[1:])
