"""The primitives we build on answer all of Wycheproof as it says."""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def cases(shared: Path, name: str, *members: str) -> Iterator[Any]:
    read = json.loads((shared / "vectors" / "wycheproof" / name).read_text())
    for group in read["testGroups"]:
        for test in group["tests"]:
            fields = [bytes.fromhex(test[member]) for member in members]
            yield group, test, fields


def test_aes_gcm(shared: Path) -> None:
    """All 316: those with the 96-bit nonces that we use, and the others as far as the library takes their length."""
    seen, refused = Counter[int](), []
    for group, test, (key, iv, aad, msg, ct, tag) in cases(
        shared, "aes_gcm_test.json", "key", "iv", "aad", "msg", "ct", "tag"
    ):
        seen[group["ivSize"]] += 1
        if not 8 <= len(iv) <= 128:
            refused.append(len(iv))
            with pytest.raises(ValueError, match="Nonce must be between 8 and 128 bytes"):
                AESGCM(key).decrypt(iv, ct + tag, aad)
        elif test["result"] == "valid":
            assert AESGCM(key).encrypt(iv, msg, aad) == ct + tag
            assert AESGCM(key).decrypt(iv, ct + tag, aad) == msg
        else:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(iv, ct + tag, aad)
    assert (seen.total(), seen[96], len(refused)) == (316, 197, 33)


def test_hkdf_sha256(shared: Path) -> None:
    seen = 0
    for _, test, (ikm, salt, info, okm) in cases(shared, "hkdf_sha256_test.json", "ikm", "salt", "info", "okm"):
        seen += 1
        if test["result"] == "valid":
            assert HKDF(SHA256(), test["size"], salt, info).derive(ikm) == okm
        else:
            with pytest.raises(ValueError, match="Cannot derive keys larger"):
                HKDF(SHA256(), test["size"], salt, info).derive(ikm)
    assert seen == 86


def test_hmac_sha256(shared: Path) -> None:
    seen = 0
    for group, test, (key, msg, tag) in cases(shared, "hmac_sha256_test.json", "key", "msg", "tag"):
        seen += 1
        size, started = group["tagSize"] // 8, HMAC(key, SHA256())
        copied = started.copy()  # as tokens are made
        copied.update(msg)
        for made in (hmac.digest(key, msg, hashlib.sha256), copied.finalize()):
            assert hmac.compare_digest(made[:size], tag) is (test["result"] == "valid")
    assert seen == 174
