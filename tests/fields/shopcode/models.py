"""Classes a shop might map. Made anew for each test, as `protect` changes them."""

from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Models:
    base: type[DeclarativeBase]
    customer: type
    order: type


def customers() -> Models:
    """Customers with orders."""

    class Base(DeclarativeBase):
        pass

    class Customer(Base):
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(sa.String(60), unique=True)
        name: Mapped[str | None] = mapped_column(sa.String(60))
        visits: Mapped[int] = mapped_column(default=0)
        orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.number")

        @validates("email")
        def trimmed(self, _: str, value: str | None) -> str | None:
            return value.strip() if value else value

    class Order(Base):
        __tablename__ = "purchase"
        customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        ship_to: Mapped[str | None] = mapped_column(sa.String(80))
        customer: Mapped[Customer] = relationship(back_populates="orders")

    return Models(Base, Customer, Order)


def typed() -> type[DeclarativeBase]:
    """One column of each type; the class is `Base.registry`'s only one."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        text_: Mapped[str | None] = mapped_column(sa.Text)
        count_: Mapped[int | None]
        price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
        weight: Mapped[float | None] = mapped_column(sa.Double)
        born: Mapped[date | None]
        seen: Mapped[datetime | None]
        opens: Mapped[time | None]
        vip: Mapped[bool | None]
        photo: Mapped[bytes | None] = mapped_column(sa.LargeBinary(200))
        code: Mapped[UUID | None]
        size: Mapped[Size | None]
        extra: Mapped[dict[str, int] | None] = mapped_column(sa.JSON)

    return Thing
