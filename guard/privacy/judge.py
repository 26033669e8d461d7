"""Decide what one column holds, from its name, its type and the counts over its values. Pure.

Every verdict carries its reasons. What cannot be decided is `unclassified`, never "not personal".
"""

from dataclasses import dataclass, replace
from typing import Final

from guard.config.taxonomy import UNCLASSIFIED
from guard.privacy.detect import words
from guard.privacy.detect.evidence import Evidence
from guard.privacy.detect.names import Named, Setting, named, tokens
from guard.shop import ShopColumn
from guard.shop.catalog import Sort


@dataclass(frozen=True, slots=True)
class Place:
    """A column in its table."""

    column: ShopColumn
    setting: Setting
    is_key: bool = False
    """Part of the primary key."""
    is_reference: bool = False
    """Part of a foreign key, or referred to by one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a column holds, how sure that is (0 to 1), and why."""

    category: str
    confidence: float
    why: tuple[str, ...]


_TYPES: Final = {"inet": "ip_address", "cidr": "ip_address", "macaddr": "device", "macaddr8": "device", "uuid": "code"}
"""Types that say by themselves what a column holds."""
_MAJORITY: Final = 0.6
_CHECKABLE: Final = frozenset({"email", "ip_address", "bank_account", "card", "tax_id"})
"""Categories whose values are recognized without fail, so that a name alone is not believed against the values."""
_ENOUGH: Final = 5
_TELLING: Final = frozenset({"email", "bank_account", "card", "national_id"})
"""Categories that make a text personal wherever a single one stands."""


def judge(place: Place, evidence: Evidence) -> Verdict:
    """Return the verdict on one column."""
    said = named(place.column.name, place.setting)
    match place.column.sort:
        case Sort.OTHER if (typed := _TYPES.get(place.column.type.lower())) is not None:
            verdict = Verdict(typed, 0.9, (f"type {place.column.type}",))
        case Sort.TEXT | Sort.OTHER:
            verdict = _of_text(place, evidence, said)
        case Sort.BOOLEAN:
            verdict = Verdict("flag", 0.95, ("a yes or no",))
        case Sort.TIME:
            verdict = _of_time(place, said)
        case Sort.BINARY:
            verdict = _of_binary(place, said)
        case _:
            verdict = _of_number(place, said)
    return _as_key(place, verdict) if place.is_key or place.is_reference else verdict


def _as_key(place: Place, verdict: Verdict) -> Verdict:
    if verdict.category in words.STAND_ALONE and verdict.confidence >= 0.9:
        return replace(verdict, why=(*verdict.why, "a key: other rows find this one by it"))
    return Verdict("key", 0.95, ("part of the primary key" if place.is_key else "part of a foreign key",))


def _of_number(place: Place, said: Named | None) -> Verdict:
    if said and said.category in words.NUMBERS_MAY_BE:
        return Verdict(said.category, said.weight, (said.why, f"type {place.column.type}"))
    last = tokens(place.column.name)[-1:]
    if last in {("id",), ("uuid",), ("key",)}:
        return Verdict("key", 0.6, ("named like a key", f"type {place.column.type}"))
    return Verdict("number", 0.9, (f"type {place.column.type}",))


def _of_time(place: Place, said: Named | None) -> Verdict:
    if said and said.category in {"birth_date", "employment"}:
        return Verdict(said.category, said.weight, (said.why, f"type {place.column.type}"))
    return Verdict("date", 0.9, (f"type {place.column.type}",))


def _of_binary(place: Place, said: Named | None) -> Verdict:
    if said and said.category == "photo":
        return Verdict("photo", said.weight, (said.why, f"type {place.column.type}"))
    if place.setting.about:
        return Verdict(UNCLASSIFIED, 0.0, (f"type {place.column.type} in a table about people, and no name rule",))
    return Verdict("file", 0.6, (f"type {place.column.type}", "the table is not about a person"))


def _of_text(place: Place, evidence: Evidence, said: Named | None) -> Verdict:
    if evidence.sealed and not evidence.looked:
        return _by_name(said, "its values are sealed: not looked at") or _undecided("sealed, and no name rule")
    if (found := _majority(evidence)) is not None:
        return _by_values(found, evidence, said)
    if said is not None and (against := _contradiction(evidence, said.category)):
        return _by_rest(place, evidence, against)
    if said is not None and said.category not in {"code", "text"}:
        seen = "no values to look at" if not evidence.looked else f"{evidence.looked} values do not speak against it"
        confirmed = evidence.share(said.category) >= _MAJORITY / 2
        return _by_name(said, _counted(said.category, evidence) if confirmed else seen) or _undecided(seen)
    if (mixed := _telling(evidence)) is not None:
        return mixed
    seen = f"nothing personal in {evidence.looked} values" if evidence.looked else "no values to look at"
    return _by_name(said, seen) or _by_rest(place, evidence, "no name rule")


def _majority(evidence: Evidence) -> str | None:
    if not evidence.looked or not evidence.whole:
        return None
    category, count = max(evidence.whole.items(), key=lambda item: item[1])
    return category if count / evidence.looked >= _MAJORITY else None


def _by_values(found: str, evidence: Evidence, said: Named | None) -> Verdict:
    counted = _counted(found, evidence)
    if said is not None and said.category == found:
        return Verdict(found, 0.99, (said.why, counted))
    if said is None or said.category in {"code", "text"} or evidence.looked >= _ENOUGH:
        doubt = () if said is None else (f"{said.why}, but the values say otherwise",)
        share = evidence.whole[found] / evidence.looked
        few = 0.2 if evidence.looked < _ENOUGH else 0.0
        return Verdict(found, round(0.5 + 0.45 * share - few, 2), (counted, *doubt))
    return Verdict(said.category, said.weight, (said.why, counted))


def _contradiction(evidence: Evidence, category: str) -> str | None:
    if evidence.looked < _ENOUGH:
        return None
    if category in _CHECKABLE and evidence.share(category) < 0.05:
        return f"named like {category}, but none of {evidence.looked} values is one"
    if category == "phone" and evidence.digits < 0.3 * evidence.looked:
        return f"named like {category}, but most of {evidence.looked} values hold no digit"
    return None


def _telling(evidence: Evidence) -> Verdict | None:
    """Return `note` for texts in which somebody's e-mail, card or account stands."""
    held = [category for category in sorted(_TELLING) if evidence.share(category) > 0]
    if not held:
        return None
    return Verdict("note", 0.6, tuple(_counted(category, evidence) for category in held))


def _by_name(said: Named | None, more: str) -> Verdict | None:
    return None if said is None else Verdict(said.category, said.weight, (said.why, more))


def _by_rest(place: Place, evidence: Evidence, first: str) -> Verdict:
    if (mixed := _telling(evidence)) is not None:
        return replace(mixed, why=(first, *mixed.why))
    if not evidence.looked:
        return _undecided(f"{first}, and no values to look at")
    if (plain := _harmless(place, evidence, first)) is not None:
        return plain
    if place.setting.people or (place.setting.about and evidence.prose > 0.1 * evidence.looked):
        return _undecided(f"{first}; its table is about people, and {evidence.looked} values say nothing")
    if evidence.within or evidence.whole:
        return _undecided(f"{first}; some values look like {', '.join(sorted({*evidence.within, *evidence.whole}))}")
    return Verdict("text", 0.5, (first, f"nothing personal in {evidence.looked} values"))


def _harmless(place: Place, evidence: Evidence, first: str) -> Verdict | None:
    """Recognize dates kept as texts, and the shop's own words, which few values in many rows give away."""
    says_when = bool(words.WHEN & set(tokens(place.column.name)[-1:]))
    if evidence.dates >= 0.9 * evidence.looked and (says_when or not place.setting.people):
        return Verdict("date", 0.8, (first, f"{evidence.dates} of {evidence.looked} values are dates"))
    if evidence.repeated and not evidence.dates:
        return Verdict("code", 0.6, (first, f"{evidence.looked} different values in {evidence.rows} rows"))
    return None


def _undecided(why: str) -> Verdict:
    return Verdict(UNCLASSIFIED, 0.0, (why,))


def _counted(category: str, evidence: Evidence) -> str:
    whole, within = evidence.whole.get(category, 0), evidence.within.get(category, 0)
    verb = f"{whole} of {evidence.looked} values are {category}" if whole else ""
    holds = f"{within} of {evidence.looked} values hold {category}" if within else ""
    return f"{', '.join(filter(None, (verb, holds)))} (by {', '.join(evidence.by.get(category, ()))})"
