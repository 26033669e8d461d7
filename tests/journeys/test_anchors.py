"""Anchors of every kind through the command line: set up as the runbook says, looked at, lost, asked for by policy."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.audit.outside import Authority, GuardWitness, served

ANCHORS = """
[[audit.anchor]]
name = "second-host"
kind = "witness"
url = "{witness}"
vkey = "{vkey}"

[[audit.anchor]]
name = "locked"
kind = "s3"
bucket = "anchors"
region = "us-east-1"
access_key = {{env = "TEST_KEY"}}
secret_key = {{env = "TEST_KEY"}}

[[audit.anchor]]
name = "time"
kind = "timestamp"
url = "{authority}"
authority = "{ca}"
path = "timestamps"
"""


class Outside:
    """The witness, the bucket and the authority of a desk."""

    def __init__(self, desk: Any, folder: Path, stack: ExitStack) -> None:
        self.desk = desk
        self.witness = GuardWitness(folder / "witness", "witness.example/second-host")
        self._on = stack.enter_context(ExitStack())
        self.vkeys = [desk.json("audit checkpoint --vkey")["vkey"]]
        self._on.enter_context(self.witness.on(self.vkeys))
        self.authority = Authority(folder / "authority")
        url = stack.enter_context(served(self.authority.respond))
        boto3.client("s3", "us-east-1").create_bucket(Bucket="anchors", ObjectLockEnabledForBucket=True)
        (desk.home / "timestamps").mkdir()
        text = ANCHORS.format(witness=self.witness.url, vkey=self.witness.vkey, authority=url, ca=self.authority.ca)
        with (desk.home / "guard.toml").open("a") as file:
            file.write(text)

    def witness_stops(self) -> None:
        self._on.close()

    def witness_starts(self) -> None:
        old = self.witness.url
        self._on.enter_context(self.witness.on(self.vkeys))
        self.desk.toml(old, self.witness.url)


@pytest.fixture
def outside(tmp_path: Path, make_desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """A fresh guard folder with all four kinds of anchors named."""
    monkeypatch.setenv("TEST_KEY", "testing")
    with mock_aws(), ExitStack() as stack:
        desk = make_desk("sqlite:///shop.db")
        yield Outside(desk, tmp_path, stack)


def ledger_lines(desk: Any) -> list[tuple[str, str]]:
    desk.run("--json", "status")
    return [(line["light"], line["text"]) for line in json.loads(desk.out) if line["what"] == "ledger"]


def checks(desk: Any) -> dict[str, tuple[str, str]]:
    desk.run("--json", "doctor")
    found = json.loads(desk.out)
    return {each["what"]: (each["found"], each["detail"]) for each in found if each["what"].startswith("anchor")}


def test_a_fresh_folder_is_green_with_a_note(make_desk: Callable[..., Any]) -> None:
    desk = make_desk("sqlite:///shop.db")
    desk.guard("audit verify")
    ((light, text),) = ledger_lines(desk)
    assert light == "green"
    assert text.endswith("weak: all anchors lie on its own disk")
    assert checks(desk)["anchor folder"][0] == "warning"
    desk.toml("anchors = 1", "anchors = 2", "policies/audit.toml")
    desk.guard("audit verify", expect=15)
    assert checks(desk)["anchors"] == (
        "wrong", "policies/audit.toml asks for 2 that vouch, guard.toml names 1 that count",
    )  # fmt: skip


def test_all_four_hold_it_and_say_so(outside: Outside) -> None:
    desk = outside.desk
    assert [found for found, _ in checks(desk).values()] == ["warning", "ok", "ok", "warning"]
    done = desk.json("audit anchor")
    assert (done["held"], done["failed"]) == (["folder", "second-host", "locked", "time"], [])
    shown = desk.json("audit anchor --look")
    assert [each["name"] for each in shown] == done["held"]
    assert {each["entries"] for each in shown} == {done["size"]}
    assert [each["at"] is not None for each in shown] == [False, True, False, True]
    table = desk.guard("audit anchor --look").splitlines()
    assert table[0].split() == ["anchor", "entries", "signed", "where"]
    assert table[1].endswith("(weak: on the ledger's own disk)")
    desk.toml("anchors = 1", "anchors = 2", "policies/audit.toml")
    assert desk.json("audit verify")["anchored"] == done["size"]
    assert {light for light, _ in ledger_lines(desk)} == {"green"}


def test_the_cosigned_checkpoint_is_handed_out(outside: Outside) -> None:
    desk = outside.desk
    desk.guard("audit checkpoint --cosigned", expect=2)
    assert "no witness has cosigned a checkpoint yet" in desk.err
    desk.guard("audit anchor")
    note = desk.guard("audit checkpoint --cosigned")
    assert "— witness.example/second-host " in note
    assert note.split("\n")[0] == desk.guard("audit checkpoint --vkey").split("+")[0]
    desk.guard("audit checkpoint --cosigned --vkey", expect=2)


def test_one_that_fails_keeps_it_from_none_of_the_others(outside: Outside) -> None:
    desk = outside.desk
    desk.guard("audit anchor")
    outside.witness_stops()
    done = desk.json("audit anchor", expect=4)
    assert done["held"] == ["folder", "locked", "time"]
    assert "anchor second-host at http://127.0.0.1" in done["failed"][0]
    desk.guard("run heartbeat", expect=4)
    desk.guard("audit verify", expect=15)
    assert "could not look at anchor second-host" in desk.err
    assert ledger_lines(desk)[0][0] == "red"
    assert checks(desk)["anchor second-host"][0] == "wrong"
    assert desk.json("audit anchor --look", expect=4)[1]["entries"] is None
    outside.witness_starts()
    desk.guard("run heartbeat")
    desk.guard("audit verify")


def test_status_turns_yellow_and_then_red(outside: Outside) -> None:
    desk = outside.desk
    desk.guard("audit anchor")
    desk.clock.step(timedelta(hours=25, minutes=30))
    assert [light for light, _ in ledger_lines(desk)] == ["yellow", "green"]
    desk.clock.step(timedelta(hours=1))
    assert ledger_lines(desk)[0][0] == "red"
    desk.guard("audit verify", expect=15)
    desk.guard("audit anchor")
    assert ledger_lines(desk)[0][0] == "green"


def test_a_state_that_was_put_back_is_found_by_each_of_them(outside: Outside, tmp_path: Path) -> None:
    """One after the other is the only one that still knows."""
    desk = outside.desk
    desk.guard("audit anchor")
    app = desk.app()
    app.state.copy_to(tmp_path / "old.db")
    app.close()
    for _ in range(2):
        desk.guard("audit anchor")
    for end in ("", "-wal", "-shm"):
        (desk.home / f"var/state.db{end}").unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "old.db", desk.home / "var/state.db")
    whole = (desk.home / "guard.toml").read_text()
    head, *blocks = whole.split("[[audit.anchor]]")
    for block in blocks:
        (desk.home / "guard.toml").write_text(head + "[[audit.anchor]]" + block)
        name = block.split('"')[1]
        desk.guard("audit verify", expect=11)
        assert f"gone: anchor {name} " in desk.err


def test_settings_that_cannot_be_stop_neither_the_ledger_nor_the_others(outside: Outside) -> None:
    desk = outside.desk
    desk.toml(outside.witness.vkey, outside.witness.vkey[:-4] + "AAAA")
    done = desk.json("audit anchor", expect=4)
    assert done["held"] == ["folder", "locked", "time"]
    assert done["failed"] == ["anchor second-host: this is not the verifier key of a witness (Ed25519, type 04)"]
    assert checks(desk)["anchor second-host"][0] == "wrong"
