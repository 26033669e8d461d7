"""An entry of the ledger: an `Event` with its number and time, as the exact bytes that are hashed, and back.

docs/FORMATS.md, section 4.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from guard import canon
from guard.clock import parse, stamp
from guard.events import Ending, Event, PrincipalId, RunId

_RUN = re.compile(r"[0-9a-f]{32}")
MOST = 65_535
"""Bytes of an entry: what the two length bytes of a C2SP tlog-tiles entry bundle can say."""

_HEX = re.compile(r"([0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded event. Holds ids, counts and keyed digests, never personal data in clear."""

    n: int
    at: datetime
    who: PrincipalId
    what: str
    run: RunId
    outcome: Ending
    activity: str
    """OCSF "class.activity"."""
    objects: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    subject: str | None = None
    payload: str | None = None


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The members of an entry as they are stored."""

    v: Literal[1]
    n: int
    at: str
    who: str
    what: str
    run: str
    outcome: str
    class_: str = msgspec.field(name="class")
    objects: tuple[str, ...]
    counts: dict[str, int]
    digests: dict[str, str]
    facts: dict[str, str]
    subject: str | None
    payload: str | None


decode_raw = msgspec.json.Decoder(Leaf).decode
"""Reads the bytes of an entry; raises one of `NOT_ONE` when they are not one. Twice as fast as `decode`."""

NOT_ONE = (msgspec.MsgspecError, UnicodeDecodeError, TypeError)


def decode(raw: bytes) -> Leaf:
    """Read the bytes of an entry. Raises ValueError when they are not one."""
    try:
        return decode_raw(raw)
    except NOT_ONE as error:
        raise ValueError("not an entry of the ledger") from error


def leaf(n: int, at: datetime, event: Event) -> bytes:
    """Return the bytes of entry `n`, written at `at`. Raises ValueError when the format cannot hold the event."""
    if not _RUN.fullmatch(event.run):
        raise ValueError(f"{event.what}: a run id is 32 hex characters")
    if event.subject is not None and not _RUN.fullmatch(event.subject):
        raise ValueError(f"{event.what}: a pseudonym is 32 hex characters")
    if not all(_HEX.fullmatch(digest) for digest in event.digests.values()):
        raise ValueError(f"{event.what}: a digest is hex")
    raw = canon.plain_json_bytes(
        {
            "v": 1,
            "n": n,
            "at": stamp(at),
            "who": event.who,
            "what": event.what,
            "run": event.run,
            "outcome": event.ending.value,
            "class": event.activity.value,
            "objects": event.objects,
            "counts": event.counts,
            "digests": event.digests,
            "facts": event.facts,
            "subject": event.subject,
            "payload": None if event.payload is None else sha256(event.payload).hexdigest(),
        }
    )
    if len(raw) > MOST:
        raise ValueError(f"{event.what}: an entry has at most {MOST} bytes, this one has {len(raw)}")
    return raw


def read(raw: bytes) -> Entry:
    """Return the entry in `raw`. Raises ValueError when it is not one."""
    found = decode(raw)
    return Entry(
        found.n,
        parse(found.at),
        PrincipalId(found.who),
        found.what,
        RunId(found.run),
        Ending(found.outcome),
        found.class_,
        found.objects,
        found.counts,
        found.digests,
        found.facts,
        found.subject,
        found.payload,
    )
