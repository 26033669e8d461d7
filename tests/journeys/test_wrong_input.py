"""What goes wrong is said in words: what, where, what to do; nothing is lost and no traceback is shown."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from guard import demo
from guard.cli.main import call


@pytest.fixture
def make(shared: Path, tmp_path: Path, make_desk: Callable[..., Any]) -> Callable[[], Any]:
    """Set guard up beside Chinook."""

    def new() -> Any:
        shutil.copyfile(shared / "data/chinook/chinook.sqlite", tmp_path / "shop.db")
        return make_desk("sqlite:///../shop.db")

    return new


@pytest.fixture
def desk(make: Callable[[], Any]) -> Any:
    return make()


@pytest.fixture
def sealed_desk(make: Callable[[], Any], once: Callable[..., Any]) -> Any:
    """Chinook with an accepted catalog and a first backup: ready to be sealed."""

    def ready() -> Any:
        desk = make()
        desk.run("data", "scan")
        for line in ("data accept --yes", "backup init", "backup run"):
            desk.guard(line)
        return desk

    return once("wrong input", ready)


def said(desk: Any, *expected: str) -> None:
    assert "Traceback" not in desk.err
    assert "unexpected" not in desk.err
    for text in expected:
        assert text in desk.err


def outside(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `guard WORDS` with the settings in `folder`, as a new process would."""
    capsys.readouterr()
    code = call(["--config", str(folder / "guard.toml"), *words])
    return code, capsys.readouterr().err


def test_no_guard_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = outside(tmp_path, "status", capsys=capsys)
    assert code == 2
    assert "does not exist" in err
    assert "guard init" in err


def test_broken_toml(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    desk.toml('name = "Shop"', "name = ")
    code, err = outside(desk.home, "config", "check", capsys=capsys)
    assert code == 2
    assert "guard.toml is not valid TOML" in err


def test_several_wrong_keys_in_several_files(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    desk.toml("[report]", "[reports]")
    desk.toml("[[backup.store]]", "[[backup.stor]]")
    desk.toml("lease =", "leese =", "policies/schedule.toml")
    code, err = outside(desk.home, "config", "check", capsys=capsys)
    assert code == 2
    for expected in ('did you mean "report"?', 'did you mean "store"?', 'did you mean "lease"?'):
        assert expected in err


def test_a_missing_table(sealed_desk: Any, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("DROP TABLE Customer")
        shop.commit()
    sealed_desk.guard("fields plan", expect=2)
    said(sealed_desk, "Customer", "guard data scan")


def test_a_missing_shop(sealed_desk: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.db").rename(tmp_path / "elsewhere.db")
    sealed_desk.guard("fields plan", expect=13)
    said(sealed_desk, "shop.db does not exist", "shop.url")
    assert not (tmp_path / "shop.db").exists()


def test_a_shop_that_is_no_database(desk: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"this is no database at all, only a few words of text" * 100)
    desk.guard("data scan", expect=13)
    said(desk, "not a readable SQLite database")


def test_a_catalog_nobody_accepted(sealed_desk: Any) -> None:
    sealed_desk.toml('protect = "encrypt"', 'protect = "none"', "policies/catalog.toml")
    sealed_desk.guard("fields plan", expect=14)
    said(sealed_desk, "not the catalog that was accepted", "guard data accept")


def test_a_wrong_root_key(sealed_desk: Any) -> None:
    key = sealed_desk.home / "keys/root.key"
    key.write_text("guard-root-1:" + "A" * 43 + "\n")
    sealed_desk.guard("fields plan", expect=10)
    said(sealed_desk, "root key does not open")


def test_a_root_key_that_others_can_read(sealed_desk: Any) -> None:
    (sealed_desk.home / "keys/root.key").chmod(0o644)
    sealed_desk.guard("status", expect=10)
    said(sealed_desk, "chmod 600")


def test_a_wrong_passphrase(tmp_path: Path, make_desk: Callable[..., Any]) -> None:
    demo.make_shop(tmp_path / "shop.db", datetime(2026, 1, 5, tzinfo=UTC), size=demo.Size(50, 100))
    desk = make_desk(f"sqlite:///{tmp_path / 'shop.db'}", root="passphrase", passphrase="correct horse battery")
    desk.answer = lambda _: "correct horse battery"
    desk.guard("access list")
    desk.answer = lambda _: "wrong horse battery"
    desk.guard("access list", expect=10)
    said(desk, "root key does not open")
    desk.answer = None
    desk.guard("access list", expect=2)
    said(desk, "no terminal to ask for the passphrase")


def test_init_twice(desk: Any, make_desk: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match="set up here already"):
        make_desk("sqlite:///other.db")
    desk.guard("access list")


@contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[None]:
    """Mount a tmpfs over `folder`; what was in it is hidden meanwhile."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@needs_root
def test_a_read_only_folder(sealed_desk: Any) -> None:
    reports = sealed_desk.home / "reports"
    reports.mkdir(exist_ok=True)
    with small_disk(reports, "ro"):
        sealed_desk.guard("report build", expect=13)
    said(sealed_desk, "cannot write", "Read-only file system")


@needs_root
def test_a_full_disk_while_sealing(sealed_desk: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop.db"
    full = tmp_path / "full"
    full.mkdir()
    with small_disk(full, f"size={shop.stat().st_size + 64 * 1024}"):
        shutil.copyfile(shop, full / "shop.db")
        sealed_desk.toml("../shop.db", str(full / "shop.db"))
        sealed_desk.guard("fields encrypt", expect=13)
        said(sealed_desk, "no space left")
        with closing(sqlite3.connect(full / "shop.db")) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        shutil.copyfile(full / "shop.db", tmp_path / "saved.db")
    shutil.copyfile(tmp_path / "saved.db", full / "shop.db")
    sealed_desk.guard("fields encrypt")
    sealed_desk.guard("fields verify")
