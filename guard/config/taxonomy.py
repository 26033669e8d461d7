"""The shape of `policies/taxonomy.toml`: the categories of data, and how each is treated by default."""

from typing import Annotated, Literal

import msgspec

from guard.config.catalog import Normaliser, Protect

AnonymizeMethod = Literal["keep", "null", "constant", "mask", "pseudonym", "year", "month", "postcode"]
"""What retention and erasure do to a value. docs: the table in `policies/taxonomy.toml`."""

CategoryName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$")]

UNCLASSIFIED = "unclassified"
"""The category of a column nobody has decided on; a finding wherever it stands."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Category(_Part, frozen=True, kw_only=True):
    """One kind of data, e.g. e-mail addresses."""

    what: str
    personal: bool
    tier: str
    protect: Protect = Protect.NONE
    anonymize: AnonymizeMethod = "keep"
    index: Normaliser | None = None
    """How values are read where a column of it is unique: proposed as its index, so that it stays so once sealed."""
    reason: str = ""
    """Why it is not sealed although it is personal, in words for the operator."""

    def __post_init__(self) -> None:
        if not self.personal and self.protect is not Protect.NONE:
            raise ValueError("what is not personal is not sealed")
        if self.personal and self.protect is Protect.NONE and not self.reason:
            raise ValueError("personal and not sealed: say why in `reason`")
        if self.index and self.protect is not Protect.ENCRYPT:
            raise ValueError("`index` is for what is sealed")


class Taxonomy(_Part, frozen=True, kw_only=True):
    """The whole of `policies/taxonomy.toml`."""

    category: dict[CategoryName, Category]

    def __post_init__(self) -> None:
        if UNCLASSIFIED in self.category:
            raise ValueError(f"category {UNCLASSIFIED!r} stands for what nobody has decided on; it cannot be described")

    def personal(self, name: str) -> bool:
        """Tell whether a category is personal data. What is unclassified or unknown counts as personal."""
        return name not in self.category or self.category[name].personal
