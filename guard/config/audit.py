"""The shape of `policies/audit.toml`: how fresh the outside proof of the ledger must be."""

import msgspec

from guard.config.span import Span


class AuditPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `policies/audit.toml`."""

    anchor_age: Span = Span.parse("26 hours")
    """`audit verify` exits 15 when the last anchored entry is older than this."""
