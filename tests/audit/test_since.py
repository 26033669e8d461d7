"""`audit verify --since` reads a part and proves the rest; `--against` compares with what somebody kept."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select, text, update

from guard.audit import FolderAnchor, Ledger, proof
from guard.audit.against import Held
from guard.audit.checkpoint import Checkpoint
from guard.audit.store import CHECKPOINT, ENTRY, NODE, checkpoints
from guard.cli.main import main
from guard.crypto.sign import Signer
from guard.errors import ConfigError, Exit, TamperedError, UnanchoredError
from guard.events import GUARD, Ending, Event, RunId

Make = Callable[[int], Event]
RUN = RunId("ab" * 16)


@pytest.fixture(scope="session")
def long_folder(tmp_path_factory: pytest.TempPathFactory):
    """Three chunks of 4096 and a rest over two days, with a change of key and a restart in the first chunk."""
    from guard.clock import SteppedClock
    from tests.audit.conftest import START, opened

    folder = tmp_path_factory.mktemp("long")
    made = opened(folder, SteppedClock(START))
    for commit in range(33):
        events = [
            Event("test.note", Ending.DONE, GUARD, RunId(f"{commit * 400 + each:032x}"), counts={"each": each})
            for each in range(400)
        ]
        made.add(*events)
        made.clock.step(timedelta(minutes=90))
        if commit == 2:
            made.rekey()
        if commit == 4:
            made.add(made.ledger.restart().event(GUARD, RUN))
        if commit == 20:
            made.ledger.anchor()
    made.ledger.anchor()
    made.close()
    return folder, made.keys, made.clock.now()


@pytest.fixture
def long(long_folder, tmp_path: Path):
    import shutil

    from guard.clock import SteppedClock
    from tests.audit.conftest import opened

    folder, keys, now = long_folder
    shutil.copytree(folder, tmp_path / "long")
    made = opened(tmp_path / "long", SteppedClock(now), keys.copy())
    yield made
    made.close()


SIZE = 33 * 400 + 2


def sizes(house) -> list[int]:
    with house.state.read() as tx:
        return sorted({size for size, _, _ in checkpoints(tx)})


# A part ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "begin"),
    [(0, 0), (1, 0), (4096, 0), (5000, 4096), (8401, 4096), (8402, 8192), (9000, 8192), (SIZE, 12288), (10**15, 12288)],
)
def test_what_is_read_begins_with_the_chunk_of_the_last_checkpoint_before(long, since: int, begin: int) -> None:
    verdict = long.ledger.inspect(since=since)
    assert (verdict.begin, verdict.size, verdict.anchored) == (begin, SIZE, SIZE)
    whole = long.ledger.inspect()
    assert (verdict.root, verdict.rekeys, verdict.restarts) == (whole.root, whole.rekeys, whole.restarts)
    assert whole.begin == 0


def test_a_time_is_as_good_as_a_size(long) -> None:
    entry = next(entry for entry in long.ledger.entries() if entry.n == 9000)
    assert long.ledger.inspect(since=entry.at).begin == 8192
    assert long.ledger.inspect(since=entry.at + timedelta(days=900)).begin == 12288
    assert long.ledger.inspect(since=entry.at - timedelta(days=900)).begin == 0


def test_only_the_part_is_read_and_its_progress_told(long) -> None:
    told: list[tuple[int, int | None]] = []
    long.ledger.inspect(lambda _, done, total=None: told.append((done, total)), since=9000)
    assert told == [(4096, SIZE - 8192), (SIZE - 8192, SIZE - 8192)]


def test_a_change_in_the_part_is_found_and_one_before_it_is_not(long) -> None:
    with long.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == 7000).values(who="x"))
    long.ledger.inspect(since=9000)
    with pytest.raises(TamperedError, match="ledger entry 7000"):
        long.ledger.inspect()
    with long.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == 10_000).values(who="x"))
    with pytest.raises(TamperedError, match="ledger entry 10000"):
        long.ledger.inspect(since=9000)


def test_every_hash_that_stands_for_the_part_not_read_counts(long) -> None:
    with long.state.read() as tx:
        edge = tx.execute(select(NODE).where((NODE.c.level == 13) & (NODE.c.position == 0))).one()
    with long.state.database.writer.begin() as tx:
        tx.execute(update(NODE).where(NODE.c.level == 13).values(hash=bytes([edge.hash[0] ^ 1]) + edge.hash[1:]))
    with pytest.raises(TamperedError, match="not those that were signed"):
        long.ledger.inspect(since=9000)


@pytest.mark.parametrize("what", ["audit.rekey", "audit.restart"])
def test_what_the_ledger_is_read_by_is_proved_wherever_it_lies(long, what: str) -> None:
    """Keys and logs are read from entries before the part: one that was not signed as it is, is found."""
    with long.state.read() as tx:
        row = tx.execute(select(ENTRY).where(ENTRY.c.what == what)).one()
        size, _ = next((size, kind) for size, kind, _ in checkpoints(tx) if size > row.n)
    raw = row.leaf.replace(b'"who":"guard"', b'"who":"gaurd"')
    from guard.audit import merkle

    with long.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == row.n).values(leaf=raw, who="gaurd", hash=merkle.leaf_hash(raw)))
    assert size < 8192
    with pytest.raises(TamperedError, match="the hashes over them are not those that were signed"):
        long.ledger.inspect(since=9000)
    with long.state.database.writer.begin() as tx:
        tx.execute(update(ENTRY).where(ENTRY.c.n == row.n).values(leaf=row.leaf, who="x", hash=row.hash))
    with pytest.raises(TamperedError, match=f"ledger entry {row.n}: its bytes do not say"):
        long.ledger.inspect(since=9000)


def test_hashes_left_over_or_lost_in_the_part_are_found(long) -> None:
    with long.state.database.writer.begin() as tx:
        tx.execute(text("INSERT INTO ledger_node SELECT 40, 3, hash FROM ledger_node WHERE level = 13"))
    with pytest.raises(TamperedError, match="hashes over them are stored"):
        long.ledger.inspect(since=9000)


def test_the_last_checkpoint_of_an_hour_may_not_be_missing_from_the_part(long) -> None:
    last = max(size for size in sizes(long) if size < SIZE)
    with long.state.database.writer.begin() as tx:
        tx.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size == last))
    with pytest.raises(TamperedError, match=f"ledger entry {last - 1}: the hourly checkpoint behind it is missing"):
        long.ledger.inspect(since=9000)


def test_an_anchor_that_holds_less_than_the_part_is_compared_by_a_proof(long, tmp_path: Path) -> None:
    with long.state.read() as tx:
        old = next(note for size, kind, note in checkpoints(tx) if 4096 < size < 8192)
    back = FolderAnchor("back", tmp_path / "back")
    back.create()
    size = int(old.split("\n")[1])
    log = old.split("\n")[0].rpartition("/")[2]
    back.put(size, old, log)
    found = Ledger(long.state, long.keys, [back]).inspect(since=9000)
    assert found.anchors[0].size == size
    assert found.anchors[0].at is not None
    with long.state.database.writer.begin() as tx:
        tx.execute(
            text(f"UPDATE ledger_node SET hash = zeroblob(32) WHERE level = 1 AND position = {(size - 1) // 2 - 1}")
        )
        tx.execute(text(f"UPDATE ledger_entry SET hash = zeroblob(32) WHERE n = {size - 1}"))
        tx.execute(text(f"UPDATE ledger_entry SET hash = zeroblob(32) WHERE n = {size - 2}"))
        level = (size & -size).bit_length() - 1
        tx.execute(
            text(
                f"UPDATE ledger_node SET hash = zeroblob(32) WHERE level = {level} AND position = {(size >> level) - 1}"
            )
        )
    with pytest.raises(TamperedError, match=r"not those that (were signed|anchor back holds)"):
        Ledger(long.state, long.keys, [back]).inspect(since=9000)


def test_sizes_of_another_type_count_in_a_part_too(long) -> None:
    with long.state.database.writer.begin() as tx:
        tx.execute(text("UPDATE ledger_checkpoint SET size = 'x' WHERE size = 800"))
    with pytest.raises(TamperedError):
        long.ledger.inspect(since=9000)


# What somebody kept ---------------------------------------------------------------------------------------------------


def test_every_checkpoint_that_was_ever_kept_agrees(long) -> None:
    with long.state.read() as tx:
        notes = checkpoints(tx)
    held = [Held.read(f"{kind} {size}", note.encode()) for size, kind, note in notes]
    for since in (None, 9000):
        found = long.ledger.inspect(since=since, against=held).against
        assert [each.size for each in found] == [size for size, _, _ in notes]
        assert all(each.problem is None and each.at is not None for each in found)


def test_a_proof_is_as_good_as_a_checkpoint(long) -> None:
    with long.state.read() as tx:
        for n in (0, 1203, 5000, 12_500, SIZE - 1):
            _, shown = proof.prove(tx, n)
            held = Held.read("5000.tlog-proof", shown.text.encode())
            assert [each.size for each in long.ledger.inspect(since=9000, against=[held]).against] == [SIZE]


def test_a_proof_of_another_entry_is_found(long) -> None:
    with long.state.read() as tx:
        _, shown = proof.prove(tx, 5000)
    for n in (5001, SIZE + 1):
        other = shown.text.replace("index 5000\n", f"index {n}\n")
        with pytest.raises(TamperedError, match=f"ledger entry {n} is not the one that here is the proof of"):
            long.ledger.inspect(against=[Held.read("here", other.encode())])


def test_a_checkpoint_of_entries_that_are_gone_is_found(long) -> None:
    before = long.ledger.checkpoint()
    with long.state.database.writer.begin() as tx:
        note = next(note for size, _, note in checkpoints(tx) if size == max(s for s in sizes(long) if s < SIZE))
    del note
    origin = long.ledger.inspect().origin
    more = long.sign(Checkpoint(origin, SIZE + 5, bytes(32)).text(), long.keys.seeds[-1])
    with pytest.raises(TamperedError, match=f"{SIZE} to {SIZE + 4} gone: kept.note holds a checkpoint of {SIZE + 5}"):
        long.ledger.inspect(against=[Held.read("kept.note", more.encode())])
    assert long.ledger.inspect(against=[Held.read("kept.note", before.encode())]).against[0].size == SIZE


def test_a_checkpoint_of_other_entries_is_found(long) -> None:
    origin = f"guard-ledger/{long.state.store_id}"
    forged = long.sign(Checkpoint(origin, 400, bytes(32)).text())
    with pytest.raises(TamperedError, match=r"entries 0 to 399: not those that kept\.note holds"):
        long.ledger.inspect(against=[Held.read("kept.note", forged.encode())])


def test_a_checkpoint_that_no_key_of_the_ledger_signed_is_found(long) -> None:
    origin = f"guard-ledger/{long.state.store_id}"
    with long.state.read() as tx:
        good = next(note for size, _, note in checkpoints(tx) if size == 400)
    again = "\n".join(good.split("\n")[:3]) + "\n"
    for signer in (Signer(b"x" * 32, origin), Signer(long.keys.seeds[-1], origin)):
        with pytest.raises(TamperedError, match=r"that kept\.note holds: it is signed by the key"):
            long.ledger.inspect(against=[Held.read("kept.note", signer.sign_note(again).encode())])
    wrong = good[:-8] + ("A" if good[-8] != "A" else "B") + good[-7:]
    with pytest.raises(TamperedError, match=r"kept\.note: the signature"):
        long.ledger.inspect(against=[Held.read("kept.note", wrong.encode())])
    note = Signer(b"x" * 32, "somebody").sign_note(again)
    with pytest.raises(TamperedError, match="not signed by"):
        long.ledger.inspect(against=[Held.read("kept.note", note.encode())])


def test_one_of_entries_that_a_restore_lost_is_said_to_be_that(long) -> None:
    origin = long.ledger.inspect().origin
    lost = long.sign(Checkpoint(origin, SIZE + 5, bytes(32)).text(), long.keys.seeds[-1])
    long.anchor.put(SIZE + 5, lost, origin.rpartition("/")[2])
    long.add(long.ledger.restart().event(GUARD, RUN))
    found = long.ledger.inspect(against=[Held.read("kept.note", lost.encode())])
    assert [(each.size, each.problem) for each in found.against] == [(None, None)]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"hello\n", b"origin\n5\nroot\n\nsig\n", b"c2sp.org/tlog-proof@v1\nindex x\n", b"\x00" * 100],
)
def test_what_is_no_checkpoint_is_a_usage_error(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"kept\.note is neither a checkpoint nor a proof"):
        Held.read("kept.note", content)


def test_one_of_another_ledger_is_a_usage_error(long) -> None:
    other = "guard-ledger/99112233-4455-6677-8899-aabbccddeeff"
    note = Signer(bytes(32), other).sign_note(Checkpoint(other, 5, bytes(32)).text())
    with pytest.raises(ConfigError, match=f"kept.note is about {other}, not about this ledger"):
        long.ledger.inspect(against=[Held.read("kept.note", note.encode())])


# On the command line --------------------------------------------------------------------------------------------------


def run(house, *words: str):
    app = SimpleNamespace(ledger=house.ledger, access=SimpleNamespace(person_of=lambda os_user: None))
    return CliRunner().invoke(main, ["--json", "audit", "verify", *words], obj=app, standalone_mode=False)


def told(house, *words: str):
    app = SimpleNamespace(ledger=house.ledger, access=SimpleNamespace(person_of=lambda os_user: None))
    return CliRunner().invoke(main, ["audit", "verify", *words], obj=app, standalone_mode=False)


def test_the_command_says_what_was_not_read_and_what_agrees(long, tmp_path: Path) -> None:
    kept = tmp_path / "kept.note"
    kept.write_text(long.ledger.checkpoint())
    done = told(long, "--since", "9000", "--against", str(kept))
    assert done.return_value == Exit.DONE
    assert f"{SIZE - 8192} entries from " in done.output
    assert "entries below 8192 were not read again; the hashes over them agree\n" in done.output
    assert f"{kept}: holds for the first {SIZE} entries\n" in done.output
    assert "signed by another key since entry 1200: guard-ledger/" in done.output
    assert "not read again" not in told(long).output


def test_a_day_is_taken_too_and_json_holds_all_of_it(long, tmp_path: Path) -> None:
    kept = tmp_path / "kept.note"
    kept.write_text(long.ledger.checkpoint())
    done = run(long, "--since", "2026-01-06", "--against", str(kept))
    found = json.loads(done.output)
    assert (found["begin"], found["minimum"], found["size"]) == (0, 0, SIZE)
    assert found["against"][0]["size"] == SIZE
    assert [each["n"] for each in found["rekeys"]] == [1200]
    assert found["vkey"] == found["rekeys"][-1]["vkey"]


@pytest.mark.parametrize("wrong", ["-5", "yesterday", "1.5", "２０"])
def test_what_is_neither_time_nor_number_is_refused(long, wrong: str) -> None:
    done = run(long, f"--since={wrong}")
    assert isinstance(done.exception, click.UsageError)


def test_what_cannot_be_compared_exits_15(long, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dataclasses import replace

    kept = tmp_path / "kept.note"
    kept.write_text(long.ledger.checkpoint())
    good = long.ledger.inspect(against=[Held.read("kept", kept.read_bytes())])
    seen = replace(good.against[0], size=None, problem="kept: all it holds ends among entries that retention removed")
    long.ledger.inspect = lambda *_, **__: replace(good, against=(seen,))
    done = run(long, "--against", str(kept))
    assert isinstance(done.exception, UnanchoredError)
    assert "retention removed" in str(done.exception)
