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


CredentialName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}$")]
"""A systemd credential: a file's name, no path."""


class OneRoot(_Part, frozen=True, kw_only=True):
    """A key that the key hierarchy hangs from: in a file, of a passphrase, in AWS KMS, or given by systemd."""

    kind: Literal["file", "passphrase", "kms", "credential"] = "file"
    path: str = "keys/root.key"
    passphrase: Secret | None = None
    credential: CredentialName = "guard-root"
    key: str | None = None
    region: str | None = None
    endpoint: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None

    def __post_init__(self) -> None:
        if self.kind == "kms" and not self.key:
            raise ValueError('a root of kind "kms" needs a key: the ARN of a symmetric KMS key')


class RootSettings(OneRoot, frozen=True, kw_only=True):
    """What opens the key hierarchy; a second root opens it when the first does not answer."""

    second: OneRoot | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.second is not None and self.kind == self.second.kind == "passphrase":
            raise ValueError("two passphrases are one too many: the second root is to be of another kind")


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


class VaultSettings(_Part, frozen=True, kw_only=True):
    """A mirror of the vault of epoch keys: a folder, a bucket without versions, or AWS KMS. Two at least are needed.

    Nothing else may copy what lies there: no backup, no snapshot, no replication.
    """

    name: Name
    kind: Literal["folder", "s3", "kms"] = "folder"
    path: str | None = None
    bucket: str | None = None
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    window: Annotated[int, msgspec.Meta(ge=7, le=30, description="days between deletion and its end, KMS only")] = 7

    def __post_init__(self) -> None:
        if self.kind == "folder" and not self.path:
            raise ValueError('a vault of kind "folder" needs a path')
        if self.kind == "s3" and not self.bucket:
            raise ValueError('a vault of kind "s3" needs a bucket')


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
    vault: tuple[VaultSettings, ...] = ()
    audit: AuditSettings = AuditSettings()
    report: ReportSettings = ReportSettings()
    policies: str = "policies"

    def __post_init__(self) -> None:
        names = [mirror.name for mirror in self.vault]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two mirrors of the vault are called {', '.join(twice)}")
