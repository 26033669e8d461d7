"""A host that hangs, breaks off, talks too much or is somebody else ends in words and in time, and anchors nothing."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guard.audit import FolderAnchor, Ledger
from guard.audit.anchors.timestamp import TimestampAnchor
from guard.audit.anchors.web import Web
from guard.crypto.cosign import Cosigner
from guard.errors import UnavailableError
from guard.events import Event
from tests.audit.conftest import SEED
from tests.audit.outside import certificate, served, witness_anchor

Talk = Callable[[socket.socket], None]


@contextmanager
def talking(talk: Talk) -> Iterator[str]:
    """Listen, and let `talk` do what it likes with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                open_.append(sock)
                threading.Thread(target=run, args=(sock,), daemon=True).start()

        def run(sock: socket.socket) -> None:
            try:
                talk(sock)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for sock in open_:
            sock.close()


def heard(sock: socket.socket) -> None:
    """Read a whole request: who closes with bytes unread resets the connection instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    while len(body) < int(found[1] if found else 0):
        body += sock.recv(65536)


def hang(sock: socket.socket) -> None:
    """Read and say nothing."""
    while sock.recv(65536):
        pass


def drip(sock: socket.socket) -> None:
    """Say a byte now and then, each in time."""
    heard(sock)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + b"X-Pad: " + b"x" * 10**6:
        sock.sendall(bytes([byte]))
        time.sleep(0.02)


def break_off(sock: socket.socket) -> None:
    """Promise more than is sent."""
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf an answer")
    sock.close()


def break_off_chunked(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf")
    sock.close()


def close(sock: socket.socket) -> None:
    heard(sock)
    sock.close()


def nonsense(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"220 mail.example ESMTP\r\n")
    sock.close()


def endless(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(b"x" * 65536)


def long(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000)


FAULTS = {
    hang: "no answer within 0.4 seconds|no answer in time",
    drip: r"no answer within 0\.4 seconds",
    break_off: "it broke its answer off",
    break_off_chunked: "it broke its answer off",
    close: "it broke its answer off",
    nonsense: "what it answers is not HTTP",
    endless: "its answer is longer than 65536 bytes",
    long: "its answer is longer than 65536 bytes",
}


@pytest.mark.parametrize("talk", FAULTS, ids=lambda talk: talk.__name__)
def test_a_witness_that_misbehaves_is_away_and_the_others_are_served(
    talk: Talk, house, make_event: Callable[[int], Event]
) -> None:
    house.add(make_event(0))
    with talking(talk) as url:
        witness = witness_anchor("strange", url, Cosigner(bytes(32), "strange").vkey, 0.4)
        ledger = Ledger(house.state, SEED, [witness, house.anchor])
        with pytest.raises(UnavailableError, match=FAULTS[talk]) as told:
            witness.put(1, ledger.checkpoint(), known=ledger.book)
        assert str(told.value).startswith(f"anchor strange at {url}: ")
        assert told.value.hint
        done = ledger.anchor()
        assert (done.held, len(done.failed)) == (("here",), 1)
        assert list(ledger.book.kept()) == [ledger.checkpoint()]  # nobody's cosignature


@pytest.mark.parametrize("talk", FAULTS, ids=lambda talk: talk.__name__)
def test_an_authority_that_misbehaves_leaves_nothing_behind(
    talk: Talk, house, make_event: Callable[[int], Event], tmp_path: Path
) -> None:
    house.add(make_event(0))
    kept = FolderAnchor("tsa", tmp_path / "tokens")
    kept.create()
    with talking(talk) as url:
        ledger = Ledger(
            house.state, SEED, [TimestampAnchor(kept, Web("anchor tsa", url, None, 0.4), tmp_path / "ca.pem")]
        )
        with pytest.raises(UnavailableError, match=FAULTS[talk]):
            ledger.anchor()
    assert list(kept.folder.iterdir()) == []
    assert list(ledger.book.kept()) == []


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnavailableError, match=r"anchor x at http://127\.0\.0\.1:.*: Connection refused"):
        Web("anchor x", f"http://127.0.0.1:{port}").get("/", 10)


def test_https_is_verified_with_the_system_or_the_authority_that_is_named(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path / "good")
    _, other = certificate(tmp_path / "other")
    with served(lambda *_: (200, "text/plain", b"well"), context) as url:
        assert Web("anchor x", url, ca).get("/", 10).body == b"well"
        for wrong in (None, other):
            with pytest.raises(UnavailableError, match=r"its certificate is not valid: .*self.signed") as told:
                Web("anchor x", url, wrong).get("/", 10)
            assert "ca names" in (told.value.hint or "")


def test_a_certificate_of_another_host_or_another_time_is_refused(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path / "host", "elsewhere.example")
    with served(lambda *_: (200, "text/plain", b"x"), context) as url, pytest.raises(UnavailableError, match="IP addr"):
        Web("anchor x", url, ca).get("/", 10)
    context, ca = certificate(tmp_path / "old", days=-1)
    with served(lambda *_: (200, "text/plain", b"x"), context) as url, pytest.raises(UnavailableError, match="expired"):
        Web("anchor x", url, ca).get("/", 10)


def test_https_to_a_host_without_it_and_a_hanging_handshake_end(tmp_path: Path) -> None:
    with served(lambda *_: (200, "text/plain", b"x")) as url, pytest.raises(UnavailableError, match="no TLS with it"):
        Web("anchor x", url.replace("http://", "https://")).get("/", 10)
    with talking(hang) as url, pytest.raises(UnavailableError, match=r"no answer within 0\.4 seconds|in time"):
        Web("anchor x", url.replace("http://", "https://"), None, 0.4).get("/", 10)


def test_a_ca_that_is_none_is_not_taken_for_a_host_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "nowhere.pem", tmp_path / "empty.pem"):
        with pytest.raises(UnavailableError, match="holds no certificates that can be read"):
            Web("anchor x", "https://127.0.0.1:9", path).get("/", 10)


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        asked.append(path)
        return 302, "text/plain", b""

    with served(respond) as url:
        assert Web("anchor x", f"{url}/prefix").post("/add-checkpoint", b"", "text/plain", 10).status == 302
    assert asked == ["/prefix/add-checkpoint"]


def test_an_empty_path_is_asked_as_the_root() -> None:
    asked: list[str] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        asked.append(path)
        return 200, "text/plain", b""

    with served(respond) as url:
        Web("anchor x", url).post("", b"", "text/plain", 10)
        Web("anchor x", f"{url}/tsa").post("", b"", "text/plain", 10)
    assert asked == ["/", "/tsa"]


@pytest.mark.parametrize("host", ["a..example", "x" * 70 + ".example", ".example"])
def test_a_name_that_no_host_can_have_is_said(host: str) -> None:
    with pytest.raises(UnavailableError, match="anchor x at"):
        Web("anchor x", f"https://{host}").get("/", 10)
