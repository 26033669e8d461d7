"""Configuration: every mistake is named at once, with file, key path and the nearest key."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config import Secret, load_catalog, load_settings, reveal
from guard.config.span import Span
from guard.errors import ConfigError

GOOD = 'name = "shop"\n[shop]\nurl = "sqlite:///shop.db"\n'


def write(folder: Path, text: str, name: str = "guard.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert settings.shop.url == "sqlite:///shop.db"
    assert settings.root.kind == "file"


def test_several_mistakes_are_all_named(tmp_path: Path) -> None:
    text = 'name = 3\n[shop]\nulr = "x"\n[backup]\nkeep = 3\n[[backup.store]]\nname = "B"\nkind = "lokal"\n'
    with pytest.raises(ConfigError) as error:
        load_settings(write(tmp_path, text))
    message = str(error.value)
    for expected in (
        "name: Expected `str`",
        'shop.ulr: unknown key; did you mean "url"?',
        "shop.url: is missing",
        "backup.keep: unknown key; known here: exclude, files, store",
        "backup.store[1].name",
        "backup.store[1].kind",
    ):
        assert expected in message
    assert message.count("\n") == 5
    assert all(line.startswith(str(tmp_path)) for line in message.splitlines())


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guard.toml is not valid TOML: .*line 1") as error:
        load_settings(write(tmp_path, "name = \n"))
    assert "guard config check" in (error.value.hint or "")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as error:
        load_settings(tmp_path / "guard.toml")
    assert "guard init" in (error.value.hint or "")


def test_a_password_in_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop\.url: a password does not belong") as error:
        load_settings(write(tmp_path, 'name = "s"\n[shop]\nurl = "postgresql://u:hunter2@db/shop"\n'))
    assert "hunter2" not in str(error.value)


def test_a_store_needs_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backup\.store\[1\]: a store of kind \"s3\" needs a bucket"):
        load_settings(write(tmp_path, GOOD + '[[backup.store]]\nname = "b"\nkind = "s3"\n'))


def test_a_catalog_names_columns_listed_twice(tmp_path: Path) -> None:
    write(tmp_path, '[[column]]\nat = "A.b"\nid = 1\n[[column]]\nat = "A.b"\nid = 2\n', "catalog.toml")
    with pytest.raises(ConfigError, match=r"listed twice: A\.b"):
        load_catalog(tmp_path)


def test_no_catalog_is_an_empty_one(tmp_path: Path) -> None:
    assert load_catalog(tmp_path).column == ()


def test_secrets_come_from_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = write(tmp_path, "s3cret\n", "secret")
    private.chmod(0o600)
    monkeypatch.setenv("SOME_SECRET", "from-env")
    assert reveal(Secret(file="secret"), tmp_path) == "s3cret"
    assert reveal(Secret(env="SOME_SECRET"), tmp_path) == "from-env"
    assert reveal(Secret(cmd="echo from-cmd"), tmp_path) == "from-cmd"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert reveal(Secret(credential="secret"), tmp_path) == "s3cret"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another account needs root")
def test_a_credential_that_systemd_gave_a_services_user_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its access list shows as r for the group; in a file of anybody else's, and in no credential, r is the group's."""
    private = write(tmp_path, "s3cret\n", "secret")
    private.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert reveal(Secret(credential="secret"), tmp_path) == "s3cret"
    with pytest.raises(ConfigError, match="can be read by others"):
        reveal(Secret(file="secret"), tmp_path)
    os.chown(private, 0, 12345)
    with pytest.raises(ConfigError, match="can be read by others"):
        reveal(Secret(credential="secret"), tmp_path)


def test_a_secret_others_can_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "s3cret\n", "secret").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others") as error:
        reveal(Secret(file="secret"), tmp_path)
    assert "chmod 600" in (error.value.hint or "")


@pytest.mark.parametrize("secret", [Secret(env="NOT_SET_AT_ALL"), Secret(file="nothing"), Secret(cmd="false")])
def test_a_secret_that_is_not_there_is_named(secret: Secret, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        reveal(secret, tmp_path)


def test_a_secret_has_one_place() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Secret(file="a", env="b")


@given(st.integers(0, 40), st.integers(0, 11), st.integers(0, 400), st.integers(0, 23))
def test_a_length_is_read_as_it_is_shown(years: int, months: int, days: int, hours: int) -> None:
    if years or months or days or hours:
        parts = ((years, "year"), (months, "month"), (days, "day"), (hours, "hour"))
        text = " ".join(f"{number} {unit}{'s' if number != 1 else ''}" for number, unit in parts if number)
        assert str(Span.parse(text)) == text


@pytest.mark.parametrize("text", ["", "soon", "10", "10 decades", "0 days", "3 days and more", "-1 day"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Span.parse(text)
