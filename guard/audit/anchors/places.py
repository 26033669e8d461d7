"""Open the anchors that guard.toml names. What a kind needs is loaded when it is first used, not with the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from guard.audit.anchors import FIRST, NOTHING, Anchor, Known
from guard.audit.anchors.folder import FolderAnchor
from guard.clock import Clock
from guard.config.secret import Secret
from guard.config.span import Span
from guard.crypto.cosign import WitnessKey
from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.audit.anchors.web import Web
    from guard.config.settings import AnchorSettings


@dataclass(frozen=True, slots=True)
class Around:
    """What anchors are opened with."""

    home: Path
    """The folder of guard.toml, from which paths start, and beside which a folder is weak."""
    clock: Clock
    reveal: Callable[[Secret], str]
    lock: Callable[[], Span]
    """Tells how long a bucket keeps a checkpoint locked."""


def open_anchor(settings: AnchorSettings, around: Around) -> Anchor:
    """Return an anchor; nothing is asked yet, and settings that cannot be are told when it is used."""
    match settings.kind:
        case "folder":
            return FolderAnchor(settings.name, around.home / (settings.path or ""), around.home)
        case "s3":
            return LazyAnchor(settings.name, f"bucket {settings.bucket}", lambda: _bucket(settings, around))
        case "witness":
            place, vkey = settings.url or "", settings.vkey
            return LazyAnchor(settings.name, place, lambda: _witness(settings, around), vkey)
        case "timestamp":
            return LazyAnchor(settings.name, settings.url or "", lambda: _timestamp(settings, around))


class LazyAnchor:
    """An anchor that is opened when it is first used. What keeps it from opening is its failure, not the ledger's."""

    def __init__(self, name: str, place: str, opening: Callable[[], Anchor], vkey: str | None = None) -> None:
        """`vkey`: that of a witness, which is known without opening it."""
        self.name = name
        self._vkey = vkey
        self._place = place
        self._opening = opening

    @cached_property
    def opened(self) -> Anchor:
        """The anchor. Raises ConfigError, naming it, when its settings cannot be."""
        try:
            return self._opening()
        except ConfigError as error:
            raise ConfigError(f"anchor {self.name}: {error}", hint=error.hint) from error

    @property
    def where(self) -> str:
        """What a person calls this place, as far as it is known."""
        try:
            return self.opened.where
        except ConfigError:
            return self._place

    @property
    def weak(self) -> bool:
        """Whether it is weak; one that cannot be opened vouches for nothing anyway."""
        try:
            return self.opened.weak
        except ConfigError:
            return False

    @property
    def witness(self) -> WitnessKey | None:
        """What checks its cosignatures; one with a key that is none can have none that is good."""
        try:
            return None if self._vkey is None else WitnessKey.from_vkey(self._vkey)
        except ConfigError:
            return None

    def create(self) -> None:
        """Do as the anchor does."""
        self.opened.create()

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> str | None:
        """Do as the anchor does."""
        return self.opened.put(size, note, log, known)

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:
        """Do as the anchor does."""
        return self.opened.newest(known)

    def time_of(self, note: str) -> datetime | None:
        """Do as the anchor does."""
        return self.opened.time_of(note)

    def check(self, known: Known = NOTHING) -> Sequence[str]:
        """Do as the anchor does."""
        return self.opened.check(known)


def _bucket(settings: AnchorSettings, around: Around) -> Anchor:
    from guard.audit.anchors.bucket import BucketAnchor  # noqa: PLC0415  # boto3 is loaded by shops that have a bucket
    from guard.aws import Access, s3_client  # noqa: PLC0415

    client = s3_client(Access.of(settings, around.reveal))
    prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""
    return BucketAnchor(settings.name, client, settings.bucket or "", prefix, around.lock(), around.clock)


def _witness(settings: AnchorSettings, around: Around) -> Anchor:
    from guard.audit.anchors.witness import WitnessAnchor  # noqa: PLC0415  # HTTP is loaded by shops that have a witness

    return WitnessAnchor(settings.name, WitnessKey.from_vkey(settings.vkey or ""), _web(settings, around))


def _timestamp(settings: AnchorSettings, around: Around) -> Anchor:
    try:
        from guard.audit.anchors.timestamp import TimestampAnchor  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ConfigError("it needs the extra tsa", hint="pip install 'guard-toolkit[tsa]'") from error
    folder = FolderAnchor(settings.name, around.home / (settings.path or ""), around.home)
    return TimestampAnchor(folder, _web(settings, around), around.home / (settings.authority or ""))


def _web(settings: AnchorSettings, around: Around) -> Web:
    from guard.audit.anchors.web import Web  # noqa: PLC0415  # HTTP is loaded by shops that have a witness

    ca = None if settings.ca is None else around.home / settings.ca
    return Web(f"anchor {settings.name}", settings.url or "", ca)
