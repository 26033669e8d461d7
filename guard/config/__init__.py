"""What we were told: `guard.toml` and `policies/*.toml`, read once into frozen values.

All mistakes of a file are reported together, each with file and key path. This room reads files and nothing else: no
database, no clock.
"""

import msgspec

from guard.config.access import AccessPolicy
from guard.config.audit import AuditPolicy
from guard.config.backup import BackupPolicy
from guard.config.breach import BreachPolicy
from guard.config.catalog import Catalog, Column, Link, Protect, Subject
from guard.config.load import load_catalog, load_policy, load_settings, struct_schema
from guard.config.retention import RetentionPolicy
from guard.config.schedule import Schedule
from guard.config.secret import Secret, reveal
from guard.config.settings import Settings, StoreSettings, VaultSettings
from guard.config.span import Span
from guard.config.taxonomy import Taxonomy

POLICIES: dict[str, type[msgspec.Struct]] = {
    "catalog": Catalog,
    "taxonomy": Taxonomy,
    "retention": RetentionPolicy,
    "backup": BackupPolicy,
    "schedule": Schedule,
    "access": AccessPolicy,
    "audit": AuditPolicy,
    "breach": BreachPolicy,
}
"""What lies in the folder of policies: file name without `.toml`, and its shape."""

__all__ = [
    "POLICIES",
    "Catalog",
    "Column",
    "Link",
    "Protect",
    "Secret",
    "Settings",
    "Span",
    "StoreSettings",
    "Subject",
    "VaultSettings",
    "load_catalog",
    "load_policy",
    "load_settings",
    "reveal",
    "struct_schema",
]
