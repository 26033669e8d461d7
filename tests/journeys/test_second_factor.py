"""Privileged actions need a code: missing, wrong and used ones exit 10, are recorded, and change nothing."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def desk(shared: Path, tmp_path: Path, make_desk: Callable[..., Any]) -> Any:
    shutil.copyfile(shared / "data/chinook/chinook.sqlite", tmp_path / "shop.db")
    desk = make_desk(f"sqlite:///{tmp_path / 'shop.db'}")
    desk.run("data", "scan")
    for line in ("data accept --yes", "backup init", "backup run"):
        desk.guard(line)
    return desk


def refused(desk: Any, shop: Path, reason: str) -> str:
    """`fields encrypt` exits 10, the ledger says why, the shop's bytes are as before. Returns what was said."""
    before = hashlib.sha256(shop.read_bytes()).digest()
    desk.guard("fields encrypt", expect=10)
    said = str(desk.err)
    last = desk.entries()[-1]
    assert (last["what"], last["outcome"], last["facts"]) == ("fields.encrypt", "denied", {"reason": reason})
    assert hashlib.sha256(shop.read_bytes()).digest() == before
    return said


def test_without_a_terminal(desk: Any, tmp_path: Path) -> None:
    desk.answer = None
    assert "terminal" in refused(desk, tmp_path / "shop.db", "no code")


def test_with_a_wrong_code(desk: Any, tmp_path: Path) -> None:
    right = desk.phone.code()
    desk.answer = lambda _: f"{(int(right) + 1) % 1_000_000:06d}"
    refused(desk, tmp_path / "shop.db", "wrong code")


def test_with_a_used_code(desk: Any, tmp_path: Path) -> None:
    code = desk.phone.code()
    desk.answer = lambda _: code
    desk.guard("fields encrypt Customer.Fax")
    refused(desk, tmp_path / "shop.db", "used code")


def test_the_plan_is_shown_before_the_code_is_asked(desk: Any) -> None:
    shown: list[str] = []

    def ask(question: str) -> str:
        shown.append(desk.capsys.readouterr().err)
        return str(desk.phone.code())

    desk.answer = ask
    desk.guard("fields encrypt Customer.Email")
    assert "Customer.Email" in shown[0]
    assert "59" in shown[0]
