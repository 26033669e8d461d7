"""The witness's door: HTTP or HTTPS, with limits on how long, how much and how many at once.

POST /add-checkpoint              C2SP tlog-witness
GET  /checkpoint?origin=<origin>  the newest cosigned checkpoint of a log, for whoever compares
GET  /logs                        the origins it knows, a line each
GET  /vkey                        its verifier key
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from guard.audit.witness import Decision, Witness
from guard.errors import ConfigError, GuardError

MOST: Final = 64 * 1024
"""Bytes of a request: 63 lines of a proof and a note of a hundred signatures have a third of it."""
IDLE_SECONDS: Final = 5
ALL_SECONDS: Final = 30
"""From the connection on; then it is cut, whatever goes on."""
AT_ONCE: Final = 32
"""Connections; further ones are closed at once."""

Tell = Callable[[Decision], None]


class WitnessServer(ThreadingHTTPServer):
    """Answers for a witness until `stop`. `tell`: is told every decision, by the thread that made it."""

    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 2 * AT_ONCE

    def __init__(
        self, place: tuple[str, int], witness: Witness, tell: Tell, context: ssl.SSLContext | None = None
    ) -> None:
        """Listen at `place`. Raises ConfigError when that cannot be."""
        self.witness = witness
        self.tell = tell
        self._context = context
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._open: set[socket.socket] = set()
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        try:
            super().__init__(place, _Handler)
        except OSError as error:
            raise ConfigError(f"cannot listen at {place[0]}:{place[1]}: {error.strerror or error}") from error

    def stop(self) -> None:
        """Take no more requests, finish those that are read, and return from `serve_forever`. For another thread."""
        self.shutdown()
        for each in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RD)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; TLS is negotiated later, by the thread that serves it."""
        plain, address = super().get_request()
        plain.settimeout(IDLE_SECONDS)
        if self._context is None:
            return plain, address
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # socketserver's signature
        """Refuse what is too much at once."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, for so long and no longer."""
        timer = threading.Timer(ALL_SECONDS, _cut, (request,))
        timer.daemon = True
        timer.start()
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            timer.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection that breaks off is none of the witness's business."""


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "guard-witness"
    sys_version = ""
    timeout = IDLE_SECONDS
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def do_POST(self) -> None:
        """Decide on a checkpoint."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._refuse(404)
        elif not (length.isascii() and length.isdigit()):
            self._refuse(411)
        elif len(length) > 9 or int(length) > MOST:
            self._refuse(413)
        elif len(body := self.rfile.read(int(length))) == int(length):
            self._decide(body)
        else:
            self.close_connection = True

    def do_GET(self) -> None:
        """Show what was cosigned, and with which key."""
        parts = urlsplit(self.path)
        try:
            match parts.path:
                case "/checkpoint":
                    origins = parse_qs(parts.query).get("origin", [""])
                    found = self.server.witness.newest(origins[0]) if origins[0] in self.server.witness.logs else None
                case "/logs":
                    found = "".join(f"{origin}\n" for origin in self.server.witness.logs)
                case "/vkey":
                    found = f"{self.server.witness.vkey}\n"
                case _:
                    found = None
        except GuardError as error:
            self._failed(error)
            return
        self._answer(404 if found is None else 200, found or "not found\n")

    def _decide(self, body: bytes) -> None:
        try:
            made = self.server.witness.add(body)
        except GuardError as error:
            self._failed(error)
            return
        self.server.tell(made)
        kind = "text/x.tlog.size" if made.status == 409 else "text/plain; charset=utf-8"
        self._answer(made.status, made.body or f"{made.why}\n", kind)

    def _failed(self, error: GuardError) -> None:
        self.server.tell(Decision(500, str(error)))
        self._answer(500, "this witness cannot answer now\n")

    def _refuse(self, status: int) -> None:
        """Answer before the body is read; what is left of it ends the connection."""
        self.close_connection = True
        self.send_error(status)

    def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's signature
        """Say nothing: decisions are told, and nothing else happens here."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(request, socket.SHUT_RDWR)
