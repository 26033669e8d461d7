"""Who opens a repository without guard's state: the key slots of the recovery kit and of a passphrase, kept complete.

Every version of the master key has its own slots. Slots are only added: whoever held an older kit could have copied its
slot long ago, so what ends their access is a new version of the master key, not a deleted object.
"""

from __future__ import annotations

from guard.backup import slots
from guard.backup.sealed import HEADER_SIZE, Header, Sealing
from guard.backup.stores import Store
from guard.errors import InterlockError, TamperedError


def complete(place: Store, sealing: Sealing, public: bytes | None) -> tuple[str, ...]:
    """Give the kit with this public key a slot for every version at hand that lacks one; return their names."""
    if public is None:
        return ()
    there, made = _slots(place, slots.RECOVERY), []
    for version, master in sealing.masters.items():
        name, raw = slots.recovery_slot(Sealing(sealing.repository, {version: master}), public)
        if name not in there and place.put_if_absent(name, raw):
            made.append(name)
    return tuple(made)


def admit(place: Store, version: int, master: bytes, public: bytes, passphrase: str | None) -> None:
    """Give the kit, and who knows the passphrase, a slot for a new version of the master key, before it is used.

    Raises InterlockError when the store has a passphrase slot and no passphrase is given, DeniedError when another one
    is given, TamperedError when a slot of this name is another's.
    """
    sealing = Sealing(repository_of(place), {version: master})
    made = [slots.recovery_slot(sealing, public)]
    if needs_passphrase(place):
        if passphrase is None:
            raise InterlockError(
                f"the repository in {place.where} also opens with a passphrase; the new key would not",
                hint="guard keys rotate repository --passphrase asks for it",
            )
        for slot in _slots(place, slots.PASSPHRASE):
            slots.open_passphrase(slot, place.get(slot), passphrase)  # a mistyped one would be found when it is needed
        made.append(slots.passphrase_slot(sealing, passphrase))
    for name, raw in made:
        if not place.put_if_absent(name, raw):
            slots.check(sealing, name, place.get(name))  # of a rotation that was interrupted


def needs_passphrase(place: Store) -> bool:
    """Tell whether a store has a slot for a passphrase."""
    return bool(_slots(place, slots.PASSPHRASE))


def repository_of(place: Store) -> bytes:
    """Return the id of the repository in a store. Raises MissingError when there is none, TamperedError."""
    return _header(place, "config").repository


def objects_under(place: Store, version: int) -> int:
    """Return how many objects of a store are sealed with a version of the master key; reads each one's header."""
    folders = ("config", "packs/", "index/", "snapshots/", "marks/", "erasures/")
    names = [entry.name for folder in folders for entry in place.list(folder)]
    return sum(_header(place, name).version == version for name in names)


def _header(place: Store, name: str) -> Header:
    try:
        return Header.parse(place.get_range(name, 0, HEADER_SIZE))
    except ValueError as error:
        raise TamperedError(f"{name} in {place.where}: {error}") from None


def _slots(place: Store, kind: str) -> dict[str, int]:
    """Return the slots of a kind in a store: name -> version of the master key."""
    found = ((entry.name, slots.named(entry.name)) for entry in place.list(f"keys/{kind}-"))
    return {name: says[1] for name, says in found if says is not None and says[0] == kind}
