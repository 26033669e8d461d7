"""The tree agrees with RFC 6962, with the outside vectors, and with other people's programs."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit import merkle
from guard.audit.checkpoint import parse
from guard.crypto.sign import Verifier


def root_of(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def getter(leaves: list[bytes]) -> merkle.Get:
    return lambda level, position: root_of(leaves[position << level : (position + 1) << level])


def leaves_of(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") for number in range(count)]


def raw(text: str | None) -> bytes:
    return b64decode(text or "")


@pytest.fixture(scope="module")
def proofs(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "vectors/rfc6962/proofs.json").read_text())


def test_all_inclusion_vectors_are_answered_as_they_say(proofs: dict[str, Any]) -> None:
    assert len(proofs["inclusion"]) == 98
    for case in proofs["inclusion"]:
        proof = [raw(step) for step in case["proof"] or ()]
        held = merkle.verify_inclusion(
            raw(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, raw(case["root"])
        )
        assert held is not case["wantErr"], case["name"]


def test_all_consistency_vectors_are_answered_as_they_say(proofs: dict[str, Any]) -> None:
    assert len(proofs["consistency"]) == 98
    for case in proofs["consistency"]:
        proof = [raw(step) for step in case["proof"] or ()]
        roots = raw(case["root1"]), raw(case["root2"])
        held = merkle.verify_consistency(case["size1"], case["size2"], proof, *roots)
        assert held is not case["wantErr"], case["name"]


def test_a_whole_tessera_log_has_our_roots_and_signed_checkpoints(shared: Path) -> None:
    log = json.loads((shared / "vectors/rfc6962/tlog_tiles_log.json").read_text())
    files = {name: b64decode(body) for name, body in log["files"].items()}
    bundle, entries = files["tile/entries/000.p/15"], []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    verifier = Verifier.from_vkey(log["vkey"])
    tree, seen = merkle.Range(), 0
    for size in range(16):
        found = parse(verifier.open_note(files[f"checkpoint.{size}"].decode()))
        assert (found.origin, found.size, found.root) == ("example.com/log/testdata", size, tree.root())
        if size:
            hashes = b"".join(merkle.leaf_hash(entry) for entry in entries[:size])
            assert files[f"tile/0/000.p/{size}"] == hashes
        if size < 15:
            tree.push(merkle.leaf_hash(entries[size]))
        seen += 1
    assert seen == 16


def test_pymerkle_computes_the_same_root_for_a_thousand_leaves() -> None:
    from pymerkle import InmemoryTree

    theirs, ours = InmemoryTree(algorithm="sha256"), merkle.Range()
    for leaf in leaves_of(1000):
        theirs.append_entry(leaf)
        ours.push(merkle.leaf_hash(leaf))
    assert ours.root() == theirs.get_root()


@given(st.integers(0, 130))
def test_a_growing_range_has_the_root_of_the_definition_and_names_each_subtree(size: int) -> None:
    leaves = leaves_of(size)
    tree, made = merkle.Range(), {}
    for leaf in leaves:
        for level, position, digest in tree.push(merkle.leaf_hash(leaf)):
            assert (level, position) not in made
            made[level, position] = digest
    assert (tree.size, tree.root()) == (size, root_of(leaves))
    get = getter(leaves)
    expected = [(level, at) for level in range(1, 8) for at in range(size >> level)]
    assert made == {place: get(*place) for place in expected}
    assert tree.edge == [get(level, at) for level, at in merkle.cover(size)]
    again = merkle.Range(size, tree.edge)
    assert again.root() == tree.root()


@given(st.integers(1, 70), st.data())
def test_every_leaf_has_a_proof_and_no_other_leaf_fits_it(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, getter(leaves))
    root, leaf = root_of(leaves), merkle.leaf_hash(leaves[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
    assert not any(merkle.verify_inclusion(leaf, other, size, proof, root) for other in range(size) if other != index)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, root], root)


@given(st.integers(1, 70), st.data())
def test_every_earlier_size_has_a_consistency_proof(new: int, data: st.DataObject) -> None:
    leaves = leaves_of(new)
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(old, new, getter(leaves))
    roots = root_of(leaves[:old]), root_of(leaves)
    assert merkle.verify_consistency(old, new, proof, *roots)
    if old < new:
        assert not merkle.verify_consistency(old, new, proof, root_of([b"x", *leaves[1:old]]), roots[1])
        assert not merkle.verify_consistency(old, new, proof[:-1], *roots)
        assert not merkle.verify_consistency(old, new, [*proof, roots[0]], *roots)


@given(st.integers(0, 12), st.integers(0, 3))
def test_whole_subtrees_can_be_pushed(count: int, level: int) -> None:
    leaves = leaves_of(count << level)
    tree = merkle.Range()
    for position in range(count):
        tree.push(getter(leaves)(level, position), level)
    assert (tree.size, tree.root()) == (len(leaves), root_of(leaves))


def test_a_subtree_in_the_wrong_place_is_refused() -> None:
    tree = merkle.Range()
    tree.push(merkle.leaf_hash(b""))
    with pytest.raises(ValueError, match="cannot begin at leaf 1"):
        tree.push(merkle.leaf_hash(b""), 1)
    with pytest.raises(ValueError, match="zip"):
        merkle.Range(3, [b""])


def test_proofs_outside_the_tree_are_refused() -> None:
    get = getter(leaves_of(4))
    with pytest.raises(ValueError, match="leaf 4"):
        merkle.inclusion_proof(4, 4, get)
    for old, new in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="no proof"):
            merkle.consistency_proof(old, new, get)


@pytest.mark.parametrize("size", [0, -1])
def test_size_zero_and_short_hashes_are_never_proved(size: int) -> None:
    root, leaf = merkle.EMPTY_ROOT, merkle.leaf_hash(b"")
    assert not merkle.verify_inclusion(leaf, 0, size, [], root)
    assert not merkle.verify_consistency(size, 1, [], root, leaf)
    assert not merkle.verify_consistency(size, size, [], root, root)
    assert not merkle.verify_inclusion(leaf[:31], 0, 1, [], leaf[:31])
    assert not merkle.verify_consistency(1, 2, [leaf], leaf[:31], merkle.node_hash(leaf, leaf))
    assert not merkle.verify_consistency(1, 2, [b""], leaf, leaf)
    assert not merkle.verify_consistency(3, 4, [], leaf, leaf)
