"""What an incident is: the fold of its records. Pure.

`aware` is the moment from which the law counts (EDPB Guidelines 9/2022: a reasonable degree of certainty that an
incident has compromised personal data). It may be corrected, with a reason, by adding a record; none is ever changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from guard.canon import Json
from guard.clock import parse, stamp
from guard.errors import ConfigError
from guard.events import PrincipalId

_HINT = "times need their offset, e.g. 2026-01-05T10:15+01:00, and come in this order: occurred, detected, aware, now"


class Kind(StrEnum):
    """What a record says."""

    OPENED = "opened"
    AWARE = "aware"


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known when an incident is opened. Times are aware ones."""

    title: str
    detected: datetime
    aware: datetime
    reason: str
    """Why `aware` is that moment."""
    occurred: datetime | None = None

    @classmethod
    def read(cls, texts: Mapping[str, object]) -> "Opening":
        """Read it from the texts of a form; `occurred` may be missing. Raises ConfigError naming every wrong time."""
        times: dict[str, datetime] = {}
        problems: list[str] = []
        for name in ("detected", "aware", *(["occurred"] if texts.get("occurred") is not None else [])):
            try:
                times[name] = moment(name, texts.get(name))
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ConfigError("\n".join(problems), hint=_HINT)
        return cls(title=str(texts["title"]), reason=str(texts["reason"]), **times)


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of an incident's file: who wrote it when, and what it says."""

    incident: str
    kind: Kind
    at: datetime
    who: PrincipalId
    aware: datetime
    reason: str
    title: str | None = None
    detected: datetime | None = None
    occurred: datetime | None = None

    def as_json(self) -> dict[str, Json]:
        """Return the record as JSON types; what its digest is taken of."""
        times = {name: getattr(self, name) for name in ("at", "aware", "detected", "occurred")}
        return {
            "incident": self.incident,
            "kind": self.kind.value,
            "who": self.who,
            "title": self.title,
            "reason": self.reason,
            **{name: stamp(at) if at else None for name, at in times.items()},
        }


@dataclass(frozen=True, slots=True)
class Incident:
    """One breach as its records tell it."""

    id: str
    title: str
    detected: datetime
    aware: datetime
    reason: str
    occurred: datetime | None
    opened: datetime
    by: PrincipalId
    amended: int = 0
    """How often `aware` was corrected."""


def opened(identity: str, opening: Opening, who: PrincipalId, now: datetime) -> Record:
    """Return the first record of an incident. Raises ConfigError for times that cannot be, or empty words."""
    check(opening, now)
    return Record(
        identity,
        Kind.OPENED,
        now,
        who,
        opening.aware,
        opening.reason,
        opening.title,
        opening.detected,
        opening.occurred,
    )


def corrected(incident: Incident, aware: datetime, reason: str, who: PrincipalId, now: datetime) -> Record:
    """Return the record that sets another `aware`. Raises ConfigError for a time that cannot be, or no reason."""
    check(Opening(incident.title, incident.detected, aware, reason, incident.occurred), now)
    return Record(incident.id, Kind.AWARE, now, who, aware, reason)


def check(opening: Opening, now: datetime) -> None:
    """Raise ConfigError unless occurred <= detected <= aware <= now, with words for title and reason."""
    problems = [f"{name} is empty" for name in ("title", "reason") if not getattr(opening, name).strip()]
    times = [("occurred", opening.occurred or opening.detected), ("detected", opening.detected)]
    times += [("aware", opening.aware), ("now", now)]
    problems += [
        f"{first} ({stamp(before)}) is after {second} ({stamp(after)})"
        for (first, before), (second, after) in pairwise(times)
        if before > after
    ]
    if problems:
        raise ConfigError("\n".join(problems), hint=_HINT)


def moment(name: str, text: object) -> datetime:
    """Return the time in `text`. Raises ConfigError when it is none, or has no offset."""
    try:
        return parse(str(text))
    except ValueError:
        raise ConfigError(f"{name}: {str(text)!r} is not a time with an offset", hint=_HINT) from None


def fold(records: Sequence[Record]) -> Incident:
    """Return the incident that `records`, oldest first, tell of."""
    first = records[0]
    if first.kind is not Kind.OPENED or first.title is None or first.detected is None:
        raise ValueError(f"the file of {first.incident} does not begin with its opening")
    incident = Incident(
        first.incident, first.title, first.detected, first.aware, first.reason, first.occurred, first.at, first.who
    )
    for record in records[1:]:
        incident = replace(incident, aware=record.aware, reason=record.reason, amended=incident.amended + 1)
    return incident
