"""[[audit.anchor]] in guard.toml and policies/audit.toml: what each kind needs, and what is no place to anchor."""

from pathlib import Path

import pytest

from guard.config import load_policy, load_settings, struct_schema
from guard.config.audit import AuditPolicy
from guard.config.settings import Settings
from guard.config.span import Span
from guard.errors import ConfigError

GOOD = 'name = "shop"\n[shop]\nurl = "sqlite:///shop.db"\n'
WITNESS = 'kind = "witness"\nurl = "https://w.example"\nvkey = "w+00000000+AAAA"\n'
TSA = 'kind = "timestamp"\nurl = "https://t.example/tsa"\npath = "tokens"\nauthority = "tsa.pem"\n'


def load(folder: Path, *anchors: str) -> Settings:
    path = folder / "guard.toml"
    names = "abcdef"
    path.write_text(
        GOOD + "".join(f'[[audit.anchor]]\nname = "{names[at]}"\n{text}\n' for at, text in enumerate(anchors))
    )
    return load_settings(path)


def test_every_kind_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path, 'path = "here"', 'kind = "s3"\nbucket = "b"\nprefix = "p"\nregion = "r"\naccess_key = {env = "K"}',
        WITNESS + 'ca = "ca.pem"', TSA,
    ).audit.anchor  # fmt: skip
    assert [each.kind for each in found] == ["folder", "s3", "witness", "timestamp"]
    assert found[2].tls == "verify"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'an anchor of kind "folder" needs a path'),
        ('kind = "s3"', 'an anchor of kind "s3" needs a bucket'),
        ('kind = "witness"\nurl = "https://w"', "needs a vkey: the line that the witness prints"),
        ('kind = "witness"\nvkey = "x"', 'an anchor of kind "witness" needs a url'),
        ('kind = "timestamp"\nurl = "https://t"\npath = "p"', "needs an authority: a PEM file"),
        ('kind = "timestamp"\nurl = "https://t"\nauthority = "p"', "needs a path: the folder for its tokens"),
        ('kind = "blockchain"', "kind"),
        ('path = "x"\nvkey = "y"', 'vkey says nothing about an anchor of kind "folder"'),
        (WITNESS + 'bucket = "b"', 'bucket says nothing about an anchor of kind "witness"'),
        ('path = "x"\nurll = "y"', 'unknown key; did you mean "url"'),
        (WITNESS.replace("https", "http"), 'plain http leaves this machine: write https, or tls = "off"'),
        (WITNESS.replace("https://w.example", "https://w.example/"), "without a slash at its end"),
        (WITNESS.replace("https://w.example", "ftp://w.example"), "a url is https://host"),
        (WITNESS.replace("https://w.example", "w.example"), "a url is https://host"),
        (WITNESS.replace("https://w.example", "https://w.example?x=1"), "a url is https://host"),
        (WITNESS.replace("https://w.example", "https://w.example:x"), "this url cannot be read"),
        (WITNESS.replace("https://w.example", "https://w.example:0"), "a url is https://host"),
        (WITNESS.replace("//w.example", "//u:hunter2@w.example/"), "a url here names nobody and holds no password"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        load(tmp_path, text)
    assert said in str(told.value)
    assert "audit.anchor[1]" in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8443", "[::1]:8443"])
def test_plain_http_stays_on_this_machine_unless_declared(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, WITNESS.replace("https://w.example", f"http://{host}"))
    assert load(tmp_path, WITNESS.replace("https://w.example", "http://w.example") + 'tls = "off"')


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ((WITNESS, WITNESS.replace("w.example", "v.example")), "two anchors have the vkey w+0.*: that is one"),
        (('path = "x"', 'path = "x"'), "two anchors lie in the folder x: that is one"),
        (('kind = "s3"\nbucket = "b"', 'kind = "s3"\nbucket = "b"'), "two anchors lie in the bucket b/: that is one"),
    ],
)  # fmt: skip
def test_one_place_named_twice_is_one_anchor(tmp_path: Path, texts: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
        load(tmp_path, *texts)


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "guard.toml"
    path.write_text(GOOD + '[[audit.anchor]]\nname = "a"\npath = "x"\n[[audit.anchor]]\nname = "a"\npath = "y"\n')
    with pytest.raises(ConfigError, match="two anchors are called a"):
        load_settings(path)


def test_the_schema_describes_every_key() -> None:
    schema = struct_schema(Settings)["$defs"]["AnchorSettings"]
    assert "runbooks/anchors.md" in schema["description"]
    for key in ("url", "vkey", "ca", "authority", "tls"):
        assert schema["properties"][key]["description"]
    assert schema["properties"]["kind"]["enum"] == ["folder", "s3", "timestamp", "witness"]


def test_the_policy_that_ships_is_the_default() -> None:
    shipped = load_policy(Path(__file__).parents[2] / "policies", "audit", AuditPolicy)
    assert (shipped.anchors, shipped.anchor_age, shipped.anchor_warn, shipped.anchor_lock, shipped.purposes) == (
        AuditPolicy().anchors, Span.parse("26 hours"), Span.parse("25 hours"), Span.parse("13 months"),
        AuditPolicy().purposes,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["anchors = 0", "anchors = 21", 'anchor_age = "soon"', 'purposes = ["Über uns"]'])
def test_a_policy_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.toml").write_text(text)
    with pytest.raises(ConfigError, match=text.split(" ", maxsplit=1)[0]):
        load_policy(tmp_path, "audit", AuditPolicy)
