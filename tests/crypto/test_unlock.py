"""Which root opens the KEK: the first that answers; what is away or does not answer is passed over, nothing else is."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guard.config import Secret
from guard.config.settings import OneRoot, RootSettings
from guard.crypto import roots
from guard.crypto.kek import KmsRoot, LocalRoot, Origin, Root, UnderRoot, context
from guard.crypto.roots import AwayError
from guard.crypto.unlock import Roots, roots_of
from guard.crypto.wrap import Key
from guard.errors import ConfigError, DeniedError, GuardError, TamperedError, UnavailableError

STORE = UUID(int=7)
KEK = Key(1, "kek", 1, bytes(range(32)))
SHEET = Key(1, "kek", 1, b"")


@dataclass
class Cloud:
    """A KMS that keeps what it was given; `error` is what it answers with."""

    key: str = "alias/guard"
    arn: str = "arn:aws:kms:eu-central-1:111122223333:key/one"
    error: GuardError | None = None
    given: dict[bytes, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    asked: int = 0

    def encrypt(self, plain: bytes, bound: dict[str, str]) -> tuple[bytes, str]:
        self._answer()
        sealed = f"sealed {len(self.given)}".encode()
        self.given[sealed] = (plain, bound)
        return sealed, self.arn

    def decrypt(self, sealed: bytes, bound: dict[str, str]) -> bytes:
        self._answer()
        plain, was = self.given.get(sealed, (b"", {}))
        if was != bound:
            raise TamperedError("not wrapped by this")
        return plain

    def _answer(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def made(home: Path, settings: dict[str, Any], typed: Sequence[str] | None = None, cloud: Cloud | None = None) -> Roots:
    second = settings.pop("second", None)
    shape = RootSettings(**settings, second=OneRoot(**second) if second else None)
    left = list(typed or ())
    ask = (lambda: None) if typed is None else (lambda: lambda _: left.pop(0))
    return roots_of(shape, home, ask, lambda one: cloud or Cloud(one.key or ""))


def opened(roots_: Roots, stored: Sequence[UnderRoot]) -> Key:
    return roots_.unlock(STORE, SHEET, stored)


KMS = {"kind": "kms", "key": "alias/guard"}
FILE = {"kind": "file", "path": "root.key"}


def test_each_kind_of_root_opens_what_it_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    roots.new_file(tmp_path / "guard-root")
    (tmp_path / "guard-root").chmod(0o400)
    cloud = Cloud()
    twelve = "twelve chars"
    for settings, typed in (
        (FILE, None),
        ({"kind": "credential"}, None),
        ({"kind": "passphrase"}, [twelve, twelve, twelve]),
        (KMS, None),
    ):
        wrapped = made(tmp_path, dict(settings), typed, cloud).wrap_named(STORE, KEK)
        assert [each.origin.kind for each in wrapped] == [settings["kind"]]
        assert opened(made(tmp_path, dict(settings), typed and [twelve], cloud), wrapped) == KEK


def test_what_state_remembers_of_a_root_opens_nothing(tmp_path: Path) -> None:
    (under,) = made(tmp_path, dict(FILE)).wrap_named(STORE, KEK)
    material = roots.read_file(tmp_path / "root.key")
    assert under.origin.mark is not None
    assert under.origin.mark not in material
    assert material not in under.wrapped
    assert KEK.material not in under.wrapped
    assert material.hex() not in repr(LocalRoot(material))


def test_the_second_is_not_asked_when_the_first_answers(tmp_path: Path) -> None:
    cloud = Cloud()
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=cloud)
    wrapped = both.wrap_named(STORE, KEK)
    asked = cloud.asked
    assert opened(both, wrapped) == KEK
    assert (cloud.asked, both.away) == (asked, {})


def test_a_root_that_does_not_answer_is_named_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud = Cloud()
    both = made(tmp_path, {**KMS, "second": FILE}, cloud=cloud)
    wrapped = both.wrap_named(STORE, KEK)
    cloud.error = UnavailableError("KMS is throttled")
    with caplog.at_level(logging.INFO):
        assert opened(both, wrapped) == KEK
    assert {name: str(error) for name, error in both.away.items()} == {"root": "KMS is throttled"}
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "root does not answer (KMS is throttled); the keys were opened with root.second")
    ]
    cloud.error = None
    assert opened(both, wrapped) == KEK
    assert both.away == {}


def test_a_root_that_is_not_here_is_passed_over_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=(cloud := Cloud()))
    wrapped = both.wrap_named(STORE, KEK)
    (tmp_path / "root.key").unlink()
    with caplog.at_level(logging.WARNING):
        assert opened(both, wrapped) == KEK
    assert caplog.records == []
    assert isinstance(both.away["root"], AwayError)
    assert cloud.asked > 0


@pytest.mark.parametrize(
    "error",
    [DeniedError("the key is disabled"), TamperedError("not wrapped by this"), ConfigError("there is no such key")],
    ids=lambda error: type(error).__name__,
)
def test_a_root_that_answers_wrongly_is_never_passed_over(tmp_path: Path, error: GuardError) -> None:
    cloud = Cloud()
    both = made(tmp_path, {**KMS, "second": FILE}, cloud=cloud)
    wrapped = both.wrap_named(STORE, KEK)
    cloud.error = error
    with pytest.raises(type(error), match=str(error)):
        opened(both, wrapped)


def test_a_changed_wrapping_is_never_passed_over(tmp_path: Path) -> None:
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=Cloud())
    first, second = both.wrap_named(STORE, KEK)
    for at in range(len(first.wrapped)):
        changed = bytearray(first.wrapped)
        changed[at] ^= 1
        with pytest.raises(TamperedError):
            opened(both, [UnderRoot(first.origin, bytes(changed)), second])


@pytest.mark.parametrize("wrapped", [b"", b"gk\x01\x03", b"gk\x01\x01sealed 0", b"gk\x01\x03" + bytes(6145)])
def test_what_kms_did_not_wrap_is_not_sent_to_it(tmp_path: Path, wrapped: bytes) -> None:
    cloud = Cloud()
    origin = Origin("kms", kms_key="alias/guard", kms_arn=cloud.arn)
    with pytest.raises(TamperedError, match="is not a key wrapped by KMS"):
        opened(made(tmp_path, dict(KMS), cloud=cloud), [UnderRoot(origin, wrapped)])
    assert cloud.asked == 0


def test_what_kms_gives_back_is_a_key(tmp_path: Path) -> None:
    cloud = Cloud()
    cloud.given[b"short"] = (bytes(31), context(STORE, KEK))
    origin = Origin("kms", kms_key="alias/guard", kms_arn=cloud.arn)
    with pytest.raises(TamperedError, match="is not a key"):
        opened(made(tmp_path, dict(KMS), cloud=cloud), [UnderRoot(origin, b"gk\x01\x03short")])


def test_the_context_names_store_key_purpose_and_version() -> None:
    assert context(STORE, Key(10, "kek", 2, b"")) == {
        "guard:store": "00000000-0000-0000-0000-000000000007",
        "guard:key": "000000000a",
        "guard:purpose": "kek",
        "guard:version": "2",
    }


def test_the_context_is_that_of_our_vectors(vectors: Callable[[str], Any]) -> None:
    read = vectors("wrapped_keys.json")
    assert context(UUID(read["store_id"]), Key(1, "kek", 1, b"")) == read["kms_context"]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("alias/guard", True),
        ("arn:aws:kms:eu-central-1:111122223333:key/one", True),
        ("one", True),
        ("ne", False),
        ("alias/other", False),
        ("arn:aws:kms:eu-central-1:111122223333:key/two", False),
    ],
)
def test_a_kms_key_is_known_by_its_name_then_and_by_its_own(name: str, known: bool) -> None:
    under = KmsRoot(Cloud()).wrap(STORE, KEK)
    assert KmsRoot(Cloud(name)).wraps(under.origin) is known


def test_when_no_root_answers_each_is_named(tmp_path: Path) -> None:
    cloud = Cloud()
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=cloud)
    wrapped = both.wrap_named(STORE, KEK)
    (tmp_path / "root.key").unlink()
    cloud.error = UnavailableError("KMS is throttled", hint="try again later")
    with pytest.raises(
        UnavailableError, match=r"no root answers: root: .*root\.key.*; root\.second: KMS is thr"
    ) as caught:
        opened(both, wrapped)
    assert caught.value.hint == "try again later"
    alone = made(tmp_path, dict(FILE))
    with pytest.raises(AwayError, match=r"cannot read the key file .*No such file") as missing:
        opened(alone, wrapped)
    assert missing.value.exit_code == 2
    two = made(tmp_path, {**FILE, "second": {"kind": "passphrase"}})
    (argon2,) = made(tmp_path, {"kind": "passphrase"}, ["twelve chars"] * 2).wrap_named(STORE, KEK)
    with pytest.raises(AwayError, match=r"no root answers: .*no terminal to ask for the passphrase"):
        opened(two, [wrapped[0], argon2])


def test_a_root_of_another_store_is_denied(tmp_path: Path) -> None:
    wrapped = made(tmp_path, dict(FILE)).wrap_named(UUID(int=8), KEK)
    with pytest.raises(DeniedError, match="this root key does not open the KEK: root is a key file"):
        opened(made(tmp_path, dict(FILE)), wrapped)
    with pytest.raises(DeniedError, match="the keys lie under file"):
        opened(made(tmp_path, dict(KMS), cloud=Cloud()), wrapped)
    with pytest.raises(DeniedError, match="root is a passphrase"):
        opened(made(tmp_path, {"kind": "passphrase"}, []), wrapped)


# Passphrases ----------------------------------------------------------------------------------------------------------


def test_a_passphrase_is_asked_for_once_in_a_process(tmp_path: Path) -> None:
    (under,) = made(tmp_path, {"kind": "passphrase"}, ["twelve chars"] * 2).wrap_named(STORE, KEK)
    again = made(tmp_path, {"kind": "passphrase"}, ["twelve chars"])
    assert opened(again, [under]) == opened(again, [under]) == KEK


def test_a_wrong_passphrase_is_denied(tmp_path: Path) -> None:
    (under,) = made(tmp_path, {"kind": "passphrase"}, ["twelve chars"] * 2).wrap_named(STORE, KEK)
    with pytest.raises(DeniedError, match="this passphrase's root key does not open the KEK"):
        opened(made(tmp_path, {"kind": "passphrase"}, ["twelve Chars"]), [under])


@pytest.mark.parametrize(
    ("typed", "why"), [(["eleven char"] * 2, "fewer than 12"), (["twelve chars", "twelve chairs"], "differ")]
)
def test_a_new_passphrase_is_long_enough_and_typed_twice(tmp_path: Path, typed: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        made(tmp_path, {"kind": "passphrase"}, typed).wrap_named(STORE, KEK)


def test_a_passphrase_may_lie_where_guard_toml_says(tmp_path: Path) -> None:
    (tmp_path / "pass").touch(mode=0o600)
    (tmp_path / "pass").write_text("correct horse battery\n")
    settings = {"kind": "passphrase", "passphrase": Secret(file="pass")}
    (under,) = made(tmp_path, dict(settings)).wrap_named(STORE, KEK)
    assert opened(made(tmp_path, dict(settings)), [under]) == KEK
    assert opened(made(tmp_path, {"kind": "passphrase"}, ["correct horse battery"]), [under]) == KEK


def test_a_new_passphrase_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    typed = ["twelve chars"] * 2 + ["other horse battery"] * 2
    both = made(tmp_path, {"kind": "passphrase"}, typed)
    old = both.wrap_named(STORE, KEK)
    new = both.wrap_named(STORE, KEK, old, new_passphrase=True)
    assert len(new) == 1
    assert opened(made(tmp_path, {"kind": "passphrase"}, ["other horse battery"]), new) == KEK
    with pytest.raises(DeniedError):
        opened(made(tmp_path, {"kind": "passphrase"}, ["twelve chars"]), new)


# Wrapping -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forgetful:
    """A root that encrypts, and decrypts to something else."""

    name: str = "root"
    what: str = "forgetful root"

    def find(self, *_: object) -> None:
        return None

    def make(self) -> Root:
        return self

    def wrap(self, store_id: UUID, kek: Key) -> UnderRoot:
        return UnderRoot(Origin("kms", kms_arn="arn"), b"gk\x01\x03x")

    def unwrap(self, store_id: UUID, wrapped: bytes, sheet: Key) -> Key:
        return Key(1, "kek", 1, bytes(32))


def test_a_root_that_gives_back_another_key_is_found_out_while_wrapping() -> None:
    with pytest.raises(TamperedError, match="KMS key arn gives back another key than was wrapped"):
        Roots([Forgetful()]).wrap_named(STORE, KEK)


def test_a_root_that_does_not_answer_stops_the_wrapping(tmp_path: Path) -> None:
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=Cloud(error=UnavailableError("KMS is throttled")))
    with pytest.raises(UnavailableError, match="throttled"):
        both.wrap_named(STORE, KEK)
    with pytest.raises(AwayError, match="CREDENTIALS_DIRECTORY"):
        made(tmp_path, {"kind": "credential"}).wrap_named(STORE, KEK)


def test_what_differs_from_guard_toml_is_told_in_words(tmp_path: Path) -> None:
    cloud = Cloud()
    (file,) = made(tmp_path, dict(FILE)).wrap_named(STORE, KEK)
    both = made(tmp_path, {**FILE, "second": KMS}, cloud=cloud)
    assert both.missing(STORE, [file]) == ("root.second: the keys do not lie under this KMS key alias/guard yet",)
    (kms,) = made(tmp_path, dict(KMS), cloud=cloud).wrap_named(STORE, KEK)
    assert both.missing(STORE, [file, kms]) == ()
    assert made(tmp_path, dict(FILE)).missing(STORE, [file, kms]) == (f"guard.toml does not name KMS key {cloud.arn}",)
    away = made(tmp_path, {**KMS, "second": {"kind": "credential"}}, cloud=cloud)
    assert away.missing(STORE, [kms]) == (
        "root.second: systemd credential guard-root (systemd gave this process no credentials"
        " (CREDENTIALS_DIRECTORY is not set))",
    )
    assert both.names == (f"root: key file {tmp_path / 'root.key'}", "root.second: KMS key alias/guard")
