"""Whatever is changed in the ledger's tables, verification finds it and names the entry."""

import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text, update

from guard.audit import ask, verify
from guard.audit.store import CHECKPOINT, ENTRY, NODE, checkpoints
from guard.audit.verify import Trust
from guard.audit.walk import Way, walk
from guard.config.audit import AuditPolicy
from guard.crypto.sign import Signer, Verifier
from guard.errors import GuardError, TamperedError
from guard.events import Event, silent
from guard.state import Tx

SIXTY = range(60)
SEED = bytes(range(32))
Make = Callable[[int], Event]


def look(house, tx: Tx) -> None:
    """Verify what `tx` sees."""
    verifier = Verifier.from_vkey(house.ledger.vkey)
    verify.inspect(tx, Trust(verifier, [ask(house.anchor)], AuditPolicy(), house.clock.now()), silent)


@contextmanager
def changed(house) -> Iterator[Tx]:
    """Give a transaction that is undone, to tamper in."""
    with house.state.database.writer.connect() as tx, tx.begin() as transaction:
        yield tx
        transaction.rollback()


def named(n: int) -> str:
    """The words that name entry `n`, or the pair it is one of when both of its hashes were changed."""
    low, high = n & ~1, n | 1
    return rf"ledger (entry {n}|entries {low} to {high})\b"


def test_the_untouched_log_verifies(sixty) -> None:
    verdict = sixty.ledger.verify()
    assert (verdict.size, verdict.anchored, verdict.tail, verdict.unanchored) == (60, 40, 20, None)
    assert verdict.checkpoints == 10  # the newest, one anchored, and one for each hour that ended
    assert verdict.last > verdict.first


def test_progress_is_told(sixty) -> None:
    told: list[tuple[str, int, int | None]] = []
    sixty.ledger.inspect(lambda *words: told.append(words))
    assert told == [("ledger entries", 60, 60)]


def test_every_byte_of_every_leaf_counts(sixty) -> None:
    flips = 0
    with changed(sixty) as tx:
        leaves = {row.n: row.leaf for row in tx.execute(ENTRY.select())}
        for n in (*range(0, 60, 7), 59):
            for at in range(len(leaves[n])):
                flipped = bytearray(leaves[n])
                flipped[at] ^= 1 << at % 8
                tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(leaf=bytes(flipped)))
                with pytest.raises(TamperedError, match=rf"ledger entry {n}\b"):
                    walk(tx, Way(60), silent)
                flips += 1
            tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(leaf=leaves[n]))
        look(sixty, tx)
    assert flips > 3000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_byte_of_all_leaves_counts(sixty) -> None:
    with changed(sixty) as tx:
        for n, raw in [(row.n, row.leaf) for row in tx.execute(ENTRY.select())]:
            for at in range(len(raw)):
                flipped = bytearray(raw)
                flipped[at] ^= 1 << (at + n) % 8
                tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(leaf=bytes(flipped)))
                with pytest.raises(TamperedError, match=rf"ledger entry {n}\b"):
                    look(sixty, tx)
            tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(leaf=raw))


@pytest.mark.parametrize("column", [column.name for column in ENTRY.c])
def test_every_column_of_every_row_counts(sixty, column: str) -> None:
    with changed(sixty) as tx:
        for n in SIXTY:
            new = {"n": 1000 + n, "leaf": b"{}", "hash": b"\x00" * 32}.get(column, "2026-01-05T09:00:00.000001Z")
            with tx.begin_nested() as savepoint:
                tx.execute(update(ENTRY).where(ENTRY.c.n == n).values({column: new}))
                with pytest.raises(TamperedError, match=rf"ledger entry {n}\b"):
                    look(sixty, tx)
                savepoint.rollback()


@pytest.mark.parametrize("column", ["leaf", "hash", "at", "who", "what", "outcome", "run"])
@pytest.mark.parametrize("value", ["x'ff'", "'text'", "7", "2.5", "''", "CAST(x'ff' AS TEXT)"])
def test_values_of_another_type_count(sixty, column: str, value: str) -> None:
    with changed(sixty) as tx:
        tx.execute(text(f"UPDATE ledger_entry SET {column} = {value} WHERE n = 33"))
        with pytest.raises(TamperedError, match=r"ledger entry 33\b"):
            look(sixty, tx)


def test_a_changed_leaf_with_its_hash_and_columns_changed_too(sixty) -> None:
    from guard.audit import merkle

    with changed(sixty) as tx:
        for n in SIXTY:
            with tx.begin_nested() as savepoint:
                (raw,) = tx.execute(text("SELECT leaf FROM ledger_entry WHERE n = :n"), {"n": n}).one()
                forged = re.sub(rb'"who":"[^"]+"', b'"who":"p-zzzzzzzzzz"', raw)
                values = {"leaf": forged, "hash": merkle.leaf_hash(forged), "who": "p-zzzzzzzzzz"}
                tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(values))
                with pytest.raises(TamperedError, match=named(n)):
                    look(sixty, tx)
                savepoint.rollback()


def test_a_forged_entry_with_all_hashes_and_nodes_recomputed(sixty) -> None:
    """Only the signatures are left to find it: it lies between two kept checkpoints."""
    with changed(sixty) as tx:
        sizes = [size for size, _, _ in checkpoints(tx)]
        for n in SIXTY:
            with tx.begin_nested() as savepoint:
                forge(tx, n)
                high = min(size for size in sizes if size > n) - 1
                low = max((size for size in sizes if size <= n), default=0)
                with pytest.raises(TamperedError, match=rf"ledger (entry {n}|entries {low} to {high}): not those that"):
                    look(sixty, tx)
                savepoint.rollback()


def forge(tx: Tx, n: int) -> None:
    """Change entry `n` and everything that follows from it, as one who has the database but not the key can."""
    from guard.audit import merkle

    rows = {row.n: row.leaf for row in tx.execute(ENTRY.select().order_by(ENTRY.c.n))}
    rows[n] = re.sub(rb'"who":"[^"]+"', b'"who":"p-zzzzzzzzzz"', rows[n])
    tx.execute(
        update(ENTRY).where(ENTRY.c.n == n).values(leaf=rows[n], hash=merkle.leaf_hash(rows[n]), who="p-zzzzzzzzzz")
    )
    tree = merkle.Range()
    tx.execute(delete(NODE))
    for raw in rows.values():
        for level, position, digest in tree.push(merkle.leaf_hash(raw)):
            tx.execute(insert(NODE).values(level=level, position=position, hash=digest))


def test_every_removed_row_is_named(sixty) -> None:
    with changed(sixty) as tx:
        for n in SIXTY:
            with tx.begin_nested() as savepoint:
                tx.execute(delete(ENTRY).where(ENTRY.c.n == n))
                with pytest.raises(TamperedError, match=rf"ledger entry {n}\b.* missing"):
                    look(sixty, tx)
                savepoint.rollback()


def test_a_removed_row_with_the_rest_moved_up_is_named(sixty) -> None:
    with changed(sixty) as tx:
        tx.execute(delete(ENTRY).where(ENTRY.c.n == 20))
        for n in range(21, 60):
            tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(n=n - 1))
        with pytest.raises(TamperedError, match="ledger entry 20: its bytes are those of entry 21"):
            look(sixty, tx)


def test_swapped_rows_are_named(sixty) -> None:
    with changed(sixty) as tx:
        for first, second in ((0, 59), (7, 8), (30, 31)):
            with tx.begin_nested() as savepoint:
                for old, new in ((first, 999), (second, first), (999, second)):
                    tx.execute(update(ENTRY).where(ENTRY.c.n == old).values(n=new))
                with pytest.raises(TamperedError, match=rf"ledger entry {first}\b"):
                    look(sixty, tx)
                savepoint.rollback()


@pytest.mark.parametrize("n", [-1, 60, 61, 2**62])
def test_an_inserted_row_is_named(sixty, n: int) -> None:
    with changed(sixty) as tx:
        columns = "leaf, hash, at, who, what, outcome, run, subject"
        tx.execute(text(f"INSERT INTO ledger_entry SELECT {n}, {columns} FROM ledger_entry WHERE n = 5"))
        expected = r"ledger entry 60 is missing" if n > 60 else rf"ledger entry {n}\b"
        with pytest.raises(TamperedError, match=expected):
            look(sixty, tx)


@pytest.mark.parametrize("left", [0, 1, 31, 39, 40, 59])
def test_a_cut_end_is_named(sixty, left: int) -> None:
    with changed(sixty) as tx:
        tx.execute(delete(ENTRY).where(ENTRY.c.n >= left))
        with pytest.raises(TamperedError, match=rf"ledger entr(y|ies) {left}\b.*missing|hash"):
            look(sixty, tx)


@pytest.mark.parametrize("left", range(1, 60))
def test_a_cut_with_everything_made_to_fit_is_found_up_to_the_anchor(sixty, left: int) -> None:
    """One who held an old copy puts back a state that was true once: below the anchor it is found, above it is not."""
    from guard.audit import merkle
    from guard.audit.checkpoint import Checkpoint

    with changed(sixty) as tx:
        hashes = [row.hash for row in tx.execute(ENTRY.select().order_by(ENTRY.c.n))]
        tx.execute(delete(ENTRY).where(ENTRY.c.n >= left))
        tx.execute(delete(NODE))
        tx.execute(delete(CHECKPOINT).where((CHECKPOINT.c.size >= left) | (CHECKPOINT.c.kind == "latest")))
        tree = merkle.Range()
        for digest in hashes[:left]:
            for level, position, node in tree.push(digest):
                tx.execute(insert(NODE).values(level=level, position=position, hash=node))
        text_of = Checkpoint(f"guard-ledger/{sixty.state.store_id}", left, tree.root()).text()
        note = sixty.sign(text_of)
        tx.execute(insert(CHECKPOINT).values(size=left, kind="latest", note=note))
        if left < 40:
            with pytest.raises(TamperedError, match=rf"ledger entr(y {left}|ies {left} to 39) gone: anchor here"):
                look(sixty, tx)
        else:
            look(sixty, tx)


def test_every_node_counts(sixty) -> None:
    with changed(sixty) as tx:
        nodes = tx.execute(NODE.select()).fetchall()
        assert len(nodes) == 30 + 15 + 7 + 3 + 1
        for level, position, digest in nodes:
            here = (NODE.c.level == level) & (NODE.c.position == position)
            low, high = position << level, ((position + 1) << level) - 1
            changes = (
                update(NODE).where(here).values(hash=bytes([digest[0] ^ 1]) + digest[1:]),
                text(f"UPDATE ledger_node SET hash = 'text' WHERE level = {level} AND position = {position}"),
                update(NODE).where(here).values(level=40),
                update(NODE).where(here).values(position=position + 1000),
                delete(NODE).where(here),
            )
            for change in changes:
                with tx.begin_nested() as savepoint:
                    tx.execute(change)
                    with pytest.raises(TamperedError, match=f"ledger entries {low} to {high}: the hash over them"):
                        look(sixty, tx)
                    savepoint.rollback()


@pytest.mark.parametrize(("level", "position"), [(0, 0), (1, 30), (5, 1), (6, 0), (1, -1), (-1, 0)])
def test_an_extra_node_counts(sixty, level: int, position: int) -> None:
    with changed(sixty) as tx:
        tx.execute(insert(NODE).values(level=level, position=position, hash=b"x" * 32))
        with pytest.raises(TamperedError, match="ledger entries 0 to 59: 57 hashes over them are stored, not 56"):
            look(sixty, tx)


def test_every_checkpoint_counts(sixty) -> None:
    with changed(sixty) as tx:
        kept = checkpoints(tx)
        assert {kind for _, kind, _ in kept} == {"latest", "hourly", "anchored"}
        for size, kind, note in kept:
            here = (CHECKPOINT.c.size == size) & (CHECKPOINT.c.kind == kind)
            values = [
                {"size": size + 1},
                {"size": "x"},
                {"kind": "other"},
                {"note": note.replace(f"\n{size}\n", "\n1\n")},
            ]
            values += [{"note": kept[0][2] if size != kept[0][0] else kept[1][2]}, {"note": ""}, {"note": b"\xff"}]
            values += [{"note": note[:at] + ("B" if note[at] == "A" else "A") + note[at + 1 :]} for at in (3, 60, -10)]
            for value in values:
                with tx.begin_nested() as savepoint:
                    tx.execute(update(CHECKPOINT).where(here).values(value))
                    with pytest.raises(TamperedError):
                        look(sixty, tx)
                    savepoint.rollback()
            if kind != "anchored":  # the anchor itself is what counts
                with tx.begin_nested() as savepoint:
                    tx.execute(delete(CHECKPOINT).where(here))
                    with pytest.raises(TamperedError, match="checkpoint"):
                        look(sixty, tx)
                    savepoint.rollback()


def test_every_byte_of_the_newest_note_counts(sixty) -> None:
    with changed(sixty) as tx:
        note = next(note for _, kind, note in checkpoints(tx) if kind == "latest")
        for at in range(len(note)):
            flipped = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
            tx.execute(update(CHECKPOINT).where(CHECKPOINT.c.kind == "latest").values(note=flipped))
            with pytest.raises(TamperedError, match="ledger entry 59: the checkpoint behind it was changed"):
                look(sixty, tx)


def test_an_hourly_checkpoint_where_no_hour_ends_counts(sixty) -> None:
    with changed(sixty) as tx:
        note = next(note for _, kind, note in checkpoints(tx) if kind == "latest")
        tx.execute(insert(CHECKPOINT).values(size=60, kind="hourly", note=note))
        with pytest.raises(TamperedError, match="ledger entry 59: the hourly checkpoint behind it stands at no end"):
            look(sixty, tx)


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_node", "ledger_checkpoint"])
def test_a_lost_table_counts(sixty, table: str) -> None:
    with changed(sixty) as tx:
        tx.execute(text(f"DROP TABLE {table}"))
        with pytest.raises(TamperedError):
            look(sixty, tx)


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_node", "ledger_checkpoint"])
def test_an_emptied_table_counts(sixty, table: str) -> None:
    with changed(sixty) as tx:
        tx.execute(text(f"DELETE FROM {table}"))
        with pytest.raises(TamperedError):
            look(sixty, tx)


def test_an_empty_ledger_never_verifies(house) -> None:
    with pytest.raises(TamperedError):
        house.ledger.inspect()


def test_another_key_never_verifies(sixty) -> None:
    from guard.audit import Ledger

    with pytest.raises(TamperedError, match=r"signed by the key .*, not by"):
        Ledger(sixty.state, b"k" * 32, [sixty.anchor]).inspect()


def test_an_index_that_hides_an_entry_counts(sixty) -> None:
    """SQLite would look it up in the index and not list it: the tables are checked against their indexes."""
    sixty.close()
    raw = sqlite3.connect(sixty.folder / "state.db", isolation_level=None)
    raw.execute("PRAGMA writable_schema = ON")
    raw.execute(
        "UPDATE sqlite_master SET sql = replace(sql, '(what)', '(what) WHERE n <> 30') WHERE name = 'ledger_entry_what'"
    )
    raw.close()
    raw = sqlite3.connect(sixty.folder / "state.db", isolation_level=None)
    raw.execute("REINDEX ledger_entry_what")
    raw.execute("PRAGMA writable_schema = ON")
    raw.execute("UPDATE sqlite_master SET sql = replace(sql, ' WHERE n <> 30', '') WHERE name = 'ledger_entry_what'")
    raw.close()
    house = sixty.reopened()
    with pytest.raises(TamperedError, match="damaged"):
        house.ledger.inspect()
    house.close()


def test_times_never_go_back(house, make_event: Make) -> None:
    """Even the holder of the key cannot write an entry that is older than the one before."""
    house.add(make_event(0))
    house.clock.step(timedelta(hours=-1))
    fooled = replace(house)
    with house.state.database.writer.begin() as tx:
        from guard.audit import entry, merkle

        raw = entry.leaf(1, house.clock.now(), make_event(1))
        found = entry.decode(raw)
        row = {name: getattr(found, name) for name in ("n", "at", "who", "what", "outcome", "run")}
        tx.execute(insert(ENTRY).values(leaf=raw, hash=merkle.leaf_hash(raw), **row))
        with pytest.raises(TamperedError, match=r"ledger entry 1: its time .* is before"):
            look(fooled, tx)
        tx.execute(delete(ENTRY).where(ENTRY.c.n == 1))


def tables_of(path: Path) -> list[list[tuple[object, ...]]] | None:
    """Everything the ledger's tables hold, by the primary keys and by each index; None when it cannot be read."""
    try:
        raw = sqlite3.connect(path)
        raw.text_factory = bytes
        queries = [
            f"SELECT * FROM {name} ORDER BY 1, 2" for name in ("ledger_entry", "ledger_node", "ledger_checkpoint")
        ]
        queries += [
            f"SELECT n, {name} FROM ledger_entry INDEXED BY ledger_entry_{name} ORDER BY {name}, n"
            for name in ("what", "run", "subject")
        ]
        return [raw.execute(query).fetchall() for query in queries]
    except sqlite3.Error:
        return None
    finally:
        raw.close()


def flip_bytes(house, positions: list[int]) -> int:
    """Flip single bytes of the database file: each is found, or changed nothing that the ledger holds."""
    house.close()
    path, found = house.folder / "state.db", 0
    good, truth = path.read_bytes(), tables_of(path)
    assert truth is not None
    for at in positions:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        try:
            opened = house.reopened()
        except GuardError:
            found += 1
            continue
        try:
            opened.ledger.inspect()
        except TamperedError:
            found += 1
        else:
            assert tables_of(path) == truth, f"byte {at}"
        finally:
            opened.close()
    return found


def places_of_the_ledger(house) -> list[int]:
    """Where in the file the bytes of leaves, hashes, nodes and notes stand; each once, for the file is made compact."""
    house.close()
    path = house.folder / "state.db"
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("VACUUM")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    queries = ("SELECT leaf FROM ledger_entry", "SELECT hash FROM ledger_entry", "SELECT hash FROM ledger_node")
    values = [bytes(value) for query in queries for (value,) in raw.execute(query)]
    values += [note.encode() for (note,) in raw.execute("SELECT note FROM ledger_checkpoint")]
    raw.close()
    whole = path.read_bytes()
    assert all(whole.count(value) == 1 for value in values)
    return [at for value in values for at in range(whole.index(value), whole.index(value) + len(value))]


def test_single_bytes_of_the_ledger_in_the_file_are_all_found(sixty) -> None:
    positions = random.Random(7).sample(places_of_the_ledger(sixty), 150)
    assert flip_bytes(sixty, positions) == 150


def test_single_bytes_anywhere_in_the_file_are_found_or_changed_nothing_of_the_ledger(sixty) -> None:
    size = (sixty.folder / "state.db").stat().st_size
    assert flip_bytes(sixty, random.Random(7).sample(range(size), 150)) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_single_bytes_of_the_ledger_in_the_file_are_all_found(sixty) -> None:
    positions = random.Random(8).sample(places_of_the_ledger(sixty), 2000)
    assert flip_bytes(sixty, positions) == 2000


@contextmanager
def opened_again(house) -> Iterator[object]:
    """Open the folder of a house again, and close it."""
    again = house.reopened()
    try:
        yield again
    finally:
        again.close()


def test_a_file_cut_short_counts(sixty) -> None:
    sixty.close()
    path = sixty.folder / "state.db"
    good = path.read_bytes()
    for left in range(0, len(good), 4096):
        path.write_bytes(good[:left])
        with pytest.raises(GuardError), opened_again(sixty) as house:
            house.ledger.inspect()


def test_a_long_ledger_is_compared_in_chunks(house, make_event: Make) -> None:
    """Two chunks of 4096 and a rest; a change in each part is named."""
    done = 0
    while done < 8200:
        house.add(*[make_event(3 * number + 1) for number in range(done, done + 410)])
        done += 410
        house.clock.step(timedelta(minutes=20))
    house.ledger.anchor()
    assert house.ledger.verify().size == 8200
    for n in (0, 4095, 4096, 8191, 8192, 8199):
        with changed(house) as tx:
            tx.execute(update(ENTRY).where(ENTRY.c.n == n).values(who="x"))
            with pytest.raises(TamperedError, match=rf"ledger entry {n}\b"):
                look(house, tx)
    for level, position, last in ((12, 0, 4095), (13, 0, 8191)):
        with changed(house) as tx:
            here = (NODE.c.level == level) & (NODE.c.position == position)
            tx.execute(update(NODE).where(here).values(hash=b"y" * 32))
            with pytest.raises(TamperedError, match=f"ledger entries 0 to {last}: the hash over them"):
                look(house, tx)
    with changed(house) as tx:
        tx.execute(text("UPDATE ledger_entry SET who = CAST(x'ff' AS TEXT) WHERE n = 5000"))
        with pytest.raises(TamperedError, match="ledger entry 5000 cannot be read"):
            look(house, tx)


def test_an_entry_with_the_right_number_but_no_checkpoint_is_named(sixty, make_event: Make) -> None:
    from guard.audit import entry, merkle

    with changed(sixty) as tx:
        raw = entry.leaf(60, sixty.clock.now(), make_event(1))
        found = entry.decode(raw)
        row = {name: getattr(found, name) for name in ("n", "at", "who", "what", "outcome", "run")}
        tx.execute(insert(ENTRY).values(leaf=raw, hash=merkle.leaf_hash(raw), **row))
        with pytest.raises(TamperedError, match="ledger entry 60: above the newest checkpoint, which holds 60"):
            look(sixty, tx)


def test_bytes_that_are_no_entry_but_fit_their_hash_are_named(sixty) -> None:
    from guard.audit import merkle

    with changed(sixty) as tx:
        values = {"leaf": b'{"v":1}', "hash": merkle.leaf_hash(b'{"v":1}')}
        tx.execute(update(ENTRY).where(ENTRY.c.n == 9).values(values))
        with pytest.raises(TamperedError, match="ledger entry 9: its bytes are not an entry"):
            look(sixty, tx)


def test_a_signed_checkpoint_of_nothing_is_not_a_ledger(house) -> None:
    from guard.audit import merkle
    from guard.audit.checkpoint import Checkpoint

    with changed(house) as tx:
        text_of = Checkpoint(f"guard-ledger/{house.state.store_id}", 0, merkle.EMPTY_ROOT).text()
        tx.execute(insert(CHECKPOINT).values(size=0, kind="latest", note=house.sign(text_of)))
        with pytest.raises(TamperedError, match="the ledger is empty: entry 0"):
            look(house, tx)


def test_a_signed_note_that_is_no_checkpoint_is_tampered(sixty) -> None:
    with changed(sixty) as tx:
        note = Signer(SEED, f"guard-ledger/{sixty.state.store_id}").sign_note("something else\n")
        tx.execute(update(CHECKPOINT).where(CHECKPOINT.c.kind == "latest").values(note=note))
        with pytest.raises(TamperedError, match=r"ledger entry 59: .*not a checkpoint"):
            look(sixty, tx)


def test_where_all_rows_can_be_read_the_first_is_blamed(sixty) -> None:
    from guard.audit import store

    with sixty.state.read() as tx:
        assert store.first_unreadable(tx, 4, 3) == 4
