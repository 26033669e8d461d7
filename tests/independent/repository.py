"""Reads a backup repository in a folder from docs/FORMATS.md alone; imports nothing of guard.

repository.py FOLDER MASTER-KEY-HEX OUT   restores the newest snapshot and prints what it found as JSON
"""

import hashlib
import hmac
import json
import os
import struct
import sys
import unicodedata
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

WORDS = {1: "config", 2: "pack", 3: "index", 4: "snapshot", 5: "mark", 6: "erasure"}


def u32(number):
    return number.to_bytes(4, "big")


def parts(*items):
    return b"".join(u32(len(item)) + item for item in items)


def hkdf(key, salt, info):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


class Reader:
    def __init__(self, folder, master):
        self.folder = Path(folder)
        self.master = master
        raw = (self.folder / "config").read_bytes()
        self.id = raw[10:26]
        self.config = json.loads(self.open(1, "config"))
        assert self.config["repository"] == self.id.hex()
        root = bytes.fromhex(self.config["id_root"])
        self.chunk_key = hkdf(root, self.id, b"guard/repo1/chunk-id")
        self.digest_key = hkdf(root, self.id, b"guard/repo1/digest")
        self.where = {}
        for name in self.names("index"):
            for pack, size in self.read_segment(self.open(3, name))[2].items():
                assert (self.folder / f"packs/{pack[:1].hex()}/{pack.hex()}").stat().st_size == size
        self.blocks = {}

    def names(self, folder):
        top = self.folder / folder
        return sorted(path.relative_to(self.folder).as_posix() for path in top.rglob("*") if path.is_file())

    def box(self, kind, name, header):
        magic, form, found, version, repository, salt = struct.unpack(">4sBBI16s32s", header)
        assert (magic, form, found, version, repository) == (b"grp1", 1, kind, 1, self.id)
        if kind in {2, 3, 4, 5}:
            assert salt.hex() == name.rpartition("/")[2]
        return AESGCM(hkdf(self.master, salt, parts(b"guard/repo1/" + WORDS[kind].encode(), self.id)))

    def body(self, plain):
        body = zstandard.ZstdDecompressor().decompress(plain[4:])
        assert len(body) == int.from_bytes(plain[:4], "big")
        return body

    def open(self, kind, name):
        raw = (self.folder / name).read_bytes()
        aad = parts(raw[:58], name.encode(), bytes(8))
        return self.body(self.box(kind, name, raw[:58]).decrypt(bytes(12), raw[58:], aad))

    def read_segment(self, body):
        at = 0

        def take(size):
            nonlocal at
            at += size
            return body[at - size : at]

        def number():
            return int.from_bytes(take(4), "big")

        packs, sizes = zip(*((take(32), int.from_bytes(take(8), "big")) for _ in range(number())), strict=True)
        blocks = [struct.unpack(">IIQIIB", take(25)) for _ in range(number())]
        count = number()
        ids = [take(32) for _ in range(count)]
        assert ids == sorted(ids)
        block, offset, length = (struct.unpack(f">{count}I", take(4 * count)) for _ in range(3))
        assert at == len(body)
        for n, chunk in enumerate(ids):
            pack, *where = blocks[block[n]]
            self.where[chunk] = (packs[pack], *where, offset[n], length[n])
        return blocks, ids, dict(zip(packs, sizes, strict=True))

    def block(self, pack, n, offset, stored, length, codec):
        name = f"packs/{pack[:1].hex()}/{pack.hex()}"
        raw = (self.folder / name).read_bytes()
        aad = parts(raw[:58], name.encode(), n.to_bytes(8, "big"))
        plain = self.box(2, name, raw[:58]).decrypt(n.to_bytes(12, "big"), raw[offset : offset + stored], aad)
        data = zstandard.ZstdDecompressor().decompress(plain) if codec == 1 else plain
        assert len(data) == length
        return data

    def check_footer(self, name):
        raw = (self.folder / name).read_bytes()
        assert raw[-4:] == b"grpf"
        size = int.from_bytes(raw[-8:-4], "big")
        aad = parts(raw[:58], name.encode(), b"\xff" * 8)
        plain = self.box(2, name, raw[:58]).decrypt(b"\xff" * 12, raw[-8 - size : -8], aad)
        blocks, ids, sizes = self.read_segment(self.body(plain))
        assert list(sizes.values()) == [0]
        return len(blocks), len(ids)

    def chunk(self, chunk):
        *at, offset, length = self.where[chunk]
        if tuple(at) not in self.blocks:
            self.blocks[tuple(at)] = self.block(*at)
        data = self.blocks[tuple(at)][offset : offset + length]
        assert blake3(data, key=self.chunk_key).digest() == chunk
        return data

    def manifests(self):
        found = [json.loads(self.open(4, name)) for name in self.names("snapshots")]
        return sorted(found, key=lambda each: each["at"])

    def records(self, source):
        stream = b"".join(self.chunk(bytes.fromhex(chunk)) for chunk in source["tree"])
        assert len(stream) == source["tree_bytes"]
        at = 0
        while at < len(stream):
            (size,) = struct.unpack_from(">I", stream, at)
            yield self.record(stream[at + 4 : at + 4 + size])
            at += 4 + size

    def record(self, raw):
        kind, flags, mode, uid, gid, mtime, _, _ = struct.unpack_from(">BBHIIqqQ", raw)
        at = 36
        (size,) = struct.unpack_from(">I", raw, at)
        path, rest = raw[at + 4 : at + 4 + size], raw[at + 4 + size :]
        out = {
            "kind": kind,
            "continued": bool(flags & 2),
            "mode": mode,
            "owner": (uid, gid),
            "mtime": mtime,
            "path": path,
        }
        if kind == 2:
            length, count = struct.unpack_from(">QI", rest)
            assert len(rest) == 12 + 32 * count
            out |= {"size": length, "chunks": [rest[12 + 32 * n : 44 + 32 * n] for n in range(count)]}
        elif kind == 3:
            out["target"] = rest[4 : 4 + int.from_bytes(rest[:4], "big")]
        return out

    def restore(self, manifest, out):
        for source in manifest["sources"]:
            top = Path(out) / source["name"]
            top.mkdir(parents=True)
            digest = blake3(key=self.digest_key)
            pending = b""
            for record in self.records(source):
                path = top / os.fsdecode(record["path"])
                if record["kind"] == 1:
                    path.mkdir(exist_ok=True)
                elif record["kind"] == 3:
                    path.symlink_to(os.fsdecode(record["target"]))
                else:
                    pending += b"".join(map(self.chunk, record["chunks"]))
                    if not record["continued"]:
                        assert len(pending) == record["size"]
                        digest.update(pending)
                        path.write_bytes(pending)
                        path.chmod(record["mode"])
                        os.utime(path, ns=(record["mtime"],) * 2)
                        pending = b""
            if source["digest"]:
                assert digest.hexdigest() == source["digest"]

    def register(self):
        head, found = bytes(32), []
        for n, name in enumerate(self.names("erasures"), 1):
            assert name == f"erasures/{n:020}"
            body = self.open(6, name)
            entry = json.loads(body)
            assert (entry["n"], entry["previous"]) == (n, head.hex())
            head = hashlib.sha256(parts(b"guard/erasure1", head, body)).digest()
            found.append(entry)
        return found, head

    def marks(self):
        return [json.loads(self.open(5, name)) for name in self.names("marks")]


def master_of_passphrase(folder, passphrase):
    """Open the passphrase slot and compare its check."""
    name = "keys/passphrase-1"
    raw = (Path(folder) / name).read_bytes()
    magic, kind, repository, version, memory, passes, lanes, salt = struct.unpack_from(">4sB16sIIII16s", raw)
    assert (magic, kind, version) == (b"grk1", 1, 1)
    text = unicodedata.normalize("NFC", passphrase).encode()
    key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(text)
    master = AESGCM(key).decrypt(raw[53:65], raw[65:113], parts(raw[:53], name.encode()))
    check = hmac.digest(hkdf(master, repository, b"guard/repo1/slot-check"), parts(name.encode(), raw[:-32]), "sha256")
    assert check == raw[-32:]
    return master


def main(folder, master, out):
    reader = Reader(folder, bytes.fromhex(master))
    newest = reader.manifests()[-1]
    reader.restore(newest, out)
    entries, head = reader.register()
    packs = [reader.check_footer(name) for name in reader.names("packs")]
    said = {
        "at": newest["at"],
        "rows": newest["sources"][0]["rows"],
        "erasures": [len(entries), head.hex()],
        "position": newest["erasures"],
        "marks": len(reader.marks()),
        "packs": len(packs),
    }
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
