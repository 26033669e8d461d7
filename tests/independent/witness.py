"""A tiny witness written from the text of C2SP tlog-witness, tlog-cosignature and signed-note alone, without guard.

It keeps everything in memory and knows nothing of reading paths: the witness of somebody else.
"""

import base64
import hashlib
import threading
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

DASH = "\u2014"
Answer = tuple[int, str, bytes]


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def follows(old: int, new: int, old_root: bytes, new_root: bytes, proof: list[bytes]) -> bool:
    """RFC 6962, 2.1.2: walk SUBPROOF as it is defined, and take from the proof what it would have put there."""
    left = list(proof)

    def sub(m: int, n: int, known: bool) -> tuple[bytes, bytes]:
        if m == n:
            digest = old_root if known else left.pop(0)
            return digest, digest
        k = 1
        while 2 * k < n:
            k *= 2
        if m <= k:
            before, after = sub(m, k, known)
            return before, node(after, left.pop(0))
        before, after = sub(m - k, n - k, False)
        whole = left.pop(0)
        return node(whole, before), node(whole, after)

    try:
        return sub(old, new, True) == (old_root, new_root) and not left
    except IndexError:
        return False


class SpecWitness:
    """`logs`: vkeys of the logs it knows. `now`: seconds since 1970."""

    def __init__(self, name: str, seed: bytes, logs: list[str], now: Callable[[], int]) -> None:
        self.name = name
        self.now = now
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self.private.public_key().public_bytes_raw()
        self.id = key_id(name, 4, self.public)
        self.vkey = f"{name}+{self.id.hex()}+{base64.b64encode(bytes([4]) + self.public).decode()}"
        self.logs: dict[str, list[bytes]] = {}
        self.seen: dict[str, tuple[int, bytes]] = {}
        self.lock = threading.Lock()
        for vkey in logs:
            self.trust(vkey)

    def trust(self, vkey: str) -> None:
        origin, _, body = vkey.split("+", 2)
        self.logs.setdefault(origin, []).append(base64.b64decode(body)[1:])

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if (method, path) != ("POST", "/add-checkpoint"):
            return 404, "text/plain", b"no\n"
        head, note = body.split(b"\n\n", 1)
        first, *proof = head.decode().split("\n")
        assert first.startswith("old ")
        old = int(first[4:])
        assert len(proof) <= 63
        text, signatures = note.decode().rsplit("\n\n", 1)
        text += "\n"
        origin, size_line, root_line = text.split("\n")[:3]
        size, root = int(size_line), base64.b64decode(root_line)
        if origin not in self.logs:
            return 404, "text/plain", b""
        if not self.is_signed(origin, text, signatures):
            return 403, "text/plain", b""
        if old > size:
            return 400, "text/plain", b""
        with self.lock:
            last, last_root = self.seen.get(origin, (0, b""))
            hashes = [base64.b64decode(line) for line in proof]
            if old != last or (old == size and old and root != last_root):
                answer = 409, "text/x.tlog.size", f"{last}\n".encode()
            elif hashes if old in {0, size} else not follows(old, size, last_root, root, hashes):
                answer = 422, "text/plain", b""
            else:
                self.seen[origin] = size, root
                answer = 200, "text/plain", self.line(text).encode()
        return answer

    def line(self, text: str) -> str:
        now = self.now()
        signed = self.private.sign(f"cosignature/v1\ntime {now}\n{text}".encode())
        return f"{DASH} {self.name} {base64.b64encode(self.id + now.to_bytes(8, 'big') + signed).decode()}\n"

    def is_signed(self, origin: str, text: str, signatures: str) -> bool:
        for line in signatures.splitlines():
            dash, name, body = line.split(" ")
            raw = base64.b64decode(body)
            for public in self.logs[origin]:
                if (dash, name, raw[:4]) == (DASH, origin, key_id(origin, 1, public)):
                    try:
                        Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text.encode())
                    except InvalidSignature:
                        continue
                    return True
        return False
