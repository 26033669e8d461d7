"""A log as static files: C2SP tlog-tiles. Names, contents, and the proof that all of them are what was signed. Pure.

A tile holds the hashes of 256 neighbors at one height of the tree, a bundle the 256 entries below a tile of level 0;
the last ones of a log are partial. Nothing here opens a file: readers are handed in.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from guard.audit import merkle
from guard.errors import TamperedError

WIDTH: Final = 256
"""Hashes of a full tile, entries of a full bundle."""

ENTRIES: Final = -1
"""Stands for the level of a bundle."""

HEIGHT: Final = 8
"""How many levels of the tree one level of tiles spans."""

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)

Read = Callable[[str], bytes | None]
"""Gives the content of a path below the log's folder, None where there is nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Names a tile, or a bundle at level `ENTRIES`."""

    level: int
    index: int
    width: int = WIDTH
    """How many hashes or entries it holds, 1 to 256."""

    @property
    def path(self) -> str:
        """Where it lies below the log's folder."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @property
    def end(self) -> int:
        """The number of the entry behind the last one that the full tile would span."""
        return (self.index + 1) << HEIGHT * (max(self.level, 0) + 1)

    @property
    def nodes(self) -> tuple[int, int, int]:
        """The level of the tree, and the first and (without it) the last position, of its hashes."""
        first = self.index * WIDTH
        return HEIGHT * max(self.level, 0), first, first + self.width


def parse(path: str) -> Tile | None:
    """Return the tile that a path names; None when it is no path of a tile."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    level = ENTRIES if found["level"] == "entries" else int(found["level"])
    index = int(re.sub("[x/]", "", found["index"]))
    tile = Tile(level, index, int(found["width"] or WIDTH))
    return tile if tile.path == path else None


def width(level: int, index: int, size: int) -> int:
    """Return how wide a tile is in a log of `size` entries; 0 when there is none."""
    return max(0, min(WIDTH, (size >> HEIGHT * max(level, 0)) - index * WIDTH))


def row(level: int, size: int, begin: int = 0) -> Iterator[Tile]:
    """Yield the tiles of one level in a log of `size` entries, from the one on that spans entry `begin`."""
    index = begin >> HEIGHT * (max(level, 0) + 1)
    while wide := width(level, index, size):
        yield Tile(level, index, wide)
        index += 1


def levels(size: int) -> range:
    """Return the levels of hashes that a log of `size` entries has."""
    return range(-(-size.bit_length() // HEIGHT))


def belongs(tile: Tile, size: int) -> bool:
    """Tell whether a log of `size` entries has this tile, or had it when it was smaller."""
    return tile.width <= width(tile.level, tile.index, size)


def pack(entries: Iterable[bytes]) -> bytes:
    """Return the bundle of entries: each behind its length as u16. Raises OverflowError for one above 65,535 bytes."""
    return b"".join(len(each).to_bytes(2, "big") + each for each in entries)


def unpack(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle. Raises ValueError when its end is missing."""
    entries, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle) or at + 2 > len(bundle):
            raise ValueError("the last entry of the bundle is cut off")
        entries.append(bundle[at + 2 : end])
        at = end
    return entries


def split(tile: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    return [tile[at : at + 32] for at in range(0, len(tile), 32)]


def top(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over a power of two of neighbors, such as those of a full tile."""
    level = list(hashes)
    while len(level) > 1:
        level = merkle.parents(level)
    return level[0]


def root(read: Read, size: int) -> bytes:
    """Return the root that the tiles at the right edge make. Raises TamperedError when one is missing or too short."""
    pieces = []
    for level, position in merkle.cover(size):
        height = level % HEIGHT
        first = position << height
        index = first // WIDTH
        tile = Tile(level // HEIGHT, index, width(level // HEIGHT, index, size))
        hashes = _hashes(read, tile)
        if hashes is None:
            raise TamperedError(f"{tile.path} is missing")
        pieces.append(top(hashes[first % WIDTH : first % WIDTH + (1 << height)]))
    return merkle.fold(pieces)


def verify(read: Read, size: int, signed: bytes, minimum: int = 0) -> None:
    """Recompute a whole log of `size` entries whose signed root is `signed`, from its entries up.

    Below the entry `minimum` bundles and tiles of level 0 may be missing; what is there has to be right. Raises
    TamperedError naming the file, and the entry where one was changed.
    """
    tops: list[bytes | None] = []
    for bundle, tile in zip(row(ENTRIES, size), row(0, size), strict=True):
        hashes = _hashes(read, tile)
        gone = bundle.end <= minimum and bundle.width == WIDTH
        if hashes is None and not gone:
            raise TamperedError(f"{tile.path} is missing")
        _compare_bundle(read, bundle, hashes, gone)
        if tile.width == WIDTH:
            tops.append(None if hashes is None else top(hashes))
    for level in levels(size)[1:]:
        tops = _compare_row(read, list(row(level, size)), tops)
    if root(read, size) != signed:
        raise TamperedError(f"the tiles do not make the root that was signed over {size} entries")


def entries(read: Read, size: int, begin: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the entries from `begin` on that are there. Nothing is verified: `verify` first."""
    for bundle in row(ENTRIES, size, begin):
        content = read(bundle.path)
        for n, entry in enumerate(_unpacked(bundle, content) if content is not None else (), bundle.index * WIDTH):
            if n >= begin:
                yield n, entry


def _compare_bundle(read: Read, bundle: Tile, hashes: list[bytes] | None, gone: bool) -> None:
    content = read(bundle.path)
    if content is None:
        if gone:
            return
        raise TamperedError(f"{bundle.path} is missing")
    found = _unpacked(bundle, content)
    if hashes is None:
        raise TamperedError(f"{bundle.path} has no tile of hashes")
    for at, (entry, digest) in enumerate(zip(found, hashes, strict=True)):
        if merkle.leaf_hash(entry) != digest:
            raise TamperedError(f"{bundle.path}: entry {bundle.index * WIDTH + at} is not the one that was hashed")


def _compare_row(read: Read, tiles: Sequence[Tile], below: Sequence[bytes | None]) -> list[bytes | None]:
    """Compare a level's tiles with the hashes of those below; return the hashes over its own full ones."""
    tops: list[bytes | None] = []
    for tile in tiles:
        hashes = _hashes(read, tile)
        if hashes is None:
            raise TamperedError(f"{tile.path} is missing")
        for at, digest in enumerate(hashes):
            if below[tile.index * WIDTH + at] not in {digest, None}:
                raise TamperedError(f"{tile.path} is not made of {Tile(tile.level - 1, tile.index * WIDTH + at).path}")
        if tile.width == WIDTH:
            tops.append(top(hashes))
    return tops


def _hashes(read: Read, tile: Tile) -> list[bytes] | None:
    content = read(tile.path)
    if content is not None and len(content) != 32 * tile.width:
        raise TamperedError(f"{tile.path} has {len(content)} bytes, not {32 * tile.width}")
    return None if content is None else split(content)


def _unpacked(bundle: Tile, content: bytes) -> list[bytes]:
    try:
        found = unpack(content)
    except ValueError as error:
        raise TamperedError(f"{bundle.path}: {error}") from None
    if len(found) != bundle.width:
        raise TamperedError(f"{bundle.path} holds {len(found)} entries, not {bundle.width}")
    return found
