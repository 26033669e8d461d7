"""Is anybody's data in what is public for good: entries, checkpoints, anchors, exports, reports?

Looked for are the values in clear, in another encoding, and as a digest that anyone can compute again. A digest is
known by its first eight bytes, so that one that was cut is found too.
"""

import base64
import hashlib
import json
import re
import tomllib
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from blake3 import blake3

from guard.canon import json_bytes, key_bytes
from guard.crypto.blind import NORMALISERS

SHORT = 5
"""A text with fewer characters is a code, a country, a word: in clear it says nothing. As a digest it does."""
LONG = 8
"""A shorter one in clear counts only between other characters than letters and digits: base64 holds any five."""
PER_COLUMN = 500
MARK = 8
"""Bytes of a digest that are looked for: two of a million meet by chance once in 10^7 runs."""

PUBLIC_TIERS = {"public", "internal"}
DIGESTS = {
    "md5": lambda raw: hashlib.md5(raw, usedforsecurity=False).digest(),
    "sha1": lambda raw: hashlib.sha1(raw, usedforsecurity=False).digest(),
    "sha256": lambda raw: hashlib.sha256(raw).digest(),
    "sha512": lambda raw: hashlib.sha512(raw).digest(),
    "blake2b": lambda raw: hashlib.blake2b(raw).digest(),
    "blake2b-256": lambda raw: hashlib.blake2b(raw, digest_size=32).digest(),
    "blake2s": lambda raw: hashlib.blake2s(raw).digest(),
    "blake3": lambda raw: blake3(raw).digest(),
}
FORMS = ("exact", "email", "phone", "name", "last4", "prefix:3", "prefix:10")


@dataclass(frozen=True)
class Leak:
    """Something of somebody's that was found: where, which column's, and as what."""

    where: str
    column: str
    as_: str


def forms(column: str, value: str) -> dict[str, bytes]:
    """Return what a value may be written as before it is hashed."""
    texts = {"value": value, "stripped": value.strip(), "lower": value.lower(), "folded": value.strip().casefold()}
    found = {name: text.encode() for name, text in texts.items()}
    for name in FORMS:
        with suppress(TypeError, ValueError):
            found[name] = NORMALISERS[name](value) or b""
    found["key"] = key_bytes((value,))
    for name in (column.rpartition(".")[2], column, "value", "key", "name", "email", "subject"):
        found[f"json of {name}"] = json_bytes({name: value})
        found[f"json of {name}, spaced"] = json.dumps({name: value}).encode()
    return {name: raw for name, raw in found.items() if raw}


@dataclass
class Watch:
    """The personal values of one shop, and what they would look like."""

    values: set[tuple[str, str]] = field(default_factory=set)
    told: dict[str, bytes] = field(default_factory=dict)
    """What commands printed that is for everybody's eyes, by command."""
    _seen: dict[str, object] = field(default_factory=dict)

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Take in values: "Table.Column" and text."""
        self.values.update(found)

    def copy(self) -> "Watch":
        """Return one that goes on by itself."""
        return Watch(set(self.values), dict(self.told), dict(self._seen))

    def look(self, home: Path) -> None:
        """Take in all that the shop of a guard folder holds in clear now; nothing where it does not answer."""
        text = settings(home).get("shop", {}).get("url")
        if not isinstance(text, str):
            return
        url = sa.make_url(text)
        if (path := sqlite_path(home, text)) is not None:
            stamp = [each.stat().st_mtime_ns for each in (path, Path(f"{path}-wal")) if each.exists()]
            if not stamp or self._seen.get(str(path)) == stamp:
                return
            self._seen[str(path)] = stamp
            url = sa.make_url(f"sqlite:///{path}")
        with suppress(sa.exc.SQLAlchemyError):
            self.add(in_clear(url))

    def personal(self, home: Path) -> "Watch":
        """Return the same with those columns alone that the catalog calls personal; all before there is one."""
        columns = personal_columns(home)
        if columns is None:
            return self
        mine = {(column, value) for column, value in self.values if column in columns}
        return Watch(mine, self.told)

    def leaks(self, parts: dict[str, bytes]) -> list[Leak]:
        """Return what of the values is in `parts`."""
        marks = self._marks() if parts else {}
        return [
            leak for where, raw in parts.items() for leak in (*self._in_clear(where, raw), *_digests(marks, where, raw))
        ]

    def _marks(self) -> dict[bytes, tuple[str, str]]:
        """Return the beginning of every digest of every form: made late, of those values alone that are asked about."""
        found: dict[bytes, tuple[str, str]] = {}
        for column, value in self.values:
            for name, raw in forms(column, value).items():
                for algorithm, digest in DIGESTS.items():
                    found.setdefault(digest(raw)[:MARK], (column, f"{algorithm} of {name}"))
        return found

    def _in_clear(self, where: str, raw: bytes) -> Iterator[Leak]:
        text = raw.decode("utf-8", "replace")
        folded = text.casefold()
        for column, value in self.values:
            if len(value) < SHORT:
                continue
            for name, form in clear(value):
                if form in (folded if name == "text" else text) and (len(form) >= LONG or stands_alone(form, folded)):
                    yield Leak(where, column, name)


def _digests(marks: dict[bytes, tuple[str, str]], where: str, raw: bytes) -> Iterator[Leak]:
    for name, window in windows(raw):
        if window in marks:
            column, what = marks[window]
            yield Leak(where, column, f"{what}, {name}")


def clear(value: str) -> list[tuple[str, str]]:
    """Return how a value may stand in a text."""
    raw = value.encode()
    coded = [("hex", raw.hex()), ("HEX", raw.hex().upper()), ("json", json.dumps(value)[1:-1])]
    coded += [
        ("base64", base64.b64encode(raw[shift:])[: (len(raw) - shift) * 8 // 6 - 1].decode()) for shift in range(3)
    ]
    return [("text", value.casefold()), *((name, form) for name, form in coded if len(form) >= LONG)]


def stands_alone(form: str, text: str) -> bool:
    return re.search(rf"(?<![\w+/=]){re.escape(form)}(?![\w+/=])", text, re.IGNORECASE) is not None


def windows(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield every run of eight bytes in `raw`, as it lies there and as hex or base64 would hold it."""
    for at in range(len(raw) - MARK + 1):
        yield "raw", raw[at : at + MARK]
    for run in re.finditer(rb"[0-9a-fA-F]{%d,}" % (2 * MARK), raw):
        for at in range(run.start(), run.end() - 2 * MARK + 1):
            yield "hex", unhexlify(raw[at : at + 2 * MARK])
    for run in re.finditer(rb"[0-9A-Za-z+/_-]{11,}", raw):
        text = run[0].replace(b"-", b"+").replace(b"_", b"/")
        for at in range(len(text) - 10):
            yield "base64", base64.b64decode(text[at : at + 11] + b"=")[:MARK]


def settings(home: Path) -> dict[str, Any]:
    """Return guard.toml; empty where a test has broken it."""
    try:
        return tomllib.loads((home / "guard.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError:
        return {}


def sqlite_path(home: Path, url: str) -> Path | None:
    if not url.startswith("sqlite"):
        return None
    return home / unquote(url.partition(":///")[2].partition("?")[0])


def in_clear(url: sa.URL) -> Iterator[tuple[str, str]]:
    """Yield the texts in a shop, by column, as far as they are not sealed; of a column with many the first ones."""
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
    engine = sa.create_engine(url.set(drivername=drivers.get(url.get_backend_name(), url.drivername)))
    try:
        with engine.connect() as connection:
            for table in sa.inspect(connection).get_table_names():
                columns = [column["name"] for column in sa.inspect(connection).get_columns(table)]
                for name in columns if table != "guard_progress" else ():
                    clause = sa.column(name)
                    query = sa.select(clause).select_from(sa.table(table)).where(clause.is_not(None)).distinct()
                    found = connection.execute(query.limit(4 * PER_COLUMN)).scalars()
                    texts = [each for each in found if isinstance(each, str) and each and not each.startswith("g1.")]
                    yield from ((f"{table}.{name}", each) for each in texts[:PER_COLUMN])
    finally:
        engine.dispose()


def personal_columns(home: Path) -> set[str] | None:
    for name in ("catalog.toml", "catalog.proposed.toml"):
        if (path := home / "policies" / name).exists():
            catalog = tomllib.loads(path.read_text(encoding="utf-8"))
            return {each["at"] for each in catalog.get("column", ()) if each.get("tier", "contact") not in PUBLIC_TIERS}
    return None


def parts_of(home: Path, *others: Path) -> dict[str, bytes]:
    """Return all that is public of a guard folder, by name: entries, checkpoints, anchors, exports, reports.

    `others`: where files are looked for instead, in the folder or elsewhere.
    """
    found = dict(ledger(home))
    for folder in others or (home,):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and is_public(path, folder):
                found[str(path)] = path.read_bytes()
    return found


def is_public(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parts
    if {"backups", "elsewhere", "restored", "vault-one", "vault-two"} & set(inside):
        return False
    below = {"anchors", "reports", "tile", "evidence"} & set(inside[:-1])
    kinds = {".checkpoint", ".tlog-proof", ".tsr", ".ndjson", ".jsonl"}
    own = {"verify.py", "README"}  # guard's own words, the same in every export
    return bool(below) or path.suffix in kinds or ((path.parent / "tile").is_dir() and path.name not in own)


def ledger(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield entries and checkpoints of the ledger in a guard folder's state."""
    url = settings(home).get("state", {}).get("url", "sqlite:///var/state.db")
    path = sqlite_path(home, url)
    if path is not None and not path.exists():
        return
    place = sa.make_url(url).set(drivername="postgresql+psycopg") if path is None else f"sqlite:///{path}"
    engine = sa.create_engine(place)
    try:
        with engine.connect() as state:
            for n, *columns in state.exec_driver_sql("SELECT * FROM ledger_entry"):
                raw = (bytes(each) if isinstance(each, bytes | memoryview) else str(each).encode() for each in columns)
                yield f"entry {n}", b"\n".join(raw)
            for size, kind, note in state.exec_driver_sql("SELECT size, kind, note FROM ledger_checkpoint"):
                yield f"checkpoint {size} {kind}", str(note).encode()
    finally:
        engine.dispose()


def look_over(folder: Path, of: Callable[[Path], Watch]) -> int:
    """Raise AssertionError when something public of a guard folder below `folder` holds somebody's data.

    `of`: what was seen of the folder's shop until now. Returns how many folders there are.
    """
    homes = sorted({path.parent for path in folder.rglob("guard.toml")})
    for home in homes:
        watch = of(home)
        watch.look(home)
        leaks = watch.personal(home).leaks({**parts_of(home, folder), **watch.told})
        assert leaks == [], f"{len(leaks)} in {home}, first {leaks[:5]}"
    return len(homes)
