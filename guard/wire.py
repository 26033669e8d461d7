"""What the agent and its clients say to each other: frames of JSON on a Unix socket. docs/FORMATS.md, section 12.

Bytes and words only; who may say what, and when, is decided by those who use it.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from guard import canon, errors
from guard.canon import Json
from guard.errors import ConfigError, GuardError, UnavailableError

VERSION: Final = 1
"""The newest version of the conversation this program speaks."""

OLDEST: Final = max(1, VERSION - 1)
"""The one before is spoken too, so that agent and clients need not be changed at once."""

MOST: Final = 1 << 20
"""Bytes of a frame, without its length."""

HEAD: Final = 4
"""Bytes of the length before each frame."""

_LONGEST: Final = 107
"""Bytes of a path that fit into the address of a Unix socket (unix(7)), without the zero at its end."""

_PEER: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

KINDS: Final[Mapping[str, type[GuardError]]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GuardError)
}
"""The errors that are told by name."""


class GarbledError(UnavailableError):
    """The other end does not speak this language: half a frame, too long a frame, no JSON."""


def pack(message: Mapping[str, Json]) -> bytes:
    """Return a message as a frame. Raises ConfigError when it is longer than MOST, ValueError when it is no JSON."""
    body = canon.json_bytes(message)
    if len(body) > MOST:
        raise ConfigError(f"a message of {len(body)} bytes is too long for the agent", hint=f"at most {MOST} bytes")
    return len(body).to_bytes(HEAD, "big") + body


def length(head: bytes) -> int:
    """Return how many bytes follow the length `head`. Raises GarbledError when they are too many, or none."""
    found = int.from_bytes(head, "big")
    if not 0 < found <= MOST:
        raise GarbledError(f"a frame of {found} bytes is none of guard's: it has 1 to {MOST}")
    return found


def unpack(body: bytes) -> dict[str, Any]:
    """Return the message in the body of a frame. Raises GarbledError when there is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise GarbledError("a frame holds no message of guard's")
    return found


def agreed(oldest: object, newest: object) -> int:
    """Return the version to speak with somebody who speaks `oldest` to `newest`.

    Raises ConfigError when there is none, GarbledError when these are no numbers.
    """
    if not (isinstance(oldest, int) and isinstance(newest, int)):
        raise GarbledError("a hello says which versions it speaks: oldest and newest")
    if (found := min(newest, VERSION)) < max(oldest, OLDEST):
        raise ConfigError(
            f"the agent speaks version {_span(OLDEST, VERSION)}, its client {_span(oldest, newest)}",
            hint="install the same guard for both, then restart `guard daemon` and the client",
        )
    return found


def _span(oldest: int, newest: int) -> str:
    return f"{oldest}" if oldest == newest else f"{oldest} to {newest}"


# Errors ---------------------------------------------------------------------------------------------------------------


def failure(error: BaseException) -> dict[str, Json]:
    """Return the message that tells an error. Of one that guard did not expect, no text: it could quote a value."""
    if not isinstance(error, GuardError):
        error = GuardError(f"the agent failed with {type(error).__name__}", hint="what `guard daemon` logs says more")
    kind = next(each.__name__ for each in type(error).__mro__ if KINDS.get(each.__name__) is each)
    told: dict[str, Json] = {"kind": kind, "message": str(error), "exit": int(error.exit_code)}
    extra = {"hint": error.hint, "reason": getattr(error, "reason", None)}
    return {"error": told | {name: str(text) for name, text in extra.items() if text is not None}}


def raised(told: object) -> GuardError:
    """Return the error a message tells. One of a kind that is not known here keeps its exit code."""
    if not isinstance(told, dict) or not isinstance(told.get("message"), str):
        return GarbledError("the agent told an error that cannot be read")
    hint, reason = (told.get(name) if isinstance(told.get(name), str) else None for name in ("hint", "reason"))
    kind = KINDS.get(str(told.get("kind"))) or _by_code(told.get("exit"))
    if issubclass(kind, errors.DeniedError):
        return kind(told["message"], hint=hint, reason=reason)
    return kind(told["message"], hint=hint)


def _by_code(code: object) -> type[GuardError]:
    return next((kind for kind in KINDS.values() if kind.exit_code == code), GuardError)


# Sockets --------------------------------------------------------------------------------------------------------------


def send(wire: socket.socket, message: Mapping[str, Json]) -> None:
    """Send a message. Raises OSError when the other end is gone or takes too long."""
    wire.sendall(pack(message))


def receive(wire: socket.socket) -> dict[str, Any]:
    """Return the next message. Raises EOFError when there is none, GarbledError for half a one, OSError."""
    head = _exactly(wire, HEAD)
    if not head:
        raise EOFError
    if len(head) < HEAD or len(body := _exactly(wire, length(head))) < length(head):
        raise GarbledError("the agent ended within a frame")
    return unpack(body)


def _exactly(wire: socket.socket, count: int) -> bytes:
    """Return `count` bytes, or fewer when the other end has sent its last."""
    found = bytearray()
    while len(found) < count and (some := wire.recv(min(count - len(found), 1 << 16))):
        found += some
    return bytes(found)


def uid_of(wire: socket.socket) -> int:
    """Return the user the kernel says is at the other end: at the time it connected, or listened. unix(7)."""
    return int(_PEER.unpack(wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1])


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Give an address for `path` that fits, however long the path is. Raises OSError when its folder is not there."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
