"""Ask one host by HTTP: within a time and a size, over TLS that is verified, following nothing."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from guard import __version__
from guard.errors import UnavailableError

CONNECT_SECONDS: Final = 10
"""For each of the host's addresses."""
ALL_SECONDS: Final = 30
"""From the connection to the last byte; whoever sends a byte now and then is cut off too."""

_ALWAYS: Final = {"User-Agent": f"guard/{__version__}", "Connection": "close"}
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered."""

    status: int
    kind: str
    """Its Content-Type."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Web:
    """A host and a path on it. `what` is what it is called in errors."""

    what: str
    url: str
    """http or https, without a slash at its end; guard.toml's settings say when plain http is allowed."""
    ca: Path | None = None
    """The certificates (PEM) it is verified with, instead of the system's."""
    seconds: float = ALL_SECONDS

    def post(self, path: str, body: bytes, kind: str, most: int) -> Answer:
        """Send `body` of Content-Type `kind` and return the answer, whatever its status, of at most `most` bytes.

        Raises UnavailableError when there is none, a longer one, or its certificate is not to be trusted.
        """
        return self._ask("POST", path, body, {"Content-Type": kind}, most)

    def get(self, path: str, most: int) -> Answer:
        """Return the answer of at most `most` bytes. Raises as `post`."""
        return self._ask("GET", path, None, {}, most)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str], most: int) -> Answer:
        parts = urlsplit(self.url)
        late = threading.Event()
        try:
            with self._connected() as sock:
                timer = threading.Timer(self.seconds, _cut, (sock, late))
                timer.daemon = True
                timer.start()
                try:
                    request = (method, parts.path + path, body, {**headers, **_ALWAYS})
                    return _asked(sock, parts.netloc, request, most, late)
                finally:
                    timer.cancel()
        except ssl.SSLCertVerificationError as error:
            hint = "is it the right host? ca names the certificates of an authority of your own"
            raise self._away(f"its certificate is not valid: {error.verify_message}", hint) from error
        except (OSError, UnicodeError, http.client.HTTPException, _LongError) as error:  # UnicodeError: no host's name
            why = f"no answer within {self.seconds:g} seconds" if late.is_set() else _words(error)
            raise self._away(why, "is it running and reachable from here? guard doctor looks again") from error

    def _connected(self) -> socket.socket:
        """Return a connection; of TLS the handshake is still to be done."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        # What TLS is made of comes first: a CA file that is none must not look like a host that is away.
        context = None if parts.scheme == "http" else self._context()
        plain = socket.create_connection((host, parts.port or _PORTS[parts.scheme]), CONNECT_SECONDS)
        plain.settimeout(self.seconds)
        if context is None:
            return plain
        try:
            return context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            why = f"{self.ca} holds no certificates that can be read: {error.strerror or type(error).__name__}"
            raise self._away(why, "it is a PEM file") from error

    def _away(self, why: str, hint: str) -> UnavailableError:
        return UnavailableError(f"{self.what} at {self.url}: {why}", hint=hint)


class _LongError(Exception):
    """The answer is longer than allowed."""


_Request = tuple[str, str, bytes | None, dict[str, str]]
"""Method, path, body, headers."""


def _asked(sock: socket.socket, host: str, request: _Request, most: int, late: threading.Event) -> Answer:
    if isinstance(sock, ssl.SSLSocket):
        sock.do_handshake()
    with closing(http.client.HTTPConnection(host)) as connection:
        connection.sock = sock
        connection.request(*request)
        with connection.getresponse() as response:
            found = _read(response, most)
    if late.is_set():  # what is cut off among its headers looks whole
        raise TimeoutError
    return found


def _read(response: http.client.HTTPResponse, most: int) -> Answer:
    body = response.read(most + 1)
    if len(body) > most:
        raise _LongError(f"its answer is longer than {most} bytes")
    if response.length:  # of a known length, `read` with a number does not notice what is lacking
        raise http.client.IncompleteRead(body, response.length)
    return Answer(response.status, response.getheader("Content-Type", ""), body)


def _cut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: whoever waits for a byte is woken


def _words(error: Exception) -> str:
    match error:
        case socket.gaierror():
            said = "its name is not known"
        case TimeoutError():
            said = "no answer in time"
        case ssl.SSLError():
            said = f"no TLS with it: {error.reason or 'it broke off'}"
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            said = "it broke its answer off"
        case OSError():
            said = error.strerror or type(error).__name__
        case http.client.HTTPException():
            said = "what it answers is not HTTP"
        case _:
            said = str(error)
    return said
