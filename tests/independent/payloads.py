"""What the ledger says of people, from docs/FORMATS.md alone: makes the vectors, reads them and what guard writes.

It imports nothing of guard. Usage: python payloads.py > ../vectors/ledger_payload.json
"""

import base64
import hashlib
import hmac
import json
import sys
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class RefusedError(Exception):
    """These bytes are not what FORMATS.md describes."""


def parts(*items):
    return b"".join(len(item).to_bytes(4, "big") + item for item in items)


def derived(key, store):
    """HKDF-SHA256, RFC 5869, for 32 bytes: one block."""
    secret = hmac.new(store.bytes, key, hashlib.sha256).digest()
    return hmac.new(secret, parts(b"guard/gp1") + b"\x01", hashlib.sha256).digest()


def payload_place(store, pseudonym):
    return parts(b"guard/gp1", store.bytes, pseudonym)


def person_place(store, key_id):
    return parts(b"guard/gp2", store.bytes, key_id.to_bytes(5, "big"))


def sealed(magic, key, nonce, plain, place):
    return magic + nonce + AESGCM(key).encrypt(nonce, plain, place)


def opened(magic, key, raw, place):
    if raw[:3] != magic:
        raise RefusedError("magic")
    try:
        return AESGCM(key).decrypt(raw[3:15], raw[15:], place)
    except (InvalidTag, ValueError):
        raise RefusedError("does not open") from None


def open_payload(key, store, pseudonym, raw):
    """Return what is said of the person with this key of class `ledger`."""
    return json.loads(opened(b"gp\x01", derived(key, store), raw, payload_place(store, pseudonym)))


def open_person(key, store, key_id, raw):
    """Return the pseudonym and the canonical key of the person with this key."""
    plain = opened(b"gp\x02", derived(key, store), raw, person_place(store, key_id))
    if len(plain) < 18:
        raise RefusedError("short")
    return plain[:16], plain[16:]


def actor(key, name):
    """Return the stand-in of who acts in the shop under a name."""
    mac = hmac.new(key, parts(b"guard/actor1", name.encode()), hashlib.sha256).digest()
    return "x-" + base64.b32encode(mac).decode()[:16].lower()


def canonical(value):
    """RFC 8785, for what the vectors hold: no floats, keys in the basic plane."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# The vectors ----------------------------------------------------------------------------------------------------------

STORE = UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
PEOPLE = (  # key id, canonical key
    (1, b"\x01i\x00\x00\x00\x01\x01"),
    (0xFF00000001, b"\x01s\x00\x00\x00\x0bada@example"),
    (300, b"\x02i\x00\x00\x00\x02\x00\x80u\x00\x00\x00\x10" + bytes(range(16))),
)
DETAILS = (
    {},
    {"name": "Ada Lovelace", "columns": ["Customer.Email"], "rows": 3},
    {"Straße": "Łódź 客户 \U0001f512", "quote": 'a "b" \\ \n', "nothing": None, "nested": {"b": [], "a": True}},
)
NAMES = ("anna.admin@shop.example", "", "Łukasz Ø", "a" * 300)


def bytes_of(label, size):
    """Fixed bytes that look random."""
    return hashlib.shake_256(f"guard/{label}".encode()).digest(size)


def person_of(number, key_id, who):
    material, pseudonym = bytes_of(f"material {number}", 32), bytes_of(f"pseudonym {number}", 16)
    key = derived(material, STORE)
    payloads = []
    for at, details in enumerate(DETAILS):
        plain = canonical(details)
        raw = sealed(b"gp\x01", key, bytes_of(f"nonce {number} {at}", 12), plain, payload_place(STORE, pseudonym))
        payloads.append(
            {"details": details, "plain": plain.hex(), "sealed": raw.hex(), "digest": hashlib.sha256(raw).hexdigest()}
        )
    nonce = bytes_of(f"nonce person {number}", 12)
    name = sealed(b"gp\x02", key, nonce, pseudonym + who, person_place(STORE, key_id))
    return {
        "id": key_id,
        "material": material.hex(),
        "pseudonym": pseudonym.hex(),
        "key": who.hex(),
        "sealed": name.hex(),
        "payloads": payloads,
    }


def flaws(person, other):
    """What must not open as the first payload of `person`, or as their name."""
    payload, name = (bytes.fromhex(each) for each in (person["payloads"][1]["sealed"], person["sealed"]))
    material, place = bytes.fromhex(person["material"]), payload_place(STORE, bytes.fromhex(person["pseudonym"]))
    bare = sealed(b"gp\x01", material, payload[3:15], b"{}", place)
    changed = {
        at: payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :] for at in (0, 2, 3, 15, len(payload) - 1)
    }
    return [
        *({"flaw": f"payload: byte {at} changed", "payload": each.hex()} for at, each in changed.items()),
        {"flaw": "payload: of another person", "payload": other["payloads"][1]["sealed"]},
        {"flaw": "payload: a name", "payload": (b"gp\x01" + name[3:]).hex()},
        {"flaw": "payload: under the key itself, not what is derived of it", "payload": bare.hex()},
        {"flaw": "payload: cut", "payload": payload[:-1].hex()},
        {"flaw": "payload: longer", "payload": (payload + b"\x00").hex()},
        {"flaw": "payload: nothing", "payload": ""},
        {"flaw": "payload: no tag", "payload": payload[:20].hex()},
        {"flaw": "name: of another person", "name": other["sealed"]},
        {"flaw": "name: a payload", "name": (b"gp\x02" + payload[3:]).hex()},
        {"flaw": "name: last byte changed", "name": (name[:-1] + bytes([name[-1] ^ 1])).hex()},
        {"flaw": "name: cut", "name": name[:-1].hex()},
    ]


def vectors():
    """Return all vectors; the same every time."""
    people = [person_of(number, *each) for number, each in enumerate(PEOPLE)]
    pseudonym_key = bytes_of("pseudonym key", 32)
    return {
        "what": "docs/FORMATS.md section 4: payloads and names of people, and actors of the shop",
        "store_id": str(STORE),
        "people": people,
        "refused": flaws(people[0], people[1]),
        "pseudonym_key": pseudonym_key.hex(),
        "actors": [{"name": name, "actor": actor(pseudonym_key, name)} for name in NAMES],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n")
