"""guard's witness answers as C2SP tlog-witness says, never signs two histories, and its client finds who does."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from guard.audit import Ledger, heartbeat, merkle
from guard.audit.anchoring import Book
from guard.audit.anchors.web import Answer, Web
from guard.audit.checkpoint import Checkpoint
from guard.audit.store import Kind, put_kept
from guard.audit.witness import Witness, opened
from guard.audit.witness_server import AT_ONCE, MOST
from guard.clock import SystemClock
from guard.crypto.cosign import Cosigner, WitnessKey
from guard.crypto.sign import Signer, Verifier
from guard.errors import BusyError, ConfigError, DeniedError, InterlockError, TamperedError, UnavailableError
from guard.events import GUARD as GUARD_ITSELF
from guard.events import RunId
from tests.audit.conftest import SEED
from tests.audit.outside import GuardWitness, certificate, served, witness_anchor
from tests.independent.witness import SpecWitness

GUARD = Path(sys.executable).with_name("guard")
ORIGIN = "guard-ledger/x"
LOG = Signer(SEED, ORIGIN)
KIND = "text/plain; charset=utf-8"


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if len(hashes) < 2:
        return hashes[0] if hashes else merkle.EMPTY_ROOT
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return merkle.node_hash(root_of(hashes[:split]), root_of(hashes[split:]))


class Tree:
    """A log: its leaves, its checkpoints and proofs."""

    def __init__(self, seed: bytes = SEED, origin: str = ORIGIN, history: bytes = b"leaf") -> None:
        self.signer = Signer(seed, origin)
        self.leaves = [merkle.leaf_hash(history + bytes([number])) for number in range(200)]

    def fork(self, at: int) -> "Tree":
        """Another history from entry `at` on."""
        made = Tree(origin=self.signer.name, history=b"other")
        made.leaves[:at] = self.leaves[:at]
        return made

    def get(self, level: int, at: int) -> bytes:
        return root_of(self.leaves[at << level : (at + 1) << level])

    def note(self, size: int) -> str:
        text = Checkpoint(self.signer.name, size, root_of(self.leaves[:size])).text()
        return self.signer.sign_note(text)

    def proof(self, old: int, new: int) -> list[bytes]:
        return merkle.consistency_proof(old, new, self.get) if 0 < old < new else []

    def body(self, old: int, new: int, proof: list[bytes] | None = None) -> bytes:
        hashes = self.proof(old, new) if proof is None else proof
        lines = "".join(f"{b64encode(each).decode()}\n" for each in hashes)
        return f"old {old}\n{lines}\n{self.note(new)}".encode()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[GuardWitness]:
    """A witness of one log."""
    with GuardWitness(tmp_path / "one").on([LOG.vkey]) as made:
        yield made


def ask(witness: GuardWitness, body: bytes) -> Answer:
    return Web("witness", witness.url).post("/add-checkpoint", body, KIND, MOST)


def get(witness: GuardWitness, path: str) -> Answer:
    return Web("witness", witness.url).get(path, MOST)


# What it answers ------------------------------------------------------------------------------------------------------


def test_a_log_grows_under_its_cosignatures(one: GuardWitness) -> None:
    tree, key, old = Tree(), WitnessKey.from_vkey(one.vkey), 0
    for size in (1, 2, 3, 7, 8, 64, 65, 128, 200, 200):
        answer = ask(one, tree.body(old, size))
        assert (answer.status, answer.kind) == (200, KIND)
        assert key.lines_for(tree.note(size), answer.body.decode()) == answer.body.decode()
        shown = get(one, f"/checkpoint?origin={quote(ORIGIN, safe='')}")
        assert (shown.status, shown.body.decode()) == (200, tree.note(size) + answer.body.decode())
        old = size
    assert [made.why for made in one.told] == ["cosigned"] * 9 + ["cosigned again"]


def test_each_refusal_has_its_status(one: GuardWitness) -> None:
    tree = Tree()
    assert ask(one, tree.body(0, 10)).status == 200
    for body, status in (
        (Tree(origin="guard-ledger/y").body(10, 20), 404),
        (Tree(seed=b"x" * 32).body(10, 20), 403),
        (tree.body(10, 20).replace(b"\n20\n", b"\n21\n"), 403),
        (tree.body(21, 20), 400),
        (tree.body(10, 20, []), 422),
        (tree.body(10, 20, tree.proof(9, 20)), 422),
        (tree.body(10, 20, [*tree.proof(10, 20), bytes(32)]), 422),
        (tree.fork(5).body(10, 20), 422),
        (tree.fork(9).body(10, 11), 422),
    ):
        assert ask(one, body).status == status
    for old, new in ((0, 20), (9, 20), (11, 20), (20, 20), (0, 5)):
        answer = ask(one, tree.body(old, new))
        assert (answer.status, answer.kind, answer.body) == (409, "text/x.tlog.size", b"10\n")
    answer = ask(one, tree.fork(5).body(10, 10))
    assert (answer.status, answer.body) == (409, b"10\n")
    assert ask(one, tree.body(10, 20)).status == 200


def test_a_first_checkpoint_needs_no_proof_and_takes_none(one: GuardWitness) -> None:
    tree = Tree()
    assert ask(one, tree.body(0, 4, [bytes(32)])).status == 422
    assert ask(one, tree.body(4, 4)).status == 409
    assert get(one, f"/checkpoint?origin={quote(ORIGIN)}").status == 404
    assert ask(one, tree.body(0, 4)).status == 200


def test_an_empty_log_has_the_empty_root(one: GuardWitness) -> None:
    wrong = LOG.sign_note(Checkpoint(ORIGIN, 0, bytes(32)).text())
    assert ask(one, f"old 0\n\n{wrong}".encode()).status == 422
    assert ask(one, Tree().body(0, 0)).status == 200
    assert ask(one, Tree().body(0, 3)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"",
        lambda body: b"\xff" + body,
        lambda body: body.replace(b"old 0", b"old 00"),
        lambda body: body.replace(b"old 0", b"old -1"),
        lambda body: body.replace(b"old 0", b"old"),
        lambda body: body.replace(b"old 0", b"new 0"),
        lambda body: body.replace(b"old 0\n", b"old 0 \n"),
        lambda body: body.replace(b"old 0\n", b"old 0\nAAAA\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\nnot base64\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + (b64encode(bytes(32)) + b"\n") * 64),
        lambda body: body.replace(b"old 0\n\n", b"old 0\n"),
        lambda body: body[:-1],
        lambda body: body.replace(b"\n3\n", b"\n03\n"),
        lambda body: body.split(b"\xe2")[0],
        lambda body: b"old 0\n\n" + b"text\n\n" + body,
    ],
    ids=range(15),
)
def test_what_is_malformed_is_a_bad_request(one: GuardWitness, change: Callable[[bytes], bytes]) -> None:
    assert ask(one, change(Tree().body(0, 3))).status == 400
    assert ask(one, Tree().body(0, 3)).status == 200


def test_two_keys_of_one_log_are_both_good_and_logs_are_kept_apart(tmp_path: Path) -> None:
    old, new, other = Tree(), Tree(seed=b"n" * 32), Tree(origin="guard-ledger/y")
    vkeys = [each.signer.vkey for each in (old, new, other)]
    witness = GuardWitness(tmp_path)
    with witness.on(vkeys[:1]):
        assert ask(witness, old.body(0, 5)).status == 200
        assert ask(witness, new.body(5, 9)).status == 403
    with witness.on(vkeys):
        assert ask(witness, new.body(5, 9)).status == 200
        both = old.note(12) + new.note(12).split("\n\n")[1]
        head = old.body(9, 12).split(b"\n\n")[0]
        assert ask(witness, head + b"\n\n" + both.encode()).status == 200
        broken = both.replace(both.split(" ")[-1][8:16], "AAAAAAAA")
        assert ask(witness, old.body(12, 13).split(b"\n\n")[0] + b"\n\n" + broken.encode()).status in {403, 409}
        assert ask(witness, other.body(0, 3)).status == 200
        assert get(witness, "/logs").body.decode().split() == [ORIGIN, "guard-ledger/y"]
        assert get(witness, "/vkey").body.decode() == f"{witness.vkey}\n"
        assert ask(witness, old.body(12, 20)).status == 200


def test_of_two_signatures_of_known_keys_both_must_be_good(tmp_path: Path) -> None:
    """C2SP signed-note: a known key with a wrong signature spoils the note."""
    first, second = Tree(), Tree(seed=b"n" * 32)
    witness = GuardWitness(tmp_path)
    with witness.on([first.signer.vkey, second.signer.vkey]):
        wrong = second.note(4).split("\n\n")[1]  # the second key's, over another text
        body = first.body(0, 3) + wrong.encode()
        assert ask(witness, body).status == 403
        stranger = Tree(seed=b"z" * 32).note(3).split("\n\n")[1]
        assert ask(witness, first.body(0, 3) + stranger.encode()).status == 200
        shown = get(witness, f"/checkpoint?origin={quote(ORIGIN)}").body.decode()
        assert stranger not in shown  # what a stranger signed is not handed on


def test_of_many_at_once_only_one_history_is_signed(one: GuardWitness) -> None:
    tree = Tree()
    assert ask(one, tree.body(0, 10)).status == 200
    bodies = [tree.fork(10).body(10, 20), *(tree.body(10, size) for size in range(11, 26))]
    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(answer.status for answer in pool.map(lambda body: ask(one, body), bodies))
    assert statuses == [200] + [409] * 15


# How it keeps ---------------------------------------------------------------------------------------------------------


def test_its_key_is_its_own_and_stays(tmp_path: Path) -> None:
    witness = GuardWitness(tmp_path / "w", "witness.example/a")
    with witness.on([LOG.vkey]):
        first = witness.vkey
    mode = stat.S_IMODE((tmp_path / "w/witness.key").stat().st_mode)
    assert (mode, stat.S_IMODE((tmp_path / "w").stat().st_mode)) == (0o600, 0o700)
    assert first.startswith("witness.example/a+")
    assert Cosigner.from_skey((tmp_path / "w/witness.key").read_text()).vkey == first
    witness.name = "another"
    with witness.on([LOG.vkey]):
        assert witness.vkey == first
    (tmp_path / "w/witness.key").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"), witness.on([LOG.vkey]):
        pass
    (tmp_path / "w/witness.key").chmod(0o600)
    (tmp_path / "w/witness.key").write_text("x")
    with pytest.raises(ConfigError, match="not the secret key"), witness.on([LOG.vkey]):
        pass


def test_a_lost_key_is_not_replaced_behind_what_it_signed(tmp_path: Path) -> None:
    witness = GuardWitness(tmp_path)
    with witness.on([LOG.vkey]):
        ask(witness, Tree().body(0, 3))
    (tmp_path / "witness.key").unlink()
    with pytest.raises(InterlockError, match=r"witness\.key is gone"), witness.on([LOG.vkey]):
        pass


def test_a_second_process_is_kept_out(one: GuardWitness) -> None:
    with pytest.raises(BusyError, match="witness is busy"), opened(one.folder, "x", [], SystemClock()):
        pass


def test_what_was_cosigned_survives(tmp_path: Path) -> None:
    witness, tree = GuardWitness(tmp_path), Tree()
    with witness.on([LOG.vkey]):
        assert ask(witness, tree.body(0, 30)).status == 200
    with witness.on([LOG.vkey]):
        assert ask(witness, tree.body(0, 20)).body == b"30\n"
        assert ask(witness, tree.body(30, 31)).status == 200


def test_a_record_that_was_changed_is_not_signed_over(one: GuardWitness) -> None:
    tree = Tree()
    ask(one, tree.body(0, 9))
    (record,) = one.folder.glob("*.checkpoint")
    good = record.read_bytes()
    for at in range(0, len(good), 7):
        flipped = bytearray(good)
        flipped[at] ^= 1
        record.write_bytes(bytes(flipped))
        status = ask(one, tree.body(9, 12)).status
        if status == 200:  # a bit of base64 that stands for nothing, or of the log's own line
            assert get(one, f"/checkpoint?origin={quote(ORIGIN)}").status == 200
            record.write_bytes(good)
            continue
        assert status == get(one, f"/checkpoint?origin={quote(ORIGIN)}").status == 500
    record.write_bytes(good)
    assert ask(one, tree.body(9, 12)).status == 200
    assert any("is not what this witness wrote" in made.why for made in one.told)


def test_killed_between_disk_and_answer_it_knows_what_it_signed(tmp_path: Path, fault_points) -> None:
    tree, logs = Tree(), [Verifier.from_vkey(LOG.vkey)]

    def work() -> None:
        with opened(tmp_path, "w", logs, SystemClock()) as witness:
            witness.add(tree.body(0, 9))

    assert fault_points.killed(work, 1)
    with opened(tmp_path, "w", logs, SystemClock()) as witness:
        assert witness.add(tree.fork(3).body(0, 9)).status == 409
        assert witness.add(tree.fork(3).body(9, 9)).status == 409
        assert witness.add(tree.body(9, 10)).status == 200


def test_a_full_disk_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path, "w", [Verifier.from_vkey(LOG.vkey)], SystemClock()) as witness:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(UnavailableError, match="No space left"):
                witness.add(Tree().body(0, 9))
        assert witness.newest(ORIGIN) is None
        assert witness.add(Tree().fork(1).body(0, 9)).status == 200


# The door -------------------------------------------------------------------------------------------------------------


def raw(witness: GuardWitness, data: bytes) -> bytes:
    host, port = witness.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        found = b""
        while part := sock.recv(65536):
            found += part
        return found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", 413),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"PUT /add-checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_what_is_no_request_ends_in_its_status(one: GuardWitness, request_: bytes, status: int) -> None:
    found = raw(one, request_)
    assert f" {status} ".encode() in found.split(b"\r\n")[0] or found.startswith(str(status).encode())
    assert ask(one, Tree().body(0, 3)).status == 200


def test_a_request_that_breaks_off_is_nothing(one: GuardWitness) -> None:
    assert raw(one, b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold 0") == b""
    assert one.told == []


def test_several_requests_go_over_one_connection(one: GuardWitness) -> None:
    tree, connection = Tree(), http.client.HTTPConnection(one.url.removeprefix("http://"))
    for old, new in ((0, 3), (3, 7), (7, 9)):
        connection.request("POST", "/add-checkpoint", tree.body(old, new))
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()


def test_too_many_at_once_are_turned_away(one: GuardWitness) -> None:
    host, port = one.url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port)), 10) for _ in range(AT_ONCE + 8)]
    try:
        refused = 0
        for sock in held:
            sock.sendall(b"GET /vkey HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in held:
            try:
                refused += not sock.recv(10)
            except ConnectionResetError:
                refused += 1
        assert refused == 8
    finally:
        for sock in held:
            sock.close()


def test_it_serves_https_itself(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path / "tls")
    with GuardWitness(tmp_path / "w").on([LOG.vkey], context) as witness:
        answer = Web("witness", witness.url, ca).post("/add-checkpoint", Tree().body(0, 3), KIND, MOST)
        assert answer.status == 200


# As a command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `guard audit witness` in a folder without guard.toml."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            [GUARD, "--json", "audit", "witness", "--listen", "127.0.0.1:0", "--store", "w", *words],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(made)
        return made

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_the_command_needs_no_state_and_ends_cleanly(command: Callable[..., subprocess.Popen[str]]) -> None:
    witness = command("--log", LOG.vkey, "--name", "witness.example/cli")
    begun = json.loads(witness.stdout.readline())
    assert begun["vkey"].startswith("witness.example/cli+")
    web = Web("witness", begun["url"])
    assert web.post("/add-checkpoint", Tree().body(0, 3), KIND, MOST).status == 200
    assert web.post("/add-checkpoint", b"nonsense", KIND, MOST).status == 400
    told = [json.loads(witness.stdout.readline()) for _ in range(2)]
    assert [(each["status"], each["origin"], each["size"]) for each in told] == [(200, ORIGIN, 3), (400, None, None)]
    second = command("--log", LOG.vkey)
    _, said = second.communicate(timeout=60)
    assert (second.returncode, "witness is busy" in said) == (12, True)
    witness.send_signal(signal.SIGTERM)
    _, said = witness.communicate(timeout=60)
    assert witness.returncode == 0
    assert "Traceback" not in said


def test_the_command_reads_a_file_of_logs(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    other = Signer(b"o" * 32, "guard-ledger/other")
    (tmp_path / "logs").write_text(f"# two logs\n{LOG.vkey}  # the shop\n\n{other.vkey}\n")
    witness = command("--logs", "logs")
    url = json.loads(witness.stdout.readline())["url"]
    assert Web("witness", url).get("/logs", MOST).body.decode().split() == [ORIGIN, "guard-ledger/other"]
    witness.send_signal(signal.SIGINT)
    witness.communicate(timeout=60)
    assert witness.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name at least one log"),
        (("--log", "x"), "not an Ed25519 verifier key"),
        (("--logs", "nowhere"), "cannot read nowhere"),
        (("--log", LOG.vkey, "--listen", "nowhere"), "HOST:PORT"),
        (("--log", LOG.vkey, "--listen", "0.0.0.0:0"), "is reached from elsewhere"),
        (("--log", LOG.vkey, "--listen", "192.0.2.1:1", "--no-tls"), "cannot listen at 192.0.2.1:1"),
        (("--log", LOG.vkey, "--tls-cert", "x"), "go together"),
        (("--log", LOG.vkey, "--tls-cert", "x", "--tls-key", "y"), "no certificate with its key"),
        (("--log", LOG.vkey, "--name", "a b"), "cannot be a witness's name"),
    ],
)
def test_what_it_cannot_start_with_is_said(
    command: Callable[..., subprocess.Popen[str]], words: tuple[str, ...], said: str
) -> None:
    done = command(*words)
    _, error = done.communicate(timeout=60)
    assert done.returncode == 2
    assert said in error


# Two witnesses and a forger -------------------------------------------------------------------------------------------


def test_a_fork_shown_to_two_witnesses_is_found(house, make_event: Callable, tmp_path: Path) -> None:
    """Who holds the key keeps two ledgers, and shows each to its own witness. Whoever asks both finds out."""
    for number in range(4):
        house.add(make_event(number))
    one, two = GuardWitness(tmp_path / "1", "witness.example/1"), GuardWitness(tmp_path / "2", "witness.example/2")
    with one.on([house.ledger.vkey]), two.on([house.ledger.vkey]):
        first, second = (witness_anchor(name, each.url, each.vkey) for name, each in (("one", one), ("two", two)))
        assert Ledger(house.state, SEED, [first, second]).anchor().held == ("one", "two")
        house.state.copy_to(house.folder / "fork.db")
        for number in range(4, 9):
            house.add(make_event(number))
        assert Ledger(house.state, SEED, [first]).anchor().held == ("one",)

        from guard.state import State

        state = State.open(f"sqlite:///{house.folder}/fork.db", house.clock)
        forger = Ledger(state, SEED)
        state.attach(forger.append)
        for number in range(20, 28):
            state.write(lambda tx: None, make_event(number))
        assert Ledger(state, SEED, [second]).anchor().held == ("two",)

        for store, blamed in ((house.state, "two"), (state, "one")):
            with pytest.raises(TamperedError, match=f"anchor {blamed}"):
                Ledger(store, SEED, [first, second]).anchor()
        shown = [
            get(each, f"/checkpoint?origin={quote(forger.vkey.split('+')[0])}").body.decode() for each in (one, two)
        ]
        sizes = [note.split("\n")[1] for note in shown]
        assert sizes == ["9", "12"]  # both signed by the ledger's key: the proof of who forged
        state.close()


# The client and strange witnesses -------------------------------------------------------------------------------------


@pytest.fixture
def shown(house, make_event: Callable) -> Callable[..., Ledger]:
    """A ledger of three entries with a witness that answers as it is told."""
    for number in range(3):
        house.add(make_event(number))

    def make(url: str, vkey: str) -> Ledger:
        return Ledger(house.state, SEED, [witness_anchor("strange", url, vkey)])

    return make


@pytest.mark.parametrize(
    ("status", "body", "kind", "error", "said"),
    [
        (403, b"", "text/plain", DeniedError, "knows the log .* under another key"),
        (404, b"", "text/plain", ConfigError, "does not know the log"),
        (400, b"", "text/plain", UnavailableError, "calls the request malformed"),
        (500, b"", "text/plain", UnavailableError, "answers 500"),
        (302, b"", "text/plain", UnavailableError, "answers 302"),
        (409, b"0\n", "text/x.tlog.size", UnavailableError, "refuses the size that it names itself"),
        (409, b"2\n", "text/x.tlog.size", UnavailableError, "refuses the size that it names itself"),
        (409, b"x\n", "text/x.tlog.size", UnavailableError, "answers 409"),
        (409, b"\xff\n", "text/x.tlog.size", UnavailableError, "answers 409"),
        (409, b"", "text/x.tlog.size", UnavailableError, "answers 409"),
        (409, b"9" * 40 + b"\n", "text/x.tlog.size", UnavailableError, "answers 409"),
        (409, b"9\n", "text/x.tlog.size", TamperedError, "ledger entries 3 to 8 gone: anchor strange saw 9"),
        (422, b"", "text/plain", TamperedError, "refuses the proof"),
        (200, b"", "text/plain", UnavailableError, "without a cosignature of its key"),
        (200, b"\xff", "text/plain", UnavailableError, "without a cosignature of its key"),
        (200, b"nonsense\n", "text/plain", UnavailableError, "without a cosignature of its key"),
    ],
)
def test_each_answer_is_a_clear_error_and_nothing_is_kept(
    shown, house, status: int, body: bytes, kind: str, error: type[Exception], said: str
) -> None:
    vkey = Cosigner(bytes(32), "strange").vkey
    with served(lambda *_: (status, kind, body)) as url:
        ledger = shown(url, vkey)
        with pytest.raises(error, match=said):
            ledger.anchors[0].put(3, ledger.checkpoint(), known=ledger.book)
        with pytest.raises((TamperedError, UnavailableError)):
            ledger.anchor()
        assert list(ledger.book.kept()) == []


def test_a_cosignature_of_another_key_or_another_text_is_none(shown, house) -> None:
    mine, other = Cosigner(bytes(32), "strange"), Cosigner(b"o" * 32, "strange")
    text = house.ledger.checkpoint().split("\n\n")[0] + "\n"
    now = SystemClock().now()
    for line in (other.cosign(text, now), mine.cosign(text.replace("\n3\n", "\n4\n"), now)):
        with (
            served(lambda *_, line=line: (200, KIND, line.encode())) as url,
            pytest.raises(UnavailableError, match="without a cosignature of its key"),
        ):
            shown(url, mine.vkey).anchor()
    with served(lambda *_: (200, KIND, (other.cosign(text, now) + mine.cosign(text, now)).encode())) as url:
        ledger = shown(url, mine.vkey)
        assert ledger.anchor().held == ("strange",)
        (kept,) = ledger.book.kept()
        assert kept == ledger.checkpoint() + mine.cosign(text, now)
        assert ledger.cosigned() == kept


def test_a_kept_cosignature_that_was_changed_is_found(shown, house, tmp_path: Path) -> None:
    from sqlalchemy import update

    from guard.audit.store import CHECKPOINT

    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        ledger.anchor()
        (kept,) = ledger.book.kept()
        head, _, body = kept.rpartition(" ")
        raw = b64decode(body)
        for at in range(len(raw)):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << at % 8
            note = f"{head} {b64encode(flipped).decode()}\n"
            with house.state.database.writer.begin() as tx:
                tx.execute(update(CHECKPOINT).where(CHECKPOINT.c.kind == "anchored").values(note=note))
            if at < 4:  # the key id: it is then nobody's signature, and vouches for nothing
                assert ledger.inspect().anchored == 0
                continue
            with pytest.raises(TamperedError, match=r"cosignature of witness\.example/one on this note is wrong"):
                ledger.inspect()


def test_a_line_of_a_key_that_is_none_of_ours_vouches_for_nothing(shown, house, tmp_path: Path) -> None:
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        house.ledger.anchor()
        (kept,) = house.ledger.book.kept()
        fake = f"{kept}\u2014 fake.example/w AAAAAAAAAAAA\n"
        house.state.write(lambda tx: put_kept(tx, 3, Kind.ANCHORED, fake))
        ledger = shown(witness.url, witness.vkey)
        with pytest.raises(ConfigError, match="no witness has cosigned a checkpoint yet"):
            ledger.cosigned()
        assert ledger.inspect().anchored == 0


def test_a_wrong_cosignature_on_an_older_note_than_the_newest_is_found(
    shown, house, make_event: Callable, tmp_path: Path
) -> None:
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        ledger.anchor()
        (old,) = ledger.book.kept()
        house.add(make_event(4))
        ledger.anchor()
        new, _ = ledger.book.kept()
        assert ledger.inspect().anchored == 4
        moved = old.rpartition("\u2014")[0] + new[new.rindex("\u2014") :]
        house.state.write(lambda tx: put_kept(tx, 3, Kind.ANCHORED, moved))
        with pytest.raises(TamperedError, match=r"ledger entry 2: .* cosignature of witness\.example/one .* is wrong"):
            ledger.inspect()
        assert ledger.inspect(since=4).anchored == 4


def test_a_witness_that_has_forgotten_goes_on_and_is_told_of(shown, house, make_event: Callable, tmp_path) -> None:
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        ledger.anchor()
        (record,) = (tmp_path / "w").glob("*.checkpoint")
        old = record.read_bytes()
        house.add(make_event(4), make_event(5))
        ledger.anchor()
        record.write_bytes(old)  # its operator brings an older disk back
        (wrong,) = ledger.anchors[0].check(ledger.book)
        assert wrong == "it has forgotten: it cosigned 5 entries, and says now that it saw 3"
        assert ledger.verify().anchored == 5  # what it signed, it signed
        house.add(make_event(6))
        assert ledger.anchor().held == ("strange",)
        assert ledger.anchors[0].check(ledger.book) == ()


def test_a_witness_that_does_not_know_the_log_is_named_by_doctor(shown, house, tmp_path: Path) -> None:
    other = Signer(b"o" * 32, "guard-ledger/other")
    with GuardWitness(tmp_path / "w").on([other.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        (wrong,) = ledger.anchors[0].check(ledger.book)
        assert wrong.startswith(f"it does not know the log {ledger.vkey.split('+')[0]}")
        assert "guard audit checkpoint --vkey" in wrong


def test_another_process_that_anchors_meanwhile_is_no_forger(shown, house, make_event: Callable, tmp_path) -> None:
    """The checkpoint is read, then another process writes on and anchors more: the witness knows more, rightly."""
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        old = ledger.checkpoint()
        house.add(make_event(4))
        ledger.anchor()
        with pytest.raises(UnavailableError, match="has seen 4 entries meanwhile"):
            ledger.anchors[0].put(3, old, known=ledger.book)


def test_killed_between_witness_and_ledger_nothing_is_lost_or_believed(
    shown, house, make_event: Callable, tmp_path: Path, fault_points
) -> None:
    """SIGKILL at every point of an anchoring: the witness may know more than the ledger keeps, never less."""
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        points = fault_points.passed(ledger.anchor)
        assert "audit.anchor.held" in points
        for nth in range(1, len(points) + 1):
            house.add(make_event(nth))
            kept = list(ledger.book.kept())
            assert fault_points.killed(ledger.anchor, nth)
            again = Ledger(house.state, SEED, ledger.anchors)
            assert list(again.book.kept()) == kept
            assert again.inspect().anchored == 3
        house.add(make_event(9))
        assert again.anchor().held == ("strange",)
        assert again.verify().tail == 0


def test_the_independent_witness_knows_nothing_of_guard() -> None:
    source = Path(__file__).parents[1].joinpath("independent/witness.py").read_text()
    assert "import guard" not in source
    assert "from guard" not in source


def test_both_witnesses_answer_alike(tmp_path: Path) -> None:
    """Every pair of sizes, true proofs and false ones: status and what is kept are the same."""
    tree, fork = Tree(), Tree().fork(6)
    with GuardWitness(tmp_path).on([LOG.vkey]) as mine:
        theirs = SpecWitness("x", bytes(32), [LOG.vkey], lambda: 1)
        sizes = (0, 3, 6, 7, 8, 13, 20)
        bodies = [each.body(old, new) for new in sizes[1:] for old in sizes for each in (fork, tree) if old <= new]
        for body in bodies:
            status, _, said = theirs.answer("POST", "/add-checkpoint", body)
            answer = ask(mine, body)
            assert answer.status == status
            assert status != 409 or answer.body == said
        assert theirs.seen[ORIGIN][0] == 20


def test_it_never_answers_two_threads_with_two_histories(tmp_path: Path) -> None:
    tree, fork = Tree(), Tree().fork(0)
    with opened(tmp_path, "w", [Verifier.from_vkey(LOG.vkey)], SystemClock()) as witness:
        found = race(witness, [tree.body(0, 9), fork.body(0, 9)])
    assert sorted(found) == [200, 409]


def race(witness: Witness, bodies: list[bytes]) -> list[int]:
    gate, found = threading.Barrier(len(bodies)), []

    def run(body: bytes) -> None:
        gate.wait()
        found.append(witness.add(body).status)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_witness_may_forget_the_key_of_a_log_that_is_closed(house, make_event: Callable, tmp_path: Path) -> None:
    house.add(make_event(0))
    first = house.ledger.vkey
    witness = GuardWitness(tmp_path / "w")
    with witness.on([first]):
        Ledger(house.state, house.keys, [witness_anchor("far", witness.url, witness.vkey)]).anchor()
    house.rekey()
    house.add(house.ledger.restart().event(GUARD_ITSELF, RunId("ab" * 16)))
    strange = Verifier.from_vkey(house.ledger.vkey).named(first.split("+")[0]).vkey  # the new key, the old log's name
    with witness.on([strange, house.ledger.vkey]):
        ledger = Ledger(house.state, house.keys, [witness_anchor("far", witness.url, witness.vkey)])
        assert ledger.anchor().held == ("far",)
        assert ledger.verify().tail == 0


def test_without_a_ledger_at_hand_nothing_is_proved(shown, house, tmp_path: Path) -> None:
    with GuardWitness(tmp_path / "w").on([house.ledger.vkey]) as witness:
        ledger = shown(witness.url, witness.vkey)
        (anchor,) = ledger.anchors
        assert (anchor.newest(), anchor.check()) == ({}, ())
        assert anchor.put(3, ledger.checkpoint())
        house.add(heartbeat(GUARD_ITSELF, RunId("ab" * 16)))
        with pytest.raises(UnavailableError, match="there is no ledger at hand to prove that 4 entries begin with 3"):
            anchor.put(4, ledger.checkpoint())


def test_a_witness_that_names_another_size_each_time_is_left_for_now(shown, house) -> None:
    sizes = iter([b"1\n", b"2\n"])
    with served(lambda *_: (409, "text/x.tlog.size", next(sizes))) as url:
        ledger = shown(url, Cosigner(bytes(32), "strange").vkey)
        with pytest.raises(UnavailableError, match="is shown other checkpoints at the same time"):
            ledger.anchors[0].put(3, ledger.checkpoint(), known=ledger.book)


def test_what_retention_removed_cannot_be_proved_to_a_witness_that_slept(shown, house) -> None:
    class Pruned(Book):
        def prove(self, old: int, new: int) -> list[bytes]:
            raise ConfigError("entries 0 to 0: removed under retention")

    with served(lambda *_: (409, "text/x.tlog.size", b"1\n")) as url:
        ledger = shown(url, Cosigner(bytes(32), "strange").vkey)
        with pytest.raises(UnavailableError, match="cannot be shown how they go on: entries 0 to 0: removed") as told:
            ledger.anchors[0].put(3, ledger.checkpoint(), known=Pruned(house.state))
    assert told.value.hint == "its operator has to take the log in anew"


def test_a_store_that_cannot_be_used_is_said(one: GuardWitness, tmp_path: Path) -> None:
    ask(one, Tree().body(0, 3))
    (record,) = one.folder.glob("*.checkpoint")
    record.unlink()
    record.mkdir()
    assert ask(one, Tree().body(0, 3)).status == 500
    assert "cannot read" in one.told[-1].why
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make"), opened(tmp_path / "file", "x", [], SystemClock()):
        pass


def test_a_connection_that_takes_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no thread for ever."""
    monkeypatch.setattr("guard.audit.witness_server.ALL_SECONDS", 0.3)
    with GuardWitness(tmp_path).on([LOG.vkey]) as witness:
        host, port = witness.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as sock:
            sock.sendall(b"POST /add-checkpoint HTTP/1.1\r\n")
            assert sock.recv(10) == b""
