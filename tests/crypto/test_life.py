"""A key's life: made, waiting, current, old, retired, destroyed; forwards only, and never ended while it is needed."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from guard.clock import SteppedClock
from guard.crypto import kit as kits
from guard.crypto import random, recovery, rewrap
from guard.crypto.keyring import STORE_KEYS, Key, Keyring
from guard.crypto.store import KEY
from guard.errors import ConfigError, InterlockError, TamperedError
from guard.state import State

FREE: tuple[str, ...] = ()


def unused(_: object) -> tuple[str, ...]:
    return FREE


def states(keyring: Keyring, purpose: str) -> list[tuple[int, str]]:
    return [(key.version, key.state) for key in keyring.list() if key.purpose == purpose]


def activate(state: State, keyring: Keyring, key_id: int) -> None:
    state.write(lambda tx: keyring.activate(tx, key_id, state.clock.now()))


@pytest.fixture
def two(state: State, keyring: Keyring) -> tuple[Key, Key]:
    """A column key and its newer version, in use."""
    old = keyring.ensure("column/17")
    new = keyring.rotate("column/17")
    activate(state, keyring, new.id)
    return old, new


def test_a_new_version_waits_and_the_old_one_goes_on(state: State, root: bytes, keyring: Keyring) -> None:
    old = keyring.ensure("column/17")
    new = keyring.rotate("column/17")
    assert (new.id, new.version, new.purpose) == (9, 2, "column/17")
    assert new.material != old.material
    assert states(keyring, "column/17") == [(1, "current"), (2, "waiting")]
    for ring in (keyring, Keyring.open(state, root)):
        assert ring.current("column/17") == ring.ensure("column/17") == old
    assert keyring.list()[-1].recoverable


def test_a_version_that_waits_is_returned_again(state: State, root: bytes, keyring: Keyring) -> None:
    keyring.ensure("column/17")
    new = keyring.rotate("column/17")
    assert keyring.rotate("column/17") is new
    assert Keyring.open(state, root).rotate("column/17") == new
    assert len(states(keyring, "column/17")) == 2


def test_it_seals_once_a_backup_holds_it(state: State, keyring: Keyring, clock: SteppedClock) -> None:
    keyring.ensure("column/17")
    clock.step(timedelta(hours=1))
    new = keyring.rotate("column/17")
    for saved in (None, clock.now() - timedelta(microseconds=1)):
        with pytest.raises(InterlockError, match="no backup of guard's state holds key 0000000009 yet"):
            state.write(lambda tx, at=saved: keyring.activate(tx, new.id, at))
    assert states(keyring, "column/17")[1] == (2, "waiting")
    made = keyring.changed_at()
    assert made < clock.now()
    activate(state, keyring, new.id)
    assert states(keyring, "column/17") == [(1, "old"), (2, "current")]
    assert keyring.current("column/17") == new
    assert keyring.changed_at() == clock.now()


def test_an_old_version_still_opens(state: State, root: bytes, keyring: Keyring, two: tuple[Key, Key]) -> None:
    assert Keyring.open(state, root).by_id(two[0].id) == two[0]


def test_a_retired_version_opens_nothing_until_it_is_called_back(
    state: State, root: bytes, keyring: Keyring, two: tuple[Key, Key]
) -> None:
    old, new = two
    state.write(lambda tx: keyring.retire(tx, old.id, unused))
    for ring in (keyring, Keyring.open(state, root)):
        with pytest.raises(TamperedError, match=r"names key 0000000008 \(column/17\), which is retired") as caught:
            ring.by_id(old.id)
        assert "retire --undo" in str(caught.value.hint)
        assert ring.current("column/17") == new
    state.write(lambda tx: keyring.call_back(tx, old.id))
    assert keyring.by_id(old.id) == old
    assert states(keyring, "column/17") == [(1, "old"), (2, "current")]


def test_what_is_needed_is_not_retired(state: State, keyring: Keyring, two: tuple[Key, Key]) -> None:
    with pytest.raises(InterlockError, match=r"is still needed: 1 values in Customer\.Email; 2 leases") as caught:
        state.write(lambda tx: keyring.retire(tx, two[0].id, lambda _: ("1 values in Customer.Email", "2 leases")))
    assert caught.value.hint == "guard fields encrypt moves what is left to the newest version"
    assert states(keyring, "column/17") == [(1, "old"), (2, "current")]
    state.write(lambda tx: keyring.retire(tx, two[0].id, unused))
    with pytest.raises(InterlockError, match="is still needed: 1 values"):
        state.write(lambda tx: keyring.destroy(tx, two[0].id, lambda _: ("1 values",)))
    assert states(keyring, "column/17")[0] == (1, "retired")


def test_what_is_destroyed_is_gone_and_its_id_is_not_given_again(
    state: State, root: bytes, keyring: Keyring, two: tuple[Key, Key], tmp_path: Path
) -> None:
    old, _ = two
    with state.read() as tx:
        row: Any = tx.execute(select(KEY).where(KEY.c.id == old.id)).one()
    state.write(lambda tx: keyring.retire(tx, old.id, unused))
    state.write(lambda tx: keyring.destroy(tx, old.id, unused))
    with state.read() as tx:
        left: Any = tx.execute(select(KEY).where(KEY.c.id == old.id)).one()
    assert (left.state, left.wrapped, left.recovery, left.commitment) == ("destroyed", None, None, row.commitment)
    for ring in (keyring, Keyring.open(state, root)):
        with pytest.raises(TamperedError, match="which is destroyed"):
            ring.by_id(old.id)
    with pytest.raises(InterlockError, match="is destroyed, not retired"):
        state.write(lambda tx: keyring.call_back(tx, old.id))
    with pytest.raises(InterlockError, match="nothing left to export"):
        keyring.seal_for(old.id, recovery.new_kit().public)
    assert keyring.ensure("column/18").id == 10
    state.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert left.commitment in stored
    assert row.wrapped not in stored
    assert row.recovery not in stored


@pytest.mark.parametrize(
    ("key_id", "step", "why"),
    [
        (9, "retire", "is current, not old"),
        (9, "destroy", "is current, not retired"),
        (8, "destroy", "is old, not retired"),
        (8, "activate", "is old, not waiting"),
        (10, "retire", "is waiting, not old"),
        (10, "destroy", "is waiting, not retired"),
        (8, "call_back", "is old, not retired"),
        (1, "retire", "opens every other key"),
        (1, "destroy", "opens every other key"),
        (2, "retire", "is current, not old"),
    ],
)
def test_no_step_is_left_out(
    state: State, keyring: Keyring, two: tuple[Key, Key], key_id: int, step: str, why: str
) -> None:
    keyring.rotate("column/17")
    steps = {
        "retire": lambda tx: keyring.retire(tx, key_id, unused),
        "destroy": lambda tx: keyring.destroy(tx, key_id, unused),
        "activate": lambda tx: keyring.activate(tx, key_id, state.clock.now()),
        "call_back": lambda tx: keyring.call_back(tx, key_id),
    }
    before = keyring.list()
    with pytest.raises(InterlockError, match=why):
        state.write(steps[step])
    assert keyring.list() == before


def test_a_key_that_is_not_there_is_said_to_be_so(state: State, keyring: Keyring) -> None:
    for look in (lambda: keyring.info(99), lambda: state.write(lambda tx: keyring.retire(tx, 99, unused))):
        with pytest.raises(ConfigError, match="there is no key 0000000063"):
            look()
    with pytest.raises(InterlockError, match="no key for column/99 yet"):
        keyring.rotate("column/99")


@pytest.mark.parametrize(
    ("purpose", "why"),
    [
        ("kek", "guard keys rewrap"),
        ("digest", "its digests stand in the ledger"),
        ("pseudonym", "has to stay the same"),
        ("service", "nothing is sealed under it"),
        ("vault", "every month has a new one"),
        ("whatever", "this guard knows no other version"),
        ("subject/account/customer/0101", "this guard knows no other version"),
    ],
)
def test_some_keys_are_not_rotated_and_the_reason_is_said(keyring: Keyring, purpose: str, why: str) -> None:
    with pytest.raises(InterlockError, match=f"the {purpose} key is not rotated: .*{why}"):
        keyring.rotate(purpose)


@pytest.mark.parametrize("purpose", ["totp", "repository", "column/17", "column/17/tight", "index/17/email"])
def test_the_others_are(state: State, keyring: Keyring, purpose: str) -> None:
    old = keyring.ensure(purpose)
    new = keyring.rotate(purpose)
    activate(state, keyring, new.id)
    assert (keyring.current(purpose), keyring.by_id(old.id)) == (new, old)


class Lives(RuleBasedStateMachine):
    """Any order of steps on a few keys, against a model; two processes take turns."""

    purposes = ("column/1", "column/2/tight", "index/1/email", "totp")

    @initialize()
    def found(self) -> None:
        self.folder = Path(mkdtemp(prefix="guard-lives-"))
        self.clock = SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
        self.state = State.create(f"sqlite:///{self.folder}/state.db", self.clock, UUID(int=7))
        self.root, self.kit = random.token(32), recovery.new_kit()
        first = Keyring.create(self.state, self.root, self.kit.public)
        self.rings = [first, Keyring.open(self.state, self.root)]
        self.material = {key.id: first.by_id(key.id).material for key in first.list() if key.purpose != "kek"}
        self.life = dict.fromkeys(self.material, "active")
        self.purpose = {key.id: key.purpose for key in first.list() if key.purpose != "kek"}
        self.highest = len(STORE_KEYS) + 1

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.state.close()
            shutil.rmtree(self.folder)

    def _new(self, key: Key, life: str) -> None:
        if key.id not in self.life:
            assert key.id > self.highest, "an id is given once"
            self.highest = key.id
            self.life[key.id], self.material[key.id], self.purpose[key.id] = life, key.material, key.purpose

    def _of(self, life: str) -> list[int]:
        return sorted(key_id for key_id, each in self.life.items() if each == life)

    def _sealing(self, purpose: str) -> int | None:
        return max((i for i in self.life if self.purpose[i] == purpose and self.life[i] != "waiting"), default=None)

    @rule(purpose=st.sampled_from(purposes), at=st.integers(0, 1))
    def ensure(self, purpose: str, at: int) -> None:
        self._new(self.rings[at].ensure(purpose), "active")

    @rule(purpose=st.sampled_from(purposes), at=st.integers(0, 1))
    def rotate(self, purpose: str, at: int) -> None:
        if self._sealing(purpose) is not None:
            self._new(self.rings[at].rotate(purpose), "waiting")

    @precondition(lambda self: self._of("waiting"))
    @rule(data=st.data(), at=st.integers(0, 1))
    def activate(self, data: st.DataObject, at: int) -> None:
        key_id = data.draw(st.sampled_from(self._of("waiting")))
        self.state.write(lambda tx: self.rings[at].activate(tx, key_id, self.clock.now()))
        self.life[key_id] = "active"

    @precondition(lambda self: self._of("active"))
    @rule(data=st.data(), at=st.integers(0, 1))
    def retire(self, data: st.DataObject, at: int) -> None:
        key_id = data.draw(st.sampled_from(self._of("active")))
        if self._sealing(self.purpose[key_id]) == key_id:
            with pytest.raises(InterlockError):
                self.state.write(lambda tx: self.rings[at].retire(tx, key_id, unused))
            return
        self.state.write(lambda tx: self.rings[at].retire(tx, key_id, unused))
        self.life[key_id] = "retired"

    @precondition(lambda self: self._of("retired"))
    @rule(data=st.data(), at=st.integers(0, 1), how=st.sampled_from(["back", "destroy"]))
    def end(self, data: st.DataObject, at: int, how: str) -> None:
        key_id, ring = data.draw(st.sampled_from(self._of("retired"))), self.rings[at]
        if how == "back":
            self.state.write(lambda tx: ring.call_back(tx, key_id))
            self.life[key_id] = "active"
        else:
            self.state.write(lambda tx: ring.destroy(tx, key_id, unused))
            self.life[key_id] = "destroyed"

    @rule(at=st.integers(0, 1))
    def rewrap(self, at: int) -> None:
        ring = self.rings[at].ring
        kek, under = rewrap.next_kek(ring)
        self.highest = kek.id
        self.state.write(lambda tx: rewrap.rewrap(ring, tx, kek, under))

    @rule(at=st.integers(0, 1))
    def new_kit(self, at: int) -> None:
        self.kit = recovery.new_kit()
        ring = self.rings[at].ring
        ring.renew()
        self.state.write(lambda tx: kits.replace(ring, tx, self.kit.public))

    @rule(at=st.integers(0, 1))
    def new_process(self, at: int) -> None:
        self.rings[at] = Keyring.open(self.state, self.root)

    @invariant()
    def a_new_process_finds_what_the_model_says(self) -> None:
        if not hasattr(self, "state"):
            return
        again = Keyring.open(self.state, self.root)
        shown = {key.id: key for key in again.list() if key.purpose != "kek"}
        assert set(shown) == set(self.life)
        for key_id, life in self.life.items():
            is_sealing = self._sealing(self.purpose[key_id]) == key_id
            expected = ("current" if is_sealing else "old") if life == "active" else life
            assert shown[key_id].state == expected
            if life in {"active", "waiting"}:
                assert again.by_id(key_id).material == self.material[key_id]
            else:
                with pytest.raises(TamperedError):
                    again.by_id(key_id)
        private = recovery.combine(self.kit.shares[:2])
        living = sum(life != "destroyed" for life in self.life.values())
        assert kits.prove(again.ring, private) == living + 1


Lives.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLives = Lives.TestCase
