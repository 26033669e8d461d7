"""Read and check a ledger without guard, from docs/FORMATS.md section 4 alone: sqlite3, hashlib, json, one Ed25519.

Usage: python ledger.py STATE.DB VKEY [ANCHOR FOLDER]; VKEY of any of its logs
"""

import base64
import hashlib
import json
import pathlib
import re
import sqlite3
import sys
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MEMBERS = {
    "v", "n", "at", "who", "what", "run", "outcome", "class",
    "objects", "counts", "digests", "facts", "subject", "payload",
}  # fmt: skip


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while 2 * split < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(hashes[:split]) + root_of(hashes[split:])).digest()


def first_of(vkey: str) -> tuple[str, bytes]:
    """Return the origin of the ledger's first log and the public key of all of them."""
    name, key_id, body = vkey.split("+", 2)
    public = base64.b64decode(body, validate=True)
    assert public[0] == 1
    assert hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex() == key_id
    return "/".join(name.split("/")[:2]), public


def open_note(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a signed checkpoint of one of the ledger's logs."""
    first, public = first_of(vkey)
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, size, root = text.splitlines()
    assert re.fullmatch(re.escape(first) + "(/[0-9a-f]{16})?", origin)
    key_id = hashlib.sha256(origin.encode() + b"\n" + public).digest()[:4]
    for line in signatures.splitlines():
        dash, signer, signed = line.split(" ")
        raw = base64.b64decode(signed, validate=True)
        if (dash, signer, raw[:4]) == ("\u2014", origin, key_id):
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], text.encode())
            return origin, int(size), base64.b64decode(root, validate=True)
    raise AssertionError("no signature of this key")


def logs_of(entries: list[dict[str, object]], hashes: list[bytes], first: str) -> list[tuple[str, int]]:
    """Return (origin, size at its end) of every log, the last one's end being that of the ledger."""
    logs, origin = [], first
    for entry in entries:
        if entry["what"] == "audit.restart":
            facts, n = entry["facts"], entry["n"]
            assert (facts["closed"], entry["counts"]["size"]) == (origin, n)
            assert entry["digests"]["root"] == root_of(hashes[:n]).hex()
            logs.append((origin, n))
            origin = facts["origin"]
            assert origin not in dict(logs)
    return [*logs, (origin, len(entries))]


def check(path: str, vkey: str, anchors: str | None = None) -> dict[str, object]:
    """Check the ledger in a SQLite file and return what it holds. Raises when anything differs."""
    db = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
    hashes: list[bytes] = []
    entries: list[dict[str, object]] = []
    rows = db.execute("SELECT n, leaf, hash, at, who, what, outcome, run FROM ledger_entry ORDER BY n")
    for n, leaf, digest, *columns in rows:
        entry = json.loads(leaf)
        assert entry.keys() == MEMBERS, n
        assert (entry["v"], entry["n"]) == (1, len(hashes)) == (1, n), n
        assert leaf == json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), n
        assert [entry[name] for name in ("at", "who", "what", "outcome", "run")] == columns, n
        assert hashlib.sha256(b"\x00" + leaf).digest() == digest, n
        hashes.append(digest)
        entries.append(entry)
    nodes = {(level, at): digest for level, at, digest in db.execute("SELECT level, position, hash FROM ledger_node")}
    size, expected, level = len(hashes), {}, 1
    while size >> level:
        for at in range(size >> level):
            expected[level, at] = root_of(hashes[at << level : (at + 1) << level])
        level += 1
    assert nodes == expected
    newest = 0
    logs = logs_of(entries, hashes, first_of(vkey)[0])
    closed = set()
    for kept, kind, note in db.execute("SELECT size, kind, note FROM ledger_checkpoint"):
        origin, signed, root = open_note(note, vkey)
        assert signed == kept
        assert root == root_of(hashes[:kept])
        assert origin == next(log for log, end in logs if kept <= end)
        newest = kept if kind == "latest" else newest
        closed |= {(origin, kept)} if kind == "closed" else set()
    assert newest == size > 0
    assert closed == set(logs[:-1])
    db.close()
    anchored = 0
    for file in sorted(pathlib.Path(anchors).rglob("*.checkpoint")) if anchors else []:
        origin, signed, root = open_note(file.read_text(), vkey)
        assert file.name == f"{signed:020d}.checkpoint"
        assert file.parent == pathlib.Path(anchors, *origin.split("/")[2:])
        if signed <= dict(logs).get(origin, 0):  # else lost, as a restart has to say
            assert root == root_of(hashes[:signed])
            anchored = max(anchored, signed)
        else:
            lost = [(entry["counts"], entry["digests"]) for entry in entries if entry["what"] == "audit.restart"]
            log = f"ahead {origin.rpartition('/')[2] if origin.count('/') == 2 else 'first'}"
            assert any(
                signed < counts.get(log, 0) or (signed, root.hex()) == (counts.get(log), digests.get(log))
                for counts, digests in lost
            )
    return {"size": size, "root": root_of(hashes).hex(), "anchored": anchored, "entries": entries, "logs": logs}


if __name__ == "__main__":
    found = check(*sys.argv[1:])
    assert not any(name == "guard" or name.startswith("guard.") for name in sys.modules)
    sys.stdout.write(json.dumps(found, ensure_ascii=True))
