"""With --json every command prints one JSON document on stdout, and nothing beside it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from guard import demo

LINES = (
    "config check", "config show", "config schema", "doctor", "status", "data scan", "data catalog",
    "data accept --yes", "backup init", "backup run", "backup list", "backup verify", "backup prune --dry-run",
    "backup prune", "fields plan", "fields encrypt", "fields status", "fields verify", "fields finalize",
    "keys list", "access list", "access requests", "access grant retention.run", "audit list", "audit verify",
    "audit checkpoint", "audit anchor", "retention plan", "breach status", "run heartbeat", "run --due",
    "report build", "state backup", "state migrate",
)  # fmt: skip


def test_every_command(make_desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make_desk("sqlite:///shop.db")
    monkeypatch.chdir(desk.home)
    demo.make_shop(desk.home / "shop.db", desk.clock.now(), size=demo.Size(50, 100))
    for line in LINES:
        assert desk.run(*line.split(), "--json") in {0, 3, 4}, f"{line}: {desk.err}"
        json.loads(desk.out)
        assert "\x1b" not in desk.out + desk.err, line
    approval = desk.json("access requests")[0]["id"]
    assert desk.json(f"access refuse {approval} --yes") == {"ended": approval}


def test_an_error_leaves_stdout_empty(make_desk: Callable[..., Any]) -> None:
    desk = make_desk("sqlite:///shop.db")
    for line, code in (("fields plan", 13), ("backup list --store loca", 2), ("run nothing", 2), ("audit lst", 2)):
        assert desk.run(*line.split(), "--json") == code, line
        assert desk.out == ""
        assert desk.err != ""
