"""Tiles are those of C2SP tlog-tiles: somebody else's whole log verifies, and no byte of it can be changed."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit import merkle, tiles
from guard.audit.checkpoint import parse
from guard.audit.tiles import ENTRIES, Tile
from guard.crypto.sign import Verifier
from guard.errors import TamperedError

Files = dict[str, bytes]


def log_of(entries: list[bytes]) -> tuple[Files, bytes]:
    """Return the files and the root of a log, made from the definition: MTH over each range of leaves."""

    def mth(leaves: list[bytes]) -> bytes:
        tree = merkle.Range()
        for leaf in leaves:
            tree.push(merkle.leaf_hash(leaf))
        return tree.root()

    size, files = len(entries), {}
    for level in range(4):
        span = 256**level
        for tile in tiles.row(level, size):
            first = tile.index * 256
            digests = [mth(entries[at * span : (at + 1) * span]) for at in range(first, first + tile.width)]
            files[tile.path] = b"".join(digests)
    for tile in tiles.row(ENTRIES, size):
        files[tile.path] = tiles.pack(entries[tile.index * 256 : tile.index * 256 + tile.width])
    return files, mth(entries)


@pytest.fixture(scope="module")
def small() -> tuple[Files, bytes, int]:
    """A log of 600 entries."""
    files, root = log_of([b"entry %d" % number for number in range(600)])
    return files, root, 600


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(3, 999, 255), "tile/3/999.p/255"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(ENTRIES, 1_234_067), "tile/entries/x001/x234/067"),
        (Tile(0, 70_000_000, 1), "tile/0/x070/x000/000.p/1"),
    ],
)
def test_names_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert tiles.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        *("tile/0/0", "tile/00/000", "tile/x/000", "tile/0/x000/001", "tile/0/001/000", "tile/0/x001/x002"),
        *("tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/entries/000.new", "checkpoint"),
    ],
)
def test_other_names_are_none(path: str) -> None:
    assert tiles.parse(path) is None


def test_a_tree_of_70000_has_the_tiles_the_specification_says() -> None:
    found = [tile for level in tiles.levels(70_000) for tile in tiles.row(level, 70_000)]
    assert len(found) == 273 + 1 + 1 + 1 + 1
    assert {(tile.level, tile.index): tile.width for tile in found if tile.width < 256} == {
        (0, 273): 112,
        (1, 1): 17,
        (2, 0): 1,
    }
    assert [tile.width for level in tiles.levels(256) for tile in tiles.row(level, 256)] == [256, 1]
    assert list(tiles.row(0, 0)) == []
    assert [tile.index for tile in tiles.row(0, 70_000, 69_888)] == [273]


def test_a_whole_tessera_log_is_verified_at_every_size(shared: Path) -> None:
    log = json.loads((shared / "vectors/rfc6962/tlog_tiles_log.json").read_text())
    files = {name: b64decode(body) for name, body in log["files"].items()}
    verifier = Verifier.from_vkey(log["vkey"])
    read_files = set()

    def read(path: str) -> bytes | None:
        read_files.add(path)
        return files.get(path)

    for size in range(1, 16):
        note = files[f"checkpoint.{size}"].decode()
        signed = parse(verifier.open_note(note))
        tiles.verify(read, signed.size, signed.root)
        assert len(list(tiles.entries(read, size))) == size
    assert read_files == {name for name in files if name.startswith("tile/")}


def test_a_log_of_600_is_verified_and_read_back(small: tuple[Files, bytes, int]) -> None:
    files, root, size = small
    assert set(files) == {
        *(f"tile/{name}/{at}" for name in ("0", "entries") for at in ("000", "001", "002.p/88")),
        "tile/1/000.p/2",
    }
    tiles.verify(files.get, size, root)
    assert [entry for _, entry in tiles.entries(files.get, size, 598)] == [b"entry 598", b"entry 599"]
    assert tiles.root(files.get, 512) == merkle.node_hash(*tiles.split(files["tile/1/000.p/2"]))


@given(st.data())
def test_a_flipped_byte_is_found_in_the_file_where_it_is(small: tuple[Files, bytes, int], data: st.DataObject) -> None:
    files, root, size = small
    name = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    content = bytearray(files[name])
    content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TamperedError) as found:
        tiles.verify({**files, name: bytes(content)}.get, size, root)
    above = {"tile/1/000.p/2"} if name.startswith("tile/0/") else set()
    beside = {name, name.replace("tile/0/", "tile/entries/")}
    assert any(each in str(found.value) for each in beside | above) or "the root that was signed" in str(found.value)


@pytest.mark.parametrize("change", ["gone", "short", "long", "another's"])
def test_what_is_missing_or_misplaced_is_found(small: tuple[Files, bytes, int], change: str) -> None:
    files, root, size = small
    names = sorted(files)
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        content = {
            "gone": None,
            "short": files[name][:-1],
            "long": files[name] + b"\0",
            "another's": files[other],
        }[change]
        changed = {**files, name: content}
        with pytest.raises(TamperedError, match="tile/"):
            tiles.verify(changed.get, size, root)


def test_a_log_of_three_levels_is_verified_up_to_its_top() -> None:
    size = 257 * 256
    entries = [number.to_bytes(3, "big") for number in range(size)]
    tree, files, hashes = merkle.Range(), {}, [merkle.leaf_hash(each) for each in entries]
    for digest in hashes:
        tree.push(digest)
    for tile in tiles.row(ENTRIES, size):
        files[tile.path] = tiles.pack(entries[tile.index * 256 :][: tile.width])
    for level in tiles.levels(size):
        for tile in tiles.row(level, size):
            files[tile.path] = b"".join(hashes[tile.index * 256 :][: tile.width])
        for _ in range(8):
            hashes = merkle.parents(hashes)
    assert {"tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"} < set(files)
    tiles.verify(files.get, size, tree.root())
    for name in ("tile/1/000", "tile/2/000.p/1"):
        changed = bytes([files[name][0] ^ 1]) + files[name][1:]
        with pytest.raises(TamperedError, match=name[:10]):
            tiles.verify({**files, name: changed}.get, size, tree.root())


def test_another_root_than_the_one_that_was_signed_is_found(small: tuple[Files, bytes, int]) -> None:
    files, root, size = small
    with pytest.raises(TamperedError, match="do not make the root that was signed over 600 entries"):
        tiles.verify(files.get, size, bytes([root[0] ^ 1]) + root[1:])
    with pytest.raises(TamperedError, match=r"tile/0/002\.p/88 is missing"):
        tiles.root({name: body for name, body in files.items() if name != "tile/0/002.p/88"}.get, size)


def test_below_the_minimum_index_entries_and_their_hashes_may_be_missing(small: tuple[Files, bytes, int]) -> None:
    files, root, size = small
    pruned = {name: body for name, body in files.items() if not name.endswith("/000")}
    tiles.verify(pruned.get, size, root, minimum=256)
    assert next(tiles.entries(pruned.get, size))[0] == 256
    for minimum in (0, 255):
        with pytest.raises(TamperedError, match="tile/0/000 is missing"):
            tiles.verify(pruned.get, size, root, minimum)
    wrong = {**pruned, "tile/entries/000": files["tile/entries/000"]}
    with pytest.raises(TamperedError, match="no tile of hashes"):
        tiles.verify(wrong.get, size, root, minimum=256)
    changed = {**pruned, "tile/0/000": files["tile/0/001"]}
    with pytest.raises(TamperedError, match="is not made of"):
        tiles.verify(changed.get, size, root, minimum=256)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_come_back_as_they_were(entries: list[bytes]) -> None:
    bundle = tiles.pack(entries)
    assert tiles.unpack(bundle) == entries
    if entries:
        with pytest.raises(ValueError, match="cut off"):
            tiles.unpack(bundle + b"\0")


def test_an_entry_that_no_bundle_can_hold_is_refused() -> None:
    assert len(tiles.pack([bytes(65_535)])) == 65_537
    with pytest.raises(OverflowError):
        tiles.pack([bytes(65_536)])


def test_old_partial_tiles_belong_to_a_log_and_those_of_no_size_do_not() -> None:
    assert tiles.belongs(Tile(0, 2, 17), 600)
    assert not tiles.belongs(Tile(0, 2, 89), 600)
    assert not tiles.belongs(Tile(2, 0, 1), 600)
