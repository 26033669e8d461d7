"""Parts of the ledger for a SIEM: each entry once, none left out, and a restore in between does not go unseen."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from guard.audit.ship import Mark, Part, Shipped, ship, to_file
from guard.errors import ConfigError, InterlockError, TamperedError, UnavailableError
from tests.audit.auditor import Shop
from tests.audit.conftest import START, House


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop")
    yield made
    made.state.close()


def shipped(shop: Shop | House, part: Part = Part()) -> tuple[Shipped, list[int]]:  # noqa: B008  # frozen
    lines: list[bytes] = []
    with shop.state.read() as tx:
        done = ship(tx, lines.append, part, "Shop")
    assert all(line.endswith(b"}\n") and line.count(b"\n") == 1 for line in lines)
    found = [json.loads(line) for line in lines]
    assert [each["metadata"]["sequence"] for each in found] == [each["unmapped"]["n"] for each in found]
    return done, [each["unmapped"]["n"] for each in found]


def test_parts_follow_each_other_without_gap_or_repetition(sixty: House) -> None:
    taken: list[int] = []
    mark = None
    while True:
        done, numbers = shipped(sixty, Part(after=mark, limit=7))
        taken += numbers
        mark = done.next
        if not done.more:
            break
        assert len(numbers) == 7
    assert taken == list(range(60))
    assert mark is not None
    assert mark.n == 59
    again, none = shipped(sixty, Part(after=Mark.read(str(mark))))
    assert (again, none) == (Shipped(0, None, None, mark, more=False), [])


def test_a_long_part_says_how_far_it_is(shop: Shop) -> None:
    shop.add(2001)
    told: list[tuple[str, int, int | None]] = []
    with shop.state.read() as tx:
        ship(tx, len, Part(limit=2001), "Shop", lambda *words: told.append(words))
    assert told == [("entries", 1000, 2001), ("entries", 2000, 2001)]


def test_times_and_numbers_choose_together(sixty: House) -> None:
    part = Part(START + timedelta(hours=3), START + timedelta(hours=5), Mark(30), 100)
    done, numbers = shipped(sixty, part)
    assert (done.first, done.last, done.entries) == (numbers[0], numbers[-1], len(numbers))
    assert numbers[0] == 31
    assert 0 < len(numbers) < 20
    assert shipped(sixty, Part(until=START))[0] == Shipped(0, None, None, None, more=False)


def test_a_limit_that_is_just_met_leaves_no_more(sixty: House) -> None:
    assert shipped(sixty, Part(limit=60))[0].more is False
    assert shipped(sixty, Part(limit=59))[0].more is True


@pytest.mark.parametrize("text", ["", "-1", "x", "1:", "1:abc", "1:ABCDEF01", "01", "1:0123456789"])
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not where an export ended"):
        Mark.read(text)


def test_a_mark_reads_back() -> None:
    assert str(Mark.read("12")) == "12"
    assert str(Mark.read("12:0123abcd")) == "12:0123abcd"


def test_a_mark_behind_the_end_is_named(sixty: House) -> None:
    with pytest.raises(ConfigError, match="no entry 60: the ledger holds 0 to 59"):
        shipped(sixty, Part(after=Mark(60)))


def test_a_restore_in_between_is_not_passed_over(shop: Shop, tmp_path: Path) -> None:
    shop.add(40)
    shop.state.copy_to(tmp_path / "saved.db")
    shop.add(20)
    mark = shipped(shop)[0].next
    assert mark is not None
    shop.restored(tmp_path / "saved.db")
    with pytest.raises(ConfigError, match="no entry 59") as short:
        shipped(shop, Part(after=mark))
    assert "audit.restart" in str(short.value.hint)
    shop.add(100)
    with pytest.raises(InterlockError, match="entry 59 is not the one at which the export before ended") as other:
        shipped(shop, Part(after=mark))
    assert str(other.value.hint).startswith("--after 39 ")
    done, numbers = shipped(shop, Part(after=Mark(39)))
    assert numbers == list(range(40, 142))
    assert done.next is not None
    assert shipped(shop, Part(after=done.next))[1] == []


def test_a_restore_to_what_was_taken_already_goes_on(shop: Shop, tmp_path: Path) -> None:
    shop.add(40)
    mark = shipped(shop)[0].next
    shop.state.copy_to(tmp_path / "saved.db")
    shop.add(20)
    shop.restored(tmp_path / "saved.db")
    assert shipped(shop, Part(after=mark))[1] == [40, 41]


def test_entries_that_retention_removed_untaken_are_named(shop: Shop) -> None:
    shop.add(700)
    early, late = Mark(100), shipped(shop, Part(limit=600))[0].next
    at_end = shipped(shop, Part(limit=512))[0].next
    shop.prune(512, frozenset({0}))
    with pytest.raises(ConfigError, match="entries 101 to 511 were removed under retention") as gone:
        shipped(shop, Part(after=early))
    assert gone.value.hint == "--after 511 goes on behind them"
    for mark in (Mark(511), at_end):
        assert shipped(shop, Part(after=mark))[1] == list(range(512, 701))
    assert shipped(shop, Part(after=late))[1] == list(range(600, 701))
    assert shipped(shop)[1] == [*range(256), *range(512, 701)]


@pytest.mark.parametrize("leaf", ["'text'", "x'7b7d'", "replace(leaf, 'test', 'tset')"])
def test_an_entry_that_is_none_stops_it(sixty: House, leaf: str) -> None:
    with sixty.state.database.writer.begin() as tx:
        tx.exec_driver_sql(f"UPDATE ledger_entry SET leaf = {leaf} WHERE n = 17")
    with pytest.raises(TamperedError, match="ledger entry 17 is not an entry"):
        shipped(sixty)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "part"

    def half() -> None:
        with to_file(path) as write:
            write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []
    with to_file(path) as write:
        write(b"whole")
    assert path.read_bytes() == b"whole"
    with pytest.raises(InterlockError, match="is there already"), to_file(path) as write:
        write(b"other")
    with pytest.raises(UnavailableError, match="cannot write"), to_file(tmp_path / "no/where") as write:
        write(b"other")
    assert [each.name for each in tmp_path.iterdir()] == ["part"]
