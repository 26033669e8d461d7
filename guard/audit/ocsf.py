"""Entries as OCSF 1.5.0 events, for SIEMs (schema.ocsf.io). Pure.

An entry says its class itself. Each class gets what it requires; the entry's own members stand under `unmapped`, as
docs/FORMATS.md names them. A class that is not known here becomes a Base Event, so that nothing is left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from guard import __version__
from guard.audit.entry import Entry
from guard.clock import stamp
from guard.events import Ending

VERSION: Final = "1.5.0"
"""Of the schema. SIEMs map classes by it: a newer one is a change for everybody who receives them."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the entries come from."""

    origin: str
    """Of the log that is written to."""
    shop: str
    """The shop's name, as guard.toml has it."""


@dataclass(frozen=True, slots=True)
class _Class:
    uid: int
    name: str
    category: tuple[int, str]
    activities: Mapping[int, str]
    details: Callable[[Entry, Source], Event]
    profiles: tuple[str, ...] = ()
    """What has to be named for attributes that the class has not by itself: `host` for the actor."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CRUD = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}
_FINDING = {1: "Create", 2: "Update", 3: "Close"}
_LOGON = {1: "Logon", 2: "Logoff", 3: "Authentication Ticket", 4: "Service Ticket Request", 5: "Service Ticket Renew"}
_DATASTORE = {
    **dict(enumerate(("Read", "Update", "Connect", "Query", "Write", "Create", "Delete", "List", "Encrypt"), 1)),
    10: "Decrypt",
}
_SEVERITY = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_SEVERITIES = {
    Ending.PARTLY: 2,
    Ending.INTERRUPTED: 2,
    Ending.FAILED: 3,
    Ending.DENIED: 3,
    Ending.GATE_FAILED: 4,
}
_INCIDENT = 2005
_FAILURES = {Ending.FAILED, Ending.INTERRUPTED, Ending.DENIED, Ending.GATE_FAILED}
_OTHER = 99


def event(entry: Entry, source: Source) -> Event:
    """Return the OCSF event of an entry: JSON types only, no personal data, as the entry holds none."""
    class_uid, _, activity = entry.activity.partition(".")
    known = _CLASSES.get(int(class_uid) if class_uid.isdecimal() else 0, _BASE)
    number = int(activity) if activity.isdecimal() else 0
    activity_id = number if number in known.activities else _OTHER
    caption = known.activities.get(activity_id, entry.what)
    severity = _severity(entry, known)
    return {
        "activity_id": activity_id,
        "activity_name": caption,
        "category_uid": known.category[0],
        "category_name": known.category[1],
        "class_uid": known.uid,
        "class_name": known.name,
        "type_uid": known.uid * 100 + activity_id,
        "type_name": f"{known.name}: {caption}",
        "time": (entry.at - _EPOCH) // _MILLISECOND,
        "severity_id": severity,
        "severity": _SEVERITY[severity],
        "message": f"{entry.what}: {entry.outcome}",
        **_status(entry),
        "metadata": {**_metadata(entry, source), **({"profiles": list(known.profiles)} if known.profiles else {})},
        **known.details(entry, source),
        "unmapped": _unmapped(entry),
    }


def _severity(entry: Entry, known: _Class) -> int:
    by_outcome = _SEVERITIES.get(entry.outcome, 1)
    return max(by_outcome, 4) if known.uid == _INCIDENT else by_outcome


def _status(entry: Entry) -> Event:
    if entry.outcome is Ending.DONE:
        return {"status_id": 1, "status": "Success"}
    if entry.outcome in _FAILURES:
        return {"status_id": 2, "status": "Failure", "status_detail": entry.outcome.value}
    return {"status_id": _OTHER, "status": entry.outcome.value}


def _metadata(entry: Entry, source: Source) -> Event:
    return {
        "version": VERSION,
        "product": {"name": "guard", "vendor_name": "guard", "version": __version__},
        "uid": f"{source.origin}#{entry.n}",
        "sequence": entry.n,
        "correlation_uid": entry.run,
        "event_code": entry.what,
        "log_name": source.origin,
        "log_provider": "guard",
        "original_time": stamp(entry.at),
        "tenant_uid": source.shop,
    }


def _unmapped(entry: Entry) -> Event:
    return {
        "n": entry.n,
        "class": entry.activity,
        "who": entry.who,
        "what": entry.what,
        "outcome": entry.outcome.value,
        "objects": list(entry.objects),
        "counts": dict(entry.counts),
        "digests": dict(entry.digests),
        "facts": dict(entry.facts),
        "subject": entry.subject,
        "payload": entry.payload,
    }


def _user(entry: Entry) -> Event:
    """Who acted: `p-` people are users, `x-` somebody in the shop, everything else a program."""
    kind = {"p-": (1, "User"), "x-": (_OTHER, "Shop")}.get(entry.who[:2], (3, "System"))
    return {"uid": entry.who, "name": entry.who, "type_id": kind[0], "type": kind[1]}


def _actor(entry: Entry, _: Source) -> Event:
    return {"actor": {"user": _user(entry)}}


def _from(entry: Entry) -> Event:
    return {"name": entry.facts.get("via", "guard")}


def _resources(entry: Entry) -> list[Event]:
    return [{"uid": each, "name": each} for each in entry.objects]


def _authentication(entry: Entry, source: Source) -> Event:
    return {**_actor(entry, source), "user": _user(entry), "service": {"name": entry.facts.get("via", "guard")}}


def _entity(entry: Entry, source: Source) -> Event:
    name = entry.objects[0] if entry.objects else entry.what
    return {**_actor(entry, source), "entity": {"uid": name, "name": name, "type": entry.what.partition(".")[0]}}


def _api(entry: Entry, source: Source) -> Event:
    api = {"operation": entry.what, "service": {"name": "guard"}}
    return {**_actor(entry, source), "api": api, "src_endpoint": _from(entry), "resources": _resources(entry)}


def _datastore(entry: Entry, source: Source) -> Event:
    tables = [{"uid": each, "name": each} for each in dict.fromkeys(each.partition(".")[0] for each in entry.objects)]
    where = {"table": tables[0], "type_id": 3, "type": "Table"} if tables else {"type_id": 1, "type": "Database"}
    database = {"name": source.shop, "type_id": 1, "type": "Relational"}
    return {**_actor(entry, source), "src_endpoint": _from(entry), "database": database, **where}


def _incident(entry: Entry, source: Source) -> Event:
    findings = [{"uid": each, "title": entry.what} for each in entry.objects or (entry.run,)]
    closed = entry.what.endswith(".close") and entry.outcome is Ending.DONE
    status = {"status_id": 5, "status": "Closed"} if closed else {"status_id": 2, "status": "In Progress"}
    detail = {"status_detail": entry.outcome.value}
    return {**_actor(entry, source), "assignee": _user(entry), "finding_info_list": findings, **status, **detail}


def _compliance(entry: Entry, source: Source) -> Event:
    passed = {Ending.DONE: (1, "Pass"), Ending.PARTLY: (2, "Warning"), Ending.BEGUN: (0, "Unknown")}
    result = passed.get(entry.outcome, (3, "Fail") if entry.outcome in _FAILURES else (0, "Unknown"))
    done = entry.outcome in {Ending.DONE, Ending.RESOLVED}
    status = {"status_id": 4, "status": "Resolved"} if done else {"status_id": 1, "status": "New"}
    return {
        **_actor(entry, source),
        "compliance": {"control": entry.what, "standards": ["guard"], "status_id": result[0], "status": result[1]},
        "finding_info": {"uid": f"{source.origin}#{entry.n}", "title": entry.what},
        "resources": _resources(entry),
        **status,
        "status_detail": entry.outcome.value,
    }


_IAM, _FINDINGS, _APPLICATION = (3, "Identity & Access Management"), (2, "Findings"), (6, "Application Activity")
_BASE = _Class(0, "Base Event", (0, "Uncategorized"), {}, _actor, ("host",))
_CLASSES = {
    each.uid: each
    for each in (
        _Class(2003, "Compliance Finding", _FINDINGS, _FINDING, _compliance, ("host",)),
        _Class(_INCIDENT, "Incident Finding", _FINDINGS, _FINDING, _incident, ("host",)),
        _Class(3002, "Authentication", _IAM, _LOGON, _authentication),
        _Class(3004, "Entity Management", _IAM, _CRUD, _entity),
        _Class(6003, "API Activity", _APPLICATION, _CRUD, _api),
        _Class(6005, "Datastore Activity", _APPLICATION, _DATASTORE, _datastore),
    )
}
