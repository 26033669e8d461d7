"""Places outside the ledger for tests: local HTTP servers that answer as told, witnesses, an RFC 3161 authority."""

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from guard.audit.anchors.web import Web
from guard.audit.anchors.witness import WitnessAnchor
from guard.audit.witness import Decision, opened
from guard.audit.witness_server import WitnessServer
from guard.clock import Clock, SystemClock
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Verifier

Reply = tuple[int, str, bytes]
"""Status, Content-Type, body."""

Respond = Callable[[str, str, bytes], Reply]
"""Answers (method, path, body)."""


@contextmanager
def served(respond: Respond, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve what `respond` answers; give the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, kind, said = respond(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # broken connections are what is tested
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"


@contextmanager
def running(server: Any) -> Iterator[None]:
    """Run a server in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class GuardWitness:
    """guard's own witness in a thread, on a folder."""

    def __init__(self, folder: Path, name: str = "witness.example/one", clock: Clock | None = None) -> None:
        self.folder = folder
        self.name = name
        self.clock = clock or SystemClock()
        self.told: list[Decision] = []
        self.url = self.vkey = ""

    @contextmanager
    def on(self, vkeys: Iterable[str], context: ssl.SSLContext | None = None) -> Iterator["GuardWitness"]:
        """Serve for the logs with these vkeys."""
        logs = [Verifier.from_vkey(each) for each in vkeys]
        with opened(self.folder, self.name, logs, self.clock) as witness:
            server = WitnessServer(("127.0.0.1", 0), witness, self.told.append, context)
            self.vkey = witness.vkey
            self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
            with running(server):
                yield self


def witness_anchor(name: str, url: str, vkey: str, seconds: float = 20) -> WitnessAnchor:
    """Return the client of a witness."""
    return WitnessAnchor(name, WitnessKey.from_vkey(vkey), Web(f"anchor {name}", url, None, seconds))


class Authority:
    """An RFC 3161 authority: `openssl ts` with a root and a certificate of its own. `url` once it is served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        self._call(f"req -x509 {new} -subj /CN=root -keyout ca.key -out ca.pem -days 30")
        self._call(f"req {new} -subj /CN=authority -keyout tsa.key -out tsa.csr")
        (folder / "ext").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=critical,timeStamping\n"
        )
        self._call("x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -days 30 -extfile ext -out tsa.pem")
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(
            "[tsa]\ndefault_tsa=one\n[one]\nserial=serial\nsigner_cert=tsa.pem\nsigner_key=tsa.key\n"
            "signer_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256, sha3-256\n"
            "accuracy=secs:1\ness_cert_id_alg=sha256\n"
        )
        self._one = threading.Lock()

    @property
    def ca(self) -> Path:
        """Its root, PEM."""
        return self.folder / "ca.pem"

    def sign(self, query: bytes) -> bytes:
        """Answer a query."""
        with self._one:
            (self.folder / "query").write_bytes(query)
            self._call("ts -reply -config tsa.cnf -queryfile query -out reply")
            return (self.folder / "reply").read_bytes()

    def respond(self, method: str, path: str, body: bytes) -> Reply:
        """Answer as RFC 3161, 3.4 says."""
        return 200, "application/timestamp-reply", self.sign(body)

    def _call(self, words: str) -> None:
        done = subprocess.run(["openssl", *words.split()], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def certificate(folder: Path, host: str = "127.0.0.1", *, days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS with a certificate for `host`, and the file that it is verified with."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = SystemClock().now()
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)
    return context, cert
