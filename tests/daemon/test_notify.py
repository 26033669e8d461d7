"""What a supervisor hears."""

import socket
from pathlib import Path

import pytest

from guard.daemon import Notifier


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract name"])
def test_a_supervisor_hears_each_word(tmp_path: Path, abstract: bool) -> None:
    name = f"@guard-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0{name[1:]}" if abstract else name)
        supervisor.settimeout(5)
        notify = Notifier({"NOTIFY_SOCKET": name})
        notify("READY=1")
        notify("STOPPING=1")
        assert [supervisor.recv(100), supervisor.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_a_supervisor_nothing_happens() -> None:
    Notifier({})("READY=1")


def test_a_supervisor_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})("READY=1")
