"""Which place each mirror of the vault was first used in, so that another one is not taken for it.

An empty mount point, or a bucket of the same name elsewhere, looks like a mirror that lost everything: filling it would
spread keys, and deleting there would call them dead while they live on the disk that is away. docs/FORMATS.md, 3.
"""

from __future__ import annotations

from guard import faults
from guard.crypto import random
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import Mirror
from guard.crypto.vault_store import PLACE
from guard.errors import InterlockError, UnavailableError
from guard.state import State
from guard.state.sealed import Sealed


class Places:
    """The places of one store's mirrors, by marker: a random id that lies there and in state."""

    def __init__(self, state: State, keyring: Keyring) -> None:
        self._state = state
        self._rows = Sealed(PLACE, keyring.digest)
        self._object = f"guard-mirror-{state.store_id.hex}"

    def check(self, mirror: Mirror, *, is_new: bool = False) -> None:
        """Look whether a mirror is where it was first used. `is_new`: one that was never used passes too.

        Raises UnavailableError when it is not, TamperedError when state's row is not guard's. Changes nothing.
        """
        known, found = self._known().get(mirror.name), self._marker(mirror)
        if known == found and known is not None:
            return
        if known is None:
            if is_new:
                return
            raise UnavailableError(f"the vault's mirror {mirror.name} ({mirror.where}) was never used by this store")
        said = "no marker is there" if found is None else "the marker there is another one"
        hint = (
            f"is its disk mounted, its [[vault]] as it was ({known})? only if the old place is destroyed for good: put "
            f"{self._object} with the text {known} into the new one"
        )
        raise UnavailableError(
            f"{mirror.where} is not where the vault's mirror {mirror.name} was first used: {said}", hint=hint
        )

    def claim(self, mirror: Mirror) -> None:
        """Mark the place of a mirror that is used for the first time; the place of another one must be its own.

        Raises InterlockError when another mirror of this store lies there, and what `check` raises.
        """
        known = self._known()
        if mirror.name in known:
            return self.check(mirror)
        marker = self._marker(mirror)
        others = [name for name, each in known.items() if each == marker]
        if others and mirror.place is None:
            raise InterlockError(
                f"the vault's mirror {mirror.name} lies in {mirror.where}, where {others[0]} lies",
                hint="give each [[vault]] a place of its own, and keep its name",
            )
        if marker is None:
            marker = random.token(16).hex()
            mirror.put(self._object, marker.encode())
        faults.point("vault.place.marked")
        row = {"name": mirror.name, "marker": marker}
        return self._state.write(lambda tx: self._rows.add(tx, **row))

    def _known(self) -> dict[str, str]:
        with self._state.read() as tx:
            return {row["name"]: row["marker"] for row in self._rows.find(tx)}

    def _marker(self, mirror: Mirror) -> str | None:
        if mirror.place is not None:
            return mirror.place
        data = mirror.get(self._object)
        return None if data is None else data.decode("ascii", "replace").strip()
