"""What we were told: `guard.toml` and `policies/*.toml`, read once into frozen values.

All mistakes of a file are reported together, each with file and key path. This room reads files and nothing else: no
database, no clock.
"""

from guard.config.catalog import Catalog, Column, Link, Protect, Subject
from guard.config.load import load_catalog, load_policy, load_settings, struct_schema
from guard.config.secret import Secret, reveal
from guard.config.settings import Settings, StoreSettings
from guard.config.span import Span

__all__ = [
    "Catalog",
    "Column",
    "Link",
    "Protect",
    "Secret",
    "Settings",
    "Span",
    "StoreSettings",
    "Subject",
    "load_catalog",
    "load_policy",
    "load_settings",
    "reveal",
    "struct_schema",
]
