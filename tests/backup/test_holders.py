"""Who opens a repository without state: the kit of now, an older one, a passphrase; every version of the master key."""

import pytest

from guard.backup import holders, slots
from guard.backup.repository import Repository
from guard.backup.sealed import Kind, Sealing
from guard.backup.verify import Looking, verify
from guard.crypto import recovery
from guard.errors import DeniedError, InterlockError, TamperedError

KIT, LATER = recovery.new_kit(), recovery.new_kit()
NEW = b"n" * 32


@pytest.fixture
def held(bench):
    """A repository that the first kit opens."""
    bench.store.objects.clear()
    bench.found(recovery_public=KIT.public)
    return bench


def there(bench) -> list[str]:
    return [entry.name for entry in bench.store.list("keys/")]


def opened(bench, kit, version: int = 1) -> bytes:
    name = f"keys/recovery-{kit.id}-{version}"
    return slots.open_recovery(name, bench.store.get(name), recovery.combine(kit.shares[:2])).masters[version]


def test_a_later_kit_gets_its_slot_once_and_the_older_one_keeps_its_own(held) -> None:
    repository = held.open()
    made = holders.complete(held.store, repository.sealing, LATER.public)
    assert made == (f"keys/recovery-{LATER.id}-1",)
    assert holders.complete(held.store, repository.sealing, LATER.public) == ()
    assert holders.complete(held.store, repository.sealing, None) == ()
    assert opened(held, KIT) == opened(held, LATER) == repository.sealing.master(1)


def test_a_later_kits_slot_stands_in_for_the_first_ones(held) -> None:
    held.store.delete(f"keys/recovery-{KIT.id}-1")
    missing = verify(held.open(), Looking()).findings
    assert [(each.object, each.what) for each in missing] == [(f"keys/recovery-{KIT.id}-1", "is missing")]
    holders.complete(held.store, held.open().sealing, LATER.public)
    assert verify(held.open(), Looking()).findings == ()


def test_a_new_version_has_its_slots_before_anything_is_sealed_with_it(held, made_up) -> None:
    held.run(made_up(a=b"old"))
    masters = held.open().sealing.masters
    holders.admit(held.store, 2, NEW, KIT.public, None)
    assert there(held) == [f"keys/recovery-{KIT.id}-1", f"keys/recovery-{KIT.id}-2"]
    assert holders.objects_under(held.store, 2) == 0
    assert opened(held, KIT, 2) == NEW
    both = {**masters, 2: NEW}
    Repository.open(held.store, both).write(Kind.MARK, "marks", b"{}")
    assert holders.objects_under(held.store, 2) == 1
    held.store.delete(next(entry.name for entry in held.store.list("marks/")))
    assert verify(Repository.open(held.store, both), Looking(data=True)).findings == ()


def test_a_new_version_that_was_interrupted_is_admitted_again(held) -> None:
    holders.admit(held.store, 2, NEW, KIT.public, None)
    before = dict(held.store.objects)
    holders.admit(held.store, 2, NEW, KIT.public, None)
    assert held.store.objects == before
    with pytest.raises(TamperedError, match=f"keys/recovery-{KIT.id}-2"):
        holders.admit(held.store, 2, b"o" * 32, KIT.public, None)


def test_who_knows_the_passphrase_opens_the_new_version_too(held) -> None:
    name, raw = slots.passphrase_slot(held.open().sealing, "correct horse battery")
    held.store.put_if_absent(name, raw)
    assert holders.needs_passphrase(held.store)
    with pytest.raises(InterlockError, match="also opens with a passphrase"):
        holders.admit(held.store, 2, NEW, KIT.public, None)
    with pytest.raises(DeniedError, match="does not open keys/passphrase-1"):
        holders.admit(held.store, 2, NEW, KIT.public, "wrong horse battery")
    assert there(held) == ["keys/passphrase-1", f"keys/recovery-{KIT.id}-1"]
    holders.admit(held.store, 2, NEW, KIT.public, "correct horse battery")
    found = slots.open_passphrase("keys/passphrase-2", held.store.get("keys/passphrase-2"), "correct horse battery")
    assert found.masters == {2: NEW}


def test_every_object_counts_for_the_version_in_its_header(held, made_up) -> None:
    held.run(made_up(a=b"x" * 1000, b=b"y"))
    every = [name for name in held.store.objects if not name.startswith("keys/")]
    assert holders.objects_under(held.store, 1) == len(every)
    assert holders.repository_of(held.store) == held.open().sealing.repository
    held.store.objects["config"] = (b"no config", held.clock.now())
    with pytest.raises(TamperedError, match="config in"):
        holders.objects_under(held.store, 1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("keys/recovery-0a1b2c3d-12", ("recovery", 12)),
        ("keys/passphrase-1", ("passphrase", 1)),
        ("keys/passphrase-x", None),
        ("keys/other-1", None),
        ("packs/00", None),
    ],
)
def test_a_slots_name_says_what_it_is(name: str, says: object) -> None:
    assert slots.named(name) == says


def test_a_slot_names_the_version_it_holds() -> None:
    sealing = Sealing(b"r" * 16, {3: b"m" * 32})
    name, raw = slots.recovery_slot(sealing, KIT.public)
    assert name == f"keys/recovery-{KIT.id}-3"
    slots.check(sealing, name, raw)
