"""Every value of alg 1 is counted before it is sealed, over threads, processes and forks, and never twice."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import faults
from guard.clock import SteppedClock
from guard.crypto import store, xaes
from guard.crypto.budget import BLOCK, LIMIT, Budget
from guard.crypto.envelope import Binding, Opener, Place, Sealer
from guard.crypto.wrap import Key
from guard.errors import InterlockError, UnavailableError
from guard.state import State

KEY = Key(8, "column/17/tight", 1, bytes(range(32)))
PLACE = Place(UUID(int=7), 17, Binding.COLUMN)
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


def set_reserved(state: State, values: int) -> None:
    state.write(lambda tx: store.reserve(tx, KEY.id, values - store.reserved(tx, KEY.id)))


def in_child(work: Callable[[], int]) -> int:
    """Fork, and return the number that `work` gives in the child."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(into, str(work()).encode())
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(pid, 0)
    with os.fdopen(out) as read:
        return int(read.read())


def test_the_first_value_reserves_a_block_and_the_next_ones_write_nothing(state: State) -> None:
    budget = Budget(state)
    assert budget.reserved(KEY.id) == 0
    budget.take(KEY.id, 1)
    assert budget.reserved(KEY.id) == BLOCK == 2**20
    budget.take(KEY.id, BLOCK - 1)
    assert budget.reserved(KEY.id) == BLOCK
    budget.take(KEY.id, 1)
    assert budget.reserved(KEY.id) == 2 * BLOCK


def test_what_a_restored_state_never_lent_is_not_given_back_to_it(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 1)
    set_reserved(state, 0)
    budget.give_back()
    assert budget.reserved(KEY.id) == 0


def test_each_key_has_its_own_count(state: State) -> None:
    budget = Budget(state)
    budget.take(8, 3 * BLOCK)
    budget.take(9, 1)
    assert (budget.reserved(8), budget.reserved(9)) == (3 * BLOCK, BLOCK)


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=20))
def test_what_was_taken_is_never_more_than_what_is_reserved(module_state: State, takes: list[int]) -> None:
    set_reserved(module_state, 0)
    budget, taken = Budget(module_state), 0
    for count in takes:
        budget.take(KEY.id, count)
        taken += count
        assert taken <= budget.reserved(KEY.id) < taken + BLOCK
    budget.give_back()
    assert budget.reserved(KEY.id) == taken


@pytest.fixture(scope="module")
def module_state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """One state for many examples."""
    made = State.create(f"sqlite:///{tmp_path_factory.mktemp('budget')}/state.db", SteppedClock(NOW))
    yield made
    made.close()


def test_a_key_stops_at_two_to_the_thirty_first(state: State) -> None:
    set_reserved(state, LIMIT - BLOCK - 5)
    budget = Budget(state)
    budget.take(KEY.id, 1)
    budget.take(KEY.id, BLOCK)
    with pytest.raises(InterlockError, match=r"key 0000000008 has sealed all .* 2\^31") as caught:
        budget.take(KEY.id, 5)
    assert "guard keys rotate" in str(caught.value.hint)
    budget.take(KEY.id, 4)  # what is left may be used to the last
    assert budget.reserved(KEY.id) == LIMIT == 2**31
    for count in (1, BLOCK):
        with pytest.raises(InterlockError):
            budget.take(KEY.id, count)
    assert budget.reserved(KEY.id) == LIMIT


def test_a_spent_key_seals_nothing_and_opens_everything(state: State) -> None:
    sealer = Sealer(PLACE, KEY, budget=Budget(state))
    sealed = sealer.seal_all(["x"] * 3, [b""] * 3)
    set_reserved(state, LIMIT)
    fresh = Sealer(PLACE, KEY, budget=Budget(state))
    with pytest.raises(InterlockError):
        fresh.seal("x", b"")
    with pytest.raises(InterlockError):
        fresh.seal_all(["x"] * 100, [b""] * 100)
    assert Opener(PLACE, {8: KEY}.__getitem__).open_all(sealed, [b""] * 3) == ["x"] * 3


def test_what_was_not_used_is_given_back_once(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 5)
    budget.give_back()
    budget.give_back()
    assert budget.reserved(KEY.id) == 5
    budget.take(KEY.id, 1)
    assert budget.reserved(KEY.id) == BLOCK + 5


def test_a_process_that_dies_while_giving_back_gives_nothing_twice(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 5)

    def die(name: str) -> None:
        if name == "crypto.budget.dropped":
            raise KeyboardInterrupt

    faults.install(die)
    with pytest.raises(KeyboardInterrupt):
        budget.give_back()
    faults.install(None)
    budget.take(KEY.id, 1)  # its block is gone, so it takes another
    assert budget.reserved(KEY.id) == 2 * BLOCK


def test_a_state_that_does_not_answer_seals_nothing_and_loses_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(state)
    budget.take(KEY.id, BLOCK - 10)

    def refuse(*_: object) -> None:
        raise UnavailableError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(state, "write", refuse)
        with pytest.raises(UnavailableError):
            budget.take(KEY.id, 11)
    budget.take(KEY.id, 10)
    assert budget.reserved(KEY.id) == BLOCK


def test_threads_share_a_block_and_never_overdraw_it(state: State) -> None:
    budget, each, threads = Budget(state), 700, 8

    def take(_: int) -> int:
        for _ in range(each):
            budget.take(KEY.id, 1500)
        return each * 1500

    with ThreadPoolExecutor(threads) as pool:
        taken = sum(pool.map(take, range(threads)))
    assert taken <= budget.reserved(KEY.id) <= taken + threads * BLOCK
    budget.give_back()
    assert budget.reserved(KEY.id) == taken


def test_a_thread_that_reserves_does_not_hold_up_the_writer(state: State) -> None:
    """The writer runs a work that takes from the budget while another thread waits for the writer with its own."""
    budget = Budget(state)
    budget.take(KEY.id, 10)
    waiting = threading.Thread(target=lambda: budget.take(KEY.id, 2 * BLOCK))

    def work(_: object) -> None:
        waiting.start()
        while not state.waiting:
            pass
        budget.take(KEY.id, 0)

    state.write(work)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert budget.reserved(KEY.id) == 3 * BLOCK


def _spend(url: str, blocks: int) -> None:
    state = State.open(url, SteppedClock(NOW))
    budget = Budget(state)
    for _ in range(blocks):
        budget.take(KEY.id, BLOCK)
    state.close()


def test_processes_reserve_each_their_own(state: State, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_spend, args=(f"sqlite:///{tmp_path}/state.db", 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert Budget(state).reserved(KEY.id) == 60 * BLOCK


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_forked_child_takes_a_block_of_its_own(
    database: str, tmp_path: Path, clock: SteppedClock, request: pytest.FixtureRequest
) -> None:
    lite = f"sqlite:///{tmp_path}/forked.db"
    state = State.create(lite if database == "sqlite" else request.getfixturevalue("postgres_url"), clock)
    budget = Budget(state)
    budget.take(KEY.id, 1)

    def child() -> int:
        budget.take(KEY.id, BLOCK)
        return budget.reserved(KEY.id)

    assert in_child(child) == 2 * BLOCK
    budget.take(KEY.id, BLOCK - 1)  # the parent goes on with what was left of its own
    assert budget.reserved(KEY.id) == 2 * BLOCK
    budget.take(KEY.id, 1)
    assert budget.reserved(KEY.id) == 3 * BLOCK
    state.close()


def test_a_child_gives_back_only_its_own(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 1)

    def child() -> int:
        budget.give_back()
        before = budget.reserved(KEY.id)
        budget.take(KEY.id, 7)
        budget.give_back()
        return budget.reserved(KEY.id) - before

    assert in_child(child) == 7
    budget.give_back()
    assert budget.reserved(KEY.id) == 8


def test_a_lock_that_a_thread_held_at_the_fork_does_not_stop_the_child(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 1)
    with budget._purse.lock:
        assert in_child(lambda: budget.take(KEY.id, 1) or budget.reserved(KEY.id)) == 2 * BLOCK


def test_a_forked_sealer_of_alg_1_draws_its_own_nonces_and_its_own_block(state: State) -> None:
    budget = Budget(state)
    sealer = Sealer(PLACE, KEY, budget=budget)
    mine = sealer.seal_all(["x"] * 50, [b""] * 50)

    def child() -> int:
        theirs = sealer.seal_all(["x"] * 50, [b""] * 50)
        assert len({each[7:19] for each in mine + theirs}) == 100
        assert Opener(PLACE, {8: KEY}.__getitem__).open_all(theirs, [b""] * 50) == ["x"] * 50
        return budget.reserved(KEY.id)

    assert in_child(child) == 2 * BLOCK
    sealer.seal("x", b"")
    assert budget.reserved(KEY.id) == 2 * BLOCK


def test_a_new_generation_drops_what_was_left(state: State) -> None:
    budget = Budget(state)
    budget.take(KEY.id, 1)
    xaes.forget()
    budget.take(KEY.id, 1)
    assert budget.reserved(KEY.id) == 2 * BLOCK


def test_one_value_and_a_batch_count_alike(state: State) -> None:
    budget = Budget(state)
    sealer = Sealer(PLACE, KEY, budget=budget)
    sealer.seal("x", b"")
    sealer.seal_all(["x"] * 7, [b""] * 7)
    sealer.seal_all(["x"] * 200, [b""] * 200)
    sealer.seal_all([], [])
    budget.give_back()
    assert budget.reserved(KEY.id) == 208


def test_a_value_that_cannot_be_written_is_not_counted_alone(state: State) -> None:
    budget = Budget(state)
    with pytest.raises(TypeError):
        Sealer(PLACE, KEY, budget=budget).seal(None, b"")
    assert budget.reserved(KEY.id) == 0


def test_a_tight_key_needs_a_budget() -> None:
    with pytest.raises(ValueError, match=r"key 0000000008 \(column/17/tight\) seals within a budget"):
        Sealer(PLACE, KEY)
