"""The shape of `guard.toml`."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from guard.config.secret import Secret

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AwsSettings(_Part, frozen=True, kw_only=True):
    """How AWS, or what speaks like it, is reached; what is left out is looked for where AWS tools do."""

    endpoint: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None


class BucketSettings(AwsSettings, frozen=True, kw_only=True):
    """A bucket of any S3, and what names in it begin with."""

    bucket: str | None = None
    prefix: str = ""


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


class OneRoot(AwsSettings, frozen=True, kw_only=True):
    """A key that the key hierarchy hangs from: in a file, of a passphrase, in AWS KMS, or given by systemd."""

    kind: Literal["file", "passphrase", "kms", "credential"] = "file"
    path: str = "keys/root.key"
    passphrase: Secret | None = None
    credential: CredentialName = "guard-root"
    key: str | None = None

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


class StoreSettings(BucketSettings, frozen=True, kw_only=True):
    """A place for backups: a folder, or a bucket of any S3."""

    name: Name
    kind: Literal["local", "s3"] = "local"
    path: str | None = None

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


class VaultSettings(BucketSettings, frozen=True, kw_only=True):
    """A mirror of the vault of epoch keys: a folder, a bucket without versions, or AWS KMS. Two at least are needed.

    Nothing else may copy what lies there: no backup, no snapshot, no replication.
    """

    name: Name
    kind: Literal["folder", "s3", "kms"] = "folder"
    path: str | None = None
    window: Annotated[int, msgspec.Meta(ge=7, le=30, description="days between deletion and its end, KMS only")] = 7

    def __post_init__(self) -> None:
        if self.kind == "folder" and not self.path:
            raise ValueError('a vault of kind "folder" needs a path')
        if self.kind == "s3" and not self.bucket:
            raise ValueError('a vault of kind "s3" needs a bucket')


class AnchorSettings(BucketSettings, frozen=True, kw_only=True):
    """A place outside the ledger that vouches for its newest checkpoint. runbooks/anchors.md says what each proves.

    folder: keeps it in `path`. s3: keeps it in a bucket with Object Lock. witness: a C2SP tlog-witness signs it.
    timestamp: an RFC 3161 authority signs since when it exists; token and checkpoint are kept in `path`.
    """

    name: Name
    kind: Literal["folder", "s3", "witness", "timestamp"] = "folder"
    path: str | None = None
    url: Annotated[str | None, msgspec.Meta(description="of a witness or an authority, without a slash at its end")] = (
        None
    )
    vkey: Annotated[str | None, msgspec.Meta(description="the line that the witness prints")] = None
    ca: Annotated[str | None, msgspec.Meta(description="a PEM file: whom to trust for https instead of the system")] = (
        None
    )
    authority: Annotated[str | None, msgspec.Meta(description="a PEM file: the root of an RFC 3161 authority")] = None
    tls: Annotated[
        Literal["verify", "off"],
        msgspec.Meta(description="off lets url be plain http; what is answered is verified by its signature anyway"),
    ] = "verify"

    def __post_init__(self) -> None:
        for kind, needed, what in _ANCHORS:
            if self.kind == kind and not getattr(self, needed):
                raise ValueError(f'an anchor of kind "{kind}" needs {what}')
        for each in _OF_ANCHORS:
            if getattr(self, each) and each not in _OF_ANCHOR[self.kind]:
                raise ValueError(f'{each} says nothing about an anchor of kind "{self.kind}"')
        if self.url is not None:
            _check_url(self.url, self.tls)


_ANCHORS = (
    ("folder", "path", "a path"),
    ("s3", "bucket", "a bucket"),
    ("witness", "url", "a url"),
    ("witness", "vkey", "a vkey: the line that the witness prints"),
    ("timestamp", "url", "a url"),
    ("timestamp", "path", "a path: the folder for its tokens"),
    ("timestamp", "authority", "an authority: a PEM file with its root certificate"),
)
"""Kind, key, what it is called."""

_OF_BUCKET = frozenset(BucketSettings.__struct_fields__)
_OF_ANCHOR = {
    "folder": frozenset({"path"}),
    "s3": _OF_BUCKET,
    "witness": frozenset({"url", "vkey", "ca"}),
    "timestamp": frozenset({"url", "path", "authority", "ca"}),
}
_OF_ANCHORS = ("path", *sorted(_OF_BUCKET), "url", "vkey", "ca", "authority")


def _check_url(url: str, tls: str) -> None:
    """Raise ValueError for a URL that cannot be asked, or only without TLS where that was not said."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError("this url cannot be read: it is https://host or https://host:port/path") from None
    if parts.username or parts.password:
        raise ValueError("a url here names nobody and holds no password")
    if not whole or parts.query or parts.fragment or url.endswith("/"):
        raise ValueError(f'a url is https://host or https://host:port/path, without a slash at its end, not "{url}"')
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"} and tls != "off":
        raise ValueError('plain http leaves this machine: write https, or tls = "off" if you mean it')


class AuditSettings(_Part, frozen=True, kw_only=True):
    """Where the ledger's checkpoints are anchored."""

    anchor: tuple[AnchorSettings, ...] = ()

    def __post_init__(self) -> None:
        for what, found in (
            ("are called", [each.name for each in self.anchor]),
            ("have the vkey", [each.vkey for each in self.anchor if each.vkey]),
            ("lie in the folder", [each.path for each in self.anchor if each.path]),
            ("lie in the bucket", [f"{each.bucket}/{each.prefix}" for each in self.anchor if each.bucket]),
        ):
            if twice := sorted({each for each in found if found.count(each) > 1}):
                raise ValueError(f"two anchors {what} {', '.join(twice)}: that is one")


class AgentSettings(_Part, frozen=True, kw_only=True):
    """Where `guard daemon` listens for programs and people; a relative path starts at guard.toml's folder.

    Who may come in is decided by their OS user, not by the path. `exchange` is the folder whose files the commands of
    people who are other OS users may name; without it they name none.
    """

    socket: str = "var/agent/guard.sock"
    exchange: str | None = None

    def __post_init__(self) -> None:
        if not self.socket or self.socket.endswith("/") or "\0" in self.socket:
            raise ValueError('socket is the path of a file, e.g. "/run/guard/guard.sock"')
        if self.exchange is not None and (not self.exchange or "\0" in self.exchange):
            raise ValueError('exchange is the path of a folder, e.g. "/srv/guard-exchange"')


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
    agent: AgentSettings = AgentSettings()
    report: ReportSettings = ReportSettings()
    policies: str = "policies"

    def __post_init__(self) -> None:
        names = [mirror.name for mirror in self.vault]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two mirrors of the vault are called {', '.join(twice)}")
