"""The shop's own word on how far a run came."""

import pytest

from guard.shop import Shop, progress
from guard.shop.progress import Batch, Bracket, Range, Resolution, Resolved, Total


@pytest.fixture(params=["chinook", "chinook_pg", "empty_mariadb"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """A shop in each database."""
    found: Shop = request.getfixturevalue(request.param)
    return found


def test_a_run_nobody_noted_was_rolled_back(shop: Shop) -> None:
    assert progress.resolve(shop, "run") == Resolved(Resolution.ROLLED_BACK, 0)
    with shop.begin() as connection:
        progress.begin(shop, connection, Bracket("other", "work"))
    assert progress.resolve(shop, "run") == Resolved(Resolution.ROLLED_BACK, 0)


def test_a_batch_dies_with_its_transaction(shop: Shop) -> None:
    bracket = Bracket("run", "work")
    with shop.begin() as connection:
        progress.begin(shop, connection, bracket)
        progress.note(shop, connection, bracket, 1, Batch(b"a", b"c", 3, 5))

    def fail() -> None:
        with shop.begin() as connection:
            progress.note(shop, connection, bracket, 2, Batch(b"d", b"f", 3, 5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert progress.resolve(shop, "run") == Resolved(Resolution.PARTLY, 3)
    with shop.begin() as connection:
        progress.end(shop, connection, bracket)
    assert progress.resolve(shop, "run") == Resolved(Resolution.DONE, 3)


def test_a_run_goes_on_behind_the_one_that_was_interrupted(shop: Shop) -> None:
    first, second = Bracket("first", "work"), Bracket("second", "work")
    with shop.begin() as connection:
        assert progress.take_over(shop, connection, "work") == ()
        progress.begin(shop, connection, first)
        progress.note(shop, connection, first, 1, Batch(b"a", b"c", 3, (1 << 256) - 1))
        progress.note(shop, connection, first, 2, Batch(b"d", b"f", 2, 7))
    with shop.begin() as connection:
        [left] = progress.take_over(shop, connection, "work")
        assert left == Range(b"f", None)
        progress.begin(shop, connection, second, left)
        progress.note(shop, connection, second, 1, Batch(b"g", b"h", 1, None))
        progress.end(shop, connection, second)
        assert progress.total(shop, connection, "work") == Total(3, 6, 6)
    assert progress.resolve(shop, "first").state is Resolution.PARTLY
    assert progress.resolve(shop, "second").state is Resolution.DONE
    with shop.begin() as connection:
        assert progress.take_over(shop, connection, "work") == ()


def test_each_range_of_a_shared_work_is_taken_over_where_it_stopped(shop: Shop) -> None:
    """One part had batches, one had none, one was done; the work itself was announced only."""
    ranges = [Range(None, b"f"), Range(b"f", b"m"), Range(b"m", None)]
    with shop.begin() as connection:
        progress.announce(shop, connection, "first", ["seal 1"])
        parts = progress.share(shop, connection, Bracket("first", "seal 1"), ranges)
        assert [bracket.work for bracket, _ in parts] == ["seal 1.1", "seal 1.2", "seal 1.3"]
        progress.note(shop, connection, parts[0][0], 1, Batch(b"a", b"b", 2, 1))
        progress.note(shop, connection, parts[0][0], 2, Batch(b"c", b"d", 2, 2))
        progress.note(shop, connection, parts[2][0], 1, Batch(b"n", b"z", 9, 4))
        progress.end(shop, connection, parts[2][0])
    assert progress.resolve(shop, "first") == Resolved(Resolution.PARTLY, 13)
    with shop.begin() as connection:
        left = progress.take_over(shop, connection, "seal 1")
        assert left == (Range(b"d", b"f"), Range(b"f", b"m"))
        parts = progress.share(shop, connection, Bracket("second", "seal 1"), left)
        progress.note(shop, connection, parts[1][0], 1, Batch(b"g", b"h", 1, 8))
    with shop.begin() as connection:
        assert progress.take_over(shop, connection, "seal 1") == (Range(b"d", b"f"), Range(b"h", b"m"))
        assert progress.total(shop, connection, "seal 1") == Total(4, 14, 15)


def test_a_run_is_done_only_when_the_work_behind_its_parts_is(shop: Shop) -> None:
    bracket = Bracket("run", "seal 1")
    with shop.begin() as connection:
        parts = progress.share(shop, connection, bracket, [Range(None, b"f"), Range(b"f", None)])
        for part, _ in parts:
            progress.end(shop, connection, part)
    assert progress.resolve(shop, "run").state is Resolution.PARTLY
    with shop.begin() as connection:
        progress.begin(shop, connection, bracket)
        progress.end(shop, connection, bracket)
    assert progress.resolve(shop, "run").state is Resolution.DONE


def test_parts_are_told_from_works_that_only_begin_alike(shop: Shop) -> None:
    names = ("seal 1", "seal 1.2", "seal 1.x", "seal 11", "seal 1.2.3", "SEAL 1")
    with shop.begin() as connection:
        for name in names:
            progress.begin(shop, connection, Bracket("run", name))
            progress.note(shop, connection, Bracket("run", name), 1, Batch(b"a", b"c", 1, 1))
        assert progress.total(shop, connection, "seal 1").batches == 3
        progress.end(shop, connection, Bracket("run", "seal 1"), forget=["seal 1"])
        assert [progress.total(shop, connection, name).batches for name in names] == [0, 0, 1, 1, 0, 1]


def test_works_do_not_mix_and_can_be_forgotten(shop: Shop) -> None:
    with shop.begin() as connection:
        for work in ("one", "two"):
            progress.begin(shop, connection, Bracket("run", work))
            progress.note(shop, connection, Bracket("run", work), 1, Batch(b"a", b"c", 3, 5))
        progress.end(shop, connection, Bracket("run", "one"))
    assert progress.resolve(shop, "run") == Resolved(Resolution.PARTLY, 6)
    with shop.begin() as connection:
        progress.end(shop, connection, Bracket("run", "two"), forget=["one"])
        assert progress.total(shop, connection, "one") == Total(0, 0, 0)
        assert progress.total(shop, connection, "two") == Total(1, 3, 5)
    assert progress.resolve(shop, "run").state is Resolution.DONE


def test_guards_table_is_none_of_the_shops(shop: Shop) -> None:
    with shop.begin() as connection:
        progress.begin(shop, connection, Bracket("run", "work"))
    assert progress.NAME not in shop.tables(fresh=True)


def test_a_run_killed_between_two_works_is_not_done(shop: Shop) -> None:
    with shop.begin() as connection:
        progress.announce(shop, connection, "run", ["first", "second"])
        progress.begin(shop, connection, Bracket("run", "first"))
        progress.note(shop, connection, Bracket("run", "first"), 1, Batch(b"a", b"c", 3, 5))
        progress.end(shop, connection, Bracket("run", "first"))
    assert progress.resolve(shop, "run") == Resolved(Resolution.PARTLY, 3)
    with shop.begin() as connection:
        assert progress.take_over(shop, connection, "second") == ()
        progress.begin(shop, connection, Bracket("run", "third"))
    assert progress.resolve(shop, "run") == Resolved(Resolution.PARTLY, 3)
