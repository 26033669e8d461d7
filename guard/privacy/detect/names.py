"""What the names of tables and columns say. Whole words at the end of a name, never substrings.

`email_verified`, `phone_type` and `SCN-125` say nothing here, because their last word is not personal data.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from guard.privacy.detect import words

_TOKEN = re.compile(r"[A-ZÄÖÜ]+(?=[A-ZÄÖÜ][a-zäöüß])|[A-ZÄÖÜ]?[a-zäöüß]+|[A-ZÄÖÜ]+|\d+|[\u3400-\u9fff]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
SURE, LIKELY, WEAK = 0.9, 0.7, 0.5


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of the table a column stands in."""

    people: bool = False
    """Each row is a person."""
    about: bool = False
    """Rows belong to a person: the table is one of people or refers to one."""
    addressed: bool = False
    """The table has columns of a postal address."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a name says: the category, how sure (0 to 1), and in which words."""

    category: str
    weight: float
    why: str


def tokens(name: str) -> tuple[str, ...]:
    """Split a name into its words, in lower case, umlauts written out: "HomePhone2" is home, phone, 2."""
    return tuple(word.lower().translate(_UMLAUTS) for word in _TOKEN.findall(name))


def people_table(table: str) -> bool:
    """Tell whether the rows of a table of this name are people, or the data of people."""
    found = tokens(table)
    if not found:
        return False
    if re.search(rf"(?:{words.PEOPLE_HAN})(?:信息|资料|地址|表)?$", found[-1]):
        return True
    head = _singular(found[-1])
    if head in words.OF_PEOPLE:
        return any(_is_person(word) for word in found[:-1])
    return _is_person(found[-1])


def taxed_table(table: str) -> bool:
    """Tell whether the rows of a table of this name are business records that tax law keeps."""
    found = tokens(table)
    return any(word in words.TAXED or _singular(word) in words.TAXED for word in found) or bool(
        re.search(words.TAXED_HAN, table)
    )


def named(column: str, setting: Setting) -> Named | None:
    """Return what a column's name says in its setting; None when it says nothing."""
    found = _meaning(tokens(column))
    if not found:
        return None
    shown = f'named "{" ".join(found)}"'
    return _han(found, shown) or _contextual(found, setting, shown) or _worded(found, setting, shown)


def _meaning(found: tuple[str, ...]) -> tuple[str, ...]:
    while len(found) > 1 and (found[-1].isdigit() or found[-1] in words.ENDINGS) and found[-2:] != ("last", "4"):
        found = found[:-1]
    return found


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


def _is_person(word: str) -> bool:
    return word in words.PEOPLE or _singular(word) in words.PEOPLE


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    def compiled(alternatives: str) -> re.Pattern[str]:
        return re.compile(rf"(?:^| )(?:{alternatives.replace('*', '[a-z]*')})$")

    return tuple((category, compiled(alternatives)) for category, alternatives in words.WORDS.items())


def _worded(found: tuple[str, ...], setting: Setting, shown: str) -> Named | None:
    text = " ".join(found)
    for category, pattern in _patterns():
        if pattern.search(text):
            return _allowed(category, found, setting, shown)
    if found[-1] in words.CODES or _singular(found[-1]) in words.CODES:
        return Named("code", LIKELY, shown)
    if found[-1] in words.PROSE and not setting.about:
        return Named("text", LIKELY, shown)
    if found[-1] == "name" and len(found) > 1 and not setting.people:
        return Named("text", LIKELY, f"{shown}, and the table is not about a person")
    return None


_NEEDS_ABOUT: Final = frozenset({"photo", "job", "website", "username", "preference", "note", "location", "employment"})


def _allowed(category: str, found: tuple[str, ...], setting: Setting, shown: str) -> Named | None:
    """Hold back a category whose words mean people only where the table does."""
    if category in _NEEDS_ABOUT and not setting.about:
        return Named("text", WEAK, f"{shown}, but the table is not about a person")
    if found[-1] in {"state", "county", "district"} and not setting.addressed:
        return Named("code", WEAK, f"{shown}, and the table holds no address")
    return Named(category, SURE, shown)


_IN_PEOPLE: Final = {
    ("name",): "name",
    ("names",): "name",
    ("display", "name"): "name",
    ("ming",): "name",
    ("xing",): "name",
    ("title",): "job",
    ("extension",): "phone",
    ("ext",): "phone",
    ("age",): "birth_date",
    ("alter",): "birth_date",
    ("nianling",): "birth_date",
}
"""Words that mean a person's data only in a table of people."""


def _contextual(found: tuple[str, ...], setting: Setting, shown: str) -> Named | None:
    if not setting.people:
        return None
    if (category := _IN_PEOPLE.get(found)) is not None:
        return Named(category, LIKELY, f"{shown} in a table of people")
    if len(found) == 2 and found[1] == "name" and _is_person(found[0]):
        return Named("name", SURE, f"{shown} in a table of people")
    return None


def _han(found: tuple[str, ...], shown: str) -> Named | None:
    last = "".join(found[-2:]).upper()  # a name may mix "QQ" or "IP" with Han
    for category, alternatives in words.HAN.items():
        if re.search(rf"(?:{alternatives})$", last) and re.search(r"[\u3400-\u9fff]", last):
            return Named(category, SURE, shown)
    return None
