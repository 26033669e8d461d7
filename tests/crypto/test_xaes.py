"""XAES-256-GCM is C2SP's, and no cached subkey outlives a fork."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHAKE128, XOFHash

from guard.crypto import xaes


def accumulated(rounds: int) -> str:
    """The C2SP test: everything random comes from one stream, the ciphertexts go into one hash."""
    read, out = XOFHash(SHAKE128(digest_size=sys.maxsize)).squeeze, hashlib.shake_128()
    for _ in range(rounds):
        key, nonce = read(32), read(24)
        plaintext = read(read(1)[0])
        aad = read(read(1)[0])
        cipher = xaes.subcipher(key, nonce[:12])
        sealed = cipher.encrypt(nonce[12:], plaintext, aad)
        assert cipher.decrypt(nonce[12:], sealed, aad) == plaintext
        out.update(sealed)
    return out.hexdigest(32)


def test_it_gives_the_vectors_of_c2sp(shared: Path) -> None:
    read = json.loads((shared / "vectors" / "xaes" / "xaes_256_gcm.json").read_text())
    assert read["vectors"]
    for case in read["vectors"]:
        key, nonce = bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"])
        assert xaes.derive(key, nonce[:12]).hex() == case["derived_key"]
        cipher = xaes.subcipher(key, nonce[:12])
        sealed = cipher.encrypt(nonce[12:], case["plaintext_ascii"].encode(), case["aad_ascii"].encode())
        assert sealed.hex() == case["ciphertext"]


def test_ten_thousand_random_cases_give_the_accumulated_hash() -> None:
    assert accumulated(10_000) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_million_random_cases_give_the_accumulated_hash() -> None:
    assert accumulated(1_000_000) == "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"


def test_a_subkey_is_derived_once_for_a_half_nonce() -> None:
    xaes.forget()
    assert xaes.subcipher(bytes(32), bytes(12)) is xaes.subcipher(bytes(32), bytes(12))
    assert xaes.subcipher.cache_info().misses == 1


def test_a_forked_child_has_no_cached_subkey() -> None:
    xaes.subcipher(bytes(32), bytes(12))
    assert xaes.subcipher.cache_info().currsize > 0
    assert in_child(lambda: xaes.subcipher.cache_info().currsize) == 0


def in_child(work: object) -> int:
    """Fork, and return the small number that `work` gives in the child."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("key", "half"), [(16, 12), (33, 12), (32, 24), (32, 0)])
def test_keys_and_halves_of_another_length_are_refused(key: int, half: int) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        xaes.derive(bytes(key), bytes(half))
