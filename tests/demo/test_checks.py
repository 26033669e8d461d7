"""Comparing shops and searching files for what was planted in them."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.demo import Found, compare, find_values, values_only_in

TABLES = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, age);
CREATE TABLE line (a TEXT, b INTEGER, note TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE TABLE loose (word TEXT);
INSERT INTO person VALUES (1, 'Anna Ackermann', 40), (2, 'Björn Bäcker', NULL), (3, '王秀英', 33);
INSERT INTO line VALUES ('x', 1, 'one'), ('y', 1, 'two'), ('x', 2, NULL);
INSERT INTO loose VALUES ('b'), ('a'), ('a');
"""


def make(path, change=""):
    with closing(sqlite3.connect(path)) as file:
        file.executescript(TABLES + change)
    return path


@pytest.fixture
def differ(tmp_path):
    """Return how a shop differs after a change, as {table: (only first, only second, changed)}."""

    def differ(change):
        found = compare(make(tmp_path / "one.db"), make(tmp_path / "two.db", change))
        assert found.differences == sum(table.count for table in found.tables)
        return {
            table.table: (table.only_first, table.only_second, table.changed) for table in found.tables if table.count
        }

    return differ


def test_a_copy_is_the_same(tmp_path):
    found = compare(make(tmp_path / "one.db"), make(tmp_path / "two.db"))
    assert (found.differences, found.rows) == (0, 9)
    assert [table.table for table in found.tables] == ["line", "loose", "person"]


@pytest.mark.parametrize(
    ("change", "table", "counts"),
    [
        ("DELETE FROM person WHERE id = 2", "person", (1, 0, 0)),
        ("INSERT INTO person VALUES (0, 'Zoë', 1)", "person", (0, 1, 0)),
        ("UPDATE person SET name = 'g1.AgAA' WHERE id = 3", "person", (0, 0, 1)),
        ("UPDATE person SET age = '40' WHERE id = 1", "person", (0, 0, 1)),
        ("UPDATE person SET age = 40.0 WHERE id = 1", "person", (0, 0, 1)),
        ("UPDATE person SET age = 0 WHERE id = 2", "person", (0, 0, 1)),
        ("UPDATE person SET id = 9 WHERE id = 1", "person", (1, 1, 0)),
        ("UPDATE line SET note = '' WHERE b = 2", "line", (0, 0, 1)),
        ("DELETE FROM line", "line", (3, 0, 0)),
        ("DELETE FROM loose WHERE rowid = 3", "loose", (1, 0, 0)),
        ("DROP TABLE line", "line", (3, 0, 0)),
        ("CREATE TABLE more (x); INSERT INTO more VALUES (1), (NULL)", "more", (0, 2, 0)),
        ("UPDATE person SET name = CAST(x'ff00fe' AS TEXT) WHERE id = 1", "person", (0, 0, 1)),
    ],
)
def test_each_difference_is_counted(differ, change, table, counts):
    assert differ(change) == {table: counts}


def test_other_columns_are_a_difference(tmp_path):
    two = make(tmp_path / "two.db", "ALTER TABLE person ADD COLUMN email TEXT")
    found = compare(make(tmp_path / "one.db"), two)
    assert [(table.table, table.count) for table in found.tables if table.columns_differ] == [("person", 1)]


def test_guards_own_table_is_not_compared(differ):
    assert differ("CREATE TABLE guard_progress (run TEXT); INSERT INTO guard_progress VALUES ('x')") == {}


@given(st.lists(st.tuples(st.integers(0, 30), st.text(max_size=3)), max_size=12), st.data())
def test_moving_rows_about_changes_nothing(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("order")
    unique = list(dict(rows).items())
    for name, order in (("one", unique), ("two", data.draw(st.permutations(unique)))):
        with closing(sqlite3.connect(folder / name)) as file:
            file.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
            file.executemany("INSERT INTO t VALUES (?, ?)", order)
            file.commit()
    assert compare(folder / "one", folder / "two").differences == 0


NAMES = ["Anna Ackermann", "Björn Bäcker", "王秀英", "anna.ackermann@example.com", "Zoë", "+49 30 23125 007"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("which", range(len(NAMES)))
@pytest.mark.parametrize("chunk", [1, 64, 1 << 20])
def test_a_planted_value_is_found_wherever_it_stands(tmp_path, encoding, which, chunk):
    planted = NAMES[which].encode(encoding)
    for offset in range(40):
        (tmp_path / f"{offset:02d}").write_bytes(b"\xa5" * (offset + 100) + planted + b"\x5a" * 37)
    found = list(find_values([tmp_path], NAMES, chunk=chunk))
    assert found == [Found(which, tmp_path / f"{n:02d}", encoding, n + 100) for n in range(40)]


def test_all_that_stand_in_one_file_are_found_once(tmp_path):
    text = "".join(f"{name}\n" * 3 for name in NAMES)
    (tmp_path / "text").write_text(text)
    found = list(find_values([tmp_path / "text"], NAMES, chunk=16))
    whole = text.encode()
    expected = {
        (n, at) for n, name in enumerate(NAMES) for at in range(len(whole)) if whole.startswith(name.encode(), at)
    }
    assert {(each.value, each.offset) for each in found} == expected
    assert len(found) == len(expected)


@given(
    st.lists(st.binary(min_size=1, max_size=12).map(lambda raw: raw.decode("latin-1")), min_size=1, max_size=8),
    st.binary(max_size=300),
    st.integers(1, 90),
)
def test_the_search_agrees_with_the_slow_one(tmp_path_factory, values, noise, chunk):
    path = tmp_path_factory.mktemp("noise") / "file"
    whole = noise + values[0].encode() + noise[::-1] + values[-1].encode("utf-16-le")
    path.write_bytes(whole)
    found = {(each.value, each.encoding, each.offset) for each in find_values([path], values, chunk=chunk)}
    assert found == {
        (n, encoding, at)
        for n, value in enumerate(values)
        for encoding in ("utf-8", "utf-16-le")
        for at in range(len(whole))
        if whole.startswith(value.encode(encoding), at)
    }


def test_folders_are_searched_whole_and_what_is_missing_is_an_error(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_text("x" * 50 + NAMES[0])
    assert [each.path.name for each in find_values([tmp_path], NAMES)] == ["deep"]
    with pytest.raises(FileNotFoundError, match="cannot be searched"):
        list(find_values([tmp_path / "gone"], NAMES))
    with pytest.raises(ValueError, match="empty"):
        list(find_values([tmp_path], [""]))
    assert list(find_values([tmp_path], [])) == []


def test_only_values_that_stand_nowhere_else_are_planted(tmp_path):
    path = make(tmp_path / "one.db", "INSERT INTO loose VALUES ('call Anna Ackermann back');")
    assert values_only_in(path, {"person.name"}, at_least=3) == ["Björn Bäcker", "王秀英"]
    assert values_only_in(path, {"person.name", "loose.word"}, at_least=3) == [
        "Anna Ackermann",
        "Björn Bäcker",
        "call Anna Ackermann back",
        "王秀英",
    ]
    assert values_only_in(path, {"person.name"}, per_column=1, at_least=3) == []
    with pytest.raises(ValueError, match=r"person\.nme"):
        values_only_in(path, {"person.nme"})


def test_a_planted_value_is_found_in_a_shop_and_not_in_an_empty_one(tmp_path):
    path = make(tmp_path / "one.db")
    values = values_only_in(path, {"person.name"}, at_least=3)
    assert {each.value for each in find_values([path], values)} == {0, 1, 2}
    with closing(sqlite3.connect(path)) as file:
        file.executescript("UPDATE person SET name = hex(randomblob(9)); VACUUM;")
    assert list(find_values([path], values)) == []
