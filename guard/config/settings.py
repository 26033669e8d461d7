"""The shape of `guard.toml`."""

from typing import Annotated, Literal

import msgspec

from guard.config.secret import Secret

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class StateSettings(_Part, frozen=True, kw_only=True):
    """Where guard remembers: a SQLAlchemy URL; a relative SQLite path starts at guard.toml's folder."""

    url: str | Secret = "sqlite:///var/state.db"


class ShopSettings(_Part, frozen=True, kw_only=True):
    """The shop's own database: a SQLAlchemy URL of SQLite, PostgreSQL, MariaDB or MySQL."""

    url: str | Secret
    schema: str | None = None
    tls: Literal["verify", "off"] = "verify"


class RootSettings(_Part, frozen=True, kw_only=True):
    """What opens the key hierarchy."""

    kind: Literal["file", "passphrase"] = "file"
    path: str = "keys/root.key"
    passphrase: Secret | None = None


class StoreSettings(_Part, frozen=True, kw_only=True):
    """A place for backups: a folder, or a bucket of any S3."""

    name: Name
    kind: Literal["local", "s3"] = "local"
    path: str | None = None
    bucket: str | None = None
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None

    def __post_init__(self) -> None:
        if self.kind == "local" and not self.path:
            raise ValueError('a store of kind "local" needs a path')
        if self.kind == "s3" and not self.bucket:
            raise ValueError('a store of kind "s3" needs a bucket')


class BackupSettings(_Part, frozen=True, kw_only=True):
    """What is backed up, and where to. The shop's database and guard's state always are."""

    store: tuple[StoreSettings, ...] = ()
    files: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class AnchorSettings(_Part, frozen=True, kw_only=True):
    """A place outside the ledger that vouches for its newest checkpoint."""

    name: Name
    kind: Literal["folder"] = "folder"
    path: str


class AuditSettings(_Part, frozen=True, kw_only=True):
    """Where the ledger's checkpoints are anchored."""

    anchor: tuple[AnchorSettings, ...] = ()


class ReportSettings(_Part, frozen=True, kw_only=True):
    """Where reports are written."""

    folder: str = "reports"


class Settings(_Part, frozen=True, kw_only=True):
    """The whole of `guard.toml`."""

    name: str
    shop: ShopSettings
    state: StateSettings = StateSettings()
    root: RootSettings = RootSettings()
    backup: BackupSettings = BackupSettings()
    audit: AuditSettings = AuditSettings()
    report: ReportSettings = ReportSettings()
    policies: str = "policies"
