"""One repository in one store: its config, its objects, its index, its chunks. Reading never changes it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from blake3 import blake3

from guard.backup import slots
from guard.backup.block import unpack
from guard.backup.chunk import Cutter
from guard.backup.index import BlockAt, Index, Segment
from guard.backup.pack import pack_name
from guard.backup.sealed import HEADER_SIZE, ID_SIZE, Box, Header, Kind, Sealing
from guard.backup.stores import Entry, MissingError, Store
from guard.canon import json_bytes
from guard.clock import stamp
from guard.crypto.random import token
from guard.errors import ConfigError, DeniedError, InterlockError, TamperedError

T = TypeVar("T")
_CACHE: Final = 64 << 20
"""Bytes of opened blocks kept while reading: pages of a database lie in as many blocks as it has lived days."""


class _Cutting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: int
    media: int
    page: int
    stream: int


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a repository is, for life."""

    v: int
    repository: str
    store: str
    """The store id of the guard that made it, 32 hex characters."""
    made: str
    id_root: str
    seed: str
    grace: int
    """Seconds."""
    slots: tuple[str, ...]
    cutter: _Cutting

    def __repr__(self) -> str:
        return f"Config({self.repository})"


@dataclass(frozen=True, slots=True)
class Founding:
    """What a new repository is told: whose it is, how long its dead bytes rest, who else may open it."""

    store_id: UUID
    made: datetime
    grace: timedelta
    recovery_public: bytes | None = None
    passphrase: str | None = None


class Repository:
    """An open repository. `index` is empty until `load_index`."""

    def __init__(self, store: Store, sealing: Sealing, config: Config) -> None:
        self.store = store
        self.sealing = sealing
        self.config = config
        self.grace = timedelta(seconds=config.grace)
        self.cutter = Cutter(int(config.seed), config.cutter.file, config.cutter.media, config.cutter.stream,
                             config.cutter.page)  # fmt: skip
        self.index = Index()
        id_root = bytes.fromhex(config.id_root)
        self._id_key = sealing.derived("chunk-id", id_root)
        self._digest_key = sealing.derived("digest", id_root)
        self._boxes: dict[bytes, Box] = {}
        self._blocks: OrderedDict[BlockAt, bytes] = OrderedDict()
        self._held = 0
        self._segments: list[str] = []

    @classmethod
    def init(cls, store: Store, masters: Mapping[int, bytes], founding: Founding) -> Repository:
        """Make a repository in an empty store. Raises InterlockError when there is one already."""
        _need_empty(store)
        repository = token(16)
        sealing = Sealing(repository, masters)
        made = _slots(sealing, founding)
        cutter = Cutter(int.from_bytes(token(8), "big") >> 1 or 1)
        config = Config(
            v=1,
            repository=repository.hex(),
            store=founding.store_id.hex,
            made=stamp(founding.made),
            id_root=token(32).hex(),
            seed=str(cutter.seed),
            grace=int(founding.grace.total_seconds()),
            slots=tuple(name for name, _ in made),
            cutter=_Cutting(cutter.file, cutter.media, cutter.page, cutter.stream),
        )
        for left in [*store.list("keys/")]:
            store.delete(left.name)  # of an init that was interrupted; without a config it opens nothing
        for name, raw in made:
            store.put_if_absent(name, raw)
        raw = sealing.seal(Kind.CONFIG, "config", json_bytes(msgspec.to_builtins(config)))
        if not store.put_if_absent("config", raw):
            raise InterlockError(f"there is a repository in {store.where} already")
        return cls(store, sealing, config)

    @classmethod
    def open(cls, store: Store, masters: Mapping[int, bytes], newest: int | None = None) -> Repository:
        """Open the repository in a store with guard's own key. `newest`: the version that seals, if not the highest.

        Raises ConfigError when there is none, DeniedError when it needs another key.
        """
        raw = _config_of(store)
        try:
            header = Header.parse(raw)
        except ValueError as error:
            raise TamperedError(f"config in {store.where}: {error}") from None
        if header.version not in masters:
            raise DeniedError(
                f"the repository in {store.where} needs version {header.version} of the repository key",
                hint="it may have been made by another guard",
            )
        return cls._opened(store, Sealing(header.repository, masters, newest), raw)

    @classmethod
    def _opened(cls, store: Store, sealing: Sealing, raw: bytes) -> Repository:
        try:
            body = sealing.open(Kind.CONFIG, "config", raw)
        except TamperedError as error:
            raise TamperedError(
                f"{error} (in {store.where})", hint="it was changed, or another guard made this repository"
            ) from None
        return cls(store, sealing, decode(body, Config, "config"))

    def load_index(self, avoided: Iterable[bytes] = ()) -> None:
        """Read all index segments. Chunks in `avoided` packs are used only where there is no other copy."""
        index = Index(frozenset(avoided))
        self._segments = self.names("index")
        for name in self._segments:
            index.add(self.segment(name))
        self.index = index

    def has_its_segments(self) -> bool:
        """Say whether all segments that `load_index` read are still in the store."""
        return set(self._segments) <= set(self.names("index"))

    def segment(self, name: str) -> Segment:
        """Return an index segment. Raises TamperedError."""
        try:
            return Segment.parse(self.read(Kind.INDEX, name))
        except ValueError as error:
            raise TamperedError(f"{name}: {error}") from None

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, in order."""
        return [entry.name for entry in self.entries(folder)]

    def entries(self, folder: str) -> list[Entry]:
        """Return the objects in a folder, in the order of their names."""
        return list(self.store.list(f"{folder}/"))

    def read(self, kind: Kind, name: str) -> bytes:
        """Return the body of a sealed object. Raises TamperedError, MissingError included."""
        return self.sealing.open(kind, name, self.store.get(name))

    def write(self, kind: Kind, folder: str, body: bytes) -> str:
        """Seal `body` under a new random id and return the object's name."""
        name = f"{folder}/{token(ID_SIZE).hex()}"
        self.put_new(name, self.sealing.seal(kind, name, body))
        return name

    def put_new(self, name: str, raw: bytes | bytearray) -> None:
        """Write an object under a name that was drawn at random. Raises TamperedError when it is taken all the same."""
        if not self.store.put_if_absent(name, raw):
            raise TamperedError(f"{name} in {self.store.where} is taken by another object")

    def chunk_id(self, data: bytes | memoryview) -> bytes:
        """Return the id of a chunk: BLAKE3 under the repository's own key."""
        return blake3(data, key=self._id_key).digest()

    def digest(self) -> blake3:
        """Return a new keyed BLAKE3 for a whole file, to be updated."""
        return blake3(key=self._digest_key)

    def chunk(self, chunk: bytes) -> bytes | memoryview:
        """Return a chunk, compared with its id. Raises TamperedError when it is missing or another."""
        at = self.index.find(chunk)
        if at is None:
            raise TamperedError(f"chunk {chunk.hex()[:16]} is in no index of {self.store.where}")
        data = memoryview(self.block(self.index.blocks[at.block]))[at.offset : at.offset + at.length]
        if self.chunk_id(data) != chunk:
            raise TamperedError(f"chunk {chunk.hex()[:16]} in {pack_name(self.index.pack_of(at))} is another one")
        return data

    def stream(self, chunks: Sequence[bytes]) -> Iterator[bytes | memoryview]:
        """Yield chunks one after the other."""
        return map(self.chunk, chunks)

    def block(self, at: BlockAt) -> bytes:
        """Return the chunks of a block. Raises TamperedError when it does not open."""
        known = self._blocks.get(at)
        if known is not None:
            self._blocks.move_to_end(at)
            return known
        try:
            box = self._box(at.pack)
            sealed = self.store.get_range(pack_name(at.pack), at.offset, at.stored)
            data = unpack(at.codec, box.open(at.ordinal.to_bytes(12, "big"), at.ordinal, sealed), at.length)
        except ValueError as error:
            raise TamperedError(f"block {at.ordinal} of {pack_name(at.pack)}: {error}") from None
        self._keep(at, data)
        return data

    def _box(self, pack: bytes) -> Box:
        if pack not in self._boxes:
            name = pack_name(pack)
            self._boxes[pack] = self.sealing.old(Kind.PACK, name, self.store.get_range(name, 0, HEADER_SIZE))
        return self._boxes[pack]

    def _keep(self, at: BlockAt, data: bytes) -> None:
        self._blocks[at] = data
        self._held += len(data)
        while self._held > _CACHE and len(self._blocks) > 1:
            _, old = self._blocks.popitem(last=False)
            self._held -= len(old)


def decode(body: bytes, shape: type[T], name: str) -> T:
    """Read a JSON body. Raises TamperedError when it has another shape."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise TamperedError(f"{name}: {error}", hint="it may come from a newer guard") from None


def _need_empty(store: Store) -> None:
    if store.size("config") is not None:
        raise InterlockError(f"there is a repository in {store.where} already")
    for folder in ("packs/", "snapshots/", "erasures/"):
        if next(iter(store.list(folder)), None) is not None:
            raise InterlockError(
                f"{store.where} holds a repository without its config", hint="bring config back, or take an empty place"
            )


def now_of(store: Store) -> datetime:
    """Return the store's time in UTC."""
    return store.now().astimezone(UTC)


def _config_of(store: Store) -> bytes:
    try:
        return store.get("config")
    except MissingError:
        raise ConfigError(f"there is no repository in {store.where}", hint="guard backup init makes one") from None


def _slots(sealing: Sealing, founding: Founding) -> list[tuple[str, bytes]]:
    made = []
    if founding.recovery_public is not None:
        made.append(slots.recovery_slot(sealing, founding.recovery_public))
    if founding.passphrase is not None:
        made.append(slots.passphrase_slot(sealing, founding.passphrase))
    return made
