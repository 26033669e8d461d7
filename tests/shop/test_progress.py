"""The shop's own word on how far a run came."""

import pytest

from guard.shop import Shop, progress
from guard.shop.progress import Batch, Bracket, Resolution, Resolved, Total


@pytest.fixture(params=["chinook", "chinook_pg"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """The media shop in each database."""
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
        assert progress.begin(shop, connection, first) is None
        progress.note(shop, connection, first, 1, Batch(b"a", b"c", 3, (1 << 256) - 1))
        progress.note(shop, connection, first, 2, Batch(b"d", b"f", 2, 7))
    with shop.begin() as connection:
        assert progress.begin(shop, connection, second) == Batch(b"d", b"f", 2, 7)
        progress.note(shop, connection, second, 1, Batch(b"g", b"h", 1, None))
        progress.end(shop, connection, second)
        assert progress.total(shop, connection, "work") == Total(3, 6, 6)
    assert progress.resolve(shop, "first").state is Resolution.PARTLY
    assert progress.resolve(shop, "second").state is Resolution.DONE
    with shop.begin() as connection:
        assert progress.begin(shop, connection, Bracket("third", "work")) is None


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
        assert progress.begin(shop, connection, Bracket("next", "second")) is None
        progress.begin(shop, connection, Bracket("run", "third"))
    assert progress.resolve(shop, "run") == Resolved(Resolution.PARTLY, 3)
