#!/usr/bin/env python3
"""Check an export of a guard ledger, or the proof of one entry, without guard.

    python3 verify.py FOLDER --vkey VKEY [--older CHECKPOINT]... [--witness VKEY]... [--token TOKEN --ca CA.pem]
    python3 verify.py N.tlog-proof --vkey VKEY [--witness VKEY]... [--token TOKEN --ca CA.pem]

Beside N.tlog-proof lie the entry's bytes, N.json, and the file keys, if the ledger's key was ever changed.

VKEY is the ledger's verifier key, or a file that holds it: take it from whom you trust, not from the folder. Needs
Python 3.8 and the command openssl 3.0, or newer. Exit codes: 0 all is right; 11 something is wrong, with what and
where; 2 usage, or a file cannot be read. C2SP tlog-tiles, tlog-proof, tlog-cosignature; RFC 6962, 8032, 3161.
"""

from __future__ import annotations

import argparse
import base64
import calendar
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEDGER = re.compile(r"(guard-ledger/[0-9a-f-]{36})(/[0-9a-f]{16})?")
MARKED = re.compile(rb'"what":"audit\.(restart|rekey|prune)"')
RFC_8032 = (  # test 2: public key, message, signature
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
)


class WrongError(Exception):
    """Something is not what was signed."""


def need(holds: object, what: str) -> None:
    """Raise WrongError unless it holds."""
    if not holds:
        raise WrongError(what)


def sha(data: bytes) -> bytes:
    """Return the SHA-256."""
    return hashlib.sha256(data).digest()


def fold(hashes: list[bytes]) -> bytes:
    """Return the hash over a full subtree."""
    while len(hashes) > 1:
        hashes = [sha(b"\1" + hashes[at] + hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def unbase64(text: str) -> bytes:
    """Return what is encoded, if there is no other way to write it."""
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, f"not base64: {text[:60]}")
    return raw


def lines_of(raw: bytes, where: str) -> list[str]:
    """Return the lines of a file, each of which ends with a newline."""
    *lines, end = raw.decode().split("\n")
    need(not end, f"{where} is cut off")
    return lines


def openssl(*words: str, **files: bytes) -> bool:
    """Tell whether an openssl command succeeds; @name among its words is a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        line = [str(Path(folder, word[1:])) if word[0] == "@" else word for word in words]
        return subprocess.run(["openssl", *line], capture_output=True, check=False).returncode == 0


def is_good(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether an Ed25519 signature is good."""
    words = ("pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "@key", "-rawin", "-in", "@message")
    key = bytes.fromhex("302a300506032b6570032100") + public
    return openssl(*words, "-sigfile", "@signature", key=key, message=message, signature=signature)


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the id of a key of a signed note."""
    return sha(name.encode() + b"\n" + bytes([kind]) + public)[:4]


def read_vkey(text: str, kind: int) -> tuple[str, bytes]:
    """Return name and public key of a vkey of this kind: 1 signs, 4 cosigns."""
    name, ident, body = [*text.strip().split("+", 2), "", ""][:3]
    raw = unbase64(body)
    good = len(raw) == 33 and raw[0] == kind and ident == key_id(name, kind, raw[1:]).hex()
    need(good, f"not a verifier key of type {kind}: {text[:100]}")
    return name, raw[1:]


class Note:
    """A checkpoint with its signatures."""

    def __init__(self, raw: bytes, where: str) -> None:
        found = re.fullmatch(r"(([^\n]+)\n(0|[1-9][0-9]*)\n([^\n]+)\n)\n((?:\u2014 [^ \n]+ [^ \n]+\n)+)", raw.decode())
        if found is None:
            raise WrongError(f"{where}: not a checkpoint")
        self.raw, self.where, self.text = raw, where, found[1].encode()
        self.origin, self.size, self.root = found[2], int(found[3]), unbase64(found[4])
        lines = [line.split(" ")[1:] for line in found[5].split("\n")[:-1]]
        self.lines = [(name, unbase64(body)) for name, body in lines]

    def signatures(self, name: str, kind: int, public: bytes) -> list[bytes]:
        """Return what stands here in the name of a key."""
        mine = key_id(name, kind, public)
        return [raw[4:] for signer, raw in self.lines if (signer, raw[:4]) == (name, mine)]

    def signers(self, keys: list[bytes]) -> list[bytes]:
        """Return which of the public keys signed. A bad signature of one of them is wrong."""
        by = [(public, each) for public in keys for each in self.signatures(self.origin, 1, public)]
        need(all(is_good(public, self.text, each) for public, each in by), f"{self.where}: the signature is wrong")
        return [public for public, _ in by]

    def witnessed(self, name: str, public: bytes) -> str | None:
        """Return when a witness cosigned it; None when it did not. A bad cosignature is wrong."""
        found = None
        for each in self.signatures(name, 4, public):
            at = int.from_bytes(each[:8], "big")
            text = f"cosignature/v1\ntime {at}\n".encode() + self.text
            need(is_good(public, text, each[8:]), f"{self.where}: the cosignature of {name} is wrong")
            found = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        return found


class Proof:
    """The proof of an entry, which holds."""

    def __init__(self, raw: bytes, entry: bytes, where: str) -> None:
        head, _, note = raw.partition(b"\n\n")
        form = r"c2sp\.org/tlog-proof@v1\n(?:extra [^\n]*\n)?index (0|[1-9][0-9]*)((?:\n[^\n]+)*)"
        found = re.fullmatch(form, head.decode())
        if found is None:
            raise WrongError(f"{where}: not a proof")
        self.n, self.entry, self.note = int(found[1]), entry, Note(note, where)
        at, last, digest = self.n, self.note.size - 1, sha(b"\0" + entry)
        need(at <= last, f"{where}: the checkpoint has no entry {at}")
        for step in [unbase64(line) for line in found[2].split("\n")[1:]]:  # RFC 9162, 2.1.3.2
            need(last and len(step) == 32, f"{where}: the proof has too many steps, or a step is no hash")
            is_right = at & 1 or at == last
            digest = sha(b"\1" + step + digest) if is_right else sha(b"\1" + digest + step)
            while is_right and not at & 1 and at:
                at, last = at >> 1, last >> 1
            at, last = at >> 1, last >> 1
        need(not last and digest == self.note.root, f"{where}: these bytes are not entry {self.n} of what was signed")


class Trust:
    """The key that is trusted, and those before and after it: each change of key is signed by both."""

    def __init__(self, vkey: str, changes: bytes) -> None:
        self.name, public = read_vkey(vkey, 1)
        found = LEDGER.fullmatch(self.name)
        self.ledger = found[1] if found else None
        self.keys: list[bytes] = []
        self.changes: list[Proof] = []
        for where, line in [(f"keys, line {at}", line) for at, line in enumerate(lines_of(changes, "keys"), 1)]:
            said = json.loads(line)
            proof = Proof(said["proof"].encode(), said["entry"].encode(), where)
            entry = json.loads(proof.entry)
            need((entry["what"], entry["n"]) == ("audit.rekey", proof.n), f"{where}: not a change of key")
            old, new = [read_vkey(entry["facts"][name], 1)[1] for name in ("old", "new")]
            need(proof.note.signers([old, new]) == [old, new], f"{where}: not signed by both keys")
            self.keys = self.keys or [old]
            need(self.keys[-1] == old and new not in self.keys, f"{where}: does not follow the change before it")
            self.keys.append(new)
            self.changes.append(proof)
        self.keys = self.keys or [public]
        need(public in self.keys, "the trusted key is none of those that signed this ledger")
        for change in self.changes:
            self.check(change.note)

    def check(self, note: Note) -> None:
        """Check that a checkpoint is of this ledger, and signed by the key, or the two, that sign at its size."""
        found = LEDGER.fullmatch(note.origin)
        mine = self.ledger == found[1] if self.ledger and found else note.origin == self.name
        need(mine and note.size, f"{note.where}: {note.size} entries of {note.origin}, not of {self.name}")
        at = sum(change.note.size < note.size for change in self.changes)
        both = at < len(self.changes) and note.size > self.changes[at].n
        good = note.signers(self.keys) == self.keys[at : at + 1 + both]
        need(good, f"{note.where}: not signed by the key that signs {note.size} entries of {note.origin}")


def path_of(level: str, index: int, width: int) -> str:
    """Return where a tile lies (C2SP tlog-tiles)."""
    groups = re.findall("...", f"{index:0{(len(str(index)) + 2) // 3 * 3}}")
    return "/".join(["tile", level, *[f"x{each}" for each in groups[:-1]], groups[-1] + f".p/{width}" * (width < 256)])


def pieces_of(level: str, raw: bytes) -> list[bytes]:
    """Return the hashes of a tile, or the entries of a bundle, each behind its length as u16."""
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        begin, end = (at + 2, at + 2 + int.from_bytes(raw[at : at + 2], "big")) if level == "entries" else (at, at + 32)
        need(end <= len(raw), f"a file of {level} is cut off behind {len(pieces)}")
        pieces.append(raw[begin:end])
        at = end
    return pieces


class Folder:
    """A log as a folder of tiles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[str] = set()
        self.told: dict[str, dict[int, Any]] = {"audit.restart": {}, "audit.rekey": {}, "audit.prune": {}}
        self.missing: list[int] = []
        self.note = Note(self.read("checkpoint"), "checkpoint")

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        """Return the content of a file that has to be there."""
        need(self.has(name), f"{name} is missing: the export is not whole")
        self.seen.add(name)
        return (self.folder / name).read_bytes()

    def place(self, level: str, index: int) -> tuple[str, int]:
        """Return where a tile lies and how wide it is under this checkpoint."""
        width = min(256, (self.note.size >> (0 if level == "entries" else 8 * int(level))) - 256 * index)
        return path_of(level, index, width), width

    def pieces(self, level: str, index: int) -> list[bytes]:
        """Return what a tile or bundle holds. Older partial ones beside it have to be its begin."""
        name, width = self.place(level, index)
        found = pieces_of(level, self.read(name))
        need(len(found) == width, f"{name} holds {len(found)}, not {width}")
        for path in (self.folder / path_of(level, index, 1)).parent.glob("*"):
            older = path.relative_to(self.folder).as_posix()
            if path.name.isdecimal() and 0 < int(path.name) < width:
                good = pieces_of(level, self.read(older)) == found[: int(path.name)]
                need(good, f"{older} is not the begin of {name}")
        return found

    def bottom(self, index: int) -> bytes | None:
        """Check a bundle of entries; return the hash over it if it is full."""
        name, width = self.place("entries", index)
        if width == 256 and not self.has(name):  # retention may have removed it: `check` looks
            self.missing.append(index)
            return fold(self.pieces("0", index)) if self.has(self.place("0", index)[0]) else None
        hashes = self.pieces("0", index)
        for at, entry in enumerate(self.pieces("entries", index)):
            need(sha(b"\0" + entry) == hashes[at], f"{name}: entry {256 * index + at} is not the one that was hashed")
            if LEDGER.fullmatch(self.note.origin) and MARKED.search(entry):
                said = json.loads(entry)
                self.told.get(said["what"], {})[256 * index + at] = said
        return fold(hashes) if width == 256 else None

    def above(self, level: int, index: int, below: list[bytes | None]) -> bytes | None:
        """Check a tile against those below it; return the hash over it if it is full."""
        hashes = self.pieces(str(level), index)
        good = all(below[256 * index + at] in (None, digest) for at, digest in enumerate(hashes))
        need(good, f"{self.place(str(level), index)[0]} is not made of the tiles below it")
        return fold(hashes) if len(hashes) == 256 else None

    def check(self) -> None:
        """Recompute everything, from the entries up to the root that was signed."""
        size, level = self.note.size, 1
        tops = [self.bottom(index) for index in range((size + 255) // 256)]
        while size >> 8 * level:
            tops = [self.above(level, index, tops) for index in range(((size >> 8 * level) + 255) // 256)]
            level += 1
        need(self.root(size) == self.note.root, "checkpoint: the tiles do not make the root that it signs")
        removed = self.removed()
        for index in self.missing:
            name = path_of("entries", index, 256)
            need(index in removed, f"{name} is missing: the export is not whole")
        for path in (self.folder / "tile").rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            need(path.is_dir() or name in self.seen, f"{name} is not of this checkpoint: an export was broken off")

    def removed(self) -> set[int]:
        """Return the numbers of the blocks of 256 entries that retention may have removed, as the entries tell."""
        found: set[int] = set()
        end = 0
        for each in self.told["audit.prune"].values():
            if "minimum" in each["counts"]:
                begin, end = end, each["counts"]["minimum"] // 256
                spans = [[int(at) for at in text.split("-")] for text in each["facts"].get("kept", "").split()]
                kept = {at for span in spans for at in range(span[0], span[-1] + 1)}
                found |= set(range(begin, min(end, self.note.size // 256))) - kept
        return found

    def root(self, size: int) -> bytes:
        """Return the root over the first entries."""
        root = b""
        for height in [each for each in range(size.bit_length()) if size >> each & 1]:
            level, first = str(height // 8), ((size >> height) - 1) << height % 8
            name, _ = self.place(level, first // 256)
            need(self.has(name), f"{size} entries: {name}, by which they are compared, was removed under retention")
            piece = fold(self.pieces(level, first // 256)[first % 256 :][: 1 << height % 8])
            root = sha(b"\1" + piece + root) if root else piece
        return root

    def compare(self, note: Note, trust: Trust) -> None:
        """Check that another checkpoint is over the first entries of this folder."""
        trust.check(note)
        need(note.size <= self.note.size, f"{note.where}: {note.size} entries, but the folder has {self.note.size}")
        origin = trust.ledger or note.origin
        for n, entry in self.told["audit.restart"].items() if trust.ledger else ():
            need(n >= note.size or entry["facts"]["closed"] == origin, f"entry {n} does not end the log before it")
            origin = entry["facts"]["origin"] if n < note.size else origin
        lost = f"{note.where}: not all {note.size} entries of {note.origin} are here; the entries audit.restart say why"
        need(origin == note.origin, lost)
        need(self.root(note.size) == note.root, f"{note.where}: the first {note.size} entries here are others")

    def check_beside(self) -> None:
        """Compare what lies beside the tiles with its digests."""
        for line in lines_of(self.read("SHA256SUMS"), "SHA256SUMS"):
            digest, _, name = line.partition("  ")
            need(sha(self.read(Path(name).name)).hex() == digest, f"{name} is not what was exported")
        need({"README", "keys", "verify.py", "vkey"} < self.seen, "SHA256SUMS lacks a file")


def check_folder(asked: argparse.Namespace) -> tuple[list[Note], list[str]]:
    """Check an export; return the checkpoints that are right, and what to say."""
    folder = Folder(asked.path)
    trust = Trust(asked.vkey, folder.read("keys") if folder.has("keys") else b"")
    trust.check(folder.note)
    folder.check()
    notes = [folder.note, *[Note(path.read_bytes(), str(path)) for path in asked.older]]
    if trust.ledger:
        folder.check_beside()
        need(set(folder.told["audit.rekey"]) <= {each.n for each in trust.changes}, "keys: a change of key is missing")
        notes += [Note(folder.read("anchored"), "anchored")] if folder.has("anchored") else []
    for note in [*notes, *[change.note for change in trust.changes]]:
        folder.compare(note, trust)
    said = [f"{folder.note.size} entries of {folder.note.origin}, root {folder.note.root.hex()}: all is right"]
    said += [f"entries {256 * at} to {256 * at + 255} were removed under retention" for at in folder.missing]
    return notes, said + [f"{note.where}: its {note.size} entries are the first of these" for note in notes[1:]]


def check_proof(asked: argparse.Namespace) -> tuple[list[Note], list[str]]:
    """Check the proof of an entry; return its checkpoint, and what to say."""
    keys, entry = asked.path.with_name("keys"), asked.path.with_suffix(".json")
    trust = Trust(asked.vkey, keys.read_bytes() if keys.is_file() else b"")
    proof = Proof(asked.path.read_bytes(), entry.read_bytes(), asked.path.name)
    trust.check(proof.note)
    said = f"{entry.name} is entry {proof.n} of the {proof.note.size} entries of {proof.note.origin}"
    return [proof.note], [said]


def check_others(asked: argparse.Namespace, notes: list[Note]) -> list[str]:
    """Check what others say of the checkpoints: witnesses, and authorities for time. Return what to say."""
    said = []
    for name, public in asked.witness:
        seen = [(note, at) for note in notes for at in [note.witnessed(name, public)] if at]
        need(seen, f"no checkpoint here is cosigned by {name}")
        said += [f"{note.where}: {name} saw its {note.size} entries at {at}" for note, at in seen]
    for token in asked.token:
        at = time_in(token)
        words = ("ts", "-verify", "-in", str(token), "-CAfile", str(asked.ca), "-data", "@data", "-attime", str(at))
        good = [note for note in notes if openssl(*words, data=note.raw) or openssl(*words, "-token_in", data=note.raw)]
        need(good, f"{token}: no time stamp of a checkpoint here by this authority")
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        said.append(f"{token}: a time stamp of the checkpoint of {good[0].size} entries, of {when}")
    return said


def time_in(token: Path) -> int:
    """Return the time that a token says, not believed yet: then its authority's certificate has to have been valid."""
    for more in ([], ["-token_in"]):
        words = ["openssl", "ts", "-reply", "-in", str(token), "-text", *more]
        text = subprocess.run(words, capture_output=True, check=False).stdout.decode(errors="replace")
        for date, year in re.findall(r"^Time stamp: (\w+ +\d+ [\d:]+)[.\d]* (\d+) GMT$", text, re.MULTILINE)[-1:]:
            return calendar.timegm(time.strptime(f"{date} {year}", "%b %d %H:%M:%S %Y"))
    return 0


def parsed() -> argparse.Namespace:
    """Return what was asked for; ends with 2 when it makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Any = parser.add_argument
    add("path", type=Path, metavar="FOLDER|PROOF")
    add("--vkey", help="the verifier key, or a file that holds it; else the one beside, with a warning")
    add("--older", type=Path, help="a checkpoint that has to be of this log", action="append", default=[])
    add("--witness", help="the vkey of a witness who has to have cosigned", action="append", default=[])
    add("--token", type=Path, help="a time stamp of a checkpoint (RFC 3161)", action="append", default=[])
    add("--ca", type=Path, help="the certificates by which its authority is trusted")
    asked = parser.parse_args()
    beside = (asked.path if asked.path.is_dir() else asked.path.parent) / "vkey"
    if bool(asked.token) != bool(asked.ca) or (asked.older and not asked.path.is_dir()):
        parser.error("--token and --ca go together, and --older goes with a folder")
    if asked.vkey == "":
        parser.error("--vkey is empty: name the verifier key")
    if asked.vkey is None:
        print(f"WARNING: {beside} lay with what it has to prove: compare it with another's", file=sys.stderr)
    try:
        given = asked.vkey or ""
        asked.vkey = given if "+" in given and not Path(given).is_file() else Path(given or beside).read_text()
        if given:
            read_vkey(asked.vkey, 1)
    except (OSError, ValueError, WrongError) as error:
        parser.error(f"{error}: name the verifier key with --vkey")
    try:
        asked.witness = [read_vkey(each, 4) for each in asked.witness]
        for path in [*asked.token, *([asked.ca] if asked.ca else [])]:
            path.read_bytes()
    except (OSError, ValueError, WrongError) as error:
        parser.error(f"--witness, --token or --ca: {error}")
    return asked


def main() -> int:
    """Check what was asked for; return the exit code."""
    asked = parsed()
    try:
        public, message, signature = map(bytes.fromhex, RFC_8032)
        if not is_good(public, message, signature) or is_good(public, message + b"!", signature):
            print("openssl cannot check Ed25519 signatures: version 3.0 or newer is needed", file=sys.stderr)
            return 2
        notes, said = check_folder(asked) if asked.path.is_dir() else check_proof(asked)
        print("\n".join(said + check_others(asked, notes)))
    except OSError as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    except (WrongError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 11
    return 0


if __name__ == "__main__":
    sys.exit(main())
