"""A second reader of docs/FORMATS.md, sections 1 to 3, and of signed notes. It imports nothing of guard.

Written from the text alone, plainly and slowly: whatever this opens, another program can open too. Everything that must
not be read raises `RefusedError`.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id


class RefusedError(Exception):
    """These bytes are not what FORMATS.md describes."""


# Section 1 ------------------------------------------------------------------------------------------------------------


def u32(number):
    return struct.pack(">I", number)


def parts(*items):
    return b"".join(u32(len(item)) + item for item in items)


def expand(key, salt, info, length):
    """HKDF-SHA256, RFC 5869."""
    secret = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    out = block = b""
    counter = 0
    while len(out) < length:
        counter += 1
        block = hmac.new(secret, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
    return out[:length]


def read_integer(raw):
    minimal = len(raw) == 1 or (
        len(raw) > 1 and not (raw[0] == 0x00 and raw[1] < 0x80) and not (raw[0] == 0xFF and raw[1] >= 0x80)
    )
    if not minimal:
        raise RefusedError("integer not minimal")
    return int.from_bytes(raw, "big", signed=True)


def read_decimal(raw):
    text = read_text(raw)
    if not re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text) or text == "-0":
        raise RefusedError("decimal not plain")
    return Decimal(text)


def read_scaled(raw):
    """A decimal inside a sealed value: it keeps its scale."""
    text = read_text(raw)
    if not re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", text):
        raise RefusedError("decimal not plain")
    return Decimal(text)


def read_text(raw):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError("not UTF-8") from None


def read_uuid(raw):
    if len(raw) != 16:
        raise RefusedError("a UUID has 16 bytes")
    return UUID(bytes=raw)


def read_key(raw):
    """Return the parts of a canonical key as (tag, value)."""
    readers = {"i": read_integer, "s": read_text, "b": bytes, "u": read_uuid, "d": read_decimal}
    if not raw or raw[0] == 0:
        raise RefusedError("no part")
    found, at = [], 1
    for _ in range(raw[0]):
        if at + 5 > len(raw):
            raise RefusedError("cut")
        tag, length = chr(raw[at]), struct.unpack(">I", raw[at + 1 : at + 5])[0]
        body = raw[at + 5 : at + 5 + length]
        if len(body) != length or tag not in readers:
            raise RefusedError("not a key part")
        found.append((tag, readers[tag](body)))
        at += 5 + length
    if at != len(raw):
        raise RefusedError("bytes after the last part")
    return found


# Section 2 ------------------------------------------------------------------------------------------------------------

BINDINGS = {0: "row", 1: "subject", 2: "column"}
TYPES = ("text", "bytes", "integer", "decimal", "date", "datetime", "boolean", "float")


def xaes_key(key, half):
    """C2SP XAES-256-GCM: two blocks of a KDF in counter mode over CMAC."""
    subkey = b""
    for counter in (1, 2):
        mac = CMAC(AES256(key))
        mac.update(struct.pack(">H", counter) + b"X\x00" + half)
        subkey += mac.finalize()
    return subkey


def bare(stored):
    """Return the value inside what a text or a binary column holds."""
    if isinstance(stored, bytes):
        if stored[:2] != b"\x67\x31":
            raise RefusedError("prefix")
        return stored[2:]
    body = stored[3:]
    if stored[:3] != "g1." or not re.fullmatch(r"[A-Za-z0-9_-]*", body) or body.endswith("\n"):
        raise RefusedError("not base64url")
    if len(body) % 4 == 1:
        raise RefusedError("length")
    value = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    if base64.urlsafe_b64encode(value).rstrip(b"=").decode() != body:
        raise RefusedError("unused bits")
    return value


def open_value(stored, keys, store_id, column, binding, bound, tight=()):
    """Return (type name, value). `keys` maps key ids to 32 bytes; `binding` is the one that the column accepts.

    `tight` are the ids of the keys whose purpose ends in /tight.
    """
    value = bare(stored)
    if len(value) < 7 or value[0] not in (1, 2) or value[1] & 0x80 or BINDINGS.get(value[1] & 3) != binding:
        raise RefusedError("head")
    kind, padded, key_id = value[1] >> 2 & 0x0F, value[1] >> 6 & 1, int.from_bytes(value[2:7], "big")
    if kind >= len(TYPES) or key_id not in keys:
        raise RefusedError("type or key")
    if (value[0] == 1) != (key_id in tight):
        raise RefusedError("algorithm")
    key, rest = keys[key_id], value[7:]
    if value[0] == 2:
        key, rest = xaes_key(key, rest[:12]) if len(rest) >= 12 else key, rest[12:]
    if len(rest) < 28:
        raise RefusedError("cut")
    aad = parts(b"guard/g1", store_id.bytes, u32(column), value[:7], bound)
    try:
        plain = AESGCM(key).decrypt(rest[:12], rest[12:], aad)
    except InvalidTag:
        raise RefusedError("does not open") from None
    return TYPES[kind], read_plain(TYPES[kind], unpad(plain) if padded else plain)


def unpad(plain):
    end = plain.rfind(b"\x80")
    if end < 0 or plain[end + 1 :].strip(b"\x00") or len(plain) % 16 or len(plain) - end > 16:
        raise RefusedError("padding")
    return plain[:end]


def read_plain(kind, raw):
    return {
        "text": read_text,
        "bytes": bytes,
        "integer": read_integer,
        "decimal": read_scaled,
        "date": read_date,
        "datetime": read_datetime,
        "boolean": read_boolean,
        "float": read_float,
    }[kind](raw)


def read_date(raw):
    if not re.fullmatch(rb"\d{4}-\d\d-\d\d", raw):
        raise RefusedError("date")
    return date.fromisoformat(raw.decode())


def read_datetime(raw):
    found = re.fullmatch(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})(Z?)", raw)
    if not found:
        raise RefusedError("date and time")
    return datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC if found[2] else None)


def read_boolean(raw):
    if raw not in (b"\x00", b"\x01"):
        raise RefusedError("boolean")
    return raw == b"\x01"


def read_float(raw):
    if len(raw) != 8:
        raise RefusedError("float")
    return struct.unpack(">d", raw)[0]


# Section 3 ------------------------------------------------------------------------------------------------------------


def key_binding(store_id, key_id, purpose, version, parent):
    return parts(
        b"guard/gk1",
        store_id.bytes,
        key_id.to_bytes(5, "big"),
        purpose.encode(),
        u32(version),
        parent.to_bytes(5, "big"),
    )


def check_commitment(store_id, key_id, purpose, version, key, commitment):
    info = parts(b"guard/gk1/commitment", key_id.to_bytes(5, "big"), purpose.encode(), u32(version))
    if expand(key, store_id.bytes, info, 32) != commitment:
        raise RefusedError("commitment")
    return key


def unwrap(wrapped, parent_key, store_id, key_id, purpose, version, parent):
    if wrapped[:4] != b"\x67\x6b\x01\x01" or len(wrapped) != 64:
        raise RefusedError("not a wrapped key")
    try:
        return AESGCM(parent_key).decrypt(
            wrapped[4:16], wrapped[16:], key_binding(store_id, key_id, purpose, version, parent)
        )
    except InvalidTag:
        raise RefusedError("does not open") from None


def open_epoch(data, parents, store_id):
    """Return (key id, month, version, key) of an object in a mirror of the vault; `parents` are the `vault` keys."""
    if len(data) != 121 or data[:4] != b"\x67\x6b\x01\x04":
        raise RefusedError("not an epoch's key")
    key_id, parent = int.from_bytes(data[4:9], "big"), int.from_bytes(data[9:14], "big")
    version, month = struct.unpack(">I7s", data[14:25])
    if not re.fullmatch(rb"[0-9]{4}-(0[1-9]|1[0-2])", month) or parent not in parents:
        raise RefusedError("month or parent")
    purpose = "epoch/" + month.decode()
    key = unwrap(data[25:89], parents[parent], store_id, key_id, purpose, version, parent)
    return key_id, month.decode(), version, check_commitment(store_id, key_id, purpose, version, key, data[89:])


def person_of(digest_key, kind, canonical_key):
    """Return the 32 bytes by which state knows a person."""
    return bytes.fromhex(digest(digest_key, "subject", parts(kind.encode(), canonical_key)))


def open_subject(row, epoch_key, store_id):
    """Return the key of a row of `subject_key`."""
    purpose = f"subject/{row['class']}/{row['kind']}/{row['person'].hex()}"
    key = unwrap(row["wrapped"], epoch_key, store_id, row["id"], purpose, 1, row["epoch"])
    return check_commitment(store_id, row["id"], purpose, 1, key, row["commitment"])


def receipt_of(sealed, parents, store_id, receipt):
    """Return the canonical key of the person an unfinished receipt is about."""
    key_id = int.from_bytes(sealed[:5], "big")
    aad = parts(b"guard/gk1/receipt", store_id.bytes, sealed[:5], receipt.encode())
    try:
        return AESGCM(parents[key_id]).decrypt(sealed[5:17], sealed[17:], aad)
    except (KeyError, InvalidTag):
        raise RefusedError("does not open") from None


def root_mark(store_id, root):
    return expand(root, store_id.bytes, parts(b"guard/gk1/root"), 16)


def kms_context(store_id, key_id, purpose, version):
    """What AWS KMS is told beside the ciphertext behind 67 6b 01 03."""
    return {
        "guard:store": str(store_id),
        "guard:key": key_id.to_bytes(5, "big").hex(),
        "guard:purpose": purpose,
        "guard:version": str(version),
    }


def open_export(document, private):
    """Return (key id, purpose, version, key) of an exported key, for the holder of the recipient's private half."""
    try:
        says = json.loads(document)
        store_id, key_id, commitment = UUID(says["store"]), int(says["id"], 16), bytes.fromhex(says["commitment"])
        purpose, version, recipient = says["purpose"], says["version"], bytes.fromhex(says["recipient"])
        sealed = base64.b64decode(says["sealed"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise RefusedError("not a document") from None
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    if (says.get("v"), says.get("what"), public) != (1, "guard exported key", recipient):
        raise RefusedError("not for this key")
    if sealed[:4] != b"\x67\x6b\x01\x05" or len(sealed) != 84:
        raise RefusedError("not an exported key")
    info = parts(
        b"guard/gk1/export", store_id.bytes, key_id.to_bytes(5, "big"), purpose.encode(), u32(version), recipient
    )
    key = hpke_open(private, sealed[4:36], sealed[36:], info)
    return key_id, purpose, version, check_commitment(store_id, key_id, purpose, version, key, commitment)


def read_root_file(text):
    found = re.fullmatch(r"guard-root-1:([A-Za-z0-9_-]{43})\n", text)
    if not found:
        raise RefusedError("not a root key file")
    return base64.urlsafe_b64decode(found[1] + "=")


def root_of(passphrase, salt, memory, passes, lanes):
    if not (19 * 1024 <= memory <= 1024 * 1024 and 2 <= passes <= 10 and 1 <= lanes <= 16 and len(salt) == 16):
        raise RefusedError("parameters")
    kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    return kdf.derive(unicodedata.normalize("NFC", passphrase).encode())


def kit_tag(store_id, kek, public):
    return expand(kek, store_id.bytes, parts(b"guard/gk1/kit", public), 32)


def hpke_open(private, enc, ciphertext, info, aad=b"", aead=2):
    """RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256; `aead` 1 is AES-128-GCM, 2 AES-256-GCM."""
    kem, suite = b"KEM" + struct.pack(">H", 0x20), b"HPKE" + struct.pack(">HHH", 0x20, 1, aead)

    def extract(suite_id, salt, label, secret):
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite_id + label + secret, hashlib.sha256).digest()

    def labeled(suite_id, secret, label, context, length):
        text = struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + context
        return hmac.new(secret, text + b"\x01", hashlib.sha256).digest()[:length]

    secret_key = X25519PrivateKey.from_private_bytes(private)
    shared = secret_key.exchange(X25519PublicKey.from_public_bytes(enc))
    both = enc + secret_key.public_key().public_bytes_raw()
    shared = labeled(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", both, 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key, nonce = labeled(suite, secret, b"key", context, 16 * aead), labeled(suite, secret, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise RefusedError("does not open") from None


def open_recovery(sealed, private, store_id, key_id, purpose, version):
    if sealed[:4] != b"\x67\x6b\x01\x02" or len(sealed) != 84:
        raise RefusedError("not a recovery-sealed key")
    return hpke_open(private, sealed[4:36], sealed[36:], key_binding(store_id, key_id, purpose, version, 0))


def times(a, b):
    """The product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, as schoolbook polynomials."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def divide(a, b):
    return next(q for q in range(256) if times(q, b) == a)


def read_share(text):
    found = re.fullmatch(r"(guard-share-1:([0-9a-f]{8}):([123]):([A-Z2-7]{52})):([0-9a-f]{8})", text)
    if not found or hashlib.sha256(found[1].encode()).hexdigest()[:8] != found[5]:
        raise RefusedError("share")
    return found[2], int(found[3]), base64.b32decode(found[4] + "====")


def combine(first, second):
    """Return the kit's private key from two printed shares."""
    (kit, x1, y1), (other, x2, y2) = read_share(first), read_share(second)
    if kit != other or x1 == x2:
        raise RefusedError("not two shares of one kit")
    private = bytes(times(a, divide(x2, x1 ^ x2)) ^ times(b, divide(x1, x1 ^ x2)) for a, b in zip(y1, y2, strict=True))
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    if hashlib.sha256(public).hexdigest()[:8] != kit:
        raise RefusedError("kit")
    return private


def token(key, store_id, column, normaliser, form, size):
    head = parts(b"guard/token1", store_id.bytes, u32(column), normaliser.encode("ascii"), form)
    return hmac.new(key, head, hashlib.sha256).digest()[:size]


def form_of(normaliser, kind, value):
    """Return the normal form of a value of a type (by its name); None when it has none."""
    if normaliser == "exact":
        return bytes([TYPES.index(kind)]) + EQUAL[kind](value)
    text = str(value)
    if normaliser.startswith("prefix:"):
        length = int(normaliser[7:])
        form = until_still(lambda each: fold(each)[:length].rstrip(BLANKS), text)
    else:
        form = {"email": fold, "phone": phone, "name": name, "last4": last4}[normaliser](text)
    return form.encode() if form or normaliser == "email" else None


BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
APOSTROPHES = [0x27, 0x60, 0xB4, 0x2B9, 0x2BB, 0x2BC, 0x2018, 0x2019, 0x201B, 0x2032, 0xFF07]


def until_still(turn, text):
    before = None
    while before != text:
        before, text = text, turn(text)
    return text


def fold(text):
    def turn(each):
        each = unicodedata.normalize("NFKC", each).casefold()
        return unicodedata.normalize("NFKC", each).strip(BLANKS)

    return until_still(turn, text)


def last4(text):
    return until_still(lambda each: "".join(c for c in fold(each) if unicodedata.category(c)[0] in "LN")[-4:], text)


def name(text):
    def letters(each):
        out = ""
        for c in each:
            kind = unicodedata.category(c)
            if ord(c) in APOSTROPHES or kind == "Cf" or 0x300 <= ord(c) <= 0x36F:
                continue
            out += " " if kind[0] in "PSZ" or kind == "Cc" else c
        return out

    def turn(each):
        each = letters(unicodedata.normalize("NFKD", letters(each))).casefold()
        return " ".join(word for word in unicodedata.normalize("NFKC", each).split(" ") if word)

    return until_still(turn, text)


def phone(text):
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(str(unicodedata.decimal(c)) if unicodedata.category(c) == "Nd" else c for c in text)
    text = without_extension(text)
    bare_text = re.sub(rf"\([{BLANKS}]*0[{BLANKS}]*\)", "", text)
    digits = "".join(c for c in bare_text if c in "0123456789")
    before = re.split("[0-9]", bare_text, maxsplit=1)[0]
    if "+" in before:
        return "+" + digits if digits else ""
    if not digits.startswith("00"):
        digits = "".join(c for c in text if c in "0123456789")
    if not digits.startswith("00"):
        return digits
    return "+" + digits[2:] if digits[2:] else ""


def without_extension(text):
    body = text.rstrip(BLANKS)
    number = body.rstrip("0123456789")
    length, mark = len(body) - len(number), number.rstrip(BLANKS)
    rest = None
    if mark.endswith(("x", "#")) and 1 <= length <= 5:
        rest = mark[:-1]
    else:
        if mark and mark[-1] in ".:=":
            mark = mark[:-1]
        word = next((word for word in ("extension", "extn", "ext") if mark.endswith(word)), None)
        if word and 1 <= length <= 7:
            rest = mark[: -len(word)].rstrip(BLANKS)
            rest = rest[:-1] if rest.endswith((";", ",")) else rest
    if rest is None:
        return text
    rest = rest.rstrip(BLANKS)
    return rest if rest and rest[-1] in "0123456789)" else text


def integer(value):
    length = 1
    while not -(1 << 8 * length - 1) <= value < 1 << 8 * length - 1:
        length += 1
    return value.to_bytes(length, "big", signed=True)


def shortest(value):
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return (b"0" if text in ("-0", "") else text.encode()) if text != "0" else b"0"


def moment(value):
    aware = value.tzinfo is not None
    value = value.astimezone(UTC).replace(tzinfo=None) if aware else value
    return value.isoformat(timespec="microseconds").encode() + b"Z" * aware


EQUAL = {
    "text": lambda value: value.encode(),
    "bytes": bytes,
    "integer": integer,
    "decimal": shortest,
    "date": lambda value: value.isoformat().encode(),
    "datetime": moment,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "float": lambda value: bytes.fromhex("7ff8000000000000") if value != value else struct.pack(">d", value or 0.0),
}


def digest(key, domain, data):
    return hmac.new(key, parts(b"guard/digest1", domain.encode(), data), hashlib.sha256).hexdigest()


# Signed notes (section 4, C2SP signed-note) ---------------------------------------------------------------------------


def open_note(note, vkey):
    """Return the text that the key of `vkey` signed."""
    name, key_id, public = read_vkey(vkey)
    if re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise RefusedError("characters")
    text, blank, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not blank or lines.pop() or not 0 < len(lines) <= 100:
        raise RefusedError("no signatures")
    ours = [raw[4:] for who, raw in map(read_signature, lines) if who == name and raw[:4] == key_id]
    if not ours:
        raise RefusedError("not signed by this key")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(ours[0], (text + "\n").encode())
    except InvalidSignature:
        raise RefusedError("signature") from None
    return text + "\n"


def read_signature(line):
    found = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})", line)
    raw = base64.b64decode(found[2], validate=True) if found else b""
    if not found or len(raw) < 5:
        raise RefusedError("not a signature line")
    return found[1], raw


def read_vkey(vkey):
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})", vkey)
    if not found:
        raise RefusedError("vkey")
    raw = base64.b64decode(found[3], validate=True)
    key_id = hashlib.sha256(found[1].encode() + b"\n" + raw).digest()[:4]
    if len(raw) != 33 or raw[0] != 1 or key_id.hex() != found[2]:
        raise RefusedError("vkey")
    return found[1], key_id, raw[1:]
