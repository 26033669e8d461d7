"""An export is whole or no export: it grows by what is new, survives being killed, and never mixes two histories."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from guard import faults
from guard.audit import Ledger, proof, tiles
from guard.audit.checkpoint import parse
from guard.audit.export import changes, export
from guard.clock import SteppedClock
from guard.crypto.sign import split_note
from guard.errors import InterlockError, TamperedError, UnavailableError
from guard.state import State
from tests.audit.auditor import Shop, check, flip
from tests.audit.conftest import START, event
from tests.conftest import Faults


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop")
    yield made
    made.state.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verified(folder: Path, minimum: int = 0) -> int:
    """Verify an export with guard's own reader; return its size."""
    signed = parse(split_note((folder / "checkpoint").read_text())[0])

    def read(name: str) -> bytes | None:
        return (folder / name).read_bytes() if (folder / name).exists() else None

    tiles.verify(read, signed.size, signed.root, minimum)
    return signed.size


def test_an_export_holds_the_exact_bytes_and_its_root_is_pymerkles(shop: Shop, tmp_path: Path) -> None:
    from pymerkle import InmemoryTree

    shop.add(600)
    done = shop.export(tmp_path / "out")
    assert (done.size, done.before, done.minimum, done.files) == (600, 0, 0, 13)
    assert verified(tmp_path / "out") == 600
    with shop.state.read() as tx:
        leaves = [proof.prove(tx, n)[0] for n in range(600)]
    read = contents(tmp_path / "out").get
    assert [entry for _, entry in tiles.entries(read, 600)] == leaves
    theirs = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        theirs.append_entry(leaf)
    assert theirs.get_root().hex() == done.root
    assert check(tmp_path / "out", "--vkey", shop.ledger.vkey)[0] == 0


def test_a_second_export_adds_only_what_is_new(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shop.add(300)
    shop.export(out)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    assert (shop.export(out).files, shop.export(out).before) == (0, 300)
    shop.add(12)
    assert shop.export(out).files == 3
    assert {path.name for path in out.glob("tile/0/001.p/*")} == {"44", "56"}
    assert check(out, "--vkey", shop.ledger.vkey)[:2][0] == 0
    shop.add(300)
    done = shop.export(out)
    assert (done.before, done.size, done.files) == (312, 612, 2 * 2 + 1 + 1)
    full = [path for path in before if path.name == "000" and path.parent.name in {"0", "entries"}]
    assert len(full) == 2
    for path in full:
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == before[path]
    assert sorted(name for name in contents(out) if name.startswith("tile")) == [
        *("tile/0/000", "tile/0/001", "tile/0/002.p/100", "tile/1/000.p/1", "tile/1/000.p/2"),
        *("tile/entries/000", "tile/entries/001", "tile/entries/002.p/100"),
    ]
    assert check(out, "--vkey", shop.ledger.vkey)[0] == 0
    fresh = tmp_path / "fresh"
    shop.export(fresh)
    assert {name: body for name, body in contents(out).items() if name != "tile/1/000.p/1"} == contents(fresh)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 513])
def test_any_size_is_whole(shop: Shop, tmp_path: Path, size: int) -> None:
    shop.add(size)
    shop.export(tmp_path / "out")
    assert verified(tmp_path / "out") == size
    assert check(tmp_path / "out", "--vkey", shop.ledger.vkey)[0] == 0


class StopError(Exception):
    """Stands for a kill between two steps."""


def test_an_export_that_broke_off_anywhere_is_not_right_and_is_taken_up(shop: Shop, tmp_path: Path) -> None:
    """First exports and later ones, stopped at each step; the ledger grows before the next run."""
    out, vkey = tmp_path / "out", shop.ledger.vkey
    passed: list[str] = []
    shop.add(520)
    stops = 0
    for nth in range(1, 100):
        left = nth

        def hook(name: str) -> None:
            nonlocal left
            passed.append(name)
            left -= 1
            if not left:
                raise StopError

        faults.install(hook)
        try:
            shop.export(out)
        except StopError:
            stops += 1
        else:
            break
        finally:
            faults.install(lambda _: None)
        code, said, wrong = check(out, "--vkey", vkey)
        assert (code, said) == (11, ""), wrong
        shop.add(7)
    assert set(passed) == {"export.tile", "export.beside", "export.checkpoint"}
    assert stops >= 5
    assert verified(out) == shop.number
    assert check(out, "--vkey", vkey)[0] == 0
    for nth in (1, 2, 3):
        shop.add(300)
        left = nth
        faults.install(hook)
        with pytest.raises(StopError):
            shop.export(out)
        faults.install(lambda _: None)
        code, said, wrong = check(out, "--vkey", vkey)
        assert (code, said, "broken off" in wrong or "not what was exported" in wrong) == (11, "", True)
    shop.export(out)
    assert check(out, "--vkey", vkey)[0] == 0
    assert verified(out) == shop.number


@pytest.mark.slow
def test_an_export_that_was_killed_anywhere_is_not_right_and_is_taken_up(
    shop: Shop, tmp_path: Path, fault_points: Faults
) -> None:
    """SIGKILL at every point of a first export and of later ones, five times and more at each."""
    out, killed = tmp_path / "out", Counter[str]()
    shop.add(520)
    for round_ in range(5):
        probe = tmp_path / f"probe{round_}"
        if out.exists():
            shutil.copytree(out, probe)
        names = fault_points.passed(partial(shop.export, probe))
        for nth, name in enumerate(names, 1):
            assert fault_points.killed(partial(shop.export, out), nth)
            killed[name] += 1
            assert check(out, "--vkey", shop.ledger.vkey)[0] == 11, name
        shop.export(out)
        assert check(out, "--vkey", shop.ledger.vkey)[0] == 0
        assert verified(out) == shop.number
        shop.add(300)
    assert min(killed[name] for name in ("export.tile", "export.beside", "export.checkpoint")) >= 5


def test_ctrl_c_leaves_a_folder_that_is_taken_up(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shop.add(900)

    def progress(what: str, done: int, total: int | None = None) -> None:
        if done > 512:
            raise KeyboardInterrupt

    with shop.state.read() as tx, pytest.raises(KeyboardInterrupt):
        export(tx, out, shop.ledger.vkey, progress)
    assert check(out, "--vkey", shop.ledger.vkey)[0] == 11
    done = shop.export(out)
    assert done.files == 15 - 2 * 3  # three blocks were there
    assert check(out, "--vkey", shop.ledger.vkey)[0] == 0


def test_what_a_killed_process_left_is_swept(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shop.add(300)
    shop.export(out)
    for name in ("tile/0/.001.77.new", ".README.77.new", "tile/0/004", "tile/entries/001.p/77", "tile/0/002.p/3"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"left")
    assert check(out, "--vkey", shop.ledger.vkey)[0] == 11
    shop.add(1)
    shop.export(out)
    assert not [name for name in contents(out) if name.endswith((".new", "004", "77", "/3"))]
    assert check(out, "--vkey", shop.ledger.vkey)[0] == 0


def test_a_folder_that_is_something_else_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    shop.add(3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InterlockError, match=r"holds letter\.txt"):
        shop.export(tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"letter.txt": b"dear"}
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(UnavailableError, match="cannot write"):
            shop.export(path)
    shop.export(tmp_path / "out")
    (tmp_path / "out" / "checkpoint").write_bytes(b"\xff")
    with pytest.raises(TamperedError, match="is not a checkpoint"):
        shop.export(tmp_path / "out")


def test_another_history_is_never_put_over_what_the_folder_holds(shop: Shop, tmp_path: Path) -> None:
    """A restore loses what the folder still has: the folder is kept, and the new log is exported beside it."""
    shop.add(40)
    shop.state.copy_to(tmp_path / "saved.db")
    shop.add(20)
    shop.export(tmp_path / "out")
    kept = contents(tmp_path / "out")
    shop.restored(tmp_path / "saved.db")
    with pytest.raises(InterlockError, match=r"holds 60 entries of .* that are not those of this ledger") as error:
        shop.export(tmp_path / "out")
    assert "keep it" in str(error.value.hint)
    shop.add(30)
    with pytest.raises(InterlockError, match="not those of this ledger"):
        shop.export(tmp_path / "out")
    assert contents(tmp_path / "out") == kept
    shop.export(tmp_path / "new")
    first = shop.vkey(0)
    assert check(tmp_path / "new", "--vkey", first)[0] == 0
    assert check(tmp_path / "new", "--vkey", shop.ledger.vkey)[0] == 0
    code, _, wrong = check(tmp_path / "new", "--vkey", first, "--older", str(tmp_path / "out/checkpoint"))
    assert code == 11
    assert "not all 60 entries of" in wrong
    assert "audit.restart say why" in wrong
    note = shop.anchor.newest()
    assert not note


def test_a_checkpoint_of_the_log_before_a_restore_is_still_the_begin(shop: Shop, tmp_path: Path) -> None:
    shop.add(40)
    (tmp_path / "kept").write_text(shop.ledger.checkpoint())
    shop.state.copy_to(tmp_path / "saved.db")
    shop.restored(tmp_path / "saved.db")
    shop.add(30)
    shop.rekey()
    shop.export(tmp_path / "new")
    for vkey in (shop.vkey(0), shop.vkey(1), shop.ledger.vkey):
        assert check(tmp_path / "new", "--vkey", vkey, "--older", str(tmp_path / "kept"))[0] == 0


def test_a_ledger_that_was_changed_is_not_exported(shop: Shop, tmp_path: Path) -> None:
    shop.add(600)
    digest = sha256(bytes(2)).hexdigest()
    tampering = {
        "UPDATE ledger_entry SET leaf = CAST(replace(leaf, 'test', 'tset') AS BLOB) WHERE n = 17": "ledger entry 17",
        "UPDATE ledger_entry SET leaf = replace(leaf, 'test', 'tset') WHERE n = 18": "ledger entry 18",
        "UPDATE ledger_entry SET hash = zeroblob(32), leaf = x'00' WHERE n = 19": "ledger entry 19",
        "DELETE FROM ledger_entry WHERE n = 20": "lost entries 0 to 255",
        "UPDATE ledger_node SET hash = zeroblob(32) WHERE level = 8 AND position = 1": "entries 256 to 511",
        "DELETE FROM ledger_node WHERE level = 8 AND position = 1": "lost",
        "DELETE FROM ledger_entry WHERE n >= 256 AND n < 512": "lost entries 256 to 511",
        f"UPDATE ledger_entry SET leaf = x'00', hash = x'{digest}' WHERE n = 598": "make the root",
    }
    for number, (change, said) in enumerate(tampering.items()):
        shop.state.copy_to(tmp_path / f"{number}.db")
        copy = Shop(tmp_path / str(number))
        copy.state.close()
        (copy.folder / "state.db").write_bytes((tmp_path / f"{number}.db").read_bytes())
        copy.open()
        with copy.state.database.writer.begin() as tx:
            tx.exec_driver_sql(change)
        with pytest.raises(TamperedError, match=said):
            copy.export(tmp_path / f"out{number}")
        assert not (tmp_path / f"out{number}" / "checkpoint").exists()
        copy.state.close()


def test_a_later_export_needs_the_hashes_over_what_is_there_already(shop: Shop, tmp_path: Path) -> None:
    shop.add(512)
    shop.export(tmp_path / "out")
    shop.add(100)
    with shop.state.database.writer.begin() as tx:
        tx.exec_driver_sql("DELETE FROM ledger_node WHERE level = 8 AND position = 0")
    with pytest.raises(TamperedError, match="lost entries 0 to 511"):
        shop.export(tmp_path / "out")
    assert check(tmp_path / "out", "--vkey", shop.vkey(0))[0] == 11


def test_a_change_of_key_without_its_checkpoint_is_not_exported(shop: Shop, tmp_path: Path) -> None:
    shop.add(3)
    shop.rekey()
    with shop.state.database.writer.begin() as tx:
        tx.exec_driver_sql("DELETE FROM ledger_checkpoint WHERE kind = 'rekeyed'")
    with pytest.raises(TamperedError, match="lost a checkpoint behind a change of key"):
        shop.export(tmp_path / "out")


def test_what_retention_removed_is_missing_with_a_reason(shop: Shop, tmp_path: Path) -> None:
    shop.add(100)
    shop.rekey()
    shop.add(1200)
    shop.export(tmp_path / "before")
    kept = tmp_path / "kept"
    kept.write_text(shop.ledger.checkpoint())
    shop.prune(1024, frozenset({0}))
    done = shop.export(tmp_path / "out")
    assert done.minimum == 1024
    assert verified(tmp_path / "out", 1024) == done.size
    names = contents(tmp_path / "out")
    assert {"tile/0/000", "tile/entries/000", "tile/0/004", "tile/1/000.p/5"} < set(names)
    assert not {"tile/0/001", "tile/entries/003"} & set(names)
    for vkey in (shop.vkey(0), shop.vkey(1)):
        code, said, _ = check(tmp_path / "out", "--vkey", vkey, "--older", str(kept))
        assert code == 0
        assert "entries 256 to 511 were removed under retention" in said
    assert shop.export(tmp_path / "before").before == 1301
    assert "tile/entries/003" in contents(tmp_path / "before")
    assert check(tmp_path / "before", "--vkey", shop.vkey(0))[0] == 0
    (tmp_path / "out/tile/entries/004").unlink()
    assert check(tmp_path / "out", "--vkey", shop.vkey(0))[0] == 11


def test_a_block_that_retention_kept_cannot_be_left_out(shop: Shop, tmp_path: Path) -> None:
    shop.add(1100)
    shop.prune(512, frozenset({1}))
    shop.add(300)
    shop.prune(1024, frozenset({3}), before=frozenset({1}))
    shop.export(tmp_path / "out")
    assert check(tmp_path / "out", "--vkey", shop.vkey(0))[0] == 0
    for kept in ("001", "003"):
        shutil.copytree(tmp_path / "out", tmp_path / kept)
        for level in ("0", "entries"):
            (tmp_path / kept / "tile" / level / kept).unlink()
        code, _, wrong = check(tmp_path / kept, "--vkey", shop.vkey(0))
        assert (code, f"tile/entries/{kept} is missing" in wrong) == (11, True)


def test_an_export_from_before_what_retention_removed_is_not_continued(shop: Shop, tmp_path: Path) -> None:
    shop.add(300)
    (tmp_path / "old").write_text(shop.ledger.checkpoint())
    shop.export(tmp_path / "out")
    shop.add(1000)
    shop.prune(1024)
    with pytest.raises(InterlockError, match="ends at entry 299, and retention has removed entries up to 1023"):
        shop.export(tmp_path / "out")
    shop.export(tmp_path / "new")
    code, _, wrong = check(tmp_path / "new", "--vkey", shop.vkey(0), "--older", str(tmp_path / "old"))
    assert (code, "by which they are compared, was removed under retention" in wrong) == (11, True)


def test_changes_of_key_are_proofs_that_both_keys_signed(shop: Shop, tmp_path: Path) -> None:
    shop.add(255)
    shop.rekey(more=3)  # its commit ends in another block of 256 than it begins
    shop.add(40)
    shop.rekey()
    shop.add(2)
    with shop.state.read() as tx:
        lines = changes(tx).decode().splitlines()
    assert [json.loads(json.loads(line)["entry"])["n"] for line in lines] == [255, 299]
    for line in lines:
        said = json.loads(line)
        found = proof.read(said["proof"])
        assert found.holds(said["entry"].encode())
        assert len(split_note(found.note)[1]) == 2
    shop.export(tmp_path / "out")
    for version in range(3):
        assert check(tmp_path / "out", "--vkey", shop.vkey(version))[0] == 0
    keys = (tmp_path / "out/keys").read_bytes().splitlines(keepends=True)
    for wrong in (keys[:1], keys[1:], keys[::-1], []):
        (tmp_path / "out/keys").write_bytes(b"".join(wrong))
        for version in range(3):
            assert check(tmp_path / "out", "--vkey", shop.vkey(version))[0] == 11


def test_a_flip_in_a_tile_of_an_earlier_export_is_found_by_the_next_check(shop: Shop, tmp_path: Path) -> None:
    shop.add(300)
    shop.export(tmp_path / "out")
    flip(tmp_path / "out/tile/entries/000", 5000)
    shop.add(300)
    shop.export(tmp_path / "out")
    assert check(tmp_path / "out", "--vkey", shop.vkey(0))[0] == 11


def test_a_ledger_in_postgresql_is_exported_and_proved_too(postgres_url: str, tmp_path: Path) -> None:
    clock = SteppedClock(START)
    state = State.create(postgres_url, clock)
    ledger = Ledger(state, bytes(32))
    state.attach(ledger.append)
    state.write(lambda tx: None, *[event(number) for number in range(300)])
    with state.read() as tx:
        done = export(tx, tmp_path / "out", ledger.vkey)
        leaf, found = proof.prove(tx, 270)
    assert (done.size, found.holds(leaf)) == (300, True)
    assert check(tmp_path / "out", "--vkey", ledger.vkey)[0] == 0
    state.close()


def test_payloads_never_leave(shop: Shop, tmp_path: Path) -> None:
    shop.state.write(lambda tx: None, event(0), event(1))
    with shop.state.database.writer.begin() as tx:
        tx.exec_driver_sql("INSERT INTO ledger_payload (n, sealed) VALUES (0, x'5345414c45444259')")
    shop.export(tmp_path / "out")
    assert not [name for name, body in contents(tmp_path / "out").items() if b"SEALEDBY" in body]
