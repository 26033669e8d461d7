"""SIGKILL at each batch boundary and inside batches: the next run finishes the work, and no row is lost."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def killed(work: Callable[[], object]) -> bool:
    """Run `work` in a forked child; return whether a SIGKILL ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillAfter:
    """Progress that kills its process after `batches` batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        self.left -= done > 0
        if self.left == 0:
            die()


@pytest.mark.parametrize("batches", range(1, 16))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads
def test_a_kill_at_each_batch_boundary_is_gone_on_with(make, chinook_file: Path, batches: int) -> None:
    names = ("Customer.Email", "Customer.Address", "Customer.Phone", "Customer.FirstName", "Customer.LastName")
    bench = make(f"sqlite:///{chinook_file}", *names)
    before = bench.rows()
    bench.fields.shop.close()
    bench.fields.state.close()
    landed = killed(lambda: bench.seal(tell=KillAfter(batches)))
    assert landed
    bench.seal()
    assert {check.same for check in bench.fields.verify()} == {True}
    bench.fields.shop.close()
    bench.fields.state.close()
    assert killed(lambda: bench.unseal(tell=KillAfter(batches)))
    bench.unseal()
    assert bench.rows() == before


@pytest.mark.parametrize("row", [1, 20, 21, 40, 58, 59])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside SQLAlchemy's idle threads
def test_a_kill_inside_a_batch_leaves_that_batch_undone(make, chinook_file: Path, row: int) -> None:
    """The shop's own trigger is the fault point: it runs between the rows of a batch, inside its transaction."""
    bench = make(f"sqlite:///{chinook_file}", "Customer.Email")
    before = bench.rows()
    bench.fields.prepare()
    bench.fields.shop.close()
    bench.fields.state.close()

    def work() -> None:
        with bench.fields.shop.begin() as connection:
            connection.connection.driver_connection.create_function("die", 0, die)
            connection.exec_driver_sql(
                "CREATE TEMP TRIGGER t AFTER UPDATE ON main.Customer"
                f" WHEN NEW.CustomerId = {row} BEGIN SELECT die(); END"
            )
        bench.seal()

    assert killed(work)
    sealed = bench.ask("SELECT count(*) FROM Customer WHERE Email LIKE 'g1.%'")
    assert sealed == [(row - 1) // 20 * 20]
    bench.seal()
    assert bench.fields.verify()[0].same
    bench.unseal()
    assert bench.rows() == before
