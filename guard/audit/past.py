"""What is not read again: roots and entries of it are proved out of the stored hashes, up to a tree that was signed."""

from datetime import datetime

from guard.audit import merkle, prune, store
from guard.audit.walk import Walk, Way, between, compare_rows, tampered
from guard.clock import parse
from guard.state import Tx


class Past:
    """The part of a ledger that a walk has passed over, and the one it has walked."""

    def __init__(self, tx: Tx, way: Way, found: Walk) -> None:
        self._tx = tx
        self._first = way.first
        self._found = found
        self._root = merkle.fold([self._hash(*place) for place in merkle.cover(way.first)])

    def root(self, size: int) -> bytes | None:
        """Return the root over the first `size` entries; None where what it takes was removed.

        Raises TamperedError when the stored hashes are not those of the tree that was signed.
        """
        if size >= self._first:
            return self._found.roots.get(size)
        root = prune.root_at(self._tx, size)
        if root is None:
            return None
        proof = merkle.consistency_proof(size, self._first, self._hash)
        if not merkle.verify_consistency(size, self._first, proof, root, self._root):
            raise tampered(f"{between(0, size - 1)}: the hashes over them are not those that were signed")
        return root

    def time(self, size: int) -> datetime | None:
        """Return when the last of the first `size` entries was recorded, where it is at hand."""
        if size >= self._first:
            at = self._found.times.get(size)
        else:
            at = next((row.at for row in store.rows_from(self._tx, size - 1, 1, size)), None)
        return None if at is None else parse(at)

    def leaf(self, n: int) -> bytes | None:
        """Return the stored hash of an entry; None where it was removed."""
        found = store.hashes(self._tx, [(0, n)]).get((0, n))
        return found if found is not None or n < prune.pruned(self._tx).minimum else self._hash(0, n)

    def compare_entries(self) -> None:
        """Compare the entries passed over that the ledger's logs, keys and retention are read from."""
        for row in store.rows_called(self._tx, prune.STANDING, self._first):
            (digest,) = compare_rows(Walk([]), Way(0), [row], row.n)
            proof = merkle.inclusion_proof(row.n, self._first, self._hash)
            if not merkle.verify_inclusion(digest, row.n, self._first, proof, self._root):
                raise tampered(f"{between(row.n, row.n)} is not the one that was signed")

    def _hash(self, level: int, position: int) -> bytes:
        return store.subtree(self._tx, level, position)
