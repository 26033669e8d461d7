"""The columns of a process of the shop that may not read guard's folder: keys on lease from the agent, for minutes.

The agent gives the keys of the columns that policies/access.toml names for the service, and nothing else. What is bound
to a person, or sealed within a budget (`tight`), it seals and opens itself: those keys never leave it.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec

from guard.canon import Json, KeyPart, parse_key
from guard.client import Agent
from guard.clock import Clock, parse
from guard.crypto import xaes
from guard.crypto.blind import Tokenizer
from guard.crypto.wrap import Key
from guard.errors import TamperedError, UnavailableError
from guard.events import PrincipalId
from guard.fields import typed
from guard.fields.kinds import Form, Spelling
from guard.fields.lease import TERM, Lease
from guard.fields.live import Live, Token, View
from guard.fields.store import Filling, IndexRecord, Stage
from guard.fields.value import Cell, CellSpec, Means

_MOST: Final = 1000
"""Values in one question."""

_ROOM: Final = 1 << 18
"""Bytes of values in one question: sealed they take more, and an answer has at most a MiB."""

_WHO: Final = PrincipalId("s-")
"""Of a lease that the agent holds for this process."""


def elsewhere(socket: Path) -> bool:
    """Say whether the agent at `socket` is another OS user's: then guard's folder is not this process's to read."""
    try:
        return socket.parent.stat().st_uid != os.geteuid()
    except PermissionError:
        return True
    except OSError:  # there is no agent
        return False


@dataclass(frozen=True, slots=True)
class Leased:
    """Columns and keys as an agent gives them."""

    agent: Agent
    clock: Clock

    def look(self, old: View | None, now: datetime) -> View:
        """Return the columns as they are at `now`. Raises what the agent raises, and UnavailableError without one."""
        told = self.agent.ask("lease", {} if old is None else {"mark": old.mark}, patient=old is None)
        try:
            until = min(parse(told["until"]), now + TERM)
            lease = Lease("", _WHO, frozenset(), now, until)
            if old is not None and told["mark"] == old.mark and "columns" not in told:
                return replace(old, seen=now, lease=lease)
            view = View(str(told["mark"]), now, _columns(self, told), lease)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _odd(error) from error
        xaes.clear()  # what is no longer given stays in no cache
        return view

    def key(self, known: Mapping[int, Key], key_id: int) -> Key:
        """Return a key of a view; where it has none, one that was made since.

        Raises TamperedError when the agent does not give it.
        """
        if (found := known.get(key_id)) is not None:
            return found
        told = self.agent.ask("lease", {})
        try:
            return _keys(told)[key_id]
        except KeyError:
            raise TamperedError(f"a stored value names key {key_id:010x}, which the agent does not give") from None
        except (TypeError, ValueError) as error:
            raise _odd(error) from error


def _odd(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the agent's answer is no lease ({type(error).__name__})", hint="install the same guard for both"
    )


def _keys(told: Mapping[str, Any]) -> dict[int, Key]:
    return {
        int(name, 16): Key(int(name, 16), each["purpose"], each["version"], b64decode(each["material"], validate=True))
        for name, each in told["keys"].items()
    }


def _columns(source: Leased, told: Mapping[str, Any]) -> dict[str, Live]:
    store_id, keys = UUID(hex=told["store"]), _keys(told)
    return {at: _live(source, store_id, keys, at, each) for at, each in told["columns"].items()}


def _live(source: Leased, store_id: UUID, keys: Mapping[int, Key], at: str, told: Mapping[str, Any]) -> Live:
    cell = None
    if (lies := told["form"]) is not None:
        key = None if told["key"] is None else keys[int(told["key"], 16)]
        spec = CellSpec(store_id, told["id"], at, told["bind"], Form(lies), Spelling(), b"", key)
        mine = partial(source.key, {int(name, 16): keys[int(name, 16)] for name in told["opens"]})
        cell = FarCell(spec, source.agent) if key is None else LeasedCell(spec, Means(mine))
    return Live(
        at,
        told["bind"],
        Stage(told["stage"]),
        tuple(told["bound_by"]),
        told["index"],
        tuple(_token(store_id, keys, told["id"], each) for each in told["tokens"]),
        cell,
    )


def _token(store_id: UUID, keys: Mapping[int, Key], column_id: int, told: Mapping[str, Any]) -> Token:
    key = keys[int(told["key"], 16)]
    record = IndexRecord(
        column_id,
        told["version"],
        told["name"],
        key.id,
        told["normaliser"],
        told["size"],
        told["unique"],
        Filling(told["stage"]),
    )
    return Token(record, Tokenizer(store_id, column_id, record.normaliser, key, record.size))


class LeasedCell(Cell):
    """A cell whose keys are on lease. It has no digest key, which compares columns and is guard's own."""

    def digests(self, rows: Sequence[bytes], values: Sequence[Any]) -> NoReturn:  # noqa: ARG002  # as the cell has it
        """Raise LookupError: only guard makes digests."""
        raise LookupError(f"{self.at}: the key of digests is not on lease")


class FarCell:
    """A column whose keys stay with the agent, which seals and opens its values in batches."""

    def __init__(self, spec: CellSpec, agent: Agent) -> None:
        self.spec = spec
        self._agent = agent

    def seal_all(self, bounds: Sequence[bytes], values: Sequence[Any]) -> Sequence[object]:
        """Return each value as the column stores it, sealed for its place."""
        return self._asked("seal", bounds, values)

    def open_one(self, bound: bytes, stored: object) -> object:
        """Return one value; `SHREDDED` where its person's key was. Raises TamperedError."""
        return self._asked("open", (bound,), (stored,))[0]

    def _asked(self, op: str, bounds: Sequence[bytes], values: Sequence[object]) -> list[object]:
        told = [typed.write(value) for value in values]
        keys: list[Json] = [[_part(part) for part in parse_key(bound)] if bound else [] for bound in bounds]
        out: list[object] = []
        for start, end in _portions([msgspec.json.encode(each) for each in zip(keys, told, strict=True)]):
            args: dict[str, Json] = {"column": self.spec.at, "keys": keys[start:end], "values": told[start:end]}
            out += _answered(self._agent.ask(op, args), end - start)
        return out


def _answered(told: object, count: int) -> list[object]:
    values = told.get("values") if isinstance(told, dict) else None
    if not isinstance(values, list) or len(values) != count:
        raise UnavailableError("the agent's answer has other values than it was asked for")
    return [typed.read(each) for each in values]


def _part(part: KeyPart) -> Json:
    """Return a part of a key as it is told: as text, but for whole numbers."""
    if isinstance(part, int) and abs(part) < 1 << 53:
        return part
    return part.hex() if isinstance(part, bytes) else str(part)


def _portions(told: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield where portions begin and end that fit into one question and its answer."""
    start, size = 0, 0
    for number, each in enumerate(told):
        if number > start and (number - start == _MOST or size + len(each) > _ROOM):
            yield start, number
            start, size = number, 0
        size += len(each)
    if told:
        yield start, len(told)
