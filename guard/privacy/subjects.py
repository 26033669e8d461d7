"""Which tables are about people, and which of them say who a person is. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from guard.config import Subject
from guard.privacy.detect import words
from guard.privacy.detect.names import Setting, named, people_table, taxed_table, tokens
from guard.shop import Table
from guard.shop.graph import Link, steps

_ADDRESS: Final = frozenset({"address", "city", "postcode"})
_PERSON: Final = Setting(people=True, about=True, addressed=True)


def settings(tables: Mapping[str, Table], links: Iterable[Link] = ()) -> dict[str, Setting]:
    """Return for each table whether its rows are people, belong to people, and hold an address."""
    people = {name for name, table in tables.items() if _of_people(table)}
    private = {name for name in people if not words.FIRMS & set(tokens(name))}
    about = people | _leading_to(tables, private, links)
    return {
        name: Setting(name in people, name in about, bool(_ADDRESS & _said(table, Setting())))
        for name, table in tables.items()
    }


def subjects(
    tables: Mapping[str, Table], found: Mapping[str, Setting], categories: Mapping[str, str]
) -> dict[str, Subject]:
    """Propose whose data there is: tables of people with a key of one column and a name or e-mail address.

    `categories` maps "Table.Column" to what was found. Tables that others refer to come first; a table nothing refers
    to counts when it holds e-mail addresses.
    """
    out: dict[str, Subject] = {}
    for name in sorted(tables, key=lambda each: not tables[each].referred):
        table = tables[name]
        of = {
            categories.get(f"{name}.{column.name}", ""): f"{name}.{column.name}" for column in reversed(table.columns)
        }
        reached = "email" in of or (bool(table.referred) and "name" in of)
        if found[name].people and len(table.key) == 1 and reached:
            language = of.get("preference") if _speaks(of.get("preference")) else of.get("country")
            out[_slug(name, out)] = Subject(table=name, key=table.key[0], email=of.get("email"), language=language)
    return out


def taxed(table: Table, setting: Setting) -> bool:
    """Tell whether the rows of `table` are records that tax law keeps."""
    return taxed_table(table.name) and not setting.people


def _of_people(table: Table) -> bool:
    if people_table(table.name):
        return True
    # A table of another name ("accounts") is one of people when others refer to it and it holds mail and names.
    return bool(table.referred) and not taxed_table(table.name) and {"email", "name"} <= _said(table, _PERSON)


def _said(table: Table, setting: Setting) -> set[str]:
    return {said.category for column in table.columns if (said := named(column.name, setting)) is not None}


def _leading_to(tables: Mapping[str, Table], people: set[str], links: Iterable[Link]) -> set[str]:
    """Return the tables from which a chain of references leads to one of `people`."""
    holds = steps(tables, links)
    reached = set(people)
    while new := {
        name for name, found in holds.items() if name not in reached and any(step.to_table in reached for step in found)
    }:
        reached |= new
    return reached


def _speaks(at: str | None) -> bool:
    return at is not None and bool({"language", "locale", "lang", "sprache"} & set(tokens(at)))


def _slug(name: str, taken: Mapping[str, object]) -> str:
    plain = "-".join(tokens(name)) or "subject"
    plain = plain[:-3] + "y" if plain.endswith("ies") else plain.removesuffix("s") or plain
    return next(each for each in (plain, *(f"{plain}-{number}" for number in range(2, 1000))) if each not in taken)
