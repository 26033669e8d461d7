"""Read guard's access tables without guard, from docs/FORMATS.md sections 2, 3 and 8 alone."""

import base64
import hmac
import importlib.util
import json
import pathlib
import struct

_spec = importlib.util.spec_from_file_location("independent_sealed", pathlib.Path(__file__).with_name("sealed.py"))
sealed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sealed)

TABLES = {
    "access_person": "id name os_user role enabled since",
    "access_factor": "person secret last_step drift tries locked_until open_until",
    "access_recovery": "person code used_at",
    "access_grant": "id person action digest reads given_at until spent_at ending",
    "access_standing": "id action policy given_by given_at ended_by ended_at",
    "access_pending": "id action digest args lasting asked_by asked_at ended ended_by ended_at",
    "access_approval": "request person digest at ended_at",
}


def open_keys(db, root, store_id):
    """Return {purpose: (key id, key)} of the newest versions."""
    rows = db.execute(
        "SELECT id, purpose, version, parent, wrapped, commitment FROM key WHERE state = 'active' ORDER BY version"
    ).fetchall()
    kek_row = next(row for row in rows if row[1] == "kek")
    mark = sealed.root_mark(store_id, root)
    (wrapped,) = db.execute("SELECT wrapped FROM key_root WHERE mark = ?", (mark,)).fetchone()
    kek = _opened((*kek_row[:4], wrapped, kek_row[5]), root, store_id)
    return {row[1]: (row[0], kek if row is kek_row else _opened(row, kek, store_id)) for row in rows}


def _opened(row, parent_key, store_id):
    key_id, purpose, version, parent, wrapped, commitment = row
    key = sealed.unwrap(wrapped, parent_key, store_id, key_id, purpose, version, parent)
    sealed.check_commitment(store_id, key_id, purpose, version, key, commitment)
    return key


def check_seals(db, digest_key):
    """Check the seal of every row and return how many there are in each table."""
    counts = {}
    for table, names in TABLES.items():
        rows = db.execute(f"SELECT {', '.join(names.split())}, seal FROM {table}").fetchall()
        for row in rows:
            data = sealed.parts(*map(_value, row[:-1]))
            if sealed.digest(digest_key, table, data) != row[-1]:
                raise sealed.RefusedError(f"seal of {table} {row[0]}")
        counts[table] = len(rows)
    return counts


def _value(stored):
    if stored is None:
        return b"\x00"
    return b"\x01" + (stored if isinstance(stored, bytes) else str(stored).encode())


def secret_of(db, person, totp_key, store_id):
    """Return the base32 secret of a person's authenticator."""
    (stored,) = db.execute("SELECT secret FROM access_factor WHERE person = ?", (person,)).fetchone()
    bound = b"\x01s" + struct.pack(">I", len(person)) + person.encode()
    kind, secret = sealed.open_value(b"\x67\x31" + stored, dict([totp_key]), store_id, 0, "subject", bound)
    assert kind == "text"
    return secret


def args_of(request, stored, totp_key, store_id):
    """Return the arguments of a dual action that was asked for."""
    bound = b"\x01s" + struct.pack(">I", len(request)) + request.encode()
    kind, plain = sealed.open_value(b"\x67\x31" + stored, dict([totp_key]), store_id, 0, "row", bound)
    assert kind == "bytes"
    return json.loads(plain)


def code(secret, second):
    """RFC 6238 with SHA-1, six digits, 30 seconds."""
    mac = hmac.digest(base64.b32decode(secret), struct.pack(">Q", second // 30), "sha1")
    at = mac[-1] & 15
    return f"{(int.from_bytes(mac[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def recovery_digest(digest_key, person, printed):
    """What is stored of a recovery code."""
    return sealed.digest(digest_key, "recovery code", sealed.parts(person.encode(), printed.replace("-", "").encode()))
