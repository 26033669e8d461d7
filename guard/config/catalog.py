"""The catalog: which columns hold whose data, and how each is protected. DESIGN rule: everything obeys it."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

At = Annotated[str, msgspec.Meta(pattern=r"^[^.]+\.[^.]+$", description="Table.Column")]
Normaliser = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(exact|email|phone|name|last4|prefix:[1-9][0-9]?)$",
        description="exact, email, phone, name, last4 or prefix:N",
    ),
]


class Protect(StrEnum):
    """How a column is protected."""

    ENCRYPT = "encrypt"
    HASH = "hash"
    NONE = "none"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Subject(_Part, frozen=True, kw_only=True):
    """A kind of person: the table and key that identify one, and how to reach them."""

    table: str
    key: str
    email: At | None = None
    language: At | None = None


class Column(_Part, frozen=True, kw_only=True):
    """One column of the shop. `id` is given once by `data accept`; 0 in a proposal."""

    at: At
    id: int = 0
    category: str = "unclassified"
    tier: str = "internal"
    protect: Protect = Protect.NONE
    bind: Literal["row", "subject", "column"] = "row"
    tight: bool = False
    """Sealed with AES-256-GCM instead of XAES: 12 bytes shorter, at most 2^31 values a key."""
    index: Normaliser | None = None
    anonymize: str = "keep"
    class_: Annotated[str, msgspec.Meta(description="account, tax or ledger")] = msgspec.field(
        default="account", name="class"
    )

    @property
    def table(self) -> str:
        """The table's name."""
        return self.at.split(".")[0]

    @property
    def name(self) -> str:
        """The column's name."""
        return self.at.split(".")[1]


class Link(_Part, frozen=True, kw_only=True):
    """A declared path to a subject where the schema has no foreign key: `from_` refers to `to`."""

    from_: At = msgspec.field(name="from")
    to: At


class Catalog(_Part, frozen=True, kw_only=True):
    """The whole of `policies/catalog.toml`."""

    subject: dict[str, Subject] = {}  # msgspec copies an empty default
    column: tuple[Column, ...] = ()
    link: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        at = [column.at for column in self.column]
        ids = [column.id for column in self.column if column.id]
        if twice := sorted({name for name in at if at.count(name) > 1}):
            raise ValueError(f"listed twice: {', '.join(twice)}")
        if same := sorted({number for number in ids if ids.count(number) > 1}):
            raise ValueError(f"column id given twice: {', '.join(map(str, same))}")

    def find(self, at: str) -> Column | None:
        """Return the column at "Table.Column", or None when it is unclassified."""
        return next((column for column in self.column if column.at == at), None)

    def encrypted(self) -> tuple[Column, ...]:
        """Return the columns that are to be sealed."""
        return tuple(column for column in self.column if column.protect is Protect.ENCRYPT)
