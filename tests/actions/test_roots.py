"""A folder whose keys hang from AWS KMS or a systemd credential: set up, opened, and closed with the cause named."""

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from guard.actions.setup import Answers, Made, set_up
from guard.app import App
from guard.cli.main import call
from guard.clock import SteppedClock
from guard.crypto.keyring import origins
from guard.errors import ConfigError, DeniedError, UnavailableError

REGION = "eu-central-1"


@pytest.fixture
def arn(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A KMS key, played by moto, and the credentials to use it."""
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", REGION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        client = boto3.client("kms")
        made = client.create_key()["KeyMetadata"]["Arn"]
        client.create_alias(AliasName="alias/guard", TargetKeyId=made)
        yield made


def folder(tmp_path: Path, clock: SteppedClock, phone: Any, **answers: Any) -> Made:
    made = set_up(
        tmp_path / "home", Answers("Shop", "sqlite:///shop.db", "Ada", getpass.getuser(), **answers), clock, phone.enrol
    )
    made.app.close()
    return made


def opened(made: Made, clock: SteppedClock, phone: Any) -> App:
    return App.open(made.config, clock, phone.code)


def run(made: Made, clock: SteppedClock, phone: Any, *words: str) -> int:
    app = opened(made, clock, phone)
    try:
        return call(list(words), app)
    finally:
        app.close()


class Refusing:
    """Lets every request of a KMS client end in the same refusal."""

    def __init__(self, app: App, code: str, status: int = 400) -> None:
        self.code, self.status = code, status
        kms = app._kms(app.settings.root)
        client: Any = kms.client  # type: ignore[attr-defined]  # the real one
        client.meta.events.register("before-send.kms", self)
        app._kms = lambda _: kms  # type: ignore[method-assign]  # the one that refuses

    def __call__(self, request: Any, **_: object) -> AWSResponse:
        body = b'{"__type": "%s", "message": "no"}' % self.code.encode()
        raw = type("Raw", (), {"stream": lambda _self: iter([body]), "read": lambda _self, *_: body})()
        return AWSResponse(request.url, self.status, {}, raw)


@pytest.mark.parametrize("name", ["arn", "alias/guard"])
def test_a_store_under_kms_opens_by_its_arn_and_by_an_alias(
    tmp_path: Path, clock: SteppedClock, phone: Any, arn: str, name: str
) -> None:
    made = folder(tmp_path, clock, phone, root="kms", kms_key=arn if name == "arn" else name, kms_region=REGION)
    assert not (made.config.parent / "keys/root.key").exists()
    app = opened(made, clock, phone)
    assert [(each.kind, each.kms_arn, each.mark) for each in origins(app.state)] == [("kms", arn, None)]
    assert len(app.keyring.list()) == 7
    app.close()
    assert run(made, clock, phone, "keys", "rewrap") == 0
    assert run(made, clock, phone, "access", "list") == 0


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("DisabledException", DeniedError, "is disabled"),
        ("AccessDeniedException", DeniedError, "refuses"),
        ("NotFoundException", ConfigError, "is not there"),
        ("ThrottlingException", UnavailableError, "does not answer now"),
    ],
)
def test_without_its_key_nothing_opens_and_the_cause_is_named(
    tmp_path: Path, clock: SteppedClock, phone: Any, arn: str, monkeypatch: pytest.MonkeyPatch, code: str,
    kind: type[Exception], said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    made = folder(tmp_path, clock, phone, root="kms", kms_key=arn)
    app = opened(made, clock, phone)
    Refusing(app, code)
    with pytest.raises(kind, match=said):
        _ = app.keyring
    app.close()


def test_the_second_root_opens_when_kms_does_not_answer_and_only_then(
    tmp_path: Path, clock: SteppedClock, phone: Any, arn: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    made = folder(tmp_path, clock, phone, root="kms", kms_key=arn)
    text = made.config.read_text()
    made.config.write_text(text.replace("[backup]", '[root.second]\nkind = "file"\npath = "keys/root.key"\n\n[backup]'))
    assert run(made, clock, phone, "keys", "rewrap", "--root") == 0
    app = opened(made, clock, phone)
    Refusing(app, "ThrottlingException")
    assert len(app.keyring.list()) == 7
    assert list(app.roots.away) == ["root"]
    capsys.readouterr()
    assert call(["doctor"], app) == 3
    out = capsys.readouterr().out
    assert f"warning root: KMS key {arn} ({REGION}) does not answer now: ThrottlingException" in out
    assert "root.second: key file" in out
    assert call(["status"], app) == 3
    assert "root did not answer" in capsys.readouterr().out
    app.close()
    app = opened(made, clock, phone)
    Refusing(app, "DisabledException")
    with pytest.raises(DeniedError, match="is disabled"):
        _ = app.keyring
    app.close()


def test_a_credential_takes_over_from_the_key_file(
    tmp_path: Path, clock: SteppedClock, phone: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As guard.toml says: made from the key file, then the key file goes."""
    made = folder(tmp_path, clock, phone, root="credential")
    text = made.config.read_text()
    assert "LoadCredentialEncrypted=guard-root" in text
    assert run(made, clock, phone, "access", "list") == 0
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (made.config.parent / "keys/root.key").rename(credentials / "guard-root")
    (credentials / "guard-root").chmod(0o400)
    app = opened(made, clock, phone)
    with pytest.raises(
        ConfigError, match=r"no root answers: root: cannot read the key file.*root\.second: systemd gave"
    ):
        _ = app.keyring
    app.close()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert run(made, clock, phone, "access", "list") == 0
    start, end = text.index("# Make the key file"), text.index("[backup]")
    made.config.write_text(text[:start] + '[root]\nkind = "credential"\n\n' + text[end:])
    capsys.readouterr()
    run(made, clock, phone, "doctor")
    assert "ok      root: systemd credential guard-root opens the keys" in capsys.readouterr().out
    assert run(made, clock, phone, "keys", "rewrap") == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "file"', 'kind = "kms"', 'a root of kind "kms" needs a key'),
        ('kind = "file"', 'kind = "fil"', "root.kind"),
        ('kind = "file"', 'kind = "credential"\ncredential = "../x"', "root.credential"),
        (
            'kind = "file"',
            'kind = "passphrase"\n[root.second]\nkind = "passphrase"',
            "two passphrases are one too many",
        ),
        ("[backup]", '[root.second]\nkey = "x"\nkynd = "kms"\n\n[backup]', 'did you mean "kind"?'),
    ],
)
def test_settings_of_a_root_that_cannot_be_are_named(
    tmp_path: Path, clock: SteppedClock, phone: Any, old: str, new: str, said: str
) -> None:
    made = folder(tmp_path, clock, phone)
    text = made.config.read_text()
    assert old in text
    made.config.write_text(text.replace(old, new, 1).replace('path = "keys/root.key"\n', "", 1))
    with pytest.raises(ConfigError) as caught:
        App.open(made.config, clock)
    assert said in str(caught.value)
