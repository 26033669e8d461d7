"""Tokens of an RFC 3161 authority: two verifiers agree on them, and whatever else an authority sends is none."""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.audit import FolderAnchor, Ledger
from guard.audit.anchors.timestamp import TimestampAnchor
from guard.audit.anchors.web import Web
from guard.clock import SystemClock
from guard.errors import ConfigError, TamperedError, UnavailableError
from guard.events import Event
from tests.audit.conftest import SEED
from tests.audit.outside import Authority, Respond, served

Make = Callable[[int], Event]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def stamping(house, make_event: Make, authority: Authority, tmp_path: Path) -> Callable[..., Ledger]:
    """A ledger of three entries with an authority, or with one that answers as it is told."""
    for number in range(3):
        house.add(make_event(number))

    def make(url: str, ca: Path | None = None) -> Ledger:
        folder = FolderAnchor("tsa", tmp_path / "tokens")
        folder.create()
        return Ledger(house.state, SEED, [TimestampAnchor(folder, Web("anchor tsa", url), ca or authority.ca)])

    return make


def test_openssl_verifies_the_token_that_is_kept(stamping, authority: Authority, tmp_path: Path) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        assert ledger.anchor().held == ("tsa",)
    names = sorted(path.name for path in (tmp_path / "tokens").iterdir())
    assert names == [f"{3:020d}.checkpoint", f"{3:020d}.tsr"]
    note, token = (tmp_path / "tokens" / name for name in names)
    assert note.read_text() == ledger.checkpoint()
    words = ["openssl", "ts", "-verify", "-data", note, "-in", token, "-CAfile", authority.ca]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, "Verification: OK" in done.stdout) == (0, True)
    note.write_text(note.read_text().replace("\n3\n", "\n4\n"))
    assert subprocess.run(words, capture_output=True).returncode == 1


def test_it_is_verified_without_the_authority_and_says_when(stamping, authority: Authority) -> None:
    before = SystemClock().now().replace(microsecond=0)
    with served(authority.respond) as url:
        ledger = stamping(url)
        ledger.anchor()
    after = SystemClock().now()
    (found,) = ledger.look()
    assert before <= found.at <= after + timedelta(seconds=1)
    assert ledger.verify().anchored == 3


def test_each_flipped_byte_of_a_token_is_found(stamping, authority: Authority, tmp_path: Path) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        ledger.anchor()
    token = tmp_path / "tokens" / f"{3:020d}.tsr"
    good, passed = token.read_bytes(), 0
    for at in range(0, len(good), 5):
        flipped = bytearray(good)
        flipped[at] ^= 1 << at % 8
        token.write_bytes(bytes(flipped))
        try:
            ledger.inspect()
        except TamperedError as error:
            assert "anchor tsa" in str(error)  # noqa: PT017  # some bytes are covered by nothing
        else:
            passed += 1
    assert passed < len(good) / 5 * 0.4  # certificates that are carried along, status texts, unsigned tags
    token.write_bytes(good)
    assert ledger.inspect().anchored == 3


def test_a_token_that_is_gone_or_anothers_is_found(stamping, house, make_event: Make, authority, tmp_path) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        ledger.anchor()
        house.add(make_event(4))
        ledger.anchor()
    first, second = (tmp_path / "tokens" / f"{size:020d}.tsr" for size in (3, 4))
    second.write_bytes(first.read_bytes())
    with pytest.raises(TamperedError, match="is no token of the checkpoint beside it: Mismatch between messages"):
        ledger.inspect()
    second.unlink()
    with pytest.raises(TamperedError, match="anchor tsa: the token of the checkpoint of 4 entries is gone"):
        ledger.inspect()


def wrong(authority: Authority, other: Authority) -> dict[str, tuple[Respond, str]]:
    replayed = authority.sign
    last: list[bytes] = []

    def replay(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        last.append(replayed(body))
        return 200, "application/timestamp-reply", last[0]

    def reject(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        return 200, "application/timestamp-reply", bytes.fromhex("30053003020102")

    return {
        "replayed": (replay, "Nonce mismatch|Mismatch between messages"),
        "rejected": (reject, "PKIStatus is not GRANTED"),
        "of another authority": (other.respond, "Error while verifying certificates"),
        "nothing": (lambda *_: (200, "application/timestamp-reply", b""), "no token that is good"),
        "html": (lambda *_: (200, "text/html", b"<html>log in first</html>"), "no token that is good"),
        "an error": (lambda *_: (500, "text/plain", b"sorry"), "answers 500"),
        "the query": (lambda method, path, body: (200, "x", body), "no token that is good"),
    }


@pytest.mark.parametrize(
    "flaw", ["replayed", "rejected", "of another authority", "nothing", "html", "an error", "the query"]
)
def test_what_is_no_good_token_is_not_kept(
    stamping, house, make_event: Make, authority: Authority, tmp_path: Path, flaw: str
) -> None:
    respond, said = wrong(authority, Authority(tmp_path / "other"))[flaw]
    with served(respond) as url:
        ledger = stamping(url)
        if flaw == "replayed":
            ledger.anchors[0].check(ledger.book)  # its answer is sent again below
        with pytest.raises(UnavailableError, match=said):
            ledger.anchor()
    assert list((tmp_path / "tokens").iterdir()) == []


def test_the_same_bytes_again_with_an_old_nonce_are_refused(stamping, authority: Authority) -> None:
    """A replay of a token over this very note: only the nonce tells."""
    kept: list[bytes] = []

    def replay(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        kept.append(authority.sign(body))
        return 200, "application/timestamp-reply", kept[0]

    with served(replay) as url:
        (anchor,) = stamping(url).anchors
        anchor.check()
        with pytest.raises(UnavailableError, match="Nonce mismatch"):
            anchor.check()


def test_the_right_digest_under_another_hash_is_no_token(authority: Authority, tmp_path: Path) -> None:
    """Who can make SHA3-256 give a text this value is somebody else's trouble; the format says SHA-256."""
    words = ["openssl", "ts", "-query", "-digest", sha256(b"note").hexdigest(), "-sha3-256", "-cert", "-out", "query"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    anchor = TimestampAnchor(FolderAnchor("tsa", tmp_path), Web("anchor tsa", "http://x"), authority.ca)
    with pytest.raises(ValueError, match="it is not over a SHA-256"):
        anchor._verified(authority.sign((tmp_path / "query").read_bytes()), b"note", None)


def test_a_token_that_cannot_be_written_or_read_is_a_folder_that_is_away(
    stamping, authority: Authority, tmp_path: Path
) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        (tmp_path / "tokens" / f"{3:020d}.tsr").mkdir()
        with pytest.raises(UnavailableError, match=r"anchor tsa at .*Is a directory"):
            ledger.anchor()
        (tmp_path / "tokens" / f"{3:020d}.tsr").rmdir()
        ledger.anchor()
    (tmp_path / "tokens" / f"{3:020d}.tsr").unlink()
    (tmp_path / "tokens" / f"{3:020d}.tsr").mkdir()
    assert "Is a directory" in (ledger.look()[0].problem or "")


def test_a_root_file_that_is_none_is_a_wrong_setting(stamping, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    with served(authority.respond) as url:
        for path, said in ((tmp_path / "empty.pem", "holds no certificate"), (tmp_path / "none.pem", "No such file")):
            with pytest.raises(ConfigError, match=said):
                stamping(url, path).anchors[0].check()
        with pytest.raises(UnavailableError, match="no token that is good"):
            stamping(url, Authority(tmp_path / "another").ca).anchors[0].check()


def test_killed_between_token_and_checkpoint_the_token_counts_for_nothing(
    stamping, authority: Authority, tmp_path: Path, fault_points
) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        assert fault_points.killed(ledger.anchor, 1)
        assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".tsr"]
        assert ledger.look()[0].entries is None
        assert ledger.anchor().held == ("tsa",)
    assert ledger.verify().anchored == 3
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_a_folder_that_is_not_mounted_is_not_made(stamping, authority: Authority, tmp_path: Path) -> None:
    with served(authority.respond) as url:
        ledger = stamping(url)
        (tmp_path / "tokens").rmdir()
        with pytest.raises(UnavailableError, match="No such file"):
            ledger.anchor()
    assert not (tmp_path / "tokens").exists()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_an_authority_sends_ends_in_an_error_of_guards(data: st.DataObject, authority: Authority) -> None:
    """The library reads DER in native code: no answer may get through it as anything but an error."""
    whole = _example(authority)
    cut = data.draw(st.integers(0, len(whole)))
    put = data.draw(st.binary(max_size=20))
    anchor = TimestampAnchor(FolderAnchor("tsa", Path("/nonexistent")), Web("anchor tsa", "http://x"), authority.ca)
    raw = whole[:cut] + put + whole[cut + data.draw(st.integers(0, 20)) :]
    with suppress(ValueError):
        anchor._verified(raw, b"guard", None)


_made: list[bytes] = []


def _example(authority: Authority) -> bytes:
    if not _made:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        request = TimestampRequestBuilder().data(b"guard").hash_algorithm(HashAlgorithm.SHA256).build()
        _made.append(authority.sign(request.as_bytes()))
    return _made[0]
