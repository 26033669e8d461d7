"""`verify.py`, which auditors get, run by itself: it accepts what is right, finds every change, and knows no guard."""

import ast
import json
import shutil
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from guard.audit import Ledger, proof
from guard.audit.store import Kind, put_kept
from guard.clock import SystemClock
from guard.crypto.cosign import Cosigner, WitnessKey
from guard.crypto.sign import split_note
from tests.audit.auditor import VERIFY, Shop, check, flip
from tests.audit.outside import Authority, GuardWitness, witness_anchor

WITNESS = Cosigner(b"w" * 32, "witness.example/w1")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Path]]:
    """A ledger of 600 entries, its key changed at 300, cosigned at 400, and the export of it."""
    folder = tmp_path_factory.mktemp("told")
    shop = Shop(folder / "shop", witnesses=(WitnessKey.from_vkey(WITNESS.vkey),))
    shop.add(300)
    shop.rekey()
    shop.add(99)
    note = shop.ledger.checkpoint()
    line = WITNESS.cosign(split_note(note)[0], datetime(2026, 1, 6, tzinfo=UTC))
    shop.state.write(lambda tx: put_kept(tx, 400, Kind.ANCHORED, note + line))
    (folder / "kept.checkpoint").write_text(note)
    shop.add(200)
    shop.export(folder / "out")
    yield shop, folder / "out"
    shop.state.close()


@pytest.fixture
def out(told: tuple[Shop, Path], tmp_path: Path) -> Path:
    """A copy of the export, to be changed."""
    shutil.copytree(told[1], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def tessera(shared: Path, tmp_path: Path) -> tuple[Path, str]:
    """Somebody else's log as a folder, and its vkey."""
    log = json.loads((shared / "vectors/rfc6962/tlog_tiles_log.json").read_text())
    for name, body in log["files"].items():
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(body))
    return tmp_path / "log", log["vkey"]


def test_it_stands_alone() -> None:
    tree = ast.parse(VERIFY.read_text(), feature_version=(3, 8))
    imported = {name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names}
    imported |= {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    assert imported == {
        *("__future__", "argparse", "base64", "calendar", "hashlib", "json", "re", "subprocess", "sys"),
        *("tempfile", "time"),
        *("pathlib", "typing"),
    }


def test_somebody_elses_whole_log_is_right_at_every_size(tessera: tuple[Path, str]) -> None:
    folder, vkey = tessera
    older = [word for size in range(1, 16) for word in ("--older", str(folder / f"checkpoint.{size}"))]
    code, said, wrong = check(folder, "--vkey", vkey, *older)
    assert (code, wrong) == (0, "")
    assert said.count("are the first of these") == 15
    code, _, wrong = check(folder, "--vkey", vkey, "--older", str(folder / "checkpoint.0"))
    assert code == 11
    assert "0 entries" in wrong


def test_a_flipped_byte_of_somebody_elses_log_is_found(tessera: tuple[Path, str]) -> None:
    folder, vkey = tessera
    paths = [path for path in folder.rglob("*") if path.is_file() and "checkpoint." not in path.name]
    assert len(paths) == 31
    for path in paths:
        at = path.stat().st_size // 2
        flip(path, at)
        assert check(folder, "--vkey", vkey)[0] == 11, path
        flip(path, at)
    assert check(folder, "--vkey", vkey)[0] == 0


def test_our_export_is_right_by_either_key_and_by_the_name_of_any_log(told: tuple[Shop, Path]) -> None:
    shop, out = told
    for vkey in (shop.vkey(0), shop.vkey(1), shop.ledger.vkey):
        code, said, wrong = check(out, "--vkey", vkey)
        assert (code, wrong) == (0, "")
        assert said.startswith(
            f"600 entries of {vkey.split('+')[0]}, root {shop.ledger.inspect().root}: all is right\n"
        )
    stranger = Shop(out.parent / "stranger")
    stranger.seeds = [b"s" * 32]
    code, _, wrong = check(out, "--vkey", stranger.vkey(0))
    assert (code, wrong) == (11, "WRONG: the trusted key is none of those that signed this ledger\n")
    stranger.state.close()


def test_the_key_beside_is_used_with_a_warning(told: tuple[Shop, Path]) -> None:
    code, said, wrong = check(told[1])
    assert code == 0
    assert "all is right" in said
    assert wrong.startswith(f"WARNING: {told[1]}/vkey lay with what it has to prove")
    assert check(told[1], "--vkey", str(told[1] / "vkey"))[::2] == (0, "")
    assert check(told[1], program=told[1] / "verify.py")[0] == 0


def test_a_flipped_byte_of_any_file_is_found(told: tuple[Shop, Path], out: Path) -> None:
    vkey = told[0].vkey(0)
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(paths) == 7 + 7
    for path in paths:
        size = path.stat().st_size
        for at in {0, size // 3, size // 2, size - 1}:
            flip(path, at)
            code, said, wrong = check(out, "--vkey", vkey)
            assert code == 11, (path, at, said, wrong)
            assert wrong.startswith("WRONG: ")
            flip(path, at)
    assert check(out, "--vkey", vkey)[0] == 0


def test_a_changed_entry_is_named(told: tuple[Shop, Path], out: Path) -> None:
    bundle = out / "tile/entries/001"
    flip(bundle, bundle.read_bytes().index(b'"n":300,') + 8)
    assert check(out, "--vkey", told[0].vkey(0))[2] == (
        "WRONG: tile/entries/001: entry 300 is not the one that was hashed\n"
    )


def test_what_is_not_whole_is_never_right(told: tuple[Shop, Path], out: Path, tmp_path: Path) -> None:
    vkey = told[0].vkey(0)
    (tmp_path / "empty").mkdir()
    code, _, wrong = check(tmp_path / "empty", "--vkey", vkey)
    assert (code, wrong) == (11, "WRONG: checkpoint is missing: the export is not whole\n")
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.name == "anchored":
            continue
        path.rename(tmp_path / "away")
        code, _, wrong = check(out, "--vkey", vkey)
        assert code == 11, path
        (tmp_path / "away").rename(path)
    for strange in ("tile/0/003", "tile/0/.002.17.new", "tile/0/002.p/200", "tile/2/000.p/1", "tile/x"):
        path = out / strange
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        code, _, wrong = check(out, "--vkey", vkey)
        assert (code, strange in wrong) == (11, True), strange
        path.unlink()
    assert check(out, "--vkey", vkey)[0] == 0


def test_a_cut_behind_the_newest_checkpoint_is_found_by_one_that_was_kept(
    told: tuple[Shop, Path], tmp_path: Path
) -> None:
    """Who has the key cuts the end off and signs anew: only what an auditor kept tells."""
    shop, out = told
    newest = tmp_path / "newest"
    newest.write_bytes((out / "checkpoint").read_bytes())
    forger = Shop(tmp_path / "forger")
    forger.add(300)
    forger.rekey()
    forger.add(150)
    forger.export(tmp_path / "cut")
    assert check(tmp_path / "cut", "--vkey", shop.vkey(0))[0] == 0
    code, _, wrong = check(tmp_path / "cut", "--vkey", shop.vkey(0), "--older", str(newest))
    assert (code, wrong) == (11, f"WRONG: {newest}: 600 entries, but the folder has 451\n")
    forger.number += 1
    forger.add(200)
    forger.export(tmp_path / "other")
    code, _, wrong = check(tmp_path / "other", "--vkey", shop.vkey(0), "--older", str(newest))
    assert (code, wrong) == (11, f"WRONG: {newest}: the first 600 entries here are others\n")
    forger.state.close()


def test_an_older_checkpoint_is_the_begin_of_the_folder(told: tuple[Shop, Path], tmp_path: Path) -> None:
    shop, out = told
    kept = out.parent / "kept.checkpoint"
    code, said, _ = check(out, "--vkey", shop.vkey(0), "--older", str(kept))
    assert code == 0
    assert f"{kept}: its 400 entries are the first of these\n" in said
    changed = tmp_path / "changed"
    changed.write_bytes(kept.read_bytes())
    flip(changed, kept.read_bytes().index(b"400"))
    code, _, wrong = check(out, "--vkey", shop.vkey(0), "--older", str(changed))
    assert (code, wrong) == (11, f"WRONG: {changed}: the signature is wrong\n")


def test_the_old_key_signs_nothing_behind_its_change(told: tuple[Shop, Path], out: Path) -> None:
    """The thief of a key that was given up signs the newest tree with it."""
    from guard.crypto.sign import Signer

    shop, _ = told
    text = split_note((out / "checkpoint").read_text())[0]
    (out / "checkpoint").write_text(Signer(shop.seeds[0], text.split("\n")[0]).sign_note(text))
    code, _, wrong = check(out, "--vkey", shop.vkey(0))
    assert code == 11
    assert "not signed by the key that signs 600 entries" in wrong
    (out / "keys").write_bytes(b"")
    assert check(out, "--vkey", shop.vkey(0))[0] == 11


def test_a_witness_who_is_named_has_to_have_cosigned(told: tuple[Shop, Path], out: Path) -> None:
    shop, _ = told
    code, said, _ = check(out, "--vkey", shop.vkey(0), "--witness", WITNESS.vkey)
    assert code == 0
    assert "anchored: witness.example/w1 saw its 400 entries at 2026-01-06T00:00:00Z\n" in said
    other = Cosigner(b"o" * 32, "witness.example/w2")
    code, _, wrong = check(out, "--vkey", shop.vkey(0), "--witness", WITNESS.vkey, "--witness", other.vkey)
    assert (code, wrong) == (11, "WRONG: no checkpoint here is cosigned by witness.example/w2\n")
    note = (out / "anchored").read_text()
    name, signature = note.rstrip().rsplit(" ", 1)
    raw = bytearray(b64decode(signature))
    raw[11] ^= 1  # the last byte of the time
    changed = out.parent / "changed"
    changed.write_text(f"{name} {b64encode(raw).decode()}\n")
    code, _, wrong = check(out, "--vkey", shop.vkey(0), "--witness", WITNESS.vkey, "--older", str(changed))
    assert (code, wrong) == (11, f"WRONG: {changed}: the cosignature of witness.example/w1 is wrong\n")


def test_what_guards_own_witness_cosigned_is_in_the_export(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.add(30)
    with GuardWitness(tmp_path / "witness").on([shop.ledger.vkey]) as witness:
        ledger = Ledger(shop.state, shop.seeds[0], [witness_anchor("w", witness.url, witness.vkey)])
        ledger.anchor()
        shop.add(12)
        ledger.anchor()
        vkey, shop.witnesses = witness.vkey, ledger.witnesses
    shop.add(5)
    shop.export(tmp_path / "out")
    code, said, _ = check(tmp_path / "out", "--vkey", shop.vkey(0), "--witness", vkey)
    assert (code, "anchored: witness.example/one saw its 42 entries at 20" in said) == (0, True)
    shop.state.close()


def test_a_time_stamp_has_to_be_of_a_checkpoint_here(told: tuple[Shop, Path], tmp_path: Path) -> None:
    shop, out = told
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    kept = out.parent / "kept.checkpoint"
    token = tmp_path / "token.tsr"
    for data, bare in ((kept, False), (out / "checkpoint", True)):
        stamped(authority, data, token, bare=bare)
        older = ("--vkey", shop.vkey(0), "--older", str(kept), "--token", str(token))
        code, said, _ = check(out, *older, "--ca", str(authority.ca))
        size = 400 if data == kept else 600
        assert (code, f"a time stamp of the checkpoint of {size} entries, of 20" in said) == (0, True)
        code, _, wrong = check(out, *older, "--ca", str(other.ca))
        assert (code, wrong) == (11, f"WRONG: {token}: no time stamp of a checkpoint here by this authority\n")
    stamped(authority, out / "README", token)
    assert check(out, *older, "--ca", str(authority.ca))[0] == 11
    stamped(authority, kept, token)
    flip(token, token.read_bytes().index(sha256(kept.read_bytes()).digest()))
    assert check(out, *older, "--ca", str(authority.ca))[0] == 11
    proofs = tmp_path / "7.tlog-proof"
    with shop.state.read() as tx:
        leaf, found = proof.prove(tx, 7)
    proofs.write_text(found.text)
    (tmp_path / "7.json").write_bytes(leaf)
    stamped(authority, out / "checkpoint", token)
    words = ("--vkey", shop.vkey(1), "--token", str(token), "--ca", str(authority.ca))
    assert check(proofs, *words)[0] == 0


def test_a_token_outlives_the_certificate_it_was_made_with(told: tuple[Shop, Path], tmp_path: Path) -> None:
    shop, out = told
    authority, token = Authority(tmp_path / "authority"), tmp_path / "token.tsr"
    for seconds in (2, 8, 32):  # the token's time has to be before the end, however slow this machine is
        end = expiring(authority, seconds)
        stamped(authority, out / "checkpoint", token)
        if SystemClock().now().timestamp() < end:
            break
    while SystemClock().now().timestamp() <= end + 1:
        time.sleep(0.2)
    now = f"openssl ts -verify -in {token} -data {out / 'checkpoint'} -CAfile {authority.ca}".split()
    assert b"certificate has expired" in subprocess.run(now, capture_output=True, check=False).stderr
    words = ("--vkey", shop.vkey(0), "--token", str(token), "--ca", str(authority.ca))
    assert check(out, *words)[0] == 0
    stamped(authority, out / "checkpoint", token)  # by the same key, later than its certificate says
    assert check(out, *words)[0] == 11


def expiring(authority: Authority, seconds: int) -> int:
    """Give the authority a certificate that ends in so many seconds; return when."""
    ca = x509.load_pem_x509_certificate(authority.ca.read_bytes())
    old = x509.load_pem_x509_certificate((authority.folder / "tsa.pem").read_bytes())
    key = load_pem_private_key((authority.folder / "ca.key").read_bytes(), None)
    end = int(SystemClock().now().timestamp()) + seconds
    made = x509.CertificateBuilder(
        ca.subject, old.subject, old.public_key(), x509.random_serial_number(),
        old.not_valid_before_utc, datetime.fromtimestamp(end, UTC), [*old.extensions],
    )  # fmt: skip
    (authority.folder / "tsa.pem").write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return end


def stamped(authority: Authority, data: Path, token: Path, *, bare: bool = False) -> None:
    """Have a file stamped; `bare` keeps the token alone, without the answer around it."""
    query = ["openssl", "ts", "-query", "-sha256", "-cert", "-data", str(data)]
    made = subprocess.run(query, capture_output=True, check=True).stdout
    token.write_bytes(authority.sign(made))
    if bare:
        words = ["openssl", "ts", "-reply", "-in", str(token), "-token_out"]
        token.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)


def test_a_proof_is_checked_by_itself(told: tuple[Shop, Path], tmp_path: Path) -> None:
    shop, out = told
    with shop.state.read() as tx:
        leaf, found = proof.prove(tx, 123)
        _, seen = proof.prove(tx, 123, anchored=True)
    path = tmp_path / "123.tlog-proof"
    path.write_text(found.text)
    (tmp_path / "123.json").write_bytes(leaf)
    code, said, wrong = check(path, "--vkey", shop.vkey(1))
    assert (code, wrong) == (0, "")
    assert said == f"123.json is entry 123 of the 600 entries of {shop.vkey(1).split('+')[0]}\n"
    code, _, wrong = check(path, "--vkey", shop.vkey(0))
    assert (code, "not signed by the key that signs 600" in wrong) == (11, True)
    shutil.copy(out / "keys", tmp_path)
    assert check(path, "--vkey", shop.vkey(0))[0] == 0
    path.write_text(seen.text)
    code, said, _ = check(path, "--vkey", shop.vkey(0), "--witness", WITNESS.vkey)
    assert (code, "saw its 400 entries" in said) == (0, True)
    for name in ("123.tlog-proof", "123.json", "keys"):
        size = (tmp_path / name).stat().st_size
        for at in (0, size // 2, size - 1):
            flip(tmp_path / name, at)
            assert check(path, "--vkey", shop.vkey(0))[0] == 11, (name, at)
            flip(tmp_path / name, at)
    (tmp_path / "123.json").unlink()
    assert check(path, "--vkey", shop.vkey(0))[0] == 2


def test_wrong_usage_ends_with_2(told: tuple[Shop, Path], tmp_path: Path) -> None:
    shop, out = told
    vkey = shop.vkey(0)
    (tmp_path / "two+keys").write_text(f"{vkey}\n{vkey}\n")
    for words in (
        ("--vkey", ""),
        ("--vkey", "nonsense"),
        ("--vkey", str(tmp_path / "two+keys")),
        ("--vkey", str(out / "README")),
        ("--vkey", vkey, "--token", str(tmp_path / "nowhere"), "--ca", str(out / "vkey")),
        ("--vkey", vkey, "--token", str(out / "vkey"), "--ca", str(tmp_path / "nowhere")),
        ("--vkey", vkey[:-1]),
        ("--vkey", WITNESS.vkey),
        ("--vkey", vkey, "--witness", vkey),
        ("--vkey", vkey, "--token", "x"),
        ("--vkey", vkey, "--older", str(tmp_path / "nowhere")),
    ):
        assert check(out, *words)[0] == 2, words
    for path in (tmp_path / "nowhere", tmp_path / "nowhere.tlog-proof"):
        assert check(path, "--vkey", vkey)[0] == 2
    assert check(tmp_path)[0] == 2
    (tmp_path / "one+key").write_text(f"{vkey}\n")
    assert check(out, "--vkey", str(tmp_path / "one+key"))[0] == 0


@pytest.mark.parametrize(
    "keys", ["{}", "[]", "7", '{"proof": 1, "entry": "x"}', "[" * 100_000, '{"proof": "x", "entry": "\xff"}']
)
def test_changes_of_key_that_are_none_are_wrong_and_no_crash(told: tuple[Shop, Path], out: Path, keys: str) -> None:
    (out / "keys").write_text(f"{keys}\n")
    code, _, wrong = check(out, "--vkey", told[0].vkey(0))
    assert (code, wrong.startswith("WRONG: ")) == (11, True)


def test_without_openssl_nothing_is_right(told: tuple[Shop, Path], tmp_path: Path) -> None:
    for content in (None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\nexit 0\n"):
        (tmp_path / "openssl").unlink(missing_ok=True)
        if content:
            (tmp_path / "openssl").write_text(content)
            (tmp_path / "openssl").chmod(0o755)
        words = [sys.executable, "-I", str(VERIFY), str(told[1]), "--vkey", told[0].vkey(0)]
        done = subprocess.run(words, capture_output=True, text=True, env={"PATH": str(tmp_path)})
        assert done.returncode == 2
        assert "openssl" in done.stderr
        assert "all is right" not in done.stdout
