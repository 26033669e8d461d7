"""A secret is written once, for its owner alone, and nothing is left of it when that fails."""

import os
import stat
from pathlib import Path

import pytest

from guard.crypto import files
from guard.errors import ConfigError, InterlockError


def test_only_its_owner_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write_new(tmp_path / "secret", "x\n")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").read_text() == "x\n"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_another_file_and_a_link_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "loose").symlink_to(tmp_path / "elsewhere")
    for name in ("target", "link", "loose"):
        with pytest.raises(InterlockError, match=f"{name} exists and is not overwritten"):
            files.write_new(tmp_path / name, "new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*: Not a directory"):
        files.write_new(tmp_path / "file" / "secret", "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, real = os.open("/dev/full", os.O_WRONLY), os.open

    def opened(path: object, flags: int, mode: int = 0o777) -> int:
        handle = real(path, flags, mode)
        os.dup2(full, handle)
        return handle

    monkeypatch.setattr(os, "open", opened)
    try:
        with pytest.raises(ConfigError, match="No space left on device"):
            files.write_new(tmp_path / "secret", "x")
    finally:
        monkeypatch.undo()
        os.close(full)
    assert not (tmp_path / "secret").exists()


def test_an_interrupt_leaves_no_half_file_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_new(tmp_path / "secret", "text")
    assert list(tmp_path.iterdir()) == []
