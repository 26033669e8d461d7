"""What agent and clients say to each other: bytes both ways, errors that stay what they were, versions."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import errors, wire
from guard.errors import BusyError, ConfigError, DeniedError, Exit, GuardError, InterlockError, UnavailableError
from guard.wire import GarbledError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def passed(frame: bytes) -> Any:
    """What the other end of a socket receives of some bytes."""
    one, other = socket.socketpair()
    with one, other:
        writer = threading.Thread(target=lambda: (one.sendall(frame), one.close()))
        writer.start()
        try:
            return wire.receive(other)
        finally:
            writer.join()


@given(message=st.dictionaries(st.text(), JSON, max_size=5))
def test_a_message_comes_as_it_was_sent(message: dict[str, Any]) -> None:
    frame = wire.pack(message)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert passed(frame) == message


def test_a_frame_is_canonical_json_behind_its_length() -> None:
    frame = wire.pack({"op": "ping", "args": {"b": 1, "a": "é"}})
    assert frame == b'\0\0\0\x25{"args":{"a":"\xc3\xa9","b":1},"op":"ping"}'


def test_a_message_of_a_mib_passes_and_a_longer_one_is_refused() -> None:
    room = wire.MOST - len(b'{"x":""}')
    assert passed(wire.pack({"x": "y" * room})) == {"x": "y" * room}
    with pytest.raises(ConfigError, match="too long"):
        wire.pack({"x": "y" * (room + 1)})


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0",
        b"\0\0\0\x05{}",
        b"\0\0\0\0",
        b"\0\x10\0\x01",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{x",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_is_no_frame_is_garbled(raw: bytes) -> None:
    with pytest.raises(GarbledError):
        passed(raw)


def test_an_end_between_two_frames_is_an_end() -> None:
    with pytest.raises(EOFError):
        passed(b"")


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GuardError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_as_it_was_raised(kind: type[GuardError]) -> None:
    found = wire.raised(passed(wire.pack(wire.failure(kind("what", hint="do this"))))["error"])
    assert type(found) is kind
    assert (str(found), found.hint, found.exit_code) == ("what", "do this", kind.exit_code)


def test_the_reason_of_a_refusal_comes_along() -> None:
    found = wire.raised(wire.failure(DeniedError("no", reason="role"))["error"])
    assert isinstance(found, DeniedError)
    assert (found.reason, found.hint) == ("role", None)


def test_a_kind_of_error_that_is_a_rooms_own_comes_as_what_it_derives_from() -> None:
    class AwayError(UnavailableError):
        """One of a room."""

    assert type(wire.raised(wire.failure(AwayError("x"))["error"])) is UnavailableError


def test_an_error_of_a_newer_agent_keeps_its_exit_code() -> None:
    told = {"kind": "NewerError", "message": "x", "exit": 12}
    assert type(wire.raised(told)) is BusyError
    assert wire.raised(told | {"exit": 99}).exit_code is Exit.FAILED


def test_an_unexpected_error_tells_its_kind_and_no_text() -> None:
    told = wire.failure(ValueError("ada@example.org"))
    assert "ada@example.org" not in json.dumps(told)
    assert "ValueError" in str(wire.raised(told["error"]))


@pytest.mark.parametrize("told", [None, 5, {}, {"message": 5}])
def test_an_error_that_cannot_be_read_is_garbled(told: Any) -> None:
    assert isinstance(wire.raised(told), GarbledError)


@pytest.mark.parametrize(
    ("own", "client", "expected"),
    [((1, 1), (1, 1), 1), ((1, 2), (1, 1), 1), ((1, 2), (2, 3), 2), ((1, 2), (1, 9), 2), ((2, 3), (1, 2), 2)],
)
def test_the_newest_version_that_both_speak_is_spoken(
    own: tuple[int, int], client: tuple[int, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "OLDEST", own[0])
    monkeypatch.setattr(wire, "VERSION", own[1])
    assert wire.agreed(*client) == expected


@pytest.mark.parametrize(("own", "client"), [((1, 1), (2, 3)), ((2, 3), (1, 1)), ((1, 2), (3, 9))])
def test_without_a_common_version_both_are_named(
    own: tuple[int, int], client: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "OLDEST", own[0])
    monkeypatch.setattr(wire, "VERSION", own[1])
    with pytest.raises(ConfigError, match=r"the agent speaks version .*, its client") as raised:
        wire.agreed(*client)
    assert "install the same guard" in (raised.value.hint or "")


def test_a_hello_without_versions_is_garbled() -> None:
    with pytest.raises(GarbledError):
        wire.agreed(None, "1")


def test_a_long_path_has_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "guard.sock"
    assert len(str(path)) > 107
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        with wire.address(path) as where:
            one.bind(where)
        one.listen()
        assert path.is_socket()
        with wire.address(path) as where:
            other.connect(where)


def test_interlock_is_told_by_its_name() -> None:
    told: Any = wire.failure(InterlockError("x"))["error"]
    assert told["kind"] == "InterlockError"
    assert told["exit"] == 14
