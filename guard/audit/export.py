"""The ledger as a folder of tiles that anybody checks with `verify.py`, which lies beside them. C2SP tlog-tiles.

The checkpoint is replaced last: a run that was broken off leaves what `verify.py` does not call right, and the next run
takes it up. Tiles of an earlier checkpoint are never written again. Only entries leave, no payloads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from guard.audit import merkle, proof, store, tiles
from guard.audit.checkpoint import Checkpoint, parse
from guard.audit.folder import CHECKPOINT, SUMS, Folder
from guard.audit.rekey import REKEY
from guard.audit.store import Kind, Query
from guard.audit.tiles import ENTRIES, WIDTH, Tile
from guard.canon import json_bytes
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Verifier, split_note
from guard.errors import InterlockError, TamperedError, UnavailableError
from guard.events import Progress, silent
from guard.faults import point
from guard.state import Tx

_NEW = "export into a new folder"
SHIPPED: Final = Path(__file__).with_name("shipped")
"""The files that go to auditors beside the data: `verify.py` and `README`."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that holds the ledger up to its newest checkpoint."""

    folder: Path
    size: int
    """How many entries the checkpoint is over."""
    root: str
    """The root hash, hex."""
    before: int
    """How many the folder held before; 0 for a new one."""
    minimum: int
    """From this entry on the bytes of every entry are there."""
    files: int
    """How many files were written."""


def export(
    tx: Tx, path: Path, vkey: str, progress: Progress = silent, witnesses: Sequence[WitnessKey] = ()
) -> Exported:
    """Bring the folder at `path` up to the newest checkpoint of the ledger, which `vkey` signs.

    `witnesses`: those whose cosignatures count.
    Raises InterlockError when the folder is something else, or holds what this ledger has not or has no more;
    TamperedError when the ledger is not what was signed, UnavailableError when the folder cannot be written.
    """
    size, note = proof.newest(tx)
    signed = parse(Verifier.from_vkey(vkey).open_note(note))
    try:
        folder = Folder(path)
        before, kept = _before(tx, folder, signed), proof.minimum(tx)
        _write_entries(tx, folder, (before, size), progress)
        _write_levels(tx, folder, (before, size))
        if tiles.root(folder.read, size) != signed.root:
            raise TamperedError("the hashes of the ledger do not make the root that was signed", hint=proof.VERIFY)
        _write_beside(folder, beside(tx, vkey, witnesses))
        folder.sweep(before, size)
        point("export.checkpoint")
        folder.close(note)
        folder.drop_partial(size)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
    return Exported(path, size, signed.root.hex(), before, kept, folder.written)


def beside(tx: Tx, vkey: str, witnesses: Sequence[WitnessKey] = ()) -> dict[str, bytes]:
    """Return what lies beside an export or a proof: the key, its changes, `verify.py`, and what to do with them."""
    anchored = proof.vouched(tx, witnesses)
    return {
        "README": (SHIPPED / "README").read_bytes(),
        "keys": changes(tx),
        "verify.py": (SHIPPED / "verify.py").read_bytes(),
        "vkey": f"{vkey}\n".encode(),
        **({"anchored": anchored.encode()} if anchored else {}),
    }


def changes(tx: Tx) -> bytes:
    """Return every change of key: its entry, and the proof of it against the checkpoint that both keys signed.

    A line of canonical JSON for each, oldest first. docs/FORMATS.md, section 4.
    """
    ends = [(size, note) for size, kind, note in store.checkpoints(tx) if kind == Kind.REKEYED]
    found = list(store.leaves(tx, Query(what=REKEY)))
    if len(found) != len(ends):
        raise TamperedError("the ledger has lost a checkpoint behind a change of key", hint=proof.VERIFY)
    lines = (
        {"entry": leaf.decode(), "proof": proof.against(tx, n, size, note).text}
        for (n, leaf), (size, note) in zip(found, ends, strict=True)
    )
    return b"".join(json_bytes(line) + b"\n" for line in lines)


def _before(tx: Tx, folder: Folder, signed: Checkpoint) -> int:
    """Return how many entries of this ledger the folder holds already."""
    note = folder.read(CHECKPOINT)
    if note is None:
        return 0
    try:
        held = parse(split_note(note.decode())[0])
    except (UnicodeDecodeError, TamperedError):
        raise TamperedError(
            f"{folder.path / CHECKPOINT} is not a checkpoint", hint="export into a new folder"
        ) from None
    kept = proof.minimum(tx)
    if held.size < kept:
        raise InterlockError(
            f"{folder.path} ends at entry {held.size - 1}, and retention has removed entries up to {kept - 1}",
            hint=f"keep it, and {_NEW}",
        )
    if held.size > signed.size or proof.root(tx, held.size) != held.root:
        raise InterlockError(
            f"{folder.path} holds {held.size} entries of {held.origin} that are not those of this ledger",
            hint=f"keep it: it may hold what a restore of guard's state has lost; {_NEW}",
        )
    return held.size


def _write_entries(tx: Tx, folder: Folder, sizes: tuple[int, int], progress: Progress) -> None:
    """Write the bundles, and the hashes of their entries."""
    before, size = sizes
    for first, rows in _blocks(tx, before // WIDTH * WIDTH, size):
        wrong = next((row.n for row in rows if not _is_whole(row)), None)
        if wrong is not None:
            raise TamperedError(f"ledger entry {wrong}: its bytes are not those that were hashed", hint=proof.VERIFY)
        index, hashes = first // WIDTH, [row.hash for row in rows]
        _write_tile(tx, folder, Tile(0, index, len(rows)), hashes)
        folder.put(Tile(ENTRIES, index, len(rows)).path, tiles.pack(row.leaf for row in rows))
        point("export.tile")
        progress("ledger entries", first + len(rows), size)


def _is_whole(row: Any) -> bool:
    return isinstance(row.leaf, bytes) and merkle.leaf_hash(row.leaf) == row.hash


def _blocks(tx: Tx, first: int, size: int) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield the rows of each 256 entries with the number of the first one; what was removed is left out."""
    while first < size:
        rows = store.rows_from(tx, first, min(WIDTH, size - first))
        begin = rows[0].n if rows else size
        if begin != first and (begin % WIDTH or begin > proof.minimum(tx)):
            raise proof.gone(tx, first, begin - 1)
        if begin != first:
            first = begin
            continue
        if [row.n for row in rows] != list(range(first, min(first + WIDTH, size))):
            raise proof.gone(tx, first, first + WIDTH - 1)
        yield first, rows
        first += WIDTH


def _write_levels(tx: Tx, folder: Folder, sizes: tuple[int, int]) -> None:
    """Write the tiles above those of the entries."""
    before, size = sizes
    for level in tiles.levels(size)[1:]:
        for tile in tiles.row(level, size, before):
            height, first, last = tile.nodes
            found = store.nodes_between(tx, height, first, last)
            if [position for position, _ in found] != list(range(first, last)):
                raise proof.gone(tx, first << height, (last << height) - 1)
            _write_tile(tx, folder, tile, [digest for _, digest in found])


def _write_tile(tx: Tx, folder: Folder, tile: Tile, hashes: Sequence[bytes]) -> None:
    """Write a tile of hashes; a full one has to make the node that is stored above it."""
    above = tiles.HEIGHT * (tile.level + 1)
    if tile.width == WIDTH and tiles.top(hashes) != store.subtree(tx, above, tile.index):
        raise TamperedError(
            f"ledger entries {tile.end - (1 << above)} to {tile.end - 1}: the hash over them is not the stored one",
            hint=proof.VERIFY,
        )
    folder.put(tile.path, b"".join(hashes))


def _write_beside(folder: Folder, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.put(name, content)
    point("export.beside")
    folder.put(SUMS, "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in files.items()).encode())
