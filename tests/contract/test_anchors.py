"""What every anchor promises, asked of a folder, a bucket (moto), both witnesses and an authority (openssl ts)."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from guard import faults
from guard.audit import Anchor, FolderAnchor, Ledger
from guard.audit.anchoring import Book
from guard.audit.anchors import BeyondError
from guard.audit.anchors.bucket import BucketAnchor
from guard.audit.anchors.timestamp import TimestampAnchor
from guard.audit.anchors.web import Web
from guard.audit.checkpoint import origin_of
from guard.aws import Access, s3_client
from guard.clock import SteppedClock
from guard.config.span import Span
from guard.crypto.sign import Signer
from guard.errors import GuardError, TamperedError, UnanchoredError, UnavailableError
from guard.events import GUARD, RunId
from tests.audit.conftest import SEED, START, STORE, House, event, opened
from tests.audit.outside import Authority, GuardWitness, served, witness_anchor
from tests.independent.witness import SpecWitness

KINDS = ("folder", "s3", "witness", "spec witness", "timestamp")
VKEY = Signer(SEED, origin_of(STORE)).vkey


@dataclass
class Place:
    """An anchor, and what its operator can do."""

    anchor: Anchor
    take_in: Callable[[str], None]
    """Let it know another vkey of the ledger."""
    away: Callable[[], object]
    """Keep it from answering, for good."""
    shows: bool = True
    """Whether it shows what it saw beyond the ledger."""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Place]:
    makers = dict(zip(KINDS, (_folder, _bucket, _witness, _spec_witness, _timestamp), strict=True))
    with ExitStack() as stack:
        yield stack.enter_context(makers[request.param](tmp_path / "out", authority))


@contextmanager
def _folder(folder: Path, _: Authority) -> Iterator[Place]:
    anchor = FolderAnchor("out", folder)
    anchor.create()
    yield Place(anchor, lambda vkey: None, lambda: folder.rename(folder.with_name("elsewhere")))


@contextmanager
def _bucket(folder: Path, _: Authority) -> Iterator[Place]:
    with mock_aws():
        boto3.client("s3", "us-east-1").create_bucket(Bucket="anchors", ObjectLockEnabledForBucket=True)
        client = s3_client(Access(region="us-east-1", access_key="a", secret_key="very-secret"))
        anchor = BucketAnchor("out", client, "anchors", "shop/", Span.parse("13 months"), SteppedClock(START))
        anchor.create()

        def refuse(**_: object) -> None:
            raise EndpointConnectionError(endpoint_url="https://s3")

        yield Place(anchor, lambda vkey: None, lambda: client.meta.events.register("before-send.s3", refuse))


@contextmanager
def _witness(folder: Path, _: Authority) -> Iterator[Place]:
    witness, vkeys = GuardWitness(folder), [VKEY]
    with ExitStack() as on:
        on.enter_context(witness.on(vkeys))
        anchor = witness_anchor("out", witness.url, witness.vkey)
        place = Place(anchor, lambda vkey: None, on.close)

        def take_in(vkey: str) -> None:  # by its operator, who starts it again
            on.close()
            vkeys.append(vkey)
            on.enter_context(witness.on(vkeys))
            place.anchor = witness_anchor("out", witness.url, witness.vkey)

        place.take_in = take_in
        yield place


@contextmanager
def _spec_witness(folder: Path, _: Authority) -> Iterator[Place]:
    witness = SpecWitness("witness.example/two", bytes(32), [VKEY], lambda: 1_700_000_000)
    with ExitStack() as on:
        url = on.enter_context(served(witness.answer))
        yield Place(witness_anchor("out", url, witness.vkey), witness.trust, on.close, shows=False)


@contextmanager
def _timestamp(folder: Path, authority: Authority) -> Iterator[Place]:
    kept = FolderAnchor("out", folder)
    with served(authority.respond) as url:
        anchor = TimestampAnchor(kept, Web("anchor out", url), authority.ca)
        anchor.create()
        yield Place(anchor, lambda vkey: None, lambda: folder.rename(folder.with_name("elsewhere")))


class World:
    """A ledger whose state is copied, lost and brought back, with one anchor outside."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        self.house: House = opened(folder, SteppedClock(START))
        self.number = 0

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.house.state, self.house.keys, [self.place.anchor])

    @property
    def book(self) -> Book:
        return self.ledger.book

    def go_on(self, count: int) -> None:
        for _ in range(count):
            self.house.add(event(self.number))
            self.number += 1
            self.house.clock.step(timedelta(minutes=7))

    def save(self, name: str) -> None:
        self.house.state.copy_to(self.folder / name)

    def put_back(self, name: str) -> None:
        self.house.close()
        for end in ("", "-wal", "-shm"):
            (self.folder / f"state.db{end}").unlink(missing_ok=True)
        shutil.copyfile(self.folder / name, self.folder / "state.db")
        self.house = opened(self.folder, self.house.clock, self.house.keys)

    def restart(self) -> object:
        """Begin a new log, as `guard state restore` does, and have the anchor's operator take it in."""
        found = self.ledger.restart()
        self.house.add(found.event(GUARD, RunId("ab" * 16)))
        self.place.take_in(self.ledger.vkey)
        return found


@pytest.fixture
def world(tmp_path: Path, place: Place) -> Iterator[World]:
    (tmp_path / "state").mkdir()
    made = World(tmp_path / "state", place)
    made.go_on(3)
    yield made
    made.house.close()


def test_a_new_one_holds_nothing(world: World) -> None:
    assert world.place.anchor.newest(world.book) == {}
    assert world.place.anchor.check(world.book) == ()
    with pytest.raises(UnanchoredError, match="no anchor holds a checkpoint yet"):
        world.ledger.verify()


def test_what_it_was_given_counts_and_grows(world: World) -> None:
    for size in (3, 4, 9, 16):
        world.go_on(size - world.number)
        done = world.ledger.anchor()
        assert (done.size, done.held, done.failed) == (size, ("out",), ())
        (note,) = world.place.anchor.newest(world.book).values()
        assert note.startswith(world.ledger.checkpoint())  # a witness adds its line
        verdict = world.ledger.verify()
        assert (verdict.anchored, verdict.tail, verdict.unanchored) == (size, 0, None)
    assert world.place.anchor.check(world.book) == ()


def test_the_same_again_changes_nothing(world: World) -> None:
    assert world.ledger.anchor() == world.ledger.anchor()
    held = world.place.anchor.newest(world.book)
    world.ledger.anchor()
    assert world.place.anchor.newest(world.book) == held
    assert world.ledger.verify().anchored == 3


def test_a_ledger_that_went_back_is_found(world: World) -> None:
    world.save("old.db")
    world.go_on(5)
    world.ledger.anchor()
    world.put_back("old.db")
    gone = r"ledger entries 3 to 7 gone: anchor out (holds a checkpoint of|saw) 8"
    for look in (world.ledger.verify, world.ledger.anchor):
        with pytest.raises(TamperedError, match=gone):
            look()


@pytest.mark.parametrize("more", [5, 9])
def test_a_ledger_that_went_back_and_on_is_found(world: World, more: int) -> None:
    """As long as the anchor knows (5), and beyond (9)."""
    world.save("old.db")
    world.go_on(5)
    world.ledger.anchor()
    world.put_back("old.db")
    world.number += 7  # other entries than those that were anchored
    world.go_on(more)
    with pytest.raises(TamperedError, match=r"ledger entries 0 to 7: not those that anchor out (holds|saw)"):
        world.ledger.anchor()
    assert not world.book.kept()


def test_a_restore_tells_what_is_lost_and_the_anchor_goes_on(world: World) -> None:
    world.ledger.anchor()
    world.save("old.db")
    world.go_on(4)
    world.ledger.anchor()
    world.put_back("old.db")
    found = world.restart()
    if world.place.shows:
        assert (found.lost, found.unread) == (4, ())
        assert found.ahead["first"][0] == 7
    else:
        assert (found.lost, found.unread) == (0, ("out",))
    world.go_on(2)
    assert world.ledger.anchor().held == ("out",)
    verdict = world.ledger.verify()
    assert (verdict.size, verdict.anchored, verdict.restarts) == (6, 6, (found,))
    world.go_on(3)
    world.ledger.anchor()
    assert world.ledger.verify().anchored == 9


def test_a_restore_that_lost_nothing_is_vouched_for_at_once(world: World) -> None:
    world.ledger.anchor()
    world.go_on(2)
    world.save("old.db")
    world.ledger.anchor()
    world.put_back("old.db")
    found = world.restart()
    assert (found.lost, found.unread, found.ahead) == (0, (), {})
    world.ledger.anchor()
    assert world.ledger.verify().anchored == world.ledger.verify().size


def test_two_restores_of_one_snapshot(world: World) -> None:
    world.save("old.db")
    world.go_on(2)
    world.ledger.anchor()
    for _ in range(2):
        world.put_back("old.db")
        world.restart()
        world.go_on(3)
        world.ledger.anchor()
        assert world.ledger.verify().tail == 0


def test_a_change_of_key_is_followed_once_it_is_announced(world: World, request: pytest.FixtureRequest) -> None:
    world.ledger.anchor()
    world.house.rekey(event(50))
    world.ledger.anchor()  # both keys signed this one
    assert world.ledger.verify().anchored == 5
    world.go_on(2)
    if "witness" in request.node.callspec.params["place"]:
        with pytest.raises(UnavailableError, match=r"knows the log .* under another key"):
            world.ledger.anchor()
        with pytest.raises(UnanchoredError, match="under another key"):
            world.ledger.verify()
        world.place.take_in(world.ledger.vkey)
    assert world.ledger.anchor().held == ("out",)
    verdict = world.ledger.verify()
    assert (verdict.anchored, len(verdict.rekeys)) == (7, 1)
    world.save("old.db")
    world.go_on(2)
    world.ledger.anchor()
    world.put_back("old.db")
    world.restart()
    world.ledger.anchor()
    assert world.ledger.verify().tail == 0


def test_one_that_is_away_is_told_and_vouches_for_nothing(world: World) -> None:
    world.ledger.anchor()
    world.go_on(1)
    world.place.away()
    ledger = Ledger(world.house.state, SEED, [world.place.anchor, world.house.anchor])
    done = ledger.anchor()
    assert done.held == ("here",)
    assert len(done.failed) == 1
    assert "anchor out" in done.failed[0]
    with pytest.raises(UnanchoredError, match="could not look at anchor out"):
        ledger.verify()
    with pytest.raises(UnavailableError, match="no anchor took the checkpoint: anchor out"):
        world.ledger.anchor()
    with pytest.raises(GuardError, match="anchor out"):
        world.place.anchor.check(world.book)


def test_one_that_is_away_at_a_restore_is_named(world: World) -> None:
    world.save("old.db")
    world.go_on(1)
    world.ledger.anchor()
    world.put_back("old.db")
    world.place.away()
    assert world.ledger.restart().unread == ("out",)


def test_it_says_where_it_is_without_a_secret(world: World) -> None:
    assert world.place.anchor.name == "out"
    assert world.place.anchor.where
    assert "very-secret" not in f"{world.place.anchor.where}{world.place.anchor!r}"


class Killed(BaseException):
    """The process ends here."""


def test_between_the_anchor_and_the_ledger_nothing_is_believed_too_early(world: World) -> None:
    """What was put but not kept yet is the anchor's word alone; the next one keeps it."""

    def die(point: str) -> None:
        if point == "audit.anchor.held":
            raise Killed

    faults.install(die)
    try:
        with pytest.raises(Killed):
            world.ledger.anchor()
    finally:
        faults.install(None)
    assert list(world.book.kept()) == []
    assert world.ledger.anchor().held == ("out",)
    assert world.ledger.verify().anchored == 3
    world.go_on(2)
    assert world.ledger.anchor().held == ("out",)
    assert world.ledger.verify().anchored == 5


def test_looking_shows_what_it_holds_and_changes_nothing(world: World) -> None:
    world.ledger.anchor()
    world.go_on(2)
    (found,) = world.ledger.look()
    assert (found.name, found.entries, found.logs, found.problem) == ("out", 3, {"first": 3}, None)
    assert found.at is None or isinstance(found.at, datetime)
    assert world.ledger.look() == (found,)
    world.place.away()
    (found,) = world.ledger.look()
    assert (found.entries, found.logs) == (None, {})
    assert "anchor out" in (found.problem or "")


def test_what_a_strange_key_signed_is_not_ours(world: World) -> None:
    """Who can write to the anchor, but holds no key of the ledger, makes noise and no proof."""
    origin = origin_of(STORE)
    note = Signer(b"x" * 32, origin).sign_note(f"{origin}\n9\n{'A' * 43}=\n")
    with suppress(GuardError):  # witnesses refuse it
        world.place.anchor.put(9, note, known=world.book)
    try:
        world.ledger.anchor()
    except TamperedError as error:
        assert "anchor out" in str(error)  # noqa: PT017  # either way is right


def test_beyond_is_an_answer_and_no_crash(world: World) -> None:
    world.save("old.db")
    world.go_on(4)
    world.ledger.anchor()
    world.put_back("old.db")
    if world.place.shows:
        assert world.place.anchor.newest(world.book).keys() == {"first"}
    else:
        with pytest.raises(BeyondError, match="saw more") as told:
            world.place.anchor.newest(world.book)
        assert told.value.seen == ((origin_of(STORE), 7),)
