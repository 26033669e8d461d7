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


class Tree:
    """RFC 6962 section 2.1 over leaf hashes; of removed blocks of 256 the hash over them is known."""

    def __init__(self, leaves: dict[int, bytes], blocks: dict[int, bytes]) -> None:
        self.leaves, self.blocks = leaves, blocks
        self.known: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, at: int) -> bytes:
        """Return the hash over 2^level leaves from at * 2^level on."""
        if level == 0:
            assert at in self.leaves, at
            return self.leaves[at]
        if level == 8 and at in self.blocks:
            return self.blocks[at]
        if (level, at) not in self.known:
            both = self.node(level - 1, 2 * at) + self.node(level - 1, 2 * at + 1)
            self.known[level, at] = hashlib.sha256(b"\x01" + both).digest()
        return self.known[level, at]

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves."""
        pieces, at = [], 0
        for level in range(size.bit_length() - 1, -1, -1):
            if size >> level & 1:
                pieces.append(self.node(level, at >> level))
                at += 1 << level
        root = pieces.pop() if pieces else hashlib.sha256(b"").digest()
        while pieces:
            root = hashlib.sha256(b"\x01" + pieces.pop() + root).digest()
        return root


def first_of(vkey: str) -> tuple[str, bytes]:
    """Return the origin of the ledger's first log and the public key of all of them."""
    name, key_id, body = vkey.split("+", 2)
    public = base64.b64decode(body, validate=True)
    assert public[0] == 1
    assert hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex() == key_id
    return "/".join(name.split("/")[:2]), public


def keys_of(
    entries: list[dict[str, object]], ends: list[int], vkey: str
) -> tuple[str, list[bytes], list[tuple[int, int]]]:
    """Follow the changes of key from `vkey`: first log's origin, all keys, number and size behind it of each change."""
    first, trusted = first_of(vkey)
    publics, changes = [trusted], []
    told = [entry for entry in entries if entry["what"] == "audit.rekey"]
    for entry, end in zip(told, ends, strict=True):
        old, new = first_of(entry["facts"]["old"]), first_of(entry["facts"]["new"])
        assert old[0] == new[0] == first
        publics = publics if changes else [old[1]]
        assert publics[-1] == old[1]
        assert new[1] not in publics
        assert entry["counts"]["version"] > 1
        assert entry["n"] < end
        publics.append(new[1])
        changes.append((entry["n"], end))
    assert trusted in publics
    return first, publics, changes


def open_note(note: str, first: str, publics: list[bytes]) -> tuple[str, int, bytes, list[int]]:
    """Return origin, size and root of a checkpoint of one of the ledger's logs, and which of its keys signed it."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, size, root = text.splitlines()
    assert re.fullmatch(re.escape(first) + "(/[0-9a-f]{16})?", origin)
    ids = [hashlib.sha256(origin.encode() + b"\n" + public).digest()[:4] for public in publics]
    by = []
    for line in signatures.splitlines():
        dash, signer, signed = line.split(" ")
        raw = base64.b64decode(signed, validate=True)
        if (dash, signer) == ("\u2014", origin):
            by.append(ids.index(raw[:4]))
            Ed25519PublicKey.from_public_bytes(publics[by[-1]][1:]).verify(raw[4:], text.encode())
    assert by
    return origin, int(size), base64.b64decode(root, validate=True), by


def signers_at(size: int, changes: list[tuple[int, int]]) -> list[int]:
    """Return which keys sign a checkpoint of `size` entries."""
    before = sum(end < size for _, end in changes)
    both = before < len(changes) and changes[before][0] < size
    return [before, before + 1] if both else [before]


def logs_of(entries: list[dict[str, object]], tree: Tree, first: str) -> list[tuple[str, int]]:
    """Return (origin, size at its end) of every log, the last one's end being that of the ledger."""
    logs, origin = [], first
    for entry in entries:
        if entry["what"] == "audit.restart":
            facts, n = entry["facts"], entry["n"]
            assert (facts["closed"], entry["counts"]["size"]) == (origin, n)
            assert entry["digests"]["root"] == tree.root(n).hex()
            logs.append((origin, n))
            origin = facts["origin"]
            assert origin not in dict(logs)
    return [*logs, (origin, entries[-1]["n"] + 1)]


def removed_of(entries: list[dict[str, object]]) -> tuple[int, set[int]]:
    """Return the minimum index, and the numbers of the blocks of 256 below it that stay."""
    minimum, stays = 0, set()
    for entry in entries:
        if entry["what"] == "audit.prune" and "minimum" in entry["counts"]:
            for span in entry["facts"].get("kept", "").split():
                low, _, high = span.partition("-")
                stays |= set(range(int(low), int(high or low) + 1))
                assert minimum // 256 <= int(low) <= int(high or low) < entry["counts"]["minimum"] // 256
            minimum = entry["counts"]["minimum"]
    return minimum, stays


def check_payloads(db: sqlite3.Connection, entries: list[dict[str, object]]) -> None:
    """Every payload is that of its entry, and only those of forgotten people are gone."""
    stored = dict(db.execute("SELECT n, sealed FROM ledger_payload"))
    forgotten = {entry["subject"]: entry["n"] for entry in reversed(entries) if entry["what"] == "audit.forget"}
    for entry in entries:
        sealed, erased = stored.pop(entry["n"], None), forgotten.get(entry["subject"])
        if sealed is None:
            assert entry["payload"] is None or entry["n"] < (erased or 0), entry["n"]
        else:
            assert hashlib.sha256(sealed).hexdigest() == entry["payload"], entry["n"]
            assert entry["subject"] is not None, entry["n"]
            assert erased is None, entry["n"]
    assert not stored


def check(path: str, vkey: str, anchors: str | None = None) -> dict[str, object]:
    """Check the ledger in a SQLite file and return what it holds. Raises when anything differs."""
    db = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
    hashes: dict[int, bytes] = {}
    entries: list[dict[str, object]] = []
    rows = db.execute("SELECT n, leaf, hash, at, who, what, outcome, run, subject FROM ledger_entry ORDER BY n")
    for n, leaf, digest, *columns in rows:
        entry = json.loads(leaf)
        assert entry.keys() == MEMBERS, n
        assert (entry["v"], entry["n"]) == (1, n), n
        assert leaf == json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), n
        assert [entry[name] for name in ("at", "who", "what", "outcome", "run", "subject")] == columns, n
        assert hashlib.sha256(b"\x00" + leaf).digest() == digest, n
        hashes[n] = digest
        entries.append(entry)
    check_payloads(db, entries)
    nodes = {(level, at): digest for level, at, digest in db.execute("SELECT level, position, hash FROM ledger_node")}
    minimum, stays = removed_of(entries)
    size = max(hashes) + 1
    gone = {block for block in range(minimum // 256) if not any(n >> 8 == block for n in hashes)}
    assert not gone & stays
    assert sorted(hashes) == [n for n in range(size) if n >> 8 not in gone]
    tree = Tree(hashes, {block: nodes[8, block] for block in gone})
    assert nodes == {
        (level, at): tree.node(level, at)
        for level in range(1, size.bit_length())
        for at in range(size >> level)
        if level >= 8 or at << level >> 8 not in gone
    }
    kept = db.execute("SELECT size, kind, note FROM ledger_checkpoint ORDER BY size").fetchall()
    first, publics, changes = keys_of(entries, [size for size, kind, _ in kept if kind == "rekeyed"], vkey)
    newest = 0
    logs = logs_of(entries, tree, first)
    closed = set()
    for at, kind, note in kept:
        origin, signed, root, by = open_note(note, first, publics)
        assert signed == at
        assert root == tree.root(at)
        assert origin == next(log for log, end in logs if at <= end)
        assert by == signers_at(at, changes)
        assert at >= minimum or kind in {"closed", "rekeyed"}
        newest = at if kind == "latest" else newest
        closed |= {(origin, at)} if kind == "closed" else set()
    assert newest == size > 0
    assert closed == set(logs[:-1])
    db.close()
    anchored = 0
    for file in sorted(pathlib.Path(anchors).rglob("*.checkpoint")) if anchors else []:
        origin, signed, root, by = open_note(file.read_text(), first, publics)
        assert file.name == f"{signed:020d}.checkpoint"
        assert file.parent == pathlib.Path(anchors, *origin.split("/")[2:])
        if signed <= dict(logs).get(origin, 0):  # else lost, as a restart has to say
            assert by == signers_at(signed, changes)
            if signed - 1 in hashes or signed % 256 == 0:  # else it ends among removed entries
                assert root == tree.root(signed)
            anchored = max(anchored, signed)
        else:
            lost = [(entry["counts"], entry["digests"]) for entry in entries if entry["what"] == "audit.restart"]
            log = f"ahead {origin.rpartition('/')[2] if origin.count('/') == 2 else 'first'}"
            assert any(
                signed < counts.get(log, 0) or (signed, root.hex()) == (counts.get(log), digests.get(log))
                for counts, digests in lost
            )
    return {
        "size": size, "root": tree.root(size).hex(), "anchored": anchored, "entries": entries, "logs": logs,
        "keys": len(publics), "minimum": minimum,
    }  # fmt: skip


if __name__ == "__main__":
    found = check(*sys.argv[1:])
    assert not any(name == "guard" or name.startswith("guard.") for name in sys.modules)
    sys.stdout.write(json.dumps(found, ensure_ascii=True))
