"""The shape of `policies/audit.toml`: what outside proof of the ledger is enough, and what may be told to it."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from guard.config.span import Span

_LEAST = Span.parse("12 months")
_YEAR = datetime(2001, 1, 1, tzinfo=UTC)
"""The begin of a year to measure lengths by."""

_Purpose = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


class AuditPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `policies/audit.toml`."""

    anchors: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1
    """How many anchors must vouch. Weak ones count as one together, and only where no other is named."""
    anchor_age: Span = Span.parse("26 hours")
    """`audit verify` exits 15 when the last anchored entry is older than this."""
    anchor_warn: Span = Span.parse("25 hours")
    """`guard status` is yellow from then on."""
    anchor_lock: Span = Span.parse("13 months")
    """How long a bucket with Object Lock keeps each checkpoint from being deleted."""
    keep: Span = Span.parse("12 months")
    """The job `ledger` removes entries that are older, once they are a month older."""
    purposes: tuple[_Purpose, ...] = (
        "support", "order", "payment", "delivery", "marketing", "security", "legal", "test",
    )  # fmt: skip
    """What for the shop may say that it used personal data."""

    def __post_init__(self) -> None:
        if self.keep.after(_YEAR) < _LEAST.after(_YEAR):
            raise ValueError(f"keep is at least {_LEAST}: PCI DSS 10.5.1 wants a year of the audit log at hand")
