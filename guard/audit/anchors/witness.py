"""An anchor that cosigns: a witness (C2SP tlog-witness) elsewhere, which signs no history but the one it saw.

It keeps size and root of what it saw last; the proof that it vouches for that is its signature on the note, which the
ledger keeps. What it has seen by now is asked with a request that it cannot take: the newest checkpoint, with that
checkpoint's own size as the old one. A witness with another size answers with its own (409), and nothing changes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from guard.audit.anchors import FIRST, NOTHING, BeyondError, Known
from guard.audit.anchors.web import Answer, Web
from guard.audit.checkpoint import Checkpoint, log_of, parse
from guard.audit.walk import between, tampered
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import split_note
from guard.errors import ConfigError, DeniedError, GuardError, TamperedError, UnavailableError

MOST_ANSWER: Final = 64 * 1024
"""Bytes. A note of a hundred signatures has a sixth of it."""

_VKEY: Final = "tell its operator the key that signs now: guard audit checkpoint --vkey"


@dataclass(frozen=True, slots=True)
class WitnessAnchor:
    """A witness, by its URL and its verifier key."""

    name: str
    key: WitnessKey
    web: Web

    weak = False

    @property
    def witness(self) -> WitnessKey:
        """The verifier key."""
        return self.key

    @property
    def where(self) -> str:
        """The URL."""
        return self.web.url

    def create(self) -> None:
        """Do nothing: its operator takes the log in."""

    def put(self, size: int, note: str, log: str = FIRST, known: Known = NOTHING) -> str:
        """Have the checkpoint cosigned; return the cosignature, which counts once it is kept.

        Raises TamperedError when the witness saw another history, and as `Web.post` does.
        """
        last = self._cosigned(known).get(log)
        old = 0 if last is None else min(_opened(last).size, size)
        for _ in range(2):
            answer = self._send(old, self._proof(known, old, size), note)
            if answer.status == 200:
                return self._line(note, answer)
            old = self._other(answer, old, _opened(note), known)
        raise UnavailableError(f"{self._me} is shown other checkpoints at the same time", hint="try again")

    def newest(self, known: Known = NOTHING) -> Mapping[str, str]:
        """Return the newest notes that it cosigned and the ledger keeps, once it has said that it saw no more."""
        found, beyond, ends = dict(self._cosigned(known)), [], known.ends()
        for log, note in ends.items():
            seen, origin = self._seen(note, closed=log != [*ends][-1]), _opened(note).origin
            if seen is None or seen <= self._end(known, log):
                continue
            if (shown := self._read(origin, seen)) is not None:
                found[log] = shown
            else:
                beyond.append((origin, seen))
        if beyond:
            raise BeyondError(f"{self._me} saw more than this ledger has", beyond, found)
        return found

    def time_of(self, note: str) -> datetime | None:
        """Return when the witness cosigned a note."""
        return self.key.time_on(note)

    def check(self, known: Known = NOTHING) -> Sequence[str]:
        """Look whether it answers, knows the log and its key, and still knows what it cosigned."""
        cosigned = self._cosigned(known)
        for log, note in list(known.ends().items())[-1:]:  # the one that is written to
            seen = self._seen(note)
            if seen is None:
                return (f"it does not know the log {_opened(note).origin}; {_VKEY}",)
            if log in cosigned and seen < (before := _opened(cosigned[log]).size):
                return (f"it has forgotten: it cosigned {before} entries, and says now that it saw {seen}",)
        return ()

    @property
    def _me(self) -> str:
        return f"anchor {self.name} at {self.web.url}"

    def _cosigned(self, known: Known) -> Mapping[str, str]:
        """Return the newest kept note of each log that this witness cosigned."""
        found: dict[str, str] = {}
        for note in known.kept():
            try:
                log = log_of(_opened(note).origin)
                if log not in found and self.key.time_on(note) is not None:
                    found[log] = note
            except TamperedError as error:
                raise tampered(f"a checkpoint that the ledger keeps, and anchor {self.name} took: {error}") from None
        return found

    def _seen(self, note: str, *, closed: bool = False) -> int | None:
        """Return how many entries of a note's log it has seen; None when it does not know the log.

        Of a `closed` log it need not know the key any more.
        """
        size = _opened(note).size
        answer = self._send(size, (), note)
        if answer.status == 200:
            self._line(note, answer)
            return size
        if answer.status == 404 or (closed and answer.status == 403):
            return None
        seen = self._size(answer, _opened(note))
        if seen == size:
            raise self._differs(size)
        return seen

    def _proof(self, known: Known, old: int, size: int) -> Sequence[bytes]:
        try:
            return known.prove(old, size) if 0 < old < size else ()
        except ConfigError as error:  # retention has removed what it takes
            said = f"{self._me} saw the first {old} entries last, and cannot be shown how they go on: {error}"
            raise UnavailableError(said, hint="its operator has to take the log in anew") from error

    def _send(self, old: int, proof: Sequence[bytes], note: str) -> Answer:
        lines = "".join(f"{b64encode(digest).decode()}\n" for digest in proof)
        body = f"old {old}\n{lines}\n{note}".encode()
        return self.web.post("/add-checkpoint", body, "text/plain; charset=utf-8", MOST_ANSWER)

    def _line(self, note: str, answer: Answer) -> str:
        try:
            return self.key.lines_for(note, answer.body.decode())
        except (TamperedError, UnicodeDecodeError) as error:
            hint = "is vkey in guard.toml the one that the witness prints?"
            raise UnavailableError(f"{self._me} answers without a cosignature of its key: {error}", hint=hint) from None

    def _other(self, answer: Answer, old: int, signed: Checkpoint, known: Known) -> int:
        """Return from which size on to prove, after an answer that is not yes. Raises where that is of no use."""
        if answer.status == 422:
            raise tampered(f"{between(0, old - 1)}: not those that anchor {self.name} saw; it refuses the proof")
        seen = self._size(answer, signed)
        if seen == old == signed.size:
            raise self._differs(seen)
        if seen == old:
            raise UnavailableError(f"{self._me} refuses the size that it names itself")
        if seen <= signed.size:
            return seen
        if seen <= self._end(known, log_of(signed.origin)):
            raise UnavailableError(f"{self._me} has seen {seen} entries meanwhile", hint="try again")
        raise tampered(f"{between(signed.size, seen - 1)} gone: anchor {self.name} saw {seen} entries")

    def _size(self, answer: Answer, signed: Checkpoint) -> int:
        """Return the size in a 409. Raises for every other answer."""
        text = answer.body.decode("ascii", "replace")
        if answer.status == 409 and text.endswith("\n") and text[:-1].isdigit() and len(text) <= 20:
            return int(text)
        raise self._refused(answer.status, signed.origin)

    def _refused(self, status: int, origin: str) -> GuardError:
        match status:
            case 403:
                return DeniedError(f"{self._me} knows the log {origin} under another key", hint=_VKEY)
            case 404:
                return ConfigError(f"{self._me} does not know the log {origin}", hint=_VKEY)
            case 400:
                return UnavailableError(f"{self._me} calls the request malformed", hint="is it a C2SP tlog-witness?")
        return UnavailableError(f"{self._me} answers {status}", hint="try again later")

    def _differs(self, size: int) -> TamperedError:
        return tampered(f"{between(0, size - 1)}: not those that anchor {self.name} saw")

    def _end(self, known: Known, log: str) -> int:
        """Return how many entries the ledger has of a log now; others may be writing."""
        return _opened(known.ends()[log]).size

    def _read(self, origin: str, seen: int) -> str | None:
        """Return the note that the witness shows of a log; None where it shows none, as most do not."""
        answer = self.web.get(f"/checkpoint?origin={quote(origin, safe='')}", MOST_ANSWER)
        with suppress(TamperedError, UnicodeDecodeError):
            note = answer.body.decode()
            if answer.status == 200 and self.key.time_on(note) is not None and _opened(note).size >= seen:
                return note
        return None


def _opened(note: str) -> Checkpoint:
    return parse(split_note(note)[0])
