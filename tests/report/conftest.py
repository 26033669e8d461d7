"""A small ledger to report on: a story told in events, numbered, timed and signed like the real one."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from guard.clock import stamp
from guard.config import Catalog, Column, Protect, Span
from guard.config.breach import BreachRule
from guard.crypto.sign import Signer
from guard.events import Ending
from guard.report import Reports, Sources

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ORIGIN = "guard-ledger/0f8fad5b-d9cb-469f-a165-70867728950e"
ANNA = "p-abcdefghij"


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as a report reads it."""

    n: int
    at: datetime
    who: str
    what: str
    run: str
    outcome: Ending
    objects: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


class Story:
    """Tells a ledger: each call writes one act at the story's time."""

    def __init__(self) -> None:
        self.entries: list[Written] = []
        self.now = START
        self.columns = [column(f"customer.{name}", number) for number, name in enumerate(("email", "phone"), 1)]
        self.shop = "Lantern & Leaf"
        self.demo = False
        self.minimum = 0
        self.removed = 0

    def wait(self, span: timedelta) -> None:
        self.now += span

    def say(self, what: str, outcome: Ending = Ending.DONE, *objects: str, who: str = ANNA, **more: Mapping) -> None:
        """Write one entry; it belongs to the run of the last one with the same action that has no end yet."""
        last = self.entries[-1] if self.entries else None
        goes_on = last is not None and (last.what, last.outcome) == (what, Ending.BEGUN) and outcome != Ending.BEGUN
        run = last.run if goes_on else sha256(f"{len(self.entries)}".encode()).hexdigest()[:32]
        self.entries.append(Written(len(self.entries), self.now, who, what, run, outcome, objects, **more))

    def do(self, what: str, *objects: str, ending: Ending = Ending.DONE, who: str = ANNA, **more: Mapping) -> None:
        """Write an act: begun, and a minute later its end."""
        gate = {"gate": "role" if who.startswith("s-") else "code"}
        self.say(what, Ending.BEGUN, who=who, digests={"action": sha256(what.encode()).hexdigest()}, facts=gate)
        self.wait(timedelta(minutes=1))
        self.say(what, ending, *objects, who=who, **more)

    def refuse(self, what: str, who: str = ANNA) -> None:
        """Write an attempt that was denied."""
        self.say(what, Ending.DENIED, who=who, facts={"reason": "wrong code"})

    def signer(self) -> Signer:
        return Signer(b"s" * 32, ORIGIN)

    def note(self) -> str:
        root = sha256(repr(self.entries).encode()).digest()
        return self.signer().sign_note(f"{ORIGIN}\n{len(self.entries) + self.removed}\n{b64encode(root).decode()}\n")

    def prune(self, minimum: int, stays: range) -> None:
        """Remove the entries below `minimum` but for some, as retention does."""
        before = len(self.entries)
        self.entries = [entry for entry in self.entries if entry.n >= minimum or entry.n in stays]
        self.minimum, self.removed = minimum, before - len(self.entries)

    def reports(self) -> Reports:
        return Reports(
            Sources(
                entries=lambda: iter(self.entries),
                minimum=lambda: self.minimum,
                checkpoint=self.note,
                vkey=lambda: self.signer().vkey,
                inspect=lambda: None,
                catalog=lambda: Catalog(column=tuple(self.columns)),
                breach_rules=lambda: RULES,
                shop=self.shop,
                demo=lambda: self.demo,
            )
        )

    def text(self, **period: datetime) -> str:
        return self.reports().build(**period).html.decode()


RULES = (
    BreachRule(
        id="gdpr-33-1",
        jurisdiction="EU",
        trigger="aware",
        within=Span(rest=timedelta(hours=72)),
        to="lead supervisory authority",
        source="GDPR article 33(1)",
        soon=Span(rest=timedelta(hours=24)),
    ),
)


def column(at: str, number: int, protect: Protect = Protect.ENCRYPT) -> Column:
    return Column(at=at, id=number, category="email", tier="contact", protect=protect, anonymize="pseudonym")


@pytest.fixture
def story() -> Story:
    """An empty ledger at 2026-01-05 09:00 UTC, with a catalog of two columns that are to be sealed."""
    return Story()


@pytest.fixture
def good_story(story: Story) -> Story:
    """A night and a day on which everything was done."""
    columns = [each.at for each in story.columns]
    story.say("init", Ending.DONE, ANNA, who="guard")
    story.do("data.accept", "catalog", counts={"columns": 2})
    story.do("fields.encrypt", *columns, counts={"rows": 40_000})
    story.do("fields.verify", *columns, counts={"rows": 40_000})
    story.wait(timedelta(hours=17))
    story.do("backup.run", "home", who="s-daemon", counts={"files": 3})
    story.do("backup.verify", "home", who="s-daemon")
    story.do("retention.run", "orders", who="s-daemon", counts={"anonymized": 330})
    story.say("audit.heartbeat", who="guard")
    story.do("backup.restore", "home")
    story.do("breach.open", "b-abc", facts={"aware": stamp(story.now), "detected": stamp(story.now)})
    story.do("access.add", "p-zyxwvutsrq")
    return story


@pytest.fixture
def add_column(story: Story) -> Callable[[str], None]:
    """Put one more column that is to be sealed into the catalog."""
    return lambda at: story.columns.append(column(at, len(story.columns) + 1))
