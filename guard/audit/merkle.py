"""The hash tree of RFC 6962: ranges that grow, roots, proofs and their verifiers. Pure; knows no entries, no database.

A full subtree is named by `(level, position)`: it covers the 2^level leaves from `position * 2^level` on. Hashes are 32
bytes of SHA-256.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()

Node = tuple[int, int, bytes]
"""level, position, hash of a full subtree."""

Get = Callable[[int, int], bytes]
"""Gives the hash of the full subtree at (level, position); level 0 is a leaf's hash."""


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(00 | data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(01 | left | right)."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the hashes one level up; a last one without a partner is left out."""
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=False)]


def cover(size: int) -> list[tuple[int, int]]:
    """Return the (level, position) of the fewest full subtrees that hold the first `size` leaves, left to right."""
    levels = [level for level in range(size.bit_length()) if size >> level & 1]
    return [(level, (size >> level) - 1) for level in reversed(levels)]


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root above full subtrees given from left to right, as `cover` names them."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


class Range:
    """The right edge of a growing tree: all that is needed to append and to know the root."""

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """Start from the hashes of `cover(size)`. Raises ValueError when their number is wrong."""
        levels = [level for level, _ in cover(size)]
        self.size = size
        self._edge = list(zip(levels, edge, strict=True))

    def copy(self) -> "Range":
        """Return a range that grows on its own."""
        return Range(self.size, self.edge)

    @property
    def edge(self) -> list[bytes]:
        """The hashes of `cover(size)`."""
        return [digest for _, digest in self._edge]

    def push(self, digest: bytes, level: int = 0) -> list[Node]:
        """Append a full subtree of 2^level leaves and return the full subtrees above it that are now complete.

        Raises ValueError when `size` is not a multiple of 2^level.
        """
        if self.size & ((1 << level) - 1):
            raise ValueError(f"a subtree of level {level} cannot begin at leaf {self.size}")
        made: list[Node] = []
        position, self.size = self.size >> level, self.size + (1 << level)
        while self._edge and self._edge[-1][0] == level:
            digest = node_hash(self._edge.pop()[1], digest)
            level, position = level + 1, position >> 1
            made.append((level, position, digest))
        self._edge.append((level, digest))
        return made

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        return fold(self.edge)


def inclusion_proof(index: int, size: int, get: Get) -> list[bytes]:
    """Return the path from leaf `index` up to the root at `size`. Raises ValueError when it is not in that tree."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_subtree(middle, end, get))
            end = middle
        else:
            proof.append(_subtree(begin, middle, get))
            begin = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, get: Get) -> list[bytes]:
    """Return the proof that the tree of size `new` begins with the tree of size `old` (RFC 6962, 2.1.2).

    Raises ValueError unless 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from size {old} to {new}")
    proof: list[bytes] = []
    begin, end = 0, new
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_subtree(middle, end, get))
            end = middle
        else:
            proof.append(_subtree(begin, middle, get))
            begin = middle
    if begin:
        proof.append(_subtree(begin, end, get))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` shows the hash `leaf` at `index` of the tree with `size` and `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    at, last, digest = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            digest = node_hash(step, digest)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            digest = node_hash(digest, step)
        at, last = at >> 1, last >> 1
    return last == 0 and digest == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Tell whether `proof` shows that the tree `new` begins with the tree `old` (RFC 9162, 2.1.4.2).

    Equal sizes need no proof and equal roots; there nothing is hashed, and the length of the roots is not looked at.
    """
    if 0 < old == new:
        return not proof and old_root == new_root
    if not 0 < old < new or not _are_hashes(old_root, new_root, *proof):
        return False
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not steps:
        return False
    return _climb(old - 1, new - 1, steps) == (old_root, new_root)


def _climb(at: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes] | None:
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    return (old, new) if last == 0 else None


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == 32 for value in values)


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(begin: int, end: int, get: Get) -> bytes:
    return fold([get(level, position) for level, position in _pieces(begin, end)])


def _pieces(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The full subtrees of leaves `begin` to `end`; `begin` is a multiple of a power of two not below their number."""
    for level, position in cover(end - begin):
        yield level, (begin >> level) + position
