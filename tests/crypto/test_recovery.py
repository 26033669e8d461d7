"""A kit's printed shares come back whole, mistakes are named, and what is sealed to it opens with two of them."""

import re
import stat
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from guard.crypto import recovery
from guard.crypto.recovery import Kit
from guard.errors import ConfigError, DeniedError, InterlockError, TamperedError

KIT = recovery.new_kit()
OTHER = recovery.new_kit()


def test_any_two_shares_give_the_private_key() -> None:
    for pair in permutations(KIT.shares, 2):
        private = recovery.combine(pair)
        assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == KIT.public


def test_our_vector_opens(vectors: Callable[[str], Any]) -> None:
    kit = vectors("wrapped_keys.json")["kit"]
    for pair in permutations(kit["shares"], 2):
        assert recovery.combine(pair).hex() == kit["private"]
    assert recovery.public_of(bytes.fromhex(kit["private"])).hex() == kit["public"]


def test_a_share_may_be_typed_in_small_letters_and_with_spaces() -> None:
    first, second, _ = KIT.shares
    typed = " ".join(re.findall(".{1,4}", first.lower())) + "\n"
    assert recovery.combine([typed, second.upper()]) == recovery.combine([first, second])


@given(st.data())
def test_any_mistyped_character_is_found(data: st.DataObject) -> None:
    share = KIT.shares[0]
    at = data.draw(st.integers(0, len(share) - 1))
    other = data.draw(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789:-").filter(lambda c: c != share[at].lower())
    )
    with pytest.raises(ConfigError, match=r"mistyped|not a recovery share") as caught:
        recovery.combine([share[:at] + other + share[at + 1 :], KIT.shares[1]])
    assert share[27:40] not in str(caught.value)


def test_a_share_cut_or_empty_is_no_share() -> None:
    for text in ("", KIT.shares[0][:-1], KIT.shares[0] * 2, "guard-share-1:::", KIT.shares[0].replace(":1:", ":4:")):
        with pytest.raises(ConfigError, match="not a recovery share"):
            recovery.read_share(text)


def test_shares_of_two_kits_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=f"different kits: share 1 of kit {KIT.id}, share 2 of kit {OTHER.id}"):
        recovery.combine([KIT.shares[0], OTHER.shares[1]])


@pytest.mark.parametrize(
    "texts", [(), (KIT.shares[0],), (KIT.shares[0], KIT.shares[0])], ids=["none", "one", "the same"]
)
def test_two_different_shares_are_needed(texts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="two different shares"):
        recovery.combine(texts)


def test_shares_that_give_another_key_than_the_kits_are_refused() -> None:
    """The check of each is right, and yet they do not belong together."""
    forged = recovery.Share(KIT.id, 2, bytes(32))
    with pytest.raises(ConfigError, match="do not belong together"):
        recovery.combine([KIT.shares[0], recovery.printed(forged)])


def test_what_is_sealed_to_a_kit_opens_with_it_alone_and_as_what_it_is() -> None:
    private = recovery.combine(KIT.shares[:2])
    sealed = recovery.seal_to(KIT.public, bytes(range(32)), b"a column key")
    assert recovery.open_with(private, sealed, b"a column key") == bytes(range(32))
    for key, body, info in (
        (recovery.combine(OTHER.shares[:2]), sealed, b"a column key"),
        (private, sealed, b"another key"),
        (private, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"a column key"),
        (private, sealed[:4] + bytes(32) + sealed[36:], b"a column key"),
        (private, sealed[:-1], b"a column key"),
        (private, b"gk\x01\x01" + sealed[4:], b"a column key"),
    ):
        with pytest.raises(TamperedError):
            recovery.open_with(key, body, info)


def test_two_seals_of_one_key_differ() -> None:
    assert recovery.seal_to(KIT.public, bytes(32), b"") != recovery.seal_to(KIT.public, bytes(32), b"")


def test_shares_of_an_older_kit_are_named() -> None:
    recovery.belongs(recovery.combine(KIT.shares[:2]), KIT.public)
    with pytest.raises(DeniedError, match=f"shares of kit {OTHER.id}; this store seals to kit {KIT.id}"):
        recovery.belongs(recovery.combine(OTHER.shares[:2]), KIT.public)


def test_no_repr_shows_a_secret() -> None:
    assert KIT.shares[0] not in repr(KIT)
    assert "secret" not in repr(recovery.read_share(KIT.shares[0]))
    assert isinstance(KIT, Kit)


def test_shares_are_written_to_files_of_their_owner_alone(tmp_path: Path) -> None:
    paths = recovery.write_shares(KIT, tmp_path)
    assert [path.name for path in paths] == [f"guard-share-{KIT.id}-{number}.txt" for number in (1, 2, 3)]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert recovery.combine([recovery.read_share_file(path) for path in paths[1:]]) == recovery.combine(KIT.shares)


def test_shares_are_never_written_over_others(tmp_path: Path) -> None:
    recovery.write_shares(KIT, tmp_path)
    with pytest.raises(InterlockError, match="is not overwritten"):
        recovery.write_shares(KIT, tmp_path)


@pytest.mark.parametrize("text", [b"", b"no share\n", b"\xff", b"guard-share-1:a\nguard-share-1:b\n"], ids=range(4))
def test_a_file_without_one_share_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "share"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="share does not hold one recovery share"):
        recovery.read_share_file(path)


def test_a_share_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=why):
            recovery.read_share_file(path)
