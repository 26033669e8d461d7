"""Follow a table or column that the shop renamed: the same id, the same decisions, the new name. Pure.

Values are sealed for a column's id, not for its name, so what was sealed under the old name opens under the new one.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from guard.config import Catalog, Column, Link, Subject
from guard.config.retention import RetentionPolicy, Rule
from guard.errors import ConfigError, InterlockError
from guard.privacy.catalog import Acceptance
from guard.shop import Table
from guard.shop.rename import Rename

NOTHING_SEALED: Mapping[int, Collection[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RenamePlan:
    """What following a rename changes, and what it cannot change."""

    rename: Rename
    acceptance: Acceptance
    """The catalog as it is to be accepted."""
    moved: Mapping[int, str]
    """The columns that have another name now, by id."""
    given_up: tuple[int, ...]
    """Ids that were given to a new name before anybody said that it is a rename; nothing was sealed under them."""
    by_hand: tuple[str, ...]
    """What names it in files that guard does not write."""
    missing: tuple[str, ...]
    """Columns of the catalog that the schema does not have under the new names: renamed too, or gone."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the plan in words."""
        return (
            f"follow the rename of {self.rename.old} to {self.rename.new}",
            *(f"column {number} is {at} now; its id, its keys and what is decided of it stay"
              for number, at in sorted(self.moved.items())),
            *(f"the id {number}, which nothing was sealed under, is given up" for number in self.given_up),
            *(f"change by hand: {text}" for text in self.by_hand),
            *(f"not in the schema: {at}; rename it too, or take it out of the catalog" for at in self.missing),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a rename is followed. `ids` are all that were ever given."""

    catalog: Catalog
    ids: Mapping[str, int]
    tables: Mapping[str, Table]
    sealed: Mapping[int, Collection[str]]
    """The columns ("Table.Column") that name the rows of each sealed column, by its id."""

    @property
    def names(self) -> frozenset[str]:
        """Every column guard knows by name."""
        subjects = (f"{subject.table}.{subject.key}" for subject in self.catalog.subject.values())
        links = (at for link in self.catalog.link for at in (link.from_, link.to))
        return frozenset((*self.ids, *subjects, *links, *(at for key in self.sealed.values() for at in key)))


@dataclass(frozen=True, slots=True)
class Followed:
    """The catalog under the new names, the columns that moved, and the ids that gave way to them."""

    catalog: Catalog
    moved: Mapping[int, str]
    given_up: tuple[int, ...]


def follow(known: Known, rename: Rename) -> Followed:
    """Return what becomes of the catalog.

    Raises ConfigError when guard never knew the old name, InterlockError when something is sealed under the new one.
    """
    rename.require(known.tables)
    if all(rename.at(at) == at for at in known.names):
        raise _unknown(known, rename)
    moved = {number: rename.at(at) for at, number in known.ids.items() if rename.at(at) != at}
    given_up = tuple(known.ids[at] for at in moved.values() if at in known.ids)
    if sealed := [number for number in given_up if number in known.sealed]:
        named = {number: at for at, number in known.ids.items()}
        raise InterlockError(
            f"{named[sealed[0]]} is sealed on its own, as column {sealed[0]}: it is no new name of {rename.old}",
            hint="guard fields status shows what is sealed; guard fields decrypt opens it",
        )
    return Followed(_catalog(known.catalog, rename, moved, given_up), moved, given_up)


def _catalog(catalog: Catalog, rename: Rename, moved: Mapping[int, str], given_up: Collection[int]) -> Catalog:
    """Return the catalog under the new names. An entry made for a new name stays where the old one has none."""
    kept = {rename.at(column.at): column for column in catalog.column if column.id not in given_up}
    made = {column.at: column for column in catalog.column if column.id in given_up}
    ids = {at: number for number, at in moved.items()}
    columns: list[Column] = []
    for column in catalog.column:
        at = rename.at(column.at)
        if column.id in given_up and at in kept:
            continue  # the entry that stood under the old name says more than the one a scan has just made
        found = kept.get(at) or made[at]
        columns.append(msgspec.structs.replace(found, at=at, id=ids.get(at, found.id)))
    return msgspec.structs.replace(
        catalog,
        column=tuple(columns),
        subject={name: _subject(subject, rename) for name, subject in catalog.subject.items()},
        link=tuple(Link(from_=rename.at(link.from_), to=rename.at(link.to)) for link in catalog.link),
    )


def _subject(subject: Subject, rename: Rename) -> Subject:
    return Subject(
        table=rename.name(subject.table),
        key=rename.part(subject.table, subject.key),
        email=rename.at(subject.email) if subject.email else None,
        language=rename.at(subject.language) if subject.language else None,
    )


def by_hand(policy: RetentionPolicy, rename: Rename) -> Iterator[str]:
    """Yield the rules of retention.toml that use the old name: that file is people's own, approved as it is."""
    for rule in policy.rule:
        if words := sorted(set(_named(rule, rename))):
            yield f"policies/retention.toml, rule {rule.name}: {', '.join(words)}"


def _named(rule: Rule, rename: Rename) -> Iterator[str]:
    for key, at in (("since", rule.since), ("otherwise", rule.otherwise)):
        if at and rename.at(at) != at:
            yield f"{key} = {rename.at(at)}"
    if rename.name(rule.table) != rule.table:
        yield f"table = {rename.name(rule.table)}"
    yield from (f"cascade names {rename.to_table}" for table in rule.cascade if rename.name(table) != table)
    yield from (
        f"where names {rename.part(rule.table, name)}"
        for name in rule.where
        if rename.part(rule.table, name) != name
    )  # fmt: skip


def missing(catalog: Catalog, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Return the columns of `catalog` that the schema does not have."""
    return tuple(
        column.at
        for column in catalog.column
        if (table := tables.get(column.table)) is None or table.find(column.name) is None
    )


def _unknown(known: Known, rename: Rename) -> ConfigError:
    names = known.names if rename.column else {at.partition(".")[0] for at in known.names}
    near = difflib.get_close_matches(rename.old, sorted(names), 1)
    hint = f"did you mean {near[0]}?" if near else "guard data catalog shows which columns have vanished"
    return ConfigError(f"guard never knew {rename.old}", hint=hint)
