"""A new KEK over the same keys, or the same KEK under other roots. What is sealed anywhere does not change."""

from collections.abc import Sequence

from guard import faults
from guard.crypto import random, store, wrap
from guard.crypto.kek import UnderRoot
from guard.crypto.life import KEK
from guard.crypto.ring import Ring, kek_row, kit_tag
from guard.crypto.store import Life
from guard.crypto.unlock import Looked, Roots
from guard.crypto.wrap import KEY_SIZE, Key
from guard.state import Tx


def next_kek(ring: Ring) -> tuple[Key, tuple[UnderRoot, ...]]:
    """Return a new KEK, wrapped under the roots of the one there is, ready for `rewrap`. Only its id is stored.

    Raises InterlockError when guard.toml names other roots, and what a root raises that does not answer.
    """
    ring.renew()
    kek = Key(ring.state.write(store.take_id), KEK, ring.kek.version + 1, random.token(KEY_SIZE))
    under = ring.roots.wrap_again(ring.state.store_id, kek, _under(ring))
    faults.point("keys.rewrap.wrapped")
    return kek, under


def rewrap(ring: Ring, tx: Tx, kek: Key, under: Sequence[UnderRoot]) -> int:
    """Wrap every key under a new KEK, wipe the old one, and return how many keys that were.

    Raises BusyError when another process was faster, TamperedError when a key does not open: then nothing changes.
    """
    old, public, store_id, now = ring.fresh(tx), ring.kit_public(tx), ring.state.store_id, ring.state.clock.now()
    children = [row for row in store.all_rows(tx) if row.parent == old.id and row.wrapped is not None]
    for row in children:
        key = wrap.unwrap(store_id, row.wrapped or b"", row.sheet, old)
        store.set_wrapped(tx, key.id, wrap.wrap(store_id, wrap.check(store_id, key, row.commitment), kek), kek.id)
    store.set_life(tx, old.id, Life.DESTROYED, now)  # its backups keep it; a present state has no use for it
    ring.add_kek(tx, kek, public)
    if public is not None:
        store.set_kit_tag(tx, kit_tag(store_id, kek, public))
    store.set_roots(tx, under, now)
    return len(children)


def under_named(ring: Ring, *, new_passphrase: bool = False) -> tuple[UnderRoot, ...]:
    """Return the KEK wrapped under every root that guard.toml names now, ready for `replace_roots`.

    A key file that is not there is made. Raises what a root raises that does not answer.
    """
    ring.renew()
    named = ring.roots.wrap_named(ring.state.store_id, ring.kek, _under(ring), new_passphrase=new_passphrase)
    faults.point("keys.roots.wrapped")
    return named


def replace_roots(ring: Ring, tx: Tx, under: Sequence[UnderRoot]) -> None:
    """Put `under` in place of the roots the KEK lies under; those that are not in it open nothing any more."""
    ring.fresh(tx)
    store.set_roots(tx, under, ring.state.clock.now())


def replace_by_key(ring: Ring, tx: Tx, root_key: bytes) -> None:
    """Put one local root key in place of all roots. For when they are lost."""
    replace_roots(ring, tx, Roots.of_key(root_key).wrap_named(ring.state.store_id, ring.fresh(tx)))


def missing(ring: Ring) -> tuple[str, ...]:
    """Return what differs between the roots of guard.toml and those the KEK lies under, in words.

    Raises DeniedError for a wrong passphrase, ConfigError for a root that cannot be read.
    """
    return ring.roots.missing(ring.state.store_id, _under(ring))


def unnamed(ring: Ring) -> tuple[str, ...]:
    """Return the roots that open the keys without being named in guard.toml, in words."""
    return ring.roots.unnamed(ring.state.store_id, _under(ring))


def look(ring: Ring) -> tuple[Looked, ...]:
    """Open the KEK with each root that guard.toml names, and return how each stands."""
    row = kek_row(ring.state)
    return tuple(ring.roots.look(ring.state.store_id, row.sheet, row.commitment, _under(ring)))


def _under(ring: Ring) -> tuple[UnderRoot, ...]:
    with ring.state.read() as tx:
        return store.roots_of(tx)
