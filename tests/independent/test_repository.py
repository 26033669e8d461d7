"""A reader that knows only docs/FORMATS.md restores what guard backed up."""

import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from guard.backup.erasures import Effect, Register
from guard.backup.marks import mark
from guard.backup.repository import Founding, Repository
from guard.backup.run import Occasion, back_up
from guard.backup.sources.files import FilesSource
from guard.backup.sources.sqlite import SqliteSource
from guard.backup.stores.local import LocalStore
from guard.clock import SteppedClock
from guard.config.backup import BackupPolicy

READER = Path(__file__).with_name("repository.py")
MASTER = bytes(range(32))
PASSPHRASE = "ein längerer Satz, den nur einer kennt"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "deep").mkdir(parents=True)
    (root / "text").write_bytes(b"text " * 100_000)
    (root / "deep" / "noise").write_bytes(random.Random(1).randbytes(900_000))
    (root / "deep" / "empty").write_bytes(b"")
    (root / "deep" / "link").symlink_to("noise")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"odd")
    (root / "text").chmod(0o640)
    return root


@pytest.fixture
def folder(tmp_path: Path, clock: SteppedClock, chinook_file: Path, files: Path) -> Path:
    """A repository with two snapshots, a mark and two erasures, written by guard."""
    store = LocalStore(tmp_path / "repository", clock)
    store.prepare()
    founding = Founding(UUID(int=5), clock.now(), BackupPolicy().grace.rest, passphrase=PASSPHRASE)
    repository = Repository.init(store, {1: MASTER}, founding)
    effect = Effect(effect="rectify", table="Customer", key="016900000001", columns=("Email", "Straße"))
    for _ in range(2):
        Register(repository).append([effect], clock.now())
    (tmp_path / "scratch").mkdir()
    with (
        SqliteSource("shop", chinook_file).ready(tmp_path / "scratch") as shop,
        FilesSource("files", files).ready(tmp_path / "scratch") as tree,
    ):
        back_up(repository, [tree], Occasion(UUID(int=5), clock.now()))
        clock.sleep(BackupPolicy().grace.rest)
        back_up(repository, [shop, tree], Occasion(UUID(int=5), clock.now(), ("nightly",)))
    mark(repository, [b"p" * 32])
    return tmp_path / "repository"


def test_it_restores_every_byte(
    folder: Path, tmp_path: Path, chinook_file: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(READER))["main"](folder, MASTER.hex(), tmp_path / "out")
    said = json.loads(capsys.readouterr().out)
    assert said["at"] == "2026-01-12T09:00:00.000000Z"
    assert said["rows"]["Customer"] == 59
    assert said["erasures"] == [2, said["position"]["head"]]
    assert (said["marks"], said["packs"]) == (1, 2)
    copy = (tmp_path / "out/shop/chinook.db").read_bytes()
    assert copy[100:] == chinook_file.read_bytes()[100:]  # before it: SQLite's own counters of changes
    want = {os.fsencode(each.relative_to(files)): each for each in files.rglob("*")}
    got = {os.fsencode(each.relative_to(tmp_path / "out/files")): each for each in (tmp_path / "out/files").rglob("*")}
    assert want.keys() == got.keys()
    for path, each in want.items():
        if each.is_symlink():
            assert got[path].readlink() == each.readlink()
        elif each.is_file():
            assert got[path].read_bytes() == each.read_bytes()
            assert got[path].stat().st_mode == each.stat().st_mode
            assert got[path].stat().st_mtime_ns == each.stat().st_mtime_ns


def test_it_opens_the_passphrase_slot(folder: Path) -> None:
    reader = runpy.run_path(str(READER))
    assert reader["master_of_passphrase"](folder, PASSPHRASE) == MASTER


def test_it_imports_nothing_of_guard() -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(READER)!r}); print([m for m in sys.modules if m.startswith('guard')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
