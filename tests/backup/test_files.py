"""Walking a tree: everything in order, nothing followed, and what moves under our feet is told."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guard.backup.sources import Found
from guard.backup.sources.files import FilesSource
from guard.backup.tree import What, order_of


def walk(source: FilesSource, temp: Path) -> tuple[list[Found], list[tuple[bytes, str]]]:
    told: list[tuple[bytes, str]] = []
    with source.ready(temp) as ready:
        return list(ready.walk(lambda path, what: told.append((path, what)))), told


def test_a_tree_comes_in_order_with_types_targets_and_modes(files: FilesSource, temp: Path) -> None:
    found, told = walk(files, temp)
    assert not told
    by_path = {each.path: each for each in found}
    assert list(by_path) == sorted(by_path, key=order_of)
    assert set(by_path) == {
        b"", b"a.txt", b"dangling", b"deep", b"deep/er", b"deep/er/photo", b"deep/run.sh", b"empty", b"link",
        b"\xff\xfe odd\n name",
    }  # fmt: skip
    assert by_path[b"link"].target == b"a.txt"
    assert by_path[b"deep/run.sh"].meta.mode == 0o750
    assert by_path[b"a.txt"].meta.mtime == 1_500_000_000_123_456_789
    assert {each.what for each in found} == {What.FOLDER, What.FILE, What.LINK}


def test_a_single_file_is_a_source_of_its_own(folder: Path, temp: Path) -> None:
    found, _ = walk(FilesSource("one", folder / "a.txt"), temp)
    assert [(each.path, each.what) for each in found] == [(b"a.txt", What.FILE)]


def test_excluded_names_and_skipped_folders_are_left_out(folder: Path, temp: Path) -> None:
    source = FilesSource("files", folder, exclude=("*.txt", "deep/run*"), skip=(folder / "deep" / "er",))
    paths = {each.path for each in walk(source, temp)[0]}
    assert not paths & {b"a.txt", b"deep/run.sh", b"deep/er", b"deep/er/photo"}
    assert b"deep" in paths


def test_what_vanishes_while_the_tree_is_read_is_told(folder: Path, temp: Path) -> None:
    told: list[tuple[bytes, str]] = []
    with FilesSource("files", folder).ready(temp) as ready:
        steps = ready.walk(lambda path, what: told.append((path, what)))
        first = next(steps)
        (folder / "empty").unlink()
        rest = list(steps)
    assert first.path == b""
    assert b"empty" not in {each.path for each in rest}
    assert told == [(b"empty", "vanished while it was read")]


def test_what_changes_while_it_is_read_is_noticed(folder: Path, temp: Path) -> None:
    found = next(each for each in walk(FilesSource("files", folder), temp)[0] if each.path == b"a.txt")
    assert found.read is not None
    with found.read() as file:
        assert not found.changed(file)
        (folder / "a.txt").write_bytes(b"other")
        assert found.changed(file)


def test_a_link_or_pipe_that_took_a_files_place_is_not_read(folder: Path, temp: Path) -> None:
    found = next(each for each in walk(FilesSource("files", folder), temp)[0] if each.path == b"a.txt")
    assert found.read is not None
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match=r"."):
        found.read()
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    with pytest.raises(OSError, match="no longer a file"):
        found.read()


def test_sockets_and_pipes_have_no_content(folder: Path, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # a socket's path must be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    found = {each.path: each for each in walk(FilesSource("files", folder), temp)[0]}
    assert found[b"pipe"].read is None
    assert found[b"socket"].read is None


def test_a_folder_that_is_not_there_is_not_covered(tmp_path: Path, temp: Path) -> None:
    with FilesSource("files", tmp_path / "none").ready(temp) as ready:
        assert ready.why == f"{tmp_path / 'none'} does not exist"


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Let modes bind this process: root, who reads everything, is nobody for a while."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_what_may_not_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody but their owner in
        top = Path(name)
        top.chmod(0o755)
        (top / "a.txt").write_text("alpha")
        (top / "a.txt").chmod(0)
        (top / "closed").mkdir(mode=0)
        told: list[tuple[bytes, str]] = []
        with FilesSource("files", top).ready(top) as ready, bound_by_modes():
            found = {each.path: each for each in ready.walk(lambda path, what: told.append((path, what)))}
            assert told == [(b"closed", "permission denied")]
            read = found[b"a.txt"].read
            assert read is not None
            with pytest.raises(PermissionError):
                read()


def test_only_files_left_alone_for_a_while_are_settled(folder: Path, temp: Path) -> None:
    found, _ = walk(FilesSource("files", folder), temp)
    assert not any(each.settled for each in found)
    old = {each.path: each.settled for each in walk(FilesSource("etc", Path("/etc/passwd")), temp)[0]}
    assert old == {b"passwd": True}
