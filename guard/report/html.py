"""A report as one HTML file: no script, nothing from outside, readable on a phone, on a screen and on paper.

What comes from a ledger or a catalog is escaped by the template, and characters that cannot be seen or that turn text
around are written out.
"""

import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from guard.events import Ending
from guard.report.breaches import breaches
from guard.report.controls import Promises, Result, Verdict
from guard.report.evidence import BEATS, Act, EntryView, Evidence

MARK = b'<meta name="generator" content="guard report 1">'
"""Stands near the start of each report; by it guard knows its own files."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The checkpoint a report rests on."""

    note: str
    vkey: str
    origin: str
    size: int
    root: str
    """Base64, as the checkpoint has it."""

    @property
    def root_hex(self) -> str:
        """The root hash, hex."""
        return b64decode(self.root).hex()


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is on the page."""

    shop: str
    demo: bool
    since: datetime | None
    until: datetime | None
    evidence: Evidence
    promises: Promises
    verdicts: tuple[Verdict, ...]
    signed: Signed


@dataclass(frozen=True, slots=True)
class Section:
    """A list of acts under one heading."""

    id: str
    title: str
    intro: str
    none: str
    acts: tuple[Act, ...]


_SECTIONS = (
    ("catalog-acts", "", "", "No change of the catalog is recorded in this period.", ("data.*",)),
    (
        "sealing",
        "Sealing and keys",
        "Columns sealed, verified, opened; keys made, tested and used.",
        "Nothing was sealed, verified or opened in this period.",
        ("fields.*", "keys.*"),
    ),
    (
        "retention",
        "Retention",
        "Rows anonymized or deleted because their time was over.",
        "No retention run is recorded in this period.",
        ("retention.*",),
    ),
    (
        "backups",
        "Backups and restores",
        "Snapshots made, verified, thinned out and restored.",
        "No backup is recorded in this period.",
        ("backup.*", "state.*"),
    ),
    (
        "people-acts",
        "",
        "",
        "No person was added, changed or approved anything in this period.",
        ("access.*",),
    ),
)


def render(page: Page) -> bytes:
    """Return the HTML of a page as UTF-8. The same page gives the same bytes."""
    sections = {row[0]: _section(page.evidence, row) for row in _SECTIONS}
    incidents = breaches(page.evidence, page.promises.breach_rules)
    period = page.evidence.period
    beats = [act for act in period if act.what in BEATS and act.done]
    states = {column.at: page.evidence.column(column.at) for column in page.promises.catalog.column}
    shown = {act.first.n for section in sections.values() for act in section.acts}
    shown |= {act.first.n for breach in incidents for act in breach.acts} | {act.first.n for act in beats}
    listed = [act for act in period if act not in beats] + beats[:1] + beats[-1:]
    listed += [act for breach in incidents for act in breach.acts]
    listed += [act for state in states.values() for act in (state.changed, state.checked) if act]
    numbers = {number for act in listed for number in act.numbers}
    numbers |= {number for verdict in page.verdicts for number in verdict.finding.entries}
    text = (
        _templates()
        .get_template("report.html")
        .render(
            page=page,
            mark=Markup(MARK.decode()),  # noqa: S704  # our own constant
            result=Result,
            sections=sections,
            others=[act for act in period if act.first.n not in shown],
            breaches=incidents,
            states=states,
            people=_people(period),
            refused=[act for act in period if act.refused],
            broken=[act for act in period if _broken(act)],
            beats=beats,
            silence=_silence(page.evidence),
            entries=[entry for entry in page.evidence.entries if entry.n in numbers],
        )
    )
    return text.encode("utf-8")


def _section(evidence: Evidence, row: tuple[str, str, str, str, tuple[str, ...]]) -> Section:
    key, title, intro, none, names = row
    return Section(key, title, intro, none, evidence.acts(*names))


def _broken(act: Act) -> bool:
    if act.what == "report.build" and act.outcome is Ending.BEGUN:
        return False  # the report that is being built is always begun and not yet done
    if act.outcome is Ending.RESOLVED:
        return act.last.facts.get("was") != "done"
    return not act.done and not act.refused


@dataclass(frozen=True, slots=True)
class Person:
    """What one principal did in the period."""

    id: str
    acts: tuple[Act, ...]

    @property
    def kind(self) -> str:
        """Person, service, or guard itself."""
        return {"p": "person", "s": "service"}.get(self.id.partition("-")[0], "guard")

    @property
    def refused(self) -> int:
        """How often it was refused."""
        return sum(act.refused for act in self.acts)

    @property
    def by_name(self) -> list[tuple[str, list[Act]]]:
        """Its acts by the action's name."""
        names = sorted({act.what for act in self.acts})
        return [(name, [act for act in self.acts if act.what == name]) for name in names]


def _people(period: Iterable[Act]) -> list[Person]:
    who: dict[str, list[Act]] = {}
    for act in period:
        who.setdefault(act.who, []).append(act)
    return sorted((Person(name, tuple(found)) for name, found in who.items()), key=lambda person: person.id)


def _silence(evidence: Evidence) -> timedelta:
    """The longest time between two entries of the period."""
    times = [entry.at for entry in evidence.entries if entry.at >= evidence.since]
    return max((b - a for a, b in pairwise(times)), default=timedelta())


@dataclass(frozen=True, slots=True)
class Details:
    """What an entry says: each object with what is said of it alone, and the rest."""

    objects: tuple[tuple[str, str], ...]
    rest: str


def details(entry: EntryView) -> Details:
    """Sort the counts and facts of an entry: those that bear an object's name go with it."""
    said = [*((name, f"{count:,}") for name, count in sorted(entry.counts.items())), *sorted(entry.facts.items())]
    named = set(entry.objects)
    of = {name: ", ".join(value for key, value in said if key == name) for name in named}
    rest = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in said if key not in named)
    return Details(tuple((name, of[name]) for name in entry.objects), rest)


def when(at: datetime) -> str:
    """Return a time as a reader wants it, to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """Return a length of time in words, to the minute: "2 d 3 h 0 min"."""
    minutes = abs(length) // timedelta(minutes=1)
    days, rest = divmod(minutes, 24 * 60)
    return f"{f'{days} d ' if days else ''}{rest // 60} h {rest % 60} min"


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Join neighbours: 3, 4, 5, 9 becomes (3, 5), (9, 9)."""
    out: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if out and number == out[-1][1] + 1:
            out[-1] = (out[-1][0], number)
        else:
            out.append((number, number))
    return out


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(value: object) -> object:
    """Return a text with everything that cannot be seen written out, such as \\u202e; other things as they are."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(when=when, span=span, ranges=ranges, details=details)
    return templates
