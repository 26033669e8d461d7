"""Privileged actions need a code: missing, wrong and used ones exit 10, are recorded, and change nothing."""

import hashlib
import io
import re
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


# Colleagues ----------------------------------------------------------------------------------------------------------

UIDS = {"daemon": 1, "nobody": 65534}
"""OS users that every system has, for people who are not the one who runs the tests."""


class Terminal(io.StringIO):
    """A stdin that is a terminal; what is asked on it is answered elsewhere."""

    def isatty(self) -> bool:
        return True


class Colleagues:
    """People at the same shop, each with an OS user and a phone of their own."""

    def __init__(self, desk: Any, phone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk = desk
        self.patch = monkeypatch
        self.phones = {name: type(phone)(desk.clock) for name in UIDS}
        for each in self.phones.values():
            each.secret = "A" * 32  # of another shop: they have none for this one yet
        monkeypatch.setattr("sys.stdin", Terminal())

    def guard(self, os_user: str, line: str, expect: int = 0) -> str:
        """Run a line as somebody else, who scans what is shown and types what their phone shows."""
        phone = self.phones[os_user]

        def typed(_: str) -> str:
            if found := re.search(r"secret: ([A-Z2-7]{32})", self.desk.capsys.readouterr().err):
                phone.secret = found[1]
            return str(phone.code())

        with self.patch.context() as patch:
            patch.setattr("os.getuid", lambda: UIDS[os_user])
            patch.setattr("guard.cli.init.ask_code", typed)
            patch.setattr(self.desk, "answer", phone.code)
            return str(self.desk.guard(line, expect))


@pytest.fixture
def colleagues(desk: Any, phone: Any, monkeypatch: pytest.MonkeyPatch) -> Colleagues:
    return Colleagues(desk, phone, monkeypatch)


def test_a_colleague_enrols_loses_the_phone_is_reset_by_two_others_and_leaves(
    desk: Any, colleagues: Colleagues
) -> None:
    desk.guard("access add Bob --os-user nobody --role security --later")
    desk.guard("access add Eve --os-user daemon --role owner --later")
    colleagues.guard("daemon", "access grant retention.run", expect=10)
    for name in UIDS:
        colleagues.guard(name, "access enrol")
    lost = colleagues.phones["nobody"].secret

    desk.guard("access reset nobody", expect=14)
    (request,) = desk.json("access requests")
    colleagues.guard("nobody", f"access approve {request['id']}", expect=10)
    desk.guard(f"access approve {request['id']}", expect=10)
    colleagues.guard("daemon", f"access approve {request['id']}")
    desk.guard("access reset nobody")
    assert {each["os_user"]: each["factor"] for each in desk.json("access list")}["nobody"] == "none yet"
    colleagues.guard("nobody", "access enrol --recovery-codes-only", expect=10)
    colleagues.guard("nobody", "access enrol")
    assert colleagues.phones["nobody"].secret != lost

    desk.guard("access disable nobody")
    colleagues.guard("nobody", "access list", expect=10)
    desk.guard("access enable nobody")
    colleagues.guard("nobody", "access list")
    done = [each["what"] for each in desk.entries() if each["outcome"] == "done"]
    assert [what for what in done if what.startswith("access.")] == [
        "access.add", "access.add", "access.enrol", "access.enrol", "access.approve", "access.reset", "access.enrol",
        "access.disable", "access.enable",
    ]  # fmt: skip
    desk.guard("audit verify")
