"""Works are committed in groups, stand or fall alone, and are told the truth about what happened to them."""

import ctypes
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, event, insert
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError

from guard.clock import SteppedClock
from guard.errors import BusyError, ClockError, UnavailableError
from guard.events import Event
from guard.state import State, Tx, onward

Read = Callable[[State], list[str]]
Make = Callable[..., Event]


class Hook:
    """A ledger that keeps its calls, and refuses events of a run it was told."""

    def __init__(self, refused: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self.refused = refused

    def __call__(self, tx: Tx, events: Sequence[Event]) -> None:
        if any(each.run == self.refused for each in events):
            raise ValueError("refused")
        self.calls.append([each.run for each in events])


class Together:
    """Lets works wait behind one that is under way, so that they are taken as one group."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.threads: list[threading.Thread] = []
        self.ended: dict[str, object] = {}

    def run(self, works: dict[str, tuple[Callable[[Tx], object], tuple[Event, ...]]]) -> dict[str, object]:
        entered, released = threading.Event(), threading.Event()

        def block(tx: Tx) -> None:
            entered.set()
            released.wait()

        self._start("first", block, ())
        entered.wait()
        for count, (name, (work, events)) in enumerate(works.items(), 1):
            self._start(name, work, events)
            while self.state.waiting < count:
                released.wait(0.001)
        released.set()
        for thread in self.threads:
            thread.join()
        return self.ended

    def _start(self, name: str, work: Callable[[Tx], object], events: tuple[Event, ...]) -> None:
        def call() -> None:
            try:
                self.ended[name] = self.state.write(work, *events)
            except BaseException as error:  # noqa: BLE001  # the test looks at it
                self.ended[name] = error

        self.threads.append(threading.Thread(target=call))
        self.threads[-1].start()


@pytest.fixture
def put(notes: Table) -> Callable[[int, str], Callable[[Tx], int]]:
    """Make works that insert a row and return its number."""

    def make(number: int, text: str) -> Callable[[Tx], int]:
        def work(tx: Tx) -> int:
            tx.execute(insert(notes).values(id=number, text=text))
            return number

        return work

    return make


def test_a_write_returns_what_its_work_returned_and_is_there(state: State, put: Callable, texts: Read) -> None:
    assert state.write(put(7, "a")) == 7
    assert texts(state) == ["a"]


def test_the_hook_runs_in_the_transaction_of_the_work(state: State, put: Callable, texts: Read, event: Make) -> None:
    def refuse(tx: Tx, events: Sequence[Event]) -> None:
        raise ValueError("no record")

    state.attach(refuse)
    with pytest.raises(ValueError, match="no record"):
        state.write(put(1, "a"), event())
    assert texts(state) == []
    assert state.open_runs() == ()


def test_events_without_a_ledger_are_refused(url: str, clock: SteppedClock, event: Make, put: Callable) -> None:
    state = State.create(url, clock)
    with pytest.raises(RuntimeError, match="need a ledger"):
        state.write(put(1, "a"), event())
    state.write(put(1, "a"))
    state.close()


def test_waiting_works_are_one_commit_with_one_call_of_the_hook(
    state: State, put: Callable, texts: Read, event: Make
) -> None:
    hook, begun = Hook(), []
    state.attach(hook)
    listen(state.database.writer, "begin", begun.append)
    ended = Together(state).run({f"{n}": (put(n, f"{n}"), (event(n),)) for n in range(8)})
    assert len(begun) == 2  # the work they waited for, and theirs
    assert {name: result for name, result in ended.items() if name != "first"} == {f"{n}": n for n in range(8)}
    assert hook.calls == [[f"{n:032x}" for n in range(8)]]
    assert texts(state) == [f"{n}" for n in range(8)]


def test_a_failing_work_rolls_back_alone_and_only_its_caller_hears(
    state: State, put: Callable, texts: Read, event: Make
) -> None:
    def half(tx: Tx) -> None:
        put(5, "half")(tx)
        raise ZeroDivisionError

    hook = Hook()
    state.attach(hook)
    works = {"a": (put(1, "a"), (event(1),)), "bad": (half, (event(2),)), "c": (put(3, "c"), (event(3),))}
    ended = Together(state).run(works)
    assert isinstance(ended["bad"], ZeroDivisionError)
    assert (ended["a"], ended["c"]) == (1, 3)
    assert texts(state) == ["a", "c"]
    assert hook.calls == [[f"{1:032x}", f"{3:032x}"]]


def test_a_constraint_fails_its_own_work_only(state: State, put: Callable, texts: Read) -> None:
    ended = Together(state).run({"a": (put(1, "same"), ()), "b": (put(2, "same"), ()), "c": (put(3, "c"), ())})
    assert isinstance(ended["b"], IntegrityError)
    assert "same" not in str(ended["b"])
    assert texts(state) == ["c", "same"]


def test_an_event_the_ledger_refuses_fails_alone(state: State, put: Callable, texts: Read, event: Make) -> None:
    hook = Hook(refused=f"{2:032x}")
    state.attach(hook)
    works = {f"{n}": (put(n, f"{n}"), (event(n),)) for n in (1, 2, 3)}
    ended = Together(state).run(works)
    assert isinstance(ended["2"], ValueError)
    assert (ended["1"], ended["3"]) == (1, 3)
    assert texts(state) == ["1", "3"]
    assert hook.calls == [[f"{1:032x}"], [f"{3:032x}"]]


def test_an_interrupted_leader_takes_nobody_down_for_good(state: State, put: Callable, texts: Read) -> None:
    def interrupt(tx: Tx) -> None:
        raise KeyboardInterrupt

    ended = Together(state).run({"a": (put(1, "a"), ()), "stop": (interrupt, ()), "c": (put(3, "c"), ())})
    kinds = {name: type(result) for name, result in ended.items() if name != "first"}
    leader = next(name for name, kind in kinds.items() if kind is KeyboardInterrupt)
    assert all(kind is UnavailableError for name, kind in kinds.items() if name != leader)
    assert texts(state) == []
    assert state.write(put(1, "a")) == 1


def test_an_interrupted_write_leaves_the_writer_free(state: State, put: Callable, texts: Read) -> None:
    def interrupt(tx: Tx) -> None:
        put(1, "a")(tx)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        state.write(interrupt)
    state.write(put(2, "b"))
    assert texts(state) == ["b"]


def test_a_write_inside_a_work_is_refused(state: State, put: Callable) -> None:
    with pytest.raises(RuntimeError, match="may not call write"):
        state.write(lambda tx: state.write(put(1, "a")))


def test_a_full_disk_fails_the_group_clearly_and_the_writer_recovers(state: State, notes: Table, texts: Read) -> None:
    def limit(tx: Tx) -> None:
        tx.exec_driver_sql(f"PRAGMA max_page_count = {tx.exec_driver_sql('PRAGMA page_count').scalar() + 2}")

    def large(tx: Tx) -> None:
        for number in range(50):
            tx.execute(insert(notes).values(id=number, text=f"{number}" * 4000))

    state.write(limit)
    with pytest.raises(UnavailableError, match="no space left"):
        state.write(large)
    state.write(lambda tx: tx.execute(insert(notes).values(id=1, text="small")) and None)
    assert texts(state) == ["small"]


def test_another_process_that_writes_is_busy(url: str, clock: SteppedClock, put: Callable) -> None:
    State.create(url, clock).close()
    state = State.open(url, clock)
    event.listen(state.database.writer, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 0"))
    other = sqlite3.connect(urlsplit(url).path.removeprefix("/"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="locked by another process"):
        state.write(put(1, "a"))
    other.execute("ROLLBACK")
    assert state.write(put(1, "a")) == 1
    other.close()
    state.close()


class Failing(sqlite3.Connection):
    """A connection whose next commits fail, before or after they took place."""

    before = after = False
    error: type[BaseException] = sqlite3.OperationalError

    def commit(self) -> None:
        if Failing.before:
            Failing.before = False
            raise Failing.error("disk I/O error")
        super().commit()
        if Failing.after:
            Failing.after = False
            raise Failing.error("disk I/O error")


@pytest.fixture
def failing(url: str, clock: SteppedClock) -> State:
    """A state whose writer commits through `Failing`."""
    State.create(url, clock).close()
    state = State.open(url, clock)
    state.attach(lambda tx, events: None)

    @event.listens_for(state.database.writer, "do_connect")
    def connect(*_: object) -> sqlite3.Connection:
        path = urlsplit(url).path.removeprefix("/")
        return sqlite3.connect(path, factory=Failing, isolation_level=None, check_same_thread=False)

    yield state
    Failing.before = Failing.after = False
    Failing.error = sqlite3.OperationalError
    state.close()


def test_a_commit_that_failed_is_told_and_nothing_is_there(failing: State, put: Callable, texts: Read) -> None:
    Failing.before = True
    with pytest.raises(Exception, match="disk I/O"):
        failing.write(put(1, "a"))
    assert texts(failing) == []
    assert failing.write(put(2, "b")) == 2


def test_a_commit_that_landed_though_it_said_not_is_read_back(failing: State, put: Callable, texts: Read) -> None:
    Failing.after = True
    assert failing.write(put(1, "a")) == 1
    assert texts(failing) == ["a"]


def test_a_clock_set_back_stops_all_writes_until_it_is_right(
    state: State, clock: SteppedClock, put: Callable, texts: Read
) -> None:
    state.write(put(1, "a"))
    clock.step(timedelta(seconds=-6))
    with pytest.raises(ClockError, match="already recorded"):
        state.write(put(2, "b"))
    clock.step(timedelta(seconds=2))
    state.write(put(3, "c"))
    assert texts(state) == ["a", "c"]


def test_small_steps_back_do_not_add_up(state: State, clock: SteppedClock, put: Callable) -> None:
    clock.step(timedelta(seconds=-4))
    state.write(put(1, "a"))
    clock.step(timedelta(seconds=-4))
    with pytest.raises(ClockError):
        state.write(put(2, "b"))


def test_a_time_within_the_tolerance_becomes_the_one_before(clock: SteppedClock) -> None:
    now = clock.now()
    assert onward(now, now + timedelta(seconds=5)) == now + timedelta(seconds=5)
    assert onward(now, now - timedelta(days=1)) == now
    with pytest.raises(ClockError):
        onward(now, now + timedelta(seconds=5, microseconds=1))


def test_two_states_on_one_database_take_turns(url: str, clock: SteppedClock, put: Callable, texts: Read) -> None:
    State.create(url, clock).close()
    states = [State.open(url, clock) for _ in range(2)]

    def fill(which: int) -> None:
        for number in range(20):
            states[which].write(put(100 * which + number, f"{which} {number}"))

    threads = [threading.Thread(target=fill, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(states[0])) == 40
    for state in states:
        state.close()


def test_many_threads_lose_nothing(state: State, put: Callable, texts: Read, event: Make) -> None:
    hook = Hook()
    state.attach(hook)

    def fill(which: int) -> None:
        for number in range(which * 100, which * 100 + 15):
            state.write(put(number, f"{number}"), event(number))

    threads = [threading.Thread(target=fill, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(state)) == 120
    assert sorted(run for call in hook.calls for run in call) == sorted(run.run for run in state.open_runs())


def test_postgresql_rolls_back_one_work_alone(
    postgres_url: str, clock: SteppedClock, put: Callable, texts: Read
) -> None:
    state = State.create(postgres_url, clock)
    ended = Together(state).run({"a": (put(1, "same"), ()), "b": (put(2, "same"), ()), "c": (put(3, "c"), ())})
    assert isinstance(ended["b"], IntegrityError)
    assert texts(state) == ["c", "same"]
    state.close()


def test_two_states_on_one_postgresql_take_turns(
    postgres_url: str, clock: SteppedClock, put: Callable, texts: Read
) -> None:
    states = [State.create(postgres_url, clock), State.open(postgres_url, clock)]

    def fill(which: int) -> None:
        for number in range(20):
            states[which].write(put(100 * which + number, f"{which} {number}"))

    threads = [threading.Thread(target=fill, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(states[0])) == 40
    for state in states:
        state.close()


def test_a_lost_server_connection_is_read_back(
    postgres_url: str, clock: SteppedClock, put: Callable, texts: Read
) -> None:
    state = State.create(postgres_url, clock)

    @event.listens_for(state.database.writer, "commit", once=True)
    def cut(connection: Tx) -> None:
        connection.connection.driver_connection.close()

    with pytest.raises(UnavailableError, match="does not answer"):
        state.write(put(1, "a"))
    assert texts(state) == []
    assert state.write(put(2, "b")) == 2
    state.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12))
def test_state_equals_the_works_that_returned(
    tmp_path_factory: pytest.TempPathFactory, notes: Table, steps: list[tuple[bool, int]]
) -> None:
    clock = SteppedClock(datetime(2026, 1, 5, tzinfo=UTC))
    state = State.create(f"sqlite:///{tmp_path_factory.mktemp('state')}/state.db", clock)
    kept: set[int] = set()
    for fails, number in steps:

        def work(tx: Tx, number: int = number, fails: bool = fails) -> None:
            tx.execute(insert(notes).values(id=number, text=f"{number}"))
            if fails:
                raise ZeroDivisionError

        try:
            state.write(work)
            kept.add(number)
        except (ZeroDivisionError, IntegrityError):
            pass
    with state.read() as tx:
        assert {row.id for row in tx.execute(notes.select())} == kept
    state.close()


def test_an_interrupt_after_the_commit_does_not_undo_it(failing: State, put: Callable, texts: Read) -> None:
    Failing.after, Failing.error = True, KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        failing.write(put(1, "a"))
    assert texts(failing) == ["a"]
    assert failing.write(put(2, "b")) == 2


def test_a_commit_that_cannot_be_read_back_is_told_as_unknown(failing: State, put: Callable) -> None:
    def away(connection: object) -> None:
        raise UnavailableError("gone")

    event.listen(failing.database.reader, "begin", away)
    Failing.before = True
    with pytest.raises(UnavailableError, match="whether it was written is unknown"):
        failing.write(put(1, "a"))


def test_an_interrupted_waiter_takes_its_work_back(state: State, put: Callable, texts: Read) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread is interrupted")
    entered, released = threading.Event(), threading.Event()

    def block(tx: Tx) -> None:
        entered.set()
        released.wait()
        put(1, "a")(tx)

    def interrupt() -> None:
        while not state.waiting:
            released.wait(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threads = [threading.Thread(target=state.write, args=(block,)), threading.Thread(target=interrupt)]
    threads[0].start()
    entered.wait()
    threads[1].start()
    with pytest.raises(KeyboardInterrupt):
        state.write(put(2, "b"))
    assert state.waiting == 0
    released.set()
    for thread in threads:
        thread.join()
    assert texts(state) == ["a"]


def test_an_interrupted_thread_whose_turn_it_is_hands_it_on(state: State, put: Callable, texts: Read) -> None:
    entered, released = threading.Event(), threading.Event()
    heard: list[type[BaseException]] = []

    def block(tx: Tx) -> None:
        entered.set()
        released.wait()

    def interrupted() -> None:
        try:
            state.write(put(2, "b"))
        except KeyboardInterrupt as error:
            heard.append(type(error))

    threads = [threading.Thread(target=state.write, args=(block,)), threading.Thread(target=interrupted)]
    threads.append(threading.Thread(target=state.write, args=(put(3, "c"),)))
    for count, thread in enumerate(threads):
        thread.start()
        entered.wait()
        while state.waiting < count:
            released.wait(0.001)
    # What waits for a lock hears of it when it has the lock: when its turn has come.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(threads[1].ident or 0), ctypes.py_object(KeyboardInterrupt)
    )
    released.set()
    for thread in threads:
        thread.join()
    assert heard == [KeyboardInterrupt]
    assert texts(state) == ["c"]
    assert state.waiting == 0
