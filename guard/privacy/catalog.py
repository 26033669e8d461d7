"""The catalog as a promise: checked against schema and policies, given ids, accepted by a person, watched ever after.

`policies/catalog.toml` is obeyed only while it is byte for byte what was accepted.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from guard import faults
from guard.config import Catalog, Column, Protect
from guard.config.load import load_bytes, load_catalog, load_file
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import UNCLASSIFIED, Taxonomy
from guard.errors import ConfigError, InterlockError, UnavailableError
from guard.privacy import store
from guard.privacy.anonymize import METHODS
from guard.privacy.proposal import obstacle, to_toml
from guard.shop import Table
from guard.state import State, Tx

NAME = "catalog.toml"
PROPOSED = "catalog.proposed.toml"
_NEXT = f".{NAME}.next"
"""What follows a rename, until state knows it: then it takes the file's place."""

_FACT = "privacy.catalog"
"""The fact in state that holds the accepted file's digest."""

_HEAD = (
    "Which columns hold whose data, and how each is protected. Everything obeys this file.",
    "Written by `guard data accept`. To change it, edit it and run `guard data accept --from` with its path:",
    "until then guard refuses to work by a file that nobody accepted.",
)
PROPOSED_HEAD = (
    "Proposed by `guard data scan`. Read it, correct it, then run `guard data accept`.",
    "The comments say why each column was put where it is. They hold no values.",
)


@dataclass(frozen=True, slots=True)
class Standard:
    """What a catalog is checked against. `tiers` are those policies/access.toml knows; empty: not checked."""

    tables: Mapping[str, Table]
    taxonomy: Taxonomy
    retention: RetentionPolicy
    dialect: str
    tiers: frozenset[str] = frozenset()


def mistakes(catalog: Catalog, standard: Standard) -> Iterator[str]:
    """Yield everything that is wrong with a catalog, each with the place in the file."""
    for where, at in _mentioned(catalog):
        table = standard.tables.get(at.partition(".")[0])
        if table is None or table.find(at.partition(".")[2]) is None:
            yield f"{where}: the shop has no column {at}"
    for number, column in enumerate(catalog.column, 1):
        for text in _column_mistakes(column, standard):
            yield f"column[{number}] ({column.at}): {text}"


def _mentioned(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Yield the columns that subjects and links name, each with its place in the file."""
    for name, subject in catalog.subject.items():
        yield f"subject.{name}.key", f"{subject.table}.{subject.key}"
        if subject.email is not None:
            yield f"subject.{name}.email", subject.email
        if subject.language is not None:
            yield f"subject.{name}.language", subject.language
    for number, link in enumerate(catalog.link, 1):
        yield f"link[{number}].from", link.from_
        yield f"link[{number}].to", link.to


def _column_mistakes(column: Column, standard: Standard) -> Iterator[str]:
    table = standard.tables.get(column.table)
    found = table.find(column.name) if table else None
    if table is None or found is None:
        yield "the shop has no such column; take it out"
        return
    if column.category not in standard.taxonomy.category and column.category != UNCLASSIFIED:
        yield f'category: taxonomy.toml has no "{column.category}"'
    if standard.tiers and column.tier not in standard.tiers:
        yield f'tier: access.toml has no "{column.tier}"; there are {", ".join(sorted(standard.tiers))}'
    if column.class_ not in standard.retention.class_:
        yield f'class: retention.toml has no "{column.class_}"'
    if column.anonymize not in METHODS:
        yield f'anonymize: "{column.anonymize}" is not one of {", ".join(METHODS)}'
    if column.protect is Protect.HASH:
        yield 'protect: "hash" is not built yet; use "encrypt" or "none"'
    if column.protect is Protect.ENCRYPT and (why := obstacle(table, found, standard.dialect, column.index)):
        yield f'protect: "encrypt" is not possible: {why}'


@dataclass(frozen=True, slots=True)
class Standing:
    """How one column stands between schema and catalog: classified, unclassified or vanished."""

    at: str
    standing: str
    id: int = 0
    category: str = UNCLASSIFIED
    tier: str = ""
    protect: str = ""
    anonymize: str = ""
    class_: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether somebody has to do something about it."""
        return self.standing != "classified"


def compare(catalog: Catalog, tables: Mapping[str, Table]) -> tuple[Standing, ...]:
    """Return every column of schema or catalog, in the schema's order; vanished ones last."""
    schema = [f"{table.name}.{column.name}" for table in tables.values() for column in table.columns]
    there = set(schema)
    vanished = [column.at for column in catalog.column if column.at not in there]
    return tuple(_standing(at, catalog.find(at), at in there) for at in (*schema, *vanished))


def _standing(at: str, column: Column | None, exists: bool) -> Standing:
    if column is None:
        return Standing(at, "unclassified")
    decided = "classified" if column.category != UNCLASSIFIED else "unclassified"
    return Standing(
        at,
        decided if exists else "vanished",
        column.id,
        column.category,
        column.tier,
        column.protect.value,
        column.anonymize,
        column.class_,
    )


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A checked catalog, ready to be written: its text, digest, new ids and what it changes."""

    catalog: Catalog
    text: str
    digest: str
    fresh: Mapping[str, int] = field(default_factory=dict)
    """The ids given now, by column."""

    @property
    def unclassified(self) -> tuple[str, ...]:
        """Columns it leaves undecided."""
        return tuple(column.at for column in self.catalog.column if column.category == UNCLASSIFIED)


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """`policies/catalog.toml` and the digest state holds of it. `digest` takes a domain and bytes to a keyed digest."""

    folder: Path
    state: State
    digest: Callable[[str, bytes], str]

    @property
    def path(self) -> Path:
        """Where the catalog is."""
        return self.folder / NAME

    def accepted(self) -> Catalog:
        """Return the catalog that was accepted; one without columns when none was yet and there is no file.

        Raises InterlockError when the file is not byte for byte the accepted one.
        """
        known = self.state.meta.get(_FACT)
        text = self._read(self.path)
        if known is not None and (text is None or self.digest("catalog", text) != known):
            text = self._placed(known) or text
        if text is None and known is None:
            return Catalog()
        if text is None:
            raise InterlockError(
                f"{self.path} is gone, but a catalog was accepted",
                hint="put it back from a backup, or scan and accept anew",
            )
        if known is None or self.digest("catalog", text) != known:
            raise InterlockError(
                f"{self.path} is not the catalog that was accepted",
                hint=f"guard data accept --from {self.path} checks and accepts it as it is now",
            )
        return load_bytes(text, str(self.path), Catalog)

    def written(self) -> Catalog:
        """Return the catalog as the file has it, accepted or not; one without columns when there is none."""
        return load_catalog(self.folder)

    def prepare(self, source: Path, standard: Standard) -> Acceptance:
        """Read and check `source`, and give ids to its new columns. Changes nothing.

        A column keeps the id state knows it by. Raises ConfigError naming every mistake.
        """
        catalog = _load(source)
        wrong = [f"{source}: {text}" for text in mistakes(catalog, standard)]
        with self.state.read() as tx:
            known = store.column_ids(tx)
        wrong += [f"{source}: column ({at}): {text}" for at, text in _id_mistakes(catalog, known)]
        if wrong:
            raise ConfigError("\n".join(wrong), hint="guard data catalog shows what was accepted")
        fresh = _fresh_ids(catalog, known)
        ids = known | fresh
        numbered = tuple(msgspec.structs.replace(column, id=ids[column.at]) for column in catalog.column)
        return replace(self.acceptance(msgspec.structs.replace(catalog, column=numbered)), fresh=fresh)

    def write(self, acceptance: Acceptance) -> None:
        """Put the accepted text in place of the file, at once or not at all."""
        write_atomically(self.path, acceptance.text)

    def remember(self, acceptance: Acceptance) -> Callable[[Tx], None]:
        """Return the work that notes in state what was accepted, and the ids that were given."""

        def work(tx: Tx) -> None:
            store.give_ids(tx, acceptance.fresh)
            self.state.meta.set(tx, _FACT, acceptance.digest)

        return work

    def acceptance(self, catalog: Catalog) -> Acceptance:
        """Return a checked catalog, whose columns have their ids, ready to be accepted."""
        text = to_toml(catalog, {}, _HEAD)
        return Acceptance(catalog, text, self.digest("catalog", text.encode()))

    def lay_beside(self, acceptance: Acceptance) -> None:
        """Write the text beside the file. It takes the file's place once state knows it, and never before."""
        write_atomically(self._next, acceptance.text)
        faults.point("privacy.rename.written")

    def ids(self) -> dict[str, int]:
        """Return every column id that was given, by the column's name."""
        with self.state.read() as tx:
            return store.column_ids(tx)

    def renamed(
        self, acceptance: Acceptance, moved: Mapping[int, str], given_up: Collection[int]
    ) -> Callable[[Tx], None]:
        """Return the work that notes in state what follows a rename; ids in `given_up` are never used again."""

        def work(tx: Tx) -> None:
            store.move_ids(tx, moved, given_up)
            self.state.meta.set(tx, _FACT, acceptance.digest)

        return work

    def _placed(self, known: str) -> bytes | None:
        """Put what was laid beside the file in its place when it is what state knows; else return None."""
        text = self._read(self._next)
        if text is None or self.digest("catalog", text) != known:
            return None
        faults.point("privacy.rename.known")
        write_atomically(self.path, text.decode())
        self._next.unlink(missing_ok=True)
        return text

    @property
    def _next(self) -> Path:
        return self.folder / _NEXT

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _id_mistakes(catalog: Catalog, known: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    newest = max(known.values(), default=0)
    for column in catalog.column:
        if column.at in known:
            if column.id not in {0, known[column.at]}:
                yield column.at, f"its id is {known[column.at]}, not {column.id}"
        elif column.id and column.id <= newest:
            yield column.at, f"the id {column.id} was given to another column; leave it out"


def _fresh_ids(catalog: Catalog, known: Mapping[str, int]) -> dict[str, int]:
    """Return ids for the columns state does not know.

    An id that stands in the file and was never given is kept: the file may be newer than a state that was restored, or
    than one that was interrupted before it could remember.
    """
    new = [column for column in catalog.column if column.at not in known]
    fresh = {column.at: column.id for column in new if column.id}
    following = max([*known.values(), *fresh.values()], default=0) + 1
    bare = [column.at for column in new if not column.id]
    return fresh | dict(zip(bare, range(following, following + len(bare)), strict=True))


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`, at once or not at all. Raises UnavailableError when the folder does not take it."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}", hint="nothing was changed") from error


def _load(source: Path) -> Catalog:
    return load_file(source, Catalog, hint="guard data scan writes a proposal")
