"""A store in memory, one that fails when told to, and small things to back up."""

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from guard.backup.erasures import START
from guard.backup.repository import Founding, Repository
from guard.backup.restore import Restored, Wanted, restore
from guard.backup.restore import plan as plan_restore
from guard.backup.run import Made, Occasion, back_up
from guard.backup.snapshot import pick, snapshots
from guard.backup.sources import Found, Ready, Source
from guard.backup.sources.files import FilesSource
from guard.backup.stores import Entry, MissingError, Store
from guard.backup.tree import Meta, What
from guard.clock import Clock, SteppedClock
from guard.errors import UnavailableError

MASTER = {1: bytes(range(32))}
STORE_ID = UUID(int=7)
GRACE = timedelta(days=7)
TOLD = b"0123456789"


class MemoryStore:
    """A store in a dict, with the semantics that the contract tests ask of the real ones."""

    where = "memory"

    def __init__(self, clock: Clock, objects: dict[str, tuple[bytes, datetime]] | None = None) -> None:
        self.objects = dict(objects or {})
        self.clock = clock

    def now(self) -> datetime:
        return self.clock.now()

    def put_if_absent(self, name: str, data: bytes | bytearray) -> bool:
        kept, _ = self.objects.setdefault(name, (bytes(data), self.now()))
        return kept == data

    def get(self, name: str) -> bytes:
        if name not in self.objects:
            raise MissingError(f"{name} is missing")
        return self.objects[name][0]

    def get_range(self, name: str, start: int, length: int) -> bytes:
        return self.get(name)[start : start + length]

    def list(self, prefix: str) -> Iterator[Entry]:
        for name in sorted(self.objects):
            if name.startswith(prefix):
                data, at = self.objects[name]
                yield Entry(name, len(data), at)

    def size(self, name: str) -> int | None:
        return len(self.objects[name][0]) if name in self.objects else None

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)


class FailingStore:
    """A store whose `nth` call fails, before or after its effect; later calls work when `once` is set."""

    def __init__(self, inner: MemoryStore, nth: int, *, after: bool = False, once: bool = False) -> None:
        self.inner = inner
        self.nth = nth
        self.after = after
        self.once = once
        self.calls = 0
        self.where = inner.where

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self.inner, name)

        def call(*args: object) -> object:
            self.calls += 1
            fails = self.calls == self.nth or (self.calls > self.nth and not self.once)
            if fails and not self.after:
                raise UnavailableError("the store is gone")
            result = method(*args)
            if fails:
                raise UnavailableError("the store is gone, the answer was lost")
            return list(result) if name == "list" else result

        return call


class Bench:
    """A repository in a store, and the steps of a backup as the facade would do them."""

    def __init__(self, store: Store, clock: SteppedClock, temp: Path) -> None:
        self.store = store
        self.clock = clock
        self.temp = temp

    def found(self, **other: object) -> Repository:
        return Repository.init(self.store, MASTER, Founding(STORE_ID, self.clock.now(), GRACE, **other))

    def open(self) -> Repository:
        return Repository.open(self.store, MASTER)

    def run(self, *sources: Source | Ready) -> Made:
        ready = [source if isinstance(source, Ready) else self.ready(source) for source in sources]
        return back_up(self.open(), ready, Occasion(STORE_ID, self.clock.now()))

    def ready(self, source: Source) -> Ready:
        with source.ready(self.temp) as ready:  # for sources that copy nothing
            return ready

    def restore(self, to: Path, snapshot: str = "latest", **wanted: object) -> Restored:
        repository = self.open()
        chosen = pick(snapshots(repository), snapshot)
        repository.load_index()
        plan = plan_restore(repository, chosen, Wanted(to, **wanted))
        return restore(repository, chosen, plan.wanted, START)


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """guard's private scratch folder."""
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def store(clock: SteppedClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def bench(store: MemoryStore, clock: SteppedClock, temp: Path) -> Bench:
    """An empty repository in memory."""
    made = Bench(store, clock, temp)
    made.found()
    return made


@pytest.fixture
def new_bench(temp: Path) -> Callable[[Store, SteppedClock], Bench]:
    """Makes a bench on another store."""
    return lambda store, clock: Bench(store, clock, temp)


@pytest.fixture
def failing() -> type[FailingStore]:
    return FailingStore


@pytest.fixture
def memory() -> type[MemoryStore]:
    return MemoryStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small tree: odd names, an empty file, a link, modes."""
    root = tmp_path / "files"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"alpha" * 100)
    (root / "empty").write_bytes(b"")
    (root / "deep" / "er" / "photo").write_bytes(os.urandom(700_000))
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe odd\n name")).write_bytes(b"odd")
    (root / "link").symlink_to("a.txt")
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "deep" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "deep" / "run.sh").chmod(0o750)
    os.utime(root / "a.txt", ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    (root / "deep").chmod(0o550)
    return root


@pytest.fixture
def files(folder: Path) -> FilesSource:
    return FilesSource("files", folder)


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    """A SQLite shop of some 300 pages."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, note TEXT)")
        shop.executemany(
            "INSERT INTO customer (name, note) VALUES (?, ?)", [(f"name {n}", "x" * 200) for n in range(5000)]
        )
        shop.execute('CREATE TABLE "odd ""table" (a)')
    shop.close()
    return path


def snapshot_of(root: Path) -> dict[bytes, tuple[object, ...]]:
    """What a restore must bring back: for each path the type, mode, mtime, content or target."""
    out: dict[bytes, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        found = path.lstat()
        key = os.fsencode(path.relative_to(root))
        if path.is_symlink():
            out[key] = ("link", os.fsencode(path.readlink()), found.st_mtime_ns)
        elif path.is_dir():
            out[key] = ("folder", found.st_mode, found.st_mtime_ns)
        else:
            out[key] = ("file", found.st_mode, found.st_mtime_ns, path.read_bytes())
    return out


@pytest.fixture
def contents() -> Callable[[Path], dict[bytes, tuple[object, ...]]]:
    """Reads a tree: paths, types, modes, times, contents."""
    return snapshot_of


def _reader(content: Callable[[], bytes], temp: Path) -> Callable[[], object]:
    def read() -> object:
        path = temp / "content"
        path.write_bytes(content())
        return path.open("rb", buffering=0)

    return read


@pytest.fixture
def made_up(temp: Path) -> Callable[..., Ready]:
    """Makes a source of settled files from {path: content}.

    A callable content is asked when it is read; the file looks from outside as if it held TOLD.
    """

    def make(name: str = "made", /, changed: tuple[str, ...] = (), **content: bytes | Callable[[], bytes]) -> Ready:
        def walk(_: object) -> Iterator[Found]:
            for path in sorted(content):
                value = content[path]
                get = value if callable(value) else lambda value=value: value
                seen = TOLD if callable(value) else value  # what the file system says follows the content
                yield Found(
                    path.encode(),
                    What.FILE,
                    Meta(mtime=zlib.crc32(seen)),
                    len(seen),
                    read=_reader(get, temp),
                    changed=lambda _, path=path: path in changed,
                    settled=True,
                )

        return Ready(name, "files", walk)

    return make


@pytest.fixture
def days() -> Callable[[int], datetime]:
    return lambda number: datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=number)
