"""What the shop tells: the schema of an event of the shop, and how it becomes an event of the ledger. Pure.

The public part of an entry is never erased. So all that is told in free words goes elsewhere: names of actors become
keyed stand-ins, people become pseudonyms, details are sealed under the key of whom they are about. What stays is
chosen from closed lists: tables and columns of the catalog, purposes of the policy, a few words for counts.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from guard import canon
from guard.clock import parse, stamp
from guard.config.load import decode
from guard.errors import ConfigError
from guard.events import About, Activity, Ending, Event, PrincipalId, RunId

PREFIX: Final = "shop."
"""What the name of every event of the shop begins with, so that none can pose as one of guard's."""

AHEAD: Final = timedelta(minutes=5)
"""How far the clock of who tells may be ahead of guard's."""

LINE: Final = 1 << 16
"""Bytes of a line: details of 32 KiB, and room for the rest."""

DETAILS: Final = 1 << 15
MOST_PEOPLE: Final = 1000
MOST_OBJECTS: Final = 100
MOST_COUNTED: Final = 10**9
"""Of a count: numbers of telephones and cards have more digits."""

_WHAT: Final = re.compile(r"[a-z]+(\.[a-z-]+)*")
_AT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_CLASSES: Final[Mapping[str, Activity]] = {
    "read": Activity.DATA_READ,
    "update": Activity.DATA_UPDATE,
    "create": Activity.DATA_CREATE,
    "delete": Activity.DATA_DELETE,
    "export": Activity.DATA_QUERY,
}
_OUTCOMES: Final[Mapping[str, Ending]] = {"done": Ending.DONE, "denied": Ending.DENIED, "failed": Ending.FAILED}
_COUNTED: Final = ("rows", "people", "files")

_HOW: Final[Mapping[str, str]] = {
    "what": 'what happened, in small letters, e.g. "order.read"',
    "at": 'when it happened, as RFC 3339 with an offset, e.g. "2026-11-22T17:30:00+01:00"',
    "class": f"one of {', '.join(_CLASSES)}",
    "outcome": f"one of {', '.join(_OUTCOMES)}; without it: done",
    "actor": "the name somebody has in the shop, a text; leave it out where the shop acted by itself",
    "subject": 'whom it is about: {"kind": "customer", "key": 17}, or a list of these',
    "objects": 'a list of tables or columns of the catalog, e.g. ["Customer.Email"]',
    "purpose": "one of the purposes that policies/audit.toml lists",
    "counts": 'how many, e.g. {"rows": 3}; of rows, people or files',
    "details": "a JSON object, sealed for the one it is about",
    "id": "a text of your own, another one for each event: told twice, it is recorded once",
}
"""What each member is to be, for who has to put it right."""


class Whom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person: the catalog's kind of subject, and the key of their row."""

    kind: str
    key: int | str


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as the shop tells it: one JSON object."""

    what: str
    at: str
    class_: str = msgspec.field(name="class")
    outcome: str = "done"
    actor: str | None = None
    subject: Whom | tuple[Whom, ...] | None = None
    objects: tuple[str, ...] = ()
    purpose: str | None = None
    counts: dict[str, int] = {}  # msgspec copies an empty default
    details: dict[str, Any] | None = None
    id: str | None = None

    @property
    def people(self) -> tuple[Whom, ...]:
        """Everybody it is about."""
        if self.subject is None:
            return ()
        return (self.subject,) if isinstance(self.subject, Whom) else self.subject


msgspec.json.Decoder(Told)  # looked at now: msgspec crashes where two threads meet a type for the first time


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a member of an event, and how to put it right."""

    field: str
    what: str
    how: str

    def __str__(self) -> str:
        """Return it in one line."""
        return ": ".join(part for part in (self.field, self.what) if part) + (f"; {self.how}" if self.how else "")


class NotToldError(ConfigError):
    """What was told is no event of the shop. `problems` says why, one for each member."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Known:
    """What events may speak of just now."""

    objects: frozenset[str]
    """The tables and columns of the accepted catalog."""
    kinds: Mapping[str, Callable[[int | str], bytes]]
    """For each kind of subject what makes a key canonical. Raises ConfigError for what cannot be one."""
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Teller:
    """Through whom an event is told, and by what names the ledger knows it."""

    via: PrincipalId
    actor: Callable[[str], str]
    """Gives the stand-in of a name in the shop."""
    source: str | None = None
    """The keyed digest of the file it comes from."""


# Read -----------------------------------------------------------------------------------------------------------------


def read(raw: bytes) -> Told:
    """Return the event in a line of JSON. Raises NotToldError naming everything that is wrong with its shape."""
    if len(raw) > LINE:
        raise NotToldError([Problem("", f"the line has {len(raw)} bytes, at most {LINE} are taken", "")])
    try:
        found = msgspec.json.decode(raw)
        json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotToldError(
            [Problem("", f"no JSON that can be read: {_why(error)}", "write one object in a line")]
        ) from error
    return shaped(found)


def shaped(value: object) -> Told:
    """Return the event that parsed JSON is. Raises NotToldError naming everything that is wrong with its shape."""
    if not isinstance(value, dict):
        raise NotToldError([Problem("", "not a JSON object", 'write one, e.g. {"what": "order.read", …}')])
    try:
        return msgspec.convert(value, Told)
    except msgspec.ValidationError:
        raise NotToldError(_misshapen(value)) from None


def _misshapen(value: Mapping[str, Any]) -> list[Problem]:
    try:
        decode(value, Told, "told")
    except ConfigError as error:
        lines = [line.removeprefix("told: ").partition(": ") for line in str(error).splitlines()]
        return [Problem(where.removeprefix("top level"), what, _how(where)) for where, _, what in lines]
    raise AssertionError("what cannot be converted has a reason")


def _how(where: str) -> str:
    return _HOW.get(re.split(r"[.\[]", where)[0], "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


# Check ----------------------------------------------------------------------------------------------------------------


def problems(told: Told, known: Known, now: datetime) -> list[Problem]:
    """Return everything that is wrong with what an event says."""
    return [
        *_wording(told),
        *_counts(told),
        *_time(told.at, now),
        *_things(told, known),
        *_people(told, known),
        *_details(told),
    ]


def _wording(told: Told) -> Iterator[Problem]:
    if not _WHAT.fullmatch(told.what) or len(told.what) > 80:
        yield Problem("what", "not the name of an event", _HOW["what"])
    for name, word, words in (("class", told.class_, _CLASSES), ("outcome", told.outcome, _OUTCOMES)):
        if word not in words:
            yield Problem(name, "a word that is not known here", _HOW[name])
    for name, text in (("actor", told.actor), ("id", told.id)):
        if text is not None and not 0 < len(text) <= 200:
            yield Problem(name, "1 to 200 characters", _HOW[name])


def _counts(told: Told) -> Iterator[Problem]:
    if not set(told.counts) <= set(_COUNTED):
        yield Problem("counts", "of something else than rows, people or files", _HOW["counts"])
    for name in _COUNTED:
        if not 0 <= told.counts.get(name, 0) <= MOST_COUNTED:
            yield Problem(f"counts.{name}", f"not between 0 and {MOST_COUNTED}", _HOW["counts"])


def _time(text: str, now: datetime) -> Iterator[Problem]:
    try:
        at = happened(text)
    except ValueError:
        yield Problem("at", "not a time with an offset", _HOW["at"])
        return
    if at > now + AHEAD:
        yield Problem("at", f"in the future: guard's clock says {stamp(now)}", "set the clocks right")


def happened(text: str) -> datetime:
    """Return the time in an RFC 3339 text with an offset. Raises ValueError for anything else."""
    if not _AT.fullmatch(text):
        raise ValueError("not an RFC 3339 time with an offset")
    try:
        return parse(text.upper())
    except OverflowError as error:
        raise ValueError("a time beyond the years 1 to 9999 in UTC") from error


def _things(told: Told, known: Known) -> Iterator[Problem]:
    if len(told.objects) > MOST_OBJECTS:
        yield Problem("objects", f"more than {MOST_OBJECTS}", "name the tables instead of their columns")
    for number, name in enumerate(told.objects, 1):
        if name not in known.objects:
            how = _nearest(name, known.objects, "guard data catalog")
            yield Problem(f"objects[{number}]", "not in the accepted catalog", how)
    if told.purpose is not None and told.purpose not in known.purposes:
        yield Problem("purpose", "not in policies/audit.toml", _nearest(told.purpose, known.purposes, "that file"))


def _people(told: Told, known: Known) -> Iterator[Problem]:
    if len(told.people) > MOST_PEOPLE:
        yield Problem("subject", f"more than {MOST_PEOPLE} people", "tell several events")
    for number, whom in enumerate(told.people, 1):
        where = "subject" if isinstance(told.subject, Whom) else f"subject[{number}]"
        if whom.kind not in known.kinds:
            how = _nearest(whom.kind, known.kinds, "policies/catalog.toml")
            yield Problem(f"{where}.kind", "the catalog has no such [subject]", how)
            continue
        try:
            known.kinds[whom.kind](whom.key)
        except ConfigError as error:
            yield Problem(f"{where}.key", str(error), error.hint or _HOW["subject"])


def _nearest(name: str, known: Iterable[str], where: str) -> str:
    """Name the one known word that is nearest. What was told is not repeated: it could be anything."""
    by_small = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_small, 1)
    return f'did you mean "{by_small[near[0]]}"?' if near else f"{where} lists what is known"


def _details(told: Told) -> Iterator[Problem]:
    if told.details is None:
        return
    if not told.people:
        yield Problem(
            "details", "nobody is named whose key could seal them", "name a subject, or leave the details out"
        )
    try:
        size = len(canon.json_bytes(told.details))
    except (ValueError, RecursionError) as error:
        yield Problem("details", f"cannot be written as canonical JSON: {_why(error)}", "write long numbers as texts")
        return
    if size > DETAILS:
        yield Problem("details", f"{size} bytes", f"at most {DETAILS}; keep the rest in the shop")


# Record ---------------------------------------------------------------------------------------------------------------


def events(told: Told, known: Known, by: Teller, run: RunId) -> tuple[Event, ...]:
    """Return what the ledger records of an event without `problems`: one event for each person, with the same run."""
    facts = {"via": by.via, "happened": stamp(happened(told.at)), "purpose": told.purpose, "source": by.source}
    event = Event(
        f"{PREFIX}{told.what}",
        _OUTCOMES[told.outcome],
        by.via if told.actor is None else PrincipalId(by.actor(told.actor)),
        run,
        _CLASSES[told.class_],
        told.objects,
        told.counts,
        facts={name: text for name, text in facts.items() if text is not None},
    )
    people = dict.fromkeys((whom.kind, known.kinds[whom.kind](whom.key)) for whom in told.people)
    return tuple(replace(event, about=About(*person, told.details)) for person in people) or (event,)
