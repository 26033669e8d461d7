"""A backup: what is known is not stored again, what goes wrong is told, and no interruption costs an older snapshot."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from guard.backup.marks import mark
from guard.backup.run import Occasion, back_up
from guard.backup.snapshot import Problem, newest, snapshots
from guard.backup.sources import Uncovered
from guard.backup.sources.sqlite import SqliteSource
from guard.backup.verify import Looking, verify
from guard.errors import BusyError, UnavailableError

NOISE = [os.urandom(300_000) for _ in range(12)]


def test_a_second_run_stores_nothing_again(bench, files) -> None:
    first = bench.run(files).manifest
    second = bench.run(files)
    assert first.statistics.files == 5
    assert first.statistics.new_bytes >= first.statistics.bytes > 700_000
    assert (second.manifest.statistics.new_chunks, second.manifest.statistics.stored) == (0, 0)
    assert second.manifest.parent is not None
    assert len(bench.open().names("packs")) == 1
    assert not second.manifest.partial


def test_one_changed_page_of_a_database_stores_one_page(bench, shop_file: Path, temp: Path) -> None:
    source = SqliteSource("shop", shop_file)
    with source.ready(temp) as ready:
        first = bench.run(ready).manifest
    with closing(sqlite3.connect(shop_file, isolation_level=None)) as shop:
        shop.execute("UPDATE customer SET name = 'other' WHERE id = 2500")
    with source.ready(temp) as ready:
        second = bench.run(ready).manifest
    assert first.sources[0].rows == {"customer": 5000, 'odd "table': 0}
    assert first.sources[0].digest != second.sources[0].digest
    new = second.statistics.new_bytes - second.sources[0].tree_bytes
    assert 0 < new <= 3 * 4096  # the page, the header page with its change counter


def test_a_settled_file_is_not_read_again(bench, made_up) -> None:
    def fail() -> bytes:
        raise AssertionError("read again")

    bench.run(made_up(a=b"0123456789", b=b"1"))
    second = bench.run(made_up(a=fail, b=b"22"))
    assert second.manifest.statistics.files == 2
    assert second.manifest.statistics.bytes == 12


def test_a_settled_file_whose_pack_is_marked_is_read_again(bench, made_up, tmp_path) -> None:
    bench.run(made_up(a=b"0123456789"))
    repository = bench.open()
    repository.load_index()
    mark(repository, repository.index.packs)
    made = bench.run(made_up(a=lambda: b"9876543210"))
    assert made.manifest.statistics.new_chunks >= 1
    bench.restore(tmp_path / "out", made.id)
    assert (tmp_path / "out/made/a").read_bytes() == b"9876543210"


def test_a_damaged_parent_costs_time_and_not_the_backup(bench, made_up) -> None:
    bench.run(made_up(a=b"0123456789"))
    (name,) = bench.open().names("snapshots")
    bench.store.objects[name] = (b"junk", bench.clock.now())
    assert bench.run(made_up(a=b"0123456789")).manifest.parent is None


def test_what_could_not_be_read_as_it_was_makes_the_snapshot_partial(bench, made_up) -> None:
    def unreadable() -> bytes:
        raise PermissionError(13, "Permission denied")

    made = bench.run(made_up("files", ("b",), a=b"fine", b=b"moving", c=unreadable))
    (source,) = made.manifest.sources
    assert made.manifest.partial
    assert source.problems == (Problem("b", "changed while it was read"), Problem("c", "permission denied"))
    assert (source.problem_count, source.files) == (2, 2)


def test_at_most_a_hundred_problems_are_named_and_all_are_counted(bench, made_up) -> None:
    names = {f"f{n:03}": b"x" for n in range(150)}
    (source,) = bench.run(made_up("files", tuple(names), **names)).manifest.sources
    assert (len(source.problems), source.problem_count) == (100, 150)


def test_what_is_not_covered_is_in_every_snapshot(bench, made_up) -> None:
    made = bench.run(Uncovered("shop", "a shop in postgresql is not covered by this version"), made_up(a=b"x"))
    assert made.manifest.partial
    assert [(each.name, each.covered) for each in made.manifest.sources] == [("shop", False), ("made", True)]


def test_a_backup_of_nothing_is_no_backup(bench) -> None:
    with pytest.raises(UnavailableError, match="nothing can be backed up: shop: gone"):
        bench.run(Uncovered("shop", "gone"))
    assert not bench.open().names("snapshots")


def test_ctrl_c_keeps_what_was_read_for_the_next_run(bench, made_up) -> None:
    def interrupt() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(made_up(a=NOISE[0], b=NOISE[1], c=interrupt))
    repository = bench.open()
    assert not repository.names("snapshots")
    assert len(repository.names("index")) == 1
    again = bench.run(made_up(a=NOISE[0], b=NOISE[1], c=b"now")).manifest
    assert again.statistics.new_bytes < 1000
    assert verify(bench.open(), Looking(data=True)).is_sound


def test_large_content_goes_over_several_blocks_and_packs(bench, made_up, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("guard.backup.pack.TARGET", 1 << 20)
    monkeypatch.setattr("guard.backup.writer._SEGMENT_BYTES", 1 << 20)
    content = {f"f{n:02}": NOISE[n] for n in range(12)}
    bench.run(made_up(**content))
    assert len(bench.open().names("packs")) >= 3
    assert len(bench.open().names("index")) >= 3
    assert verify(bench.open(), Looking(data=True)).is_sound
    bench.restore(tmp_path / "out")
    assert {each.name: each.read_bytes() for each in (tmp_path / "out/made").iterdir()} == content


def test_what_another_run_marks_meanwhile_is_written_anew(bench, made_up, new_bench, tmp_path) -> None:
    bench.run(made_up(a=NOISE[0]))
    older = bench.open()
    older.load_index()

    def marked_by_another_host() -> bytes:
        mark(bench.open(), older.index.packs)
        return b"new"

    made = bench.run(made_up(a=NOISE[0], b=marked_by_another_host))
    for pack in bench.open().names("packs"):
        if any(each.hex() in pack for each in older.index.packs):
            bench.store.delete(pack)  # what the other host's prune will do once grace is over
    for name in older.names("index")[:]:
        if older.segment(name).packs == list(older.index.packs):
            bench.store.delete(name)
    bench.restore(tmp_path / "out", made.id)
    assert (tmp_path / "out/made/a").read_bytes() == NOISE[0]


def test_a_run_gives_up_when_others_keep_deleting(bench, made_up, monkeypatch) -> None:
    bench.run(made_up(a=b"0123456789"))
    repository = bench.open()
    monkeypatch.setattr(repository, "has_its_segments", lambda: False)
    with pytest.raises(BusyError, match="keep deleting"):
        back_up(repository, [made_up(a=b"0123456789")], Occasion(UUID(int=7), bench.clock.now()))


@pytest.mark.parametrize("after", [False, True])
def test_a_store_that_fails_at_any_call_costs_no_older_snapshot(
    bench, made_up, memory, failing, new_bench, tmp_path, after: bool
) -> None:
    old = bench.run(made_up(a=NOISE[0], b=b"old")).id
    bench.clock.step(timedelta(hours=1))
    before = dict(bench.store.objects)
    wanted = made_up(a=NOISE[0], b=b"new", c=NOISE[1])
    for nth in range(1, 1000):
        calm = memory(bench.clock, before)
        broken = failing(calm, nth, after=after)
        try:
            new_bench(broken, bench.clock).run(wanted)
        except UnavailableError:
            pass
        else:
            break
        rest = new_bench(calm, bench.clock)
        found = snapshots(rest.open())
        assert old in {each.id for each in found}
        assert verify(rest.open(), Looking(data=True, expected=[old])).is_sound
        rest.run(wanted)
        rest.restore(tmp_path / f"{after}{nth}", overwrite=True)
        assert (tmp_path / f"{after}{nth}/made/b").read_bytes() == b"new"
        assert (tmp_path / f"{after}{nth}/made/c").read_bytes() == NOISE[1]
    assert nth > 10


def test_one_lost_answer_is_an_error_or_nothing_at_all(bench, made_up, memory, failing, new_bench) -> None:
    """A single failure, after which the store works again: the run fails cleanly, or went through."""
    for nth in range(1, 30):
        calm = memory(bench.clock, dict(bench.store.objects))
        try:
            new_bench(failing(calm, nth, after=True, once=True), bench.clock).run(made_up(a=NOISE[2]))
        except UnavailableError:
            new_bench(calm, bench.clock).run(made_up(a=NOISE[2]))
        assert verify(new_bench(calm, bench.clock).open(), Looking(data=True)).is_sound


def test_the_newest_snapshot_is_the_one_begun_last(bench, made_up, days: Callable) -> None:
    for number in (3, 1, 2):
        bench.clock.step(days(number) - bench.clock.now())
        bench.run(made_up(a=b"x"))
    found = snapshots(bench.open())
    assert [each.at for each in found] == [days(1), days(2), days(3)]
    assert newest(found).at == days(3)
