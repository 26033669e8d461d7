"""A restore brings back what was there, never writes a wrong byte, and never steps on what is in its way."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.backup.erasures import Effect, Position, Register
from guard.backup.restore import Wanted, plan, restore
from guard.backup.snapshot import Problem, pick, snapshots
from guard.backup.sources import Uncovered
from guard.backup.sources.files import FilesSource
from guard.backup.sources.sqlite import SqliteSource
from guard.errors import ConfigError, InterlockError, TamperedError

names = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in {b".", b".."})
contents_of_files = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 2**16).map(lambda seed: random.Random(seed).randbytes(700_000)),
    st.just(b"SQLite format 3\0\x02\0" + bytes(3000)),
)
trees = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), contents_of_files, st.sampled_from([0o600, 0o644, 0o400, 0o755])),
        st.tuples(st.just("link"), st.binary(min_size=1, max_size=20).filter(lambda t: 0 not in t), st.just(0)),
    ),
    lambda inner: st.tuples(
        st.just("folder"), st.dictionaries(names, inner, max_size=4), st.sampled_from([0o700, 0o755, 0o500])
    ),
    max_leaves=8,
)


def build(path: bytes, what: tuple[str, object, int], when: int) -> None:
    kind, content, mode = what
    here = Path(os.fsdecode(path))
    if kind == "link":
        here.symlink_to(os.fsdecode(content))
        return
    if kind == "folder":
        here.mkdir()
        for name, inner in content.items():
            build(path + b"/" + name, inner, when + 1_000_000_007)
    else:
        here.write_bytes(content)
    here.chmod(mode)
    os.utime(path, ns=(when, when))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inner=st.dictionaries(names, trees, max_size=5), number=st.integers(0, 10**9))
def test_whatever_the_tree_it_comes_back_as_it_was(bench, contents, tmp_path: Path, inner, number) -> None:
    here = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
    here.mkdir()
    build(os.fsencode(here / "tree"), ("folder", inner, 0o755), 1_600_000_000_000_000_001)
    made = bench.run(FilesSource("tree", here / "tree"))
    bench.restore(here / "out", made.id)
    assert contents(here / "out/tree") == contents(here / "tree")
    assert not made.manifest.partial


def test_a_folder_comes_back_with_odd_names_links_modes_and_times(bench, files, folder, contents, tmp_path) -> None:
    bench.run(files)
    done = bench.restore(tmp_path / "out")
    assert contents(tmp_path / "out/files") == contents(folder)
    assert (done.files, done.bytes) == (7, 700_000 + 500 + 3 + 10)


def test_a_database_comes_back_byte_for_byte_and_is_checked(bench, shop_file, temp, tmp_path) -> None:
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        bench.run(ready)
    done = bench.restore(tmp_path / "out")
    assert list(done.checks.values()) == ["ok"]
    assert not list((tmp_path / "out/shop").glob("shop.db-*"))
    for path in (shop_file, tmp_path / "out/shop/shop.db"):
        with closing(sqlite3.connect(path)) as shop:
            dumped = "\n".join(shop.iterdump())
        path.with_suffix(".sql").write_text(dumped)
    assert shop_file.with_suffix(".sql").read_text() == (tmp_path / "out/shop/shop.sql").read_text()


@pytest.mark.parametrize("journal", ["-wal", "-journal"])
def test_a_database_is_not_put_beside_a_foreign_journal(bench, shop_file, temp, tmp_path, journal: str) -> None:
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        bench.run(ready)
    (tmp_path / "out/shop").mkdir(parents=True)
    (tmp_path / f"out/shop/shop.db{journal}").write_bytes(b"of another database")
    with pytest.raises(InterlockError, match="belongs to another database"):
        bench.restore(tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/shop/shop.db").exists()


@pytest.mark.parametrize("damage", [slice(4096 * 7, 4096 * 8), slice(100, 4096)])  # a page of rows; the schema
def test_a_database_that_was_unsound_when_saved_is_told(bench, shop_file, temp, tmp_path, damage: slice) -> None:
    raw = bytearray(shop_file.read_bytes())
    raw[damage] = b"\xff" * (damage.stop - damage.start)
    shop_file.write_bytes(raw)
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        (source,) = bench.run(ready).manifest.sources
    assert source.problems == (Problem(".", "SQLite finds it damaged"),)
    with pytest.raises(TamperedError, match="unsound"):
        bench.restore(tmp_path / "out")
    assert (tmp_path / "out/shop/shop.db").exists()


def test_only_the_sources_and_paths_asked_for_come_back(bench, files, made_up, tmp_path) -> None:
    bench.run(files, made_up("other", a=b"1"))
    bench.restore(tmp_path / "one", sources=("other",))
    assert [each.name for each in (tmp_path / "one").iterdir()] == ["other"]
    bench.restore(tmp_path / "two", paths=("deep/er", "*.txt"))
    found = {each.relative_to(tmp_path / "two").as_posix() for each in (tmp_path / "two").rglob("*") if each.is_file()}
    assert found == {"files/a.txt", "files/deep/er/photo"}


def test_a_database_that_somebody_has_open_is_not_replaced(bench, shop_file, temp, tmp_path) -> None:
    with SqliteSource("shop", shop_file).ready(temp) as ready:
        bench.run(ready)
    bench.restore(tmp_path / "out")
    live = tmp_path / "out/shop/shop.db"
    with closing(sqlite3.connect(live)) as shop:
        shop.execute("PRAGMA journal_mode = WAL")
        shop.execute("DELETE FROM customer")
        shop.commit()
        shop.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert Path(f"{live}-wal").stat().st_size == 0
        with pytest.raises(InterlockError, match=r"shop\.db-wal"):
            bench.restore(tmp_path / "out", overwrite=True)
    bench.restore(tmp_path / "out", overwrite=True)
    with closing(sqlite3.connect(live)) as shop:
        assert shop.execute("SELECT count(*) FROM customer").fetchone() == (5000,)


def test_a_source_that_is_asked_for_but_not_covered_is_no_success(bench, made_up, tmp_path) -> None:
    bench.run(Uncovered("shop", "it was down"), made_up(a=b"1"))
    with pytest.raises(ConfigError, match="does not hold shop: it was down"):
        bench.restore(tmp_path / "out", sources=("shop",))


def test_what_the_snapshot_does_not_hold_is_an_error_or_told(bench, made_up, tmp_path) -> None:
    bench.run(made_up(a=b"1"), Uncovered("shop", "not covered by this version"))
    with pytest.raises(ConfigError, match="no source nothing"):
        bench.restore(tmp_path / "out", sources=("nothing",))
    with pytest.raises(ConfigError, match="fits the paths"):
        bench.restore(tmp_path / "out", paths=("nowhere",))
    repository = bench.open()
    repository.load_index()
    planned = plan(repository, pick(snapshots(repository), "latest"), Wanted(tmp_path / "out"))
    assert planned.not_covered == ("shop: not covered by this version",)
    assert (planned.files, planned.bytes) == (1, 1)
    assert not (tmp_path / "out").exists()


def test_files_in_the_way_are_kept_unless_overwriting_is_asked_for(bench, files, folder, tmp_path) -> None:
    bench.run(files)
    (tmp_path / "out/files").mkdir(parents=True)
    (tmp_path / "out/files/a.txt").write_bytes(b"mine")
    with pytest.raises(InterlockError, match=r"1 of the files.*a\.txt"):
        bench.restore(tmp_path / "out")
    assert [each.name for each in (tmp_path / "out/files").iterdir()] == ["a.txt"]
    bench.restore(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/files/a.txt").read_bytes() == (folder / "a.txt").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_through_a_link_that_lies_in_the_way(bench, files, tmp_path, overwrite: bool) -> None:
    bench.run(files)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/files").mkdir(parents=True)
    (tmp_path / "out/files/deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InterlockError, match="in the way"):
        bench.restore(tmp_path / "out", overwrite=overwrite)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_in_a_files_place_is_not_removed(bench, made_up, tmp_path) -> None:
    bench.run(made_up(a=b"1"))
    (tmp_path / "out/made/a").mkdir(parents=True)
    with pytest.raises(InterlockError, match="it is a folder"):
        bench.restore(tmp_path / "out", overwrite=True)


def test_damage_leaves_no_half_written_file(bench, made_up, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("guard.backup.block.TARGET", 1000)
    bench.run(made_up(a=b"sound" * 300, b=os.urandom(3000)))
    (name,) = bench.open().names("packs")
    raw, at = bench.store.objects[name]
    bench.open().load_index()
    segment = bench.open().segment(bench.open().names("index")[0])
    last = max((each for each in segment.blocks if each.length == 3000), key=lambda each: each.offset)
    bench.store.objects[name] = (raw[: last.offset + 9] + b"!" + raw[last.offset + 10 :], at)
    with pytest.raises(TamperedError, match=f"block {last.ordinal} of {name}"):
        bench.restore(tmp_path / "out")
    assert {each.name for each in (tmp_path / "out/made").iterdir()} <= {"a"}


def test_a_register_behind_the_manifest_is_refused(bench, made_up, tmp_path) -> None:
    register = Register(bench.open())
    register.append([Effect(effect="erase", table="Customer", key="016900000001")], bench.clock.now())
    bench.run(made_up(a=b"1"))
    bench.store.delete(f"erasures/{1:020}")
    with pytest.raises(InterlockError, match="ends at 0, but 1"):
        bench.restore(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_register_behind_what_guard_knows_is_refused(bench, made_up, tmp_path) -> None:
    bench.run(made_up(a=b"1"))
    repository = bench.open()
    repository.load_index()
    with pytest.raises(InterlockError, match="ends at 0, but 2"):
        restore(repository, pick(snapshots(repository), "latest"), Wanted(tmp_path / "out"), Position(2, b"h" * 32))


def test_snapshots_are_picked_by_the_beginning_of_their_id(bench, made_up) -> None:
    made = bench.run(made_up(a=b"1"))
    found = snapshots(bench.open())
    assert pick(found, made.id[:8]).id == made.id
    for wrong in ("f" * 8, made.id[:7], ""):
        with pytest.raises(ConfigError, match="0 snapshots"):
            pick(found, wrong)
    with pytest.raises(ConfigError, match="no snapshot yet"):
        pick([], "latest")


def test_set_user_id_is_kept_only_for_its_owner(bench, folder, tmp_path) -> None:
    (folder / "a.txt").chmod(0o4755)
    bench.run(FilesSource("files", folder))
    bench.restore(tmp_path / "out")
    mode = (tmp_path / "out/files/a.txt").stat().st_mode & 0o7777
    assert mode == (0o4755 if os.geteuid() == 0 else 0o755)
