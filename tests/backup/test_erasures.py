"""The register: a chain in which nothing is missing, changed or swapped unseen."""

import pytest

from guard.backup.erasures import START, Effect, Position, Register
from guard.errors import BusyError, InterlockError, TamperedError


def effect(n: int) -> Effect:
    return Effect(effect="erase", table="Customer", key=f"0169000000{n:04x}", columns=("Email",))


@pytest.fixture
def register(bench) -> Register:
    found = Register(bench.open())
    for n in range(4):
        found.append([effect(n)], bench.clock.now())
    return found


def test_entries_read_back_in_order(register: Register) -> None:
    found = register.read()
    assert [each.effects for each in found] == [(effect(n),) for n in range(4)]
    assert [each.position.count for each in found] == [1, 2, 3, 4]
    assert register.position() == found[-1].position


def test_an_empty_register_stands_at_the_start(bench) -> None:
    assert Register(bench.open()).position() == START == Position(0, bytes(32))


def test_the_chain_is_the_same_in_another_store(register: Register, bench, memory, new_bench) -> None:
    other = new_bench(memory(bench.clock), bench.clock)
    twin = Register(other.found())
    for each in register.read():
        twin.append(each.effects, each.at)
    assert twin.position() == register.position()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_missing_entry_is_found(register: Register, bench, n: int) -> None:
    bench.store.delete(f"erasures/{n:020}")
    with pytest.raises(TamperedError, match=f"erasures/0*{n} is missing"):
        register.read()


@pytest.mark.parametrize("n", [1, 4])
def test_a_changed_byte_is_found(register: Register, bench, n: int) -> None:
    name = f"erasures/{n:020}"
    raw, at = bench.store.objects[name]
    for here in range(0, len(raw), 11):
        bench.store.objects[name] = (raw[:here] + bytes([raw[here] ^ 1]) + raw[here + 1 :], at)
        with pytest.raises(TamperedError, match=name):
            register.read()


def test_the_last_entry_of_another_register_does_not_fit(register: Register, bench, memory, new_bench) -> None:
    other = new_bench(memory(bench.clock), bench.clock)
    other.store.objects = dict(bench.store.objects)
    last = f"erasures/{4:020}"
    other.store.delete(last)
    other.store.delete(f"erasures/{3:020}")
    twin = Register(other.open())
    twin.append([effect(77)], bench.clock.now())
    twin.append([effect(78)], bench.clock.now())
    bench.store.objects[last] = other.store.objects[last]
    with pytest.raises(TamperedError, match="does not follow"):
        register.read()


def test_a_register_that_ends_early_or_is_another_is_refused(register: Register, bench) -> None:
    known = register.position()
    assert len(register.require(known)) == 4
    assert len(register.require(START)) == 4
    with pytest.raises(InterlockError, match="another one"):
        register.require(Position(4, b"x" * 32))
    bench.store.delete(f"erasures/{4:020}")
    with pytest.raises(InterlockError, match="ends at 3, but 4"):
        register.require(known)


def test_two_runs_cannot_add_the_same_entry(register: Register, bench) -> None:
    behind = dict(bench.store.objects)

    class Late(Register):
        def position(self) -> Position:
            found = super().position()
            Register(bench.open()).append([effect(9)], bench.clock.now())
            return found

    with pytest.raises(BusyError, match="another run"):
        Late(bench.open()).append([effect(10)], bench.clock.now())
    assert len(register.read()) == 5
    assert behind.keys() < bench.store.objects.keys()
