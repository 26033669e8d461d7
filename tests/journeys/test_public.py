"""The search that ends every journey finds what is planted: in each public part, in clear, in any form and digest."""

import base64
import hashlib
import hmac
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from guard.audit import Ledger
from guard.events import GUARD, Ending, Event, PrincipalId, RunId
from guard.state import State
from tests.journeys._public import Leak, Watch, look_over, parts_of

NAME, MAIL, STREET, CARD = (
    "Zarathustra Quillfeather",
    "Zara.Q@Example.ORG",
    "17 Obsidian Crescent",
    "4111 1111 1111 1111",
)
SHOP = f"""
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, email TEXT, street TEXT, card TEXT, country TEXT);
INSERT INTO customer VALUES (1, '{NAME}', '{MAIL}', '{STREET}', '{CARD}', 'DE'),
                            (2, 'Ada Ash', 'ada@example.org', '1 Elm Row', '5500 0000 0000 0004', 'FR');
"""


@pytest.fixture
def desk(tmp_path: Path, make_desk: Callable[..., Any]) -> Any:
    """A shop with two customers, and a ledger that says nothing of them."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.executescript(SHOP)
    made = make_desk(f"sqlite:///{tmp_path}/shop.db")
    made.run("data", "scan")
    made.guard("data accept --yes")
    made.guard("audit anchor")
    return made


@pytest.fixture
def watches() -> dict[Path, Watch]:
    """What is planted here is found on purpose: these tests look for themselves."""
    return {}


def found(desk: Any) -> list[Leak]:
    return list(desk.watch.personal(desk.home).leaks(parts_of(desk.home)))


def test_it_knows_the_values_and_finds_none_where_none_is(desk: Any) -> None:
    assert {value for _, value in desk.watch.personal(desk.home).values} >= {NAME, MAIL, STREET, CARD}
    parts = parts_of(desk.home)
    assert len([where for where in parts if where.startswith("entry ")]) > 3
    assert [where for where in parts if where.startswith("checkpoint ")] != []
    assert [where for where in parts if "/anchors/" in where] != []
    assert found(desk) == []


def test_the_end_of_a_journey_looks_at_every_folder(desk: Any, tmp_path: Path) -> None:
    assert look_over(tmp_path, lambda _: desk.watch) == 1
    assert look_over(tmp_path, lambda _: Watch()) == 1
    copy = shutil.copytree(desk.home, tmp_path / "deep/copy")
    (copy / "anchors/late.checkpoint").write_text(hashlib.sha256(MAIL.encode()).hexdigest())
    with pytest.raises(AssertionError, match=r"copy.*customer\.email.*sha256 of value, hex"):
        look_over(tmp_path, lambda _: desk.watch)
    (copy / "anchors/late.checkpoint").unlink()
    assert look_over(tmp_path, lambda _: desk.watch) == 2
    desk.watch.told["audit list"] = NAME.encode()
    with pytest.raises(AssertionError, match=r"audit list.*customer\.name"):
        desk.look_over()


def leaking(desk: Any) -> set[str]:
    return {leak.where for leak in found(desk)}


def test_in_each_member_of_an_entry(desk: Any) -> None:
    digest = hashlib.sha256(MAIL.encode()).hexdigest()
    app = desk.app()
    plain = Event("test.leak", Ending.DONE, GUARD, app.new_run())
    planted = (
        *(replace(plain, facts={"reason": how(value)}) for value in (NAME, MAIL, STREET, CARD) for how in WRITTEN),
        replace(plain, what=NAME),
        replace(plain, who=PrincipalId(NAME)),
        replace(plain, objects=(STREET,)),
        replace(plain, counts={NAME: 1}),
        replace(plain, facts={NAME: "reason"}),
        replace(plain, digests={"email": digest}),
        replace(plain, facts={"reason": digest}),
    )
    first = app.ledger.inspect().size
    for event in planted:
        app.record(lambda tx: None, event)
    app.close()
    assert leaking(desk) == {f"entry {n}" for n in range(first, first + len(planted))}


WRITTEN = (str, str.upper, lambda text: f"before,{text}.", json.dumps, lambda text: text.encode().hex())


def test_in_every_other_part(desk: Any) -> None:
    digest = hashlib.sha256(NAME.encode()).digest()
    with closing(sqlite3.connect(desk.home / "var/state.db")) as state, state:
        state.execute("UPDATE ledger_checkpoint SET note = note || ?", (f"{base64.b64encode(digest).decode()}\n",))
    planted = {
        "anchors/1.checkpoint": MAIL.encode(),
        "anchors/x.tsr": b"\x30\x82" + digest,
        "out/tile/entries/000": json.dumps({"x": CARD}).encode(),
        "out/checkpoint": base64.b64encode(digest),
        "out/keys": NAME.lower().encode(),
        "elsewhere.ndjson": json.dumps({"x": CARD}).encode(),
        "out/7.tlog-proof": base64.b64encode(MAIL.encode()),
        "reports/report.html": f"<td>{STREET}</td>".encode(),
    }
    for name, raw in planted.items():
        path = desk.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    notes = {where for where in leaking(desk) if where.startswith("checkpoint ")}
    assert len(notes) == len([where for where in parts_of(desk.home) if where.startswith("checkpoint ")]) > 0
    assert leaking(desk) - notes == {str(desk.home / name) for name in planted}


def test_in_a_state_that_lies_in_postgresql(tmp_path: Path, postgres_url: str, clock: Any) -> None:
    state = State.create(postgres_url, clock)
    state.attach(Ledger(state, bytes(32)).append)
    state.write(lambda tx: None, Event("test.leak", Ending.DONE, GUARD, RunId("0" * 32), facts={"reason": NAME}))
    state.close()
    (tmp_path / "guard.toml").write_text(f'[state]\nurl = "{postgres_url}"\n')
    watch = Watch()
    watch.add([("customer.name", NAME)])
    assert {leak.where for leak in watch.leaks(parts_of(tmp_path))} == {"entry 0"}


FORMS = {
    "the value": MAIL.encode(),
    "lower": MAIL.lower().encode(),
    "normal form of email": b"zara.q@example.org",
    "normal form of a name": b"zarathustra quillfeather",
    "exact": b"\x00" + MAIL.encode(),
    "digits of a card": b"4111111111111111",
    "the last four": b"1111",
    "json of its column": b'{"email":"Zara.Q@Example.ORG"}',
    "json as Python writes it": b'{"email": "Zara.Q@Example.ORG"}',
    "a country": b"DE",
}
ALGORITHMS = {
    "md5": lambda raw: hashlib.md5(raw, usedforsecurity=False).digest(),
    "sha1": lambda raw: hashlib.sha1(raw, usedforsecurity=False).digest(),
    "sha256": lambda raw: hashlib.sha256(raw).digest(),
    "blake2b": lambda raw: hashlib.blake2b(raw).digest(),
    "blake2b, 32": lambda raw: hashlib.blake2b(raw, digest_size=32).digest(),
    "blake2s": lambda raw: hashlib.blake2s(raw).digest(),
    "blake3": lambda raw: blake3(raw).digest(),
}
ENCODINGS = {
    "hex": lambda raw: raw.hex(),
    "HEX": lambda raw: raw.hex().upper(),
    "hex, cut": lambda raw: raw.hex()[:16],
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
}


def test_as_a_digest_of_any_form_in_any_encoding() -> None:
    watch = Watch()
    watch.add([("customer.email", MAIL), ("customer.name", NAME), ("customer.card", CARD), ("customer.country", "DE")])
    parts = {
        f"{algorithm} of {form}, {encoding}": f'{{"reason":"of {encode(digest(raw))}"}}'.encode()
        for form, raw in FORMS.items()
        for algorithm, digest in ALGORITHMS.items()
        for encoding, encode in ENCODINGS.items()
    }
    parts |= {f"raw {algorithm}": b"\x00\xff" + digest(MAIL.encode()) for algorithm, digest in ALGORITHMS.items()}
    found = {leak.where for leak in watch.leaks(parts)}
    assert sorted(set(parts) - found) == []
    keyed = hmac.new(b"k" * 32, MAIL.encode(), hashlib.sha256).hexdigest()
    others = {"keyed": keyed.encode(), "of another": hashlib.sha256(b"bob@example.org").hexdigest().encode()}
    assert watch.leaks(others) == []
