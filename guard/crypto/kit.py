"""What the keyring does for the recovery kit: seal every key to it, and prove that it opens every key."""

from guard.crypto import recovery, store
from guard.crypto.ring import Ring, kit_tag, open_sealed, sealed
from guard.crypto.store import KitDates, KitHalf, Life, Row
from guard.errors import InterlockError
from guard.state import Tx


def public(ring: Ring) -> bytes | None:
    """Return the public key of the recovery kit; None without a kit. Raises TamperedError when it was exchanged."""
    ring.renew()
    with ring.state.read() as tx:
        return ring.kit_public(tx)


def replace(ring: Ring, tx: Tx, fresh: bytes) -> int:
    """Seal every key to a new recovery kit and return how many; the old kit opens nothing that is sealed later.

    Raises TamperedError when a key does not open: then the old kit stays.
    """
    kek, store_id = ring.fresh(tx), ring.state.store_id
    store.set_kit(tx, KitHalf(fresh, kit_tag(store_id, kek, fresh)), ring.state.clock.now())
    rows = _living(tx)
    for row in rows:
        store.set_recovery(tx, row.sheet.id, sealed(store_id, ring.load(row), fresh))
    return len(rows)


def prove(ring: Ring, private: bytes) -> int:
    """Open every key with the recovery kit and return how many.

    Raises DeniedError for another kit's key, TamperedError when a key does not open or is not the one committed to,
    InterlockError when one is not sealed to the kit.
    """
    ring.renew()
    with ring.state.read() as tx:
        half, rows = ring.kit_public(tx), _living(tx)
    if half is None:
        raise InterlockError("this store has no recovery kit", hint="guard keys recovery make")
    recovery.belongs(private, half)
    for row in rows:
        open_sealed(ring.state.store_id, row, private)
    return len(rows)


def dates(ring: Ring) -> KitDates:
    """Return when the recovery kit was made, and last tested."""
    with ring.state.read() as tx:
        return store.kit_dates(tx)


def note_tested(ring: Ring, tx: Tx) -> None:
    """Remember that the recovery kit opened every key just now."""
    store.note_tested(tx, ring.state.clock.now())


def _living(tx: Tx) -> list[Row]:
    return [row for row in store.all_rows(tx) if row.life is not Life.DESTROYED]
