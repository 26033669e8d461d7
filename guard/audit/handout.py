"""Entries with their proofs as files, for somebody who gets no more of the ledger than that."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guard.audit import proof, store
from guard.audit.entry import Entry, read
from guard.audit.export import beside
from guard.audit.store import Query
from guard.crypto.cosign import WitnessKey
from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from guard.state import Tx

BESIDE: Final = ("keys", "verify.py", "vkey")
"""What an auditor needs beside the proofs."""

_ANY_LEDGER: Final = "guard-ledger/00000000-0000-0000-0000-000000000000"
"""As long as what the verifier keys of one ledger begin with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are to be proved, and against what."""

    numbers: tuple[int, ...] = ()
    run: str | None = None
    """All entries of this run."""
    anchored: bool = False
    """Against the newest checkpoint that others vouch for, not the newest one."""
    witnesses: tuple[WitnessKey, ...] = ()
    """Those whose cosignatures count."""


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry whose proof was written."""

    entry: Entry
    proof: Path
    leaf: Path
    """The file with the entry as it was hashed."""


def hand_out(tx: Tx, folder: Path, wanted: Wanted, vkey: str | None) -> tuple[Proved, ...]:
    """Write `<n>.tlog-proof` and `<n>.json` of entries into a folder; with `vkey` also what an auditor needs beside.

    Raises ConfigError when there is no such entry or it was removed under retention, InterlockError when a file is in
    the way, UnavailableError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        given = {name: content for name, content in beside(tx, vkey).items() if name in BESIDE} if vkey else {}
        for name, content in given.items():
            _require_ours(folder / name, content)
        made = tuple(_written(tx, folder, n, wanted) for n in _numbers(tx, wanted))
        for name, content in given.items():
            _put(folder / name, content)
    except OSError as error:
        raise UnavailableError(f"cannot write {folder}: {error.strerror}") from error
    return made


def _numbers(tx: Tx, wanted: Wanted) -> Iterator[int]:
    yield from wanted.numbers
    if wanted.run is None:
        return
    found = [n for n, _ in store.leaves(tx, Query(run=wanted.run))]
    if not found:
        raise ConfigError(f"no entry has the run {wanted.run}", hint="guard --json audit list shows the runs")
    yield from found


def _written(tx: Tx, folder: Path, n: int, wanted: Wanted) -> Proved:
    leaf, found = proof.prove(tx, n, anchored=wanted.anchored, witnesses=wanted.witnesses)
    made = Proved(read(leaf), folder / f"{n}.tlog-proof", folder / f"{n}.json")
    if made.leaf.exists() and made.leaf.read_bytes() != leaf:
        raise InterlockError(f"{made.leaf} is there and is not this entry", hint="--out DIR writes elsewhere")
    if made.proof.exists() and not _is_proof(made.proof):
        raise InterlockError(f"{made.proof} is there and is no proof", hint="--out DIR writes elsewhere")
    _put(made.leaf, leaf)
    _put(made.proof, found.text.encode())
    return made


def _require_ours(path: Path, content: bytes) -> None:
    """Raise InterlockError when another file, or the one of another ledger, is in the way."""
    begins = {"keys": b'{"entry":', "verify.py": content[:80], "vkey": content[: len(_ANY_LEDGER)]}[path.name]
    if path.is_dir() or (path.exists() and (there := path.read_bytes()) and not there.startswith(begins)):
        raise InterlockError(f"{path} is there, and not of proofs of this ledger", hint="--out DIR writes elsewhere")


def _is_proof(path: Path) -> bool:
    try:
        proof.read(path.read_bytes().decode())
    except (UnicodeDecodeError, TamperedError):
        return False
    return True


def _put(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
