"""What was done where guard's state was lost: noted in a file until there is a ledger again. docs/FORMATS.md, 4.

The file is as good as the folder it lies in: who can write there can write lines. They enter the ledger as what they
are, told later, and no claim of theirs is believed beyond that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from guard.canon import json_bytes
from guard.clock import parse, stamp
from guard.errors import UnavailableError
from guard.events import GUARD, Activity, Ending, Event, PrincipalId, RunId
from guard.state.sealed import Digest

FILE: Final = "unrecorded.ndjson"

_Text = Annotated[str, msgspec.Meta(max_length=300)]


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line: a restore from a backup that began, or how it ended."""

    v: Literal[1] = 1
    run: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    at: _Text
    outcome: Literal["begun", "done", "failed", "interrupted"]
    os_user: _Text
    by: Literal["passphrase", "kit"]
    store: _Text
    snapshot: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    files: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] = 0


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """The lines that wait for a ledger. `broken`: how many of them cannot be read."""

    notes: tuple[Note, ...] = ()
    broken: int = 0

    def events(self, known: Iterable[RunId], who: Who) -> Iterator[Event]:
        """Yield what the ledger is told; runs in `known` it holds already. A run without an end was killed."""
        told = set(known)
        ended = {note.run for note in self.notes if note.outcome != "begun"}
        for note in self.notes:
            if note.run not in told:
                event = _event(note, who)
                yield event
                if note.run not in ended:
                    yield replace(event, ending=Ending.RESOLVED, facts={"was": "killed"})


@dataclass(frozen=True, slots=True)
class Who:
    """Turns the OS user of a note into somebody the ledger may name."""

    digest: Digest
    people: Mapping[str, PrincipalId]

    def of(self, os_user: str) -> tuple[PrincipalId, dict[str, str]]:
        """Return the principal, and for somebody guard does not know guard itself with a digest of the name."""
        person = self.people.get(os_user)
        if person is not None:
            return person, {}
        return GUARD, {"os_user": self.digest("OS user", os_user.encode())}


def _event(note: Note, who: Who) -> Event:
    person, digests = who.of(note.os_user)
    return Event(
        "backup.restore",
        Ending(note.outcome),
        person,
        RunId(note.run),
        Activity.DATA_READ,
        objects=(f"{note.store}/{note.snapshot}",),
        counts={"files": note.files},
        digests=digests,
        facts={"gate": note.by, "told": "later", "at": stamp(parse(note.at))},
    )


def write(folder: Path, note: Note) -> None:
    """Add a line, safe on disk when this returns. Raises UnavailableError when it cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, json_bytes(msgspec.to_builtins(note)) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise UnavailableError(
            f"cannot note what is done in {folder / FILE}: {error.strerror}", hint="without a note nothing is restored"
        ) from error


def read(folder: Path) -> Unrecorded:
    """Return the lines in `folder`; none when there is no file. Raises UnavailableError when it cannot be read."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return Unrecorded()
    except OSError as error:
        raise UnavailableError(f"cannot read {folder / FILE}: {error.strerror}") from error
    notes = [_note(line) for line in lines]
    return Unrecorded(tuple(note for note in notes if note is not None), notes.count(None))


def forget(folder: Path) -> None:
    """Remove the file: the ledger knows all of it."""
    (folder / FILE).unlink(missing_ok=True)


def _note(line: bytes) -> Note | None:
    try:
        note = msgspec.json.decode(line, type=Note)
        parse(note.at)
    except (msgspec.MsgspecError, ValueError):
        return None
    return note
