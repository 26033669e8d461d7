"""One value sealed and opened, one token made: ours, the bare cipher and the peers, in turns.

Each seals the same e-mail addresses and opens them again. Ours seals each for its row, in batches as a sweep does; the
peers have no rows. The rows' canonical keys are taken as given, but in the row that says otherwise.
An engine of SQLAlchemy-Utils is used through its column type, there is no other way in; so was it measured when the bar
was set.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import String
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite as SQLiteDialect

from bench.harness import Bar, Pace, Row, cpu, race
from guard.canon import all_key_bytes
from guard.clock import SystemClock
from guard.crypto import random
from guard.crypto.blind import Tokenizer
from guard.crypto.budget import Budget
from guard.crypto.envelope import Binding, Opener, Place, Sealer
from guard.crypto.wrap import Key
from guard.state import State

VALUES = 4000
BATCH = 2000
SLOW = 10
"""How many values a peer gets that takes milliseconds for one."""
TURN = 0.04
"""Seconds of a turn: everyone finds the caches as cold as the others, and has as long to warm them."""
PACE = Pace(rounds=15, timer=cpu, unit="us", scale=1e6)
STORE = UUID(int=1)
PEERS = ("cryptography", "sqlalchemy-utils", "tink")

Run = Callable[[], Sequence[Sequence[object]]]
"""Gives back what it worked on, in parts."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Something that is timed. `opens` is what it must give back; where it opens nothing, as many things are enough."""

    name: str
    run: Run
    opens: Sequence[object] | None = None
    values: int = VALUES

    def passes(self) -> int:
        """Return how many runs take about `TURN`. Raises RuntimeError when a run does not do what is to be timed."""
        begun = PACE.timer()
        parts = self.run()
        taken = PACE.timer() - begun
        found = [each for part in parts for each in part]
        if len(found) != self.values or self.opens not in (None, found):
            raise RuntimeError(f"{self.name} does not give back what it was given")
        return max(1, round(TURN / max(taken, 1e-6)))


def rows() -> list[Row]:
    """Measure everything in turns of one length, and return the lines of the table."""
    with _runners() as runners:
        passes = [each.passes() for each in runners]
        times = race(PACE, *(_turn(each, count) for each, count in zip(runners, passes, strict=True)))
    done = zip(runners, passes, times, strict=True)
    us = {each.name: time / (each.values * count) for each, count, time in done}
    return lines(us, {name: version(name) for name in PEERS})


def _turn(runner: Runner, passes: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(passes):
            runner.run()

    return run


def lines(us: Mapping[str, float], versions: Mapping[str, str]) -> list[Row]:
    """Return the table for `us`, the microseconds for one value by runner, and the versions of the peers."""

    def row(what: str, ours: str, peer: str | None, bar: Bar | None = None) -> Row:
        return Row(what, us[ours], us[peer] if peer else None, PACE.unit, bar)

    both, tink = "seal + open, against", f"tink {versions['tink']} AES256_GCM"
    utils = f"SQLAlchemy-Utils {versions['sqlalchemy-utils']}"
    stretched = "PBKDF2 with 50,000 passes"
    return [
        row(f"{both} {utils}'s StringEncryptedType with AesGcmEngine", "ours", "utils", _times_faster(10)),
        row(f"{both} its AesGcmEngine alone, without the column type", "ours", "utils, engine alone"),
        row(f"{both} Fernet of cryptography {versions['cryptography']}", "ours", "fernet", _times_faster(8)),
        row(f"{both} {tink}", "ours", "tink", _times_faster(1.2)),
        row(f"{both} {tink}, the making of our row keys included", "ours, with keys", "tink"),
        row(f"{both} the bare AESGCM calls", "ours", "bare", Bar("ratio", "<=", 2.2)),
        row(f"{both} the bare AESGCM calls with the same AAD", "ours", "bare, with AAD"),
        row(f"{both} the bare AESGCM calls, in a tight column", "tight", "bare", Bar("ratio", "<=", 2.2)),
        row(f"token of an exact text, against {stretched}", "exact", "pbkdf2", Bar("ours", "<=", 1.2)),
        row(f"token of an e-mail address, against {stretched}", "email", "pbkdf2", Bar("ours", "<=", 1.2)),
        row("token of a phone number", "phone", None),
        row("token of a name", "name", None),
    ]


def _times_faster(times: float) -> Bar:
    return Bar("ratio", "<=", 1 / times)


@contextmanager
def _runners() -> Iterator[list[Runner]]:
    texts = [f"User{number:07d}.Smith@Example.com" for number in range(VALUES)]
    with TemporaryDirectory(prefix="guard-bench-") as folder:
        state = State.create(f"sqlite:///{Path(folder)}/state.db", SystemClock())
        yield [*_ours(texts, Budget(state)), *_bare(texts), *_peers(texts), *_tokens(texts)]
        state.close()


def _row_keys() -> list[tuple[int]]:
    return [(1_000_000 + number,) for number in range(VALUES)]


def _ours(texts: Sequence[str], budget: Budget) -> list[Runner]:
    keys = _row_keys()
    cuts = [slice(start, start + BATCH) for start in range(0, VALUES, BATCH)]
    batches = [(texts[cut], keys[cut], all_key_bytes(keys[cut])) for cut in cuts]

    def both(key: Key) -> tuple[Run, Run]:
        place = Place(STORE, 17, Binding.ROW)
        sealer, opener = Sealer(place, key, budget=budget), Opener(place, {key.id: key}.__getitem__)

        def run() -> list[list[object]]:
            return [opener.open_all(sealer.seal_all(part, bounds), bounds) for part, _, bounds in batches]

        def with_keys() -> list[list[object]]:
            return [
                opener.open_all(sealer.seal_all(part, all_key_bytes(rows)), all_key_bytes(rows))
                for part, rows, _ in batches
            ]

        return run, with_keys

    wide = Key(7, "column/17", 1, random.token(32))
    tight = Key(8, "column/17/tight", 1, random.token(32))
    ours, with_keys = both(wide)
    return [
        Runner("ours", ours, texts),
        Runner("ours, with keys", with_keys, texts),
        Runner("tight", both(tight)[0], texts),
    ]


def _bare(texts: Sequence[str]) -> list[Runner]:
    """The cipher alone: plaintext as bytes, nonces and AAD all there before the clock starts."""
    cipher = AESGCM(random.token(32))
    plain = [text.encode() for text in texts]
    nonces = [random.token(12) for _ in plain]
    bounds = all_key_bytes(_row_keys())
    place = Place(STORE, 17, Binding.ROW)
    full = [place.aad(bytes(7)) + len(bound).to_bytes(4, "big") + bound for bound in bounds]

    def both(aads: Sequence[bytes | None]) -> Run:
        def run() -> list[list[bytes]]:
            return [list(map(cipher.decrypt, nonces, map(cipher.encrypt, nonces, plain, aads), aads))]

        return run

    return [Runner("bare", both([None] * VALUES), plain), Runner("bare, with AAD", both(full), plain)]


def _peers(texts: Sequence[str]) -> list[Runner]:
    import tink  # noqa: PLC0415  # the extra bench-fields; the table's tests do without
    from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine, StringEncryptedType  # noqa: PLC0415
    from tink import aead  # noqa: PLC0415

    aead.register()
    primitive = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    fernet, engine = Fernet(Fernet.generate_key()), AesGcmEngine()
    engine._update_key(secret := random.hex_token(32))
    column, dialect = StringEncryptedType(String, secret, AesGcmEngine), SQLiteDialect()

    def both(seal: Callable[[str], Any], open_: Callable[[Any], str]) -> Run:
        return lambda: [[open_(sealed) for sealed in [seal(text) for text in texts]]]

    def write(text: str) -> str:
        return column.process_bind_param(text, dialect)

    def read(stored: str) -> str:
        return column.process_result_value(stored, dialect)

    def fernet_seal(text: str) -> bytes:
        return fernet.encrypt(text.encode())

    def fernet_open(sealed: bytes) -> str:
        return fernet.decrypt(sealed).decode()

    def tink_seal(text: str) -> bytes:
        return primitive.encrypt(text.encode(), b"Customer.Email")

    def tink_open(sealed: bytes) -> str:
        return primitive.decrypt(sealed, b"Customer.Email").decode()

    return [
        Runner("utils", both(write, read), texts),
        Runner("utils, engine alone", both(engine.encrypt, engine.decrypt), texts),
        Runner("fernet", both(fernet_seal, fernet_open), texts),
        Runner("tink", both(tink_seal, tink_open), texts),
    ]


def _tokens(texts: Sequence[str]) -> list[Runner]:
    phones = [f"+49 (0)30 {number:07d}" for number in range(VALUES)]
    names = [f"Jane {number:07d} O'Brien-Müller" for number in range(VALUES)]
    salt = random.token(16)

    def ours(normaliser: str, values: Sequence[str]) -> Runner:
        key = Key(9, f"index/17/{normaliser}", 1, random.token(32))
        tokenizer = Tokenizer(STORE, 17, normaliser, key, 16)
        return Runner(normaliser, lambda: [tokenizer.tokens(values)])

    def stretched() -> list[list[bytes]]:
        return [[hashlib.pbkdf2_hmac("sha256", text.encode(), salt, 50_000) for text in islice(texts, SLOW)]]

    return [
        ours("exact", texts),
        ours("email", texts),
        ours("phone", phones),
        ours("name", names),
        Runner("pbkdf2", stretched, values=SLOW),
    ]
