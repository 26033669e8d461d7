"""SIGKILL between two writes of key work: the next run finishes it, no value is lost, nothing is sealed too early."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard import faults
from tests.actions.test_keys import PLAIN, Desk, desk, sealed, shares, toml

__all__ = ["desk", "sealed"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # fork beside SQLAlchemy's idle threads
]

TIMES = 5
"""How often each point is hit."""


def killed_at(point: str, work: Callable[[], object]) -> bool:
    """Run `work` in a forked child that dies at `point`; return whether it got there."""
    child = os.fork()
    if child == 0:
        faults.install(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def quietly(desk: Desk, line: str) -> Callable[[], object]:
    return lambda: desk.guard(line)


@pytest.mark.parametrize("_", range(TIMES))
@pytest.mark.parametrize("point", ["keys.rotate.made", "keys.rotate.saved", "keys.rotate.current"])
def test_a_killed_rotation_is_gone_on_with(sealed: Desk, point: str, _: int) -> None:
    assert killed_at(point, quietly(sealed, "keys rotate Customer.Email"))
    versions = sealed.keys("column/1")
    assert [key[0] for key in versions] == [1, 2]
    assert versions[1][1] == ("current" if point == "keys.rotate.current" else "waiting")
    assert sealed.heads() == {versions[0][2]}
    assert sealed.opened() == PLAIN
    sealed.wait(minutes=1)
    assert sealed.json("keys rotate Customer.Email")["version"] == 2
    assert sealed.heads() == {versions[1][2]}
    assert sealed.opened() == PLAIN
    assert [key[:2] for key in sealed.keys("column/1")] == [(1, "old"), (2, "current")]
    sealed.guard("audit verify")


@pytest.mark.parametrize("_", range(TIMES))
def test_a_killed_rewrap_has_changed_nothing(sealed: Desk, _: int) -> None:
    assert killed_at("keys.rewrap.wrapped", quietly(sealed, "keys rewrap"))
    assert [key[:2] for key in sealed.keys("kek")] == [(1, "current")]
    assert sealed.opened() == PLAIN
    sealed.wait(minutes=1)
    sealed.guard("keys rewrap")
    assert [key[:2] for key in sealed.keys("kek")] == [(1, "destroyed"), (2, "current")]
    assert sealed.opened() == PLAIN


@pytest.mark.parametrize("_", range(TIMES))
def test_a_killed_change_of_roots_leaves_the_old_one(sealed: Desk, _: int) -> None:
    toml(sealed, 'path = "keys/root.key"', 'path = "keys/root.key"\n\n[root.second]\npath = "keys/other.key"')
    assert killed_at("keys.roots.wrapped", quietly(sealed, "keys rewrap --root"))
    made = (sealed.home / "keys/other.key").read_text()
    assert sealed.opened() == PLAIN
    sealed.wait(minutes=1)
    sealed.guard("keys rewrap --root")
    assert (sealed.home / "keys/other.key").read_text() == made
    (sealed.home / "keys/root.key").unlink()
    assert sealed.opened() == PLAIN


@pytest.mark.parametrize("_", range(TIMES))
@pytest.mark.parametrize("word", ["retire", "destroy"])
def test_a_killed_end_of_a_key_has_not_ended_it(sealed: Desk, word: str, _: int) -> None:
    sealed.guard("keys rotate Customer.Email")
    first = sealed.keys("column/1")[0][2]
    if word == "destroy":
        sealed.guard(f"keys retire {first}")
        sealed.one_is_enough()
        sealed.guard(f"keys destroy {first}", expect=14)
        sealed.wait(hours=25)
    assert killed_at(f"keys.{word}.counted", quietly(sealed, f"keys {word} {first}"))
    assert sealed.keys("column/1")[0][1] == {"retire": "old", "destroy": "retired"}[word]
    sealed.wait(minutes=1)
    sealed.guard(f"keys {word} {first}")
    assert sealed.keys("column/1")[0][1] == {"retire": "retired", "destroy": "destroyed"}[word]
    assert sealed.opened() == PLAIN


@pytest.mark.parametrize("_", range(TIMES))
def test_a_killed_kit_opens_nothing_and_the_old_one_everything(sealed: Desk, tmp_path: Path, _: int) -> None:
    (tmp_path / "kit").mkdir()
    assert killed_at("keys.kit.written", quietly(sealed, f"keys recovery make --to {tmp_path}/kit"))
    sealed.wait(minutes=1)
    new = " ".join(f"--share-file {path}" for path in sorted((tmp_path / "kit").iterdir())[:2])
    sealed.guard(f"keys recovery test {new}", expect=10)
    sealed.guard("keys recovery test " + " ".join(f"--share-file {path}" for path in shares(sealed)[:2]))


@pytest.mark.parametrize("_", range(TIMES))
def test_a_killed_recovery_leaves_the_root_as_it_was(sealed: Desk, tmp_path: Path, _: int) -> None:
    given = " ".join(f"--share-file {path}" for path in shares(sealed)[:2])
    assert killed_at("keys.root.written", quietly(sealed, f"keys recovery use {given} --to {tmp_path}/new.key"))
    assert sealed.opened() == PLAIN
    sealed.wait(minutes=1)
    sealed.guard(f"keys recovery use {given} --to {tmp_path}/newer.key")
    toml(sealed, 'path = "keys/root.key"', f'path = "{tmp_path}/newer.key"')
    assert sealed.opened() == PLAIN


@pytest.mark.parametrize("_", range(TIMES))
def test_a_killed_export_leaves_a_file_for_its_recipient_at_most(sealed: Desk, tmp_path: Path, _: int) -> None:
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"  # RFC 7748, 6.1: Bob's
    (tmp_path / "escrow.pub").write_text(public)
    first: Any = sealed.keys("column/1")[0][2]
    line = f"keys export {first} --recipient {tmp_path}/escrow.pub --to {tmp_path}/out.json"
    sealed.one_is_enough()
    sealed.guard(line, expect=14)
    sealed.wait(hours=25)
    assert killed_at("keys.export.written", quietly(sealed, line))
    sealed.wait(minutes=1)
    assert public in (tmp_path / "out.json").read_text()
    sealed.guard(line, expect=14)
    assert "exists and is not overwritten" in sealed.err
    (tmp_path / "out.json").unlink()
    sealed.guard(line)
