"""A root key comes from its own file or its own passphrase, and from nothing weaker."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.crypto import roots
from guard.crypto.roots import Argon2Params
from guard.errors import ConfigError, DeniedError, InterlockError

LEAST = {"memory": 19 * 1024, "passes": 2, "lanes": 1}


def test_a_new_file_holds_the_key_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    root = roots.new_file(path)
    assert len(root) == 32
    assert roots.read_file(path) == root
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("guard-root-1:")


def test_two_new_files_hold_two_keys(tmp_path: Path) -> None:
    assert roots.new_file(tmp_path / "a") != roots.new_file(tmp_path / "b")


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    root = roots.new_file(path)
    with pytest.raises(InterlockError, match="is not overwritten"):
        roots.new_file(path)
    assert roots.read_file(path) == root


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*none/root.key: No such file"):
        roots.new_file(tmp_path / "none" / "root.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o677])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "root.key"
    roots.new_file(path)
    path.chmod(mode)
    with pytest.raises(DeniedError, match="others may read or change") as caught:
        roots.read_file(path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "guard-root-1:",
        "guard-root-2:" + "A" * 43 + "\n",
        "guard-root-1:" + "A" * 42 + "\n",
        "guard-root-1:" + "A" * 44 + "\n",
        "guard-root-1:" + "A" * 43 + "\n\n",
        "guard-root-1:" + "+" * 43,
        "guard-root-1:" + "A" * 43 + "=",
        "A" * 43,
        "guard-root-1:" + "ä" * 43,
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "root.key"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a root key file"):
        roots.read_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        roots.read_file(tmp_path / "none")
    with pytest.raises(ConfigError, match="Is a directory"):
        roots.read_file(tmp_path)


def test_our_vectors_give_their_root(vectors: Callable[[str], Any], tmp_path: Path) -> None:
    read = vectors("wrapped_keys.json")
    path = tmp_path / "root.key"
    path.touch(mode=0o600)
    path.write_text(read["root_file"])
    assert roots.read_file(path).hex() == read["root"]
    for case in read["passphrases"]:
        params = Argon2Params(bytes.fromhex(case["salt"]), case["memory"], case["passes"], case["lanes"])
        assert roots.from_passphrase(case["passphrase"], params).hex() == case["root"]


def test_a_passphrase_is_the_same_however_its_accents_are_typed() -> None:
    params = Argon2Params(bytes(16), **LEAST)
    assert roots.from_passphrase("Zo\u00eb", params) == roots.from_passphrase("Zoe\u0308", params)
    assert roots.from_passphrase("Zoe", params) != roots.from_passphrase("Zo\u00eb", params)


def test_new_parameters_are_within_bounds_and_freshly_salted() -> None:
    one, other = Argon2Params(), Argon2Params()
    one.check()
    assert one.salt != other.salt
    assert (one.memory, one.passes, one.lanes) == (64 * 1024, 3, 4)


@pytest.mark.parametrize(
    "changed",
    [
        {"memory": 19 * 1024 - 1},
        {"memory": 1024 * 1024 + 1},
        {"passes": 1},
        {"passes": 11},
        {"lanes": 0},
        {"lanes": 17},
        {"salt": bytes(15)},
    ],
    ids=str,
)
def test_parameters_below_the_floor_or_above_the_ceiling_are_refused(changed: dict[str, Any]) -> None:
    params = Argon2Params(**{"salt": bytes(16), **LEAST, **changed})
    with pytest.raises(InterlockError, match="out of bounds"):
        roots.from_passphrase("correct horse", params)


def test_the_bounds_themselves_are_accepted() -> None:
    Argon2Params(bytes(16), 19 * 1024, 2, 1).check()
    Argon2Params(bytes(16), 1024 * 1024, 10, 16).check()


def test_a_passphrase_that_is_no_text_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        roots.from_passphrase("caf\udce9 au lait", Argon2Params(bytes(16), **LEAST))


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(ConfigError, match="empty"):
        roots.from_passphrase("", Argon2Params(bytes(16), **LEAST))


# systemd credentials --------------------------------------------------------------------------------------------------


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    path = tmp_path / "guard-root"
    roots.new_file(path)
    path.chmod(0o400)
    return path


def test_a_credential_has_the_content_of_a_key_file(credential: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    root = roots.read_credential("guard-root", environ)
    credential.chmod(0o600)
    assert roots.read_file(credential) == root


@pytest.mark.parametrize("mode", [0o600, 0o500, 0o404, 0o420, 0o460, 0o402, 0o401])
def test_a_credential_with_another_mode_than_systemds_is_refused(credential: Path, mode: int) -> None:
    credential.chmod(mode)
    with pytest.raises(DeniedError, match="others may read or change the credential"):
        roots.read_credential("guard-root", {"CREDENTIALS_DIRECTORY": str(credential.parent)})


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another account needs root")
def test_a_group_may_read_it_only_where_root_owns_it(credential: Path) -> None:
    """systemd gives a service's user its credential by an access list; its mask shows as the group's mode."""
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    credential.chmod(0o440)
    assert len(roots.read_credential("guard-root", environ)) == 32
    for owner, group in ((0, 12345), (12345, 0), (12345, 12345)):
        os.chown(credential, owner, group)
        with pytest.raises(DeniedError, match="is not systemd's"):
            roots.read_credential("guard-root", environ)


def test_a_process_without_the_credential_says_so(credential: Path) -> None:
    with pytest.raises(roots.AwayError, match="systemd gave this process no credentials"):
        roots.read_credential("guard-root", {})
    with pytest.raises(roots.AwayError, match="cannot read the credential"):
        roots.read_credential("other", {"CREDENTIALS_DIRECTORY": str(credential.parent)})


def test_a_credential_that_is_no_key_is_refused(credential: Path) -> None:
    credential.chmod(0o600)
    credential.write_text("hunter2\n")
    credential.chmod(0o400)
    with pytest.raises(ConfigError, match="is not a root key file") as caught:
        roots.read_credential("guard-root", {"CREDENTIALS_DIRECTORY": str(credential.parent)})
    assert "hunter2" not in str(caught.value)
