"""A new KEK, or other roots: every key still opens, the old KEK is gone, and what another process holds goes on."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from guard.clock import SteppedClock
from guard.config.settings import OneRoot, RootSettings
from guard.crypto import kit as kits
from guard.crypto import random, recovery, rewrap, roots, wrap
from guard.crypto.keyring import STORE_KEYS, Keyring, origins
from guard.crypto.recovery import Kit
from guard.crypto.ring import StaleError
from guard.crypto.store import KEY, ROOT
from guard.crypto.unlock import Roots, roots_of
from guard.errors import DeniedError, InterlockError, TamperedError
from guard.state import State


def rows(state: State) -> list[Any]:
    with state.read() as tx:
        return list(tx.execute(select(KEY).order_by(KEY.c.id)))


def rewrapped(state: State, keyring: Keyring) -> int:
    kek, under = rewrap.next_kek(keyring.ring)
    return state.write(lambda tx: rewrap.rewrap(keyring.ring, tx, kek, under))


def files(folder: Path, first: str = "root.key", second: str | None = None) -> Roots:
    two = None if second is None else OneRoot(path=second)
    return roots_of(RootSettings(path=first, second=two), folder, lambda: None, lambda _: pytest.fail("no KMS here"))


def test_every_key_opens_under_the_new_kek_and_nothing_else_changed(
    state: State, root: bytes, keyring: Keyring, kit: Kit
) -> None:
    keyring.ensure("column/17")
    before = {key.purpose: key.material for key in map(keyring.current, ("column/17", *STORE_KEYS))}
    old = {row.id: (row.wrapped, row.commitment, row.recovery) for row in rows(state)}
    assert rewrapped(state, keyring) == 7
    again = Keyring.open(state, root)
    assert {purpose: again.current(purpose).material for purpose in before} == before
    for row in rows(state)[1:8]:
        assert (row.parent, row.commitment, row.recovery) == (9, *old[row.id][1:])
        assert row.wrapped != old[row.id][0]
    assert kits.prove(again.ring, recovery.combine(kit.shares[:2])) == 8
    assert again.recovery_public() == kit.public
    assert again.current("kek").id == 9
    assert again.current("kek").version == 2


def test_the_old_kek_is_wiped_and_its_id_stays_taken(state: State, keyring: Keyring, root: bytes) -> None:
    rewrapped(state, keyring)
    old = rows(state)[0]
    assert (old.id, old.state, old.wrapped, old.recovery) == (1, "destroyed", None, None)
    with pytest.raises(TamperedError, match="is destroyed"):
        Keyring.open(state, root).by_id(1)
    assert Keyring.open(state, root).ensure("column/17").id == 9


def test_retired_and_waiting_keys_are_wrapped_anew_as_well(
    state: State, root: bytes, keyring: Keyring, clock: SteppedClock
) -> None:
    keyring.ensure("column/17")
    keyring.rotate("column/17")
    state.write(lambda tx: keyring.activate(tx, 9, clock.now()))
    state.write(lambda tx: keyring.retire(tx, 8, lambda _: ()))
    waiting = keyring.rotate("totp")
    assert rewrapped(state, keyring) == 9
    again = Keyring.open(state, root)
    assert again.rotate("totp") == waiting
    state.write(lambda tx: again.call_back(tx, 8))
    assert again.by_id(8).purpose == "column/17"


def test_what_another_process_holds_goes_on(state: State, root: bytes, keyring: Keyring) -> None:
    other = Keyring.open(state, root)
    rewrapped(state, keyring)
    assert other.current("pseudonym") == keyring.current("pseudonym")
    made = other.ensure("column/17")
    assert Keyring.open(state, root).by_id(made.id) == made
    assert rows(state)[-1].parent == other.ring.kek.id == keyring.current("kek").id
    assert other.rotate("totp").version == 2


def test_of_two_at_the_same_time_one_is_told_to_run_again(state: State, root: bytes, keyring: Keyring) -> None:
    other = Keyring.open(state, root)
    kek, under = rewrap.next_kek(other.ring)
    rewrapped(state, keyring)
    before = rows(state)
    with pytest.raises(StaleError, match="wrapped the keys anew"):
        state.write(lambda tx: rewrap.rewrap(other.ring, tx, kek, under))
    with pytest.raises(StaleError):
        state.write(lambda tx: rewrap.replace_roots(other.ring, tx, under))
    assert rows(state) == before
    assert rewrapped(state, other) == 6


def test_a_key_that_does_not_open_keeps_everything(state: State, root: bytes, keyring: Keyring) -> None:
    wrapped = rows(state)[3].wrapped
    state.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == 5).values(wrapped=wrapped)) and None)
    before = rows(state)
    with pytest.raises(TamperedError, match=r"key 0000000005 \(pseudonym\) does not open"):
        rewrapped(state, Keyring.open(state, root))
    assert rows(state) == before


def test_a_key_under_no_kek_is_named(state: State, root: bytes, keyring: Keyring) -> None:
    state.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == 5).values(parent=77)) and None)
    with pytest.raises(TamperedError, match=r"\(pseudonym\) is wrapped under key 000000004d, which is not the KEK"):
        Keyring.open(state, root).by_id(5)


def test_a_new_root_replaces_the_old_one(state: State, root: bytes, keyring: Keyring) -> None:
    fresh = random.token(32)
    state.write(lambda tx: rewrap.replace_by_key(keyring.ring, tx, fresh))
    assert Keyring.open(state, fresh).current("totp") == keyring.current("totp")
    assert [origin.mark for origin in origins(state)] == [wrap.mark(state.store_id, fresh)]
    with pytest.raises(DeniedError, match="does not open the KEK"):
        Keyring.open(state, root)


# Roots of guard.toml --------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir()
    return made


def rooted(state: State, roots_: Roots) -> Keyring:
    keyring = Keyring.open(state, roots_)
    under = rewrap.under_named(keyring.ring)
    state.write(lambda tx: rewrap.replace_roots(keyring.ring, tx, under))
    return keyring


def test_a_second_root_is_added_made_the_first_and_the_old_one_taken_out(state: State, home: Path) -> None:
    """The whole way from one root to another: at each step one of the named roots opens."""
    first = Keyring.create(state, files(home), None)
    totp = first.current("totp")
    two = files(home, second="other.key")
    assert rewrap.missing(Keyring.open(state, two).ring) == (
        f"root.second: key file {home / 'other.key'} is not there: a new root key is made in it",
    )
    rooted(state, two)
    assert (home / "other.key").exists()
    assert rewrap.missing(Keyring.open(state, two).ring) == ()
    (home / "root.key").unlink()
    swapped = files(home, "other.key", "root.key")
    assert Keyring.open(state, swapped).current("totp") == totp
    alone = files(home, "other.key")
    assert rewrap.unnamed(Keyring.open(state, alone).ring) != ()
    rooted(state, alone)
    assert len(origins(state)) == 1
    assert Keyring.open(state, alone).current("totp") == totp


def test_a_root_that_does_not_lie_there_yet_is_no_way_in(state: State, home: Path) -> None:
    Keyring.create(state, files(home), None)
    roots.new_file(home / "other.key")
    with pytest.raises(DeniedError, match="root key does not open the KEK") as caught:
        Keyring.open(state, files(home, "other.key", "root.key"))
    assert "the keys lie under file" in str(caught.value)


def test_a_new_kek_needs_every_root_that_knew_the_old_one(state: State, home: Path) -> None:
    Keyring.create(state, files(home, second="other.key"), None)
    with pytest.raises(InterlockError, match=r"guard\.toml names other roots"):
        rewrap.next_kek(Keyring.open(state, files(home)).ring)
    third = files(home, second="third.key")
    roots.new_file(home / "third.key")
    with pytest.raises(InterlockError, match=r"guard\.toml names other roots"):
        rewrap.next_kek(Keyring.open(state, third).ring)
    (home / "other.key").rename(home / "gone")
    with pytest.raises(roots.AwayError, match=r"cannot read the key file .*other\.key"):
        rewrap.next_kek(Keyring.open(state, files(home, second="other.key")).ring)
    (home / "gone").rename(home / "other.key")
    both = files(home, second="other.key")
    assert rewrapped(state, Keyring.open(state, both)) == 6
    (home / "root.key").unlink()
    assert Keyring.open(state, both).current("totp").version == 1


def test_one_key_in_two_places_is_one_root(state: State, home: Path) -> None:
    Keyring.create(state, files(home), None)
    (home / "copy.key").touch(mode=0o600)
    (home / "copy.key").write_text((home / "root.key").read_text())
    rooted(state, files(home, second="copy.key"))
    assert len(origins(state)) == 1
    assert rewrap.missing(Keyring.open(state, files(home, second="copy.key")).ring) == ()
    with state.read() as tx:
        assert tx.execute(select(ROOT.c.number)).scalars().all() == [1]


def test_every_root_is_looked_at(state: State, home: Path) -> None:
    both = files(home, second="other.key")
    keyring = Keyring.create(state, both, None)
    assert [(each.name, each.error) for each in rewrap.look(keyring.ring)] == [("root", None), ("root.second", None)]
    (home / "other.key").unlink()
    second = rewrap.look(keyring.ring)[1]
    assert isinstance(second.error, roots.AwayError)
    roots.new_file(home / "other.key")
    assert isinstance(rewrap.look(keyring.ring)[1].error, DeniedError)
    state.write(lambda tx: tx.execute(update(ROOT).where(ROOT.c.number == 1).values(wrapped=bytes(64))) and None)
    assert isinstance(rewrap.look(keyring.ring)[0].error, TamperedError)


def test_a_kek_other_than_the_committed_one_is_found_by_every_root(state: State, home: Path) -> None:
    keyring = Keyring.create(state, files(home), None)
    state.write(lambda tx: tx.execute(update(KEY).where(KEY.c.id == 1).values(commitment=bytes(32))) and None)
    assert isinstance(rewrap.look(keyring.ring)[0].error, TamperedError)
    with pytest.raises(TamperedError, match=r"\(kek\) is not the key that was committed to"):
        Keyring.open(state, files(home))
