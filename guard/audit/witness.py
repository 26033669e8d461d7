"""A witness (C2SP tlog-witness): it cosigns checkpoints of the logs it knows, and never two histories of one log.

It needs no guard state: a folder with its key and, of each log, the newest checkpoint it cosigned. What it cosigns
is on disk before it answers; a lock keeps a second process from the folder. docs/FORMATS.md, section 4.
"""

from __future__ import annotations

import re
import threading
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from guard import faults
from guard.audit import merkle
from guard.audit.anchors.folder import write_over
from guard.audit.checkpoint import Checkpoint, parse
from guard.clock import Clock
from guard.crypto import random
from guard.crypto.cosign import Cosigner, WitnessKey, join
from guard.crypto.files import sync_folder, write_new
from guard.crypto.sign import Verifier, split_note
from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from guard.state import hold

KEY: Final = "witness.key"
MOST_PROOF: Final = 63
"""Lines of a proof: RFC 6962 needs no more for a tree of 2^63."""

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a request: the HTTP status, and the answer's body. `why`: for the witness's own log."""

    status: int
    why: str
    body: str = ""
    origin: str | None = None
    """Of a log that is known."""
    old: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    old: int
    proof: Sequence[bytes]
    note: str
    checkpoint: Checkpoint

    @classmethod
    def read(cls, body: bytes) -> _Request:
        """Read the body of add-checkpoint. Raises ValueError or TamperedError when it is not one."""
        head, _, note = body.decode().partition("\n\n")
        old, *lines = head.split("\n")
        found = _OLD.fullmatch(old)
        proof = [a2b_base64(line, strict_mode=True) for line in lines]
        if found is None or len(proof) > MOST_PROOF or any(len(each) != 32 for each in proof):
            raise ValueError("not a request to cosign")
        return cls(int(found[1]), proof, note, parse(split_note(note)[0]))


class Witness:
    """Cosigns for the logs whose verifier keys it is given; several keys of one origin are all good."""

    def __init__(self, folder: Path, cosigner: Cosigner, logs: Iterable[Verifier], clock: Clock) -> None:
        self._folder = folder
        self._cosigner = cosigner
        self._own = WitnessKey.from_vkey(cosigner.vkey)
        self._clock = clock
        self._one = threading.Lock()
        self._logs: dict[str, list[Verifier]] = {}
        for each in logs:
            self._logs.setdefault(each.name, []).append(each)

    @property
    def vkey(self) -> str:
        """Its verifier key, for guard.toml."""
        return self._cosigner.vkey

    @property
    def logs(self) -> Mapping[str, Sequence[Verifier]]:
        """The keys it knows, by origin."""
        return self._logs

    def add(self, body: bytes) -> Decision:
        """Decide on a request `add-checkpoint`; what is cosigned is on disk when this returns.

        Raises TamperedError when its own record was changed, UnavailableError when it cannot be written.
        """
        try:
            asked = _Request.read(body)
        except (ValueError, TamperedError) as error:
            return Decision(400, f"malformed: {type(error).__name__}")
        origin, size = asked.checkpoint.origin, asked.checkpoint.size
        if (keys := self._logs.get(origin)) is None:
            return Decision(404, "a log that is not known")
        if not _is_signed(asked.note, keys):
            return Decision(403, "no good signature of the log", origin=origin)
        if asked.old > size:
            return Decision(400, "the old size is larger than the new one", "", origin, asked.old, size)
        with self._one:  # comparing and keeping is one step
            last = self.newest(origin)
            before = Checkpoint(origin, 0, merkle.EMPTY_ROOT) if last is None else parse(split_note(last)[0])
            status, why = _judged(asked, before)
            answer = self._cosigned(asked, keys) if status == 200 else f"{before.size}\n" if status == 409 else ""
        return Decision(status, why, answer, origin, asked.old, size)

    def newest(self, origin: str) -> str | None:
        """Return the newest note it cosigned of a log; None when there is none.

        Raises TamperedError when that is not what it wrote.
        """
        try:
            note = self._path(origin).read_bytes().decode()
            if self._own.time_on(note) is not None and parse(split_note(note)[0]).origin == origin:
                return note
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, TamperedError):
            pass
        except OSError as error:
            raise UnavailableError(f"cannot read {self._path(origin)}: {error.strerror}") from error
        hint = "bring the newest copy back; without it the log has to be taken in anew"
        raise TamperedError(f"{self._path(origin)} is not what this witness wrote", hint=hint)

    def _cosigned(self, asked: _Request, keys: Sequence[Verifier]) -> str:
        """Cosign a checkpoint, keep it, and return the signature line."""
        text, signatures = split_note(asked.note)
        line = self._cosigner.cosign(text, self._clock.now())
        known = {(key.name, key.key_id) for key in keys}
        lines = zip(asked.note[len(text) + 1 :].splitlines(keepends=True), signatures, strict=True)
        note = f"{text}\n" + "".join(each for each, (name, key_id, _) in lines if (name, key_id) in known)
        try:
            write_over(self._path(asked.checkpoint.origin), join(note, line).encode())
        except OSError as error:
            raise UnavailableError(f"cannot write {self._path(asked.checkpoint.origin)}: {error.strerror}") from error
        faults.point("audit.witness.kept")
        return line

    def _path(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()}.checkpoint"


@contextmanager
def opened(folder: Path, name: str, logs: Iterable[Verifier], clock: Clock) -> Iterator[Witness]:
    """Give the witness of a folder, and hold the folder's lock meanwhile. The first time its key is made, as `name`.

    Raises BusyError when another process runs on it, ConfigError when the folder or its key cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}") from error
    with hold(folder, ("witness",), timedelta(), clock, "guard audit witness"):
        yield Witness(folder, _cosigner(folder, name), logs, clock)


def _cosigner(folder: Path, name: str) -> Cosigner:
    path = folder / KEY
    if not path.exists():
        if any(folder.glob("*.checkpoint")):
            raise InterlockError(f"{path} is gone, but what it signed is there", hint="bring the key back")
        try:
            made = Cosigner(random.token(32), name)
        except ValueError as error:
            raise ConfigError(f"{name!r} cannot be a witness's name: {error}", hint="--name gives another") from None
        write_new(path, made.skey + "\n")
        sync_folder(folder)
        return made
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        return Cosigner.from_skey(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error


def _is_signed(note: str, keys: Sequence[Verifier]) -> bool:
    """Tell whether known keys signed a note, and all of them that did signed it right (C2SP signed-note)."""
    there = {(name, key_id) for name, key_id, _ in split_note(note)[1]}
    mine = [key for key in keys if (key.name, key.key_id) in there]
    try:
        for key in mine:
            key.open_note(note)
    except TamperedError:
        return False
    return bool(mine)


def _judged(asked: _Request, before: Checkpoint) -> tuple[int, str]:
    """Return status and reason, by what was cosigned before; size 0 where nothing was."""
    new = asked.checkpoint
    if asked.old != before.size:
        return 409, f"the last size is {before.size}"
    if 0 < asked.old == new.size:
        return (200, "cosigned again") if new.root == before.root else (409, "ANOTHER ROOT OF THE SAME SIZE")
    if asked.old == 0:
        good = not asked.proof and (new.size > 0 or new.root == merkle.EMPTY_ROOT)
    else:
        good = merkle.verify_consistency(asked.old, new.size, asked.proof, before.root, new.root)
    return (200, "cosigned") if good else (422, "THE PROOF DOES NOT HOLD")
