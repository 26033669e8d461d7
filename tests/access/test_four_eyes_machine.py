"""Any order of requests, approvals, changes, cancels and waiting: what passes has been seen by two people in time.

A model says what each step has to answer. Through the door, with two real dual actions, one of which is lasting; state,
codes and the ledger's events are real, the shop is a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test
from sqlalchemy import delete

from guard.access.store import APPROVAL, FACTOR, GRANT, PENDING, Sealed
from guard.actions import Action, Caller, Outcome, perform
from guard.actions.access import APPROVE, REFUSE
from guard.actions.fields import DECRYPT
from guard.actions.keys import EXPORT
from guard.clock import SteppedClock
from guard.crypto import random
from guard.errors import ConfigError, DeniedError, WaitingError
from guard.events import Activity, Ending, Level, Role, RunId
from guard.state import Tx
from tests.access.conftest import STEP, House, Phone, make_house, wrong

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROLES = {"ada": Role.OWNER, "bob": Role.SECURITY, "cyd": Role.OWNER, "sue": Role.SUPPORT}
KEYS = (
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
)
"""Public keys of RFC 7748, 6.1."""

READ: Action[None] = Action(
    "audit.reveal", Level.PRIVILEGED, Activity.DATA_READ, lambda app, task: Outcome(None), reads=True
)
EXPORTED = replace(EXPORT, work=lambda app, task: Outcome(None))
"""The real one writes a file each time."""
CHANGE: Action[None] = Action("fields.encrypt", Level.PRIVILEGED, Activity.DATA_UPDATE, lambda app, task: Outcome(None))


@dataclass
class Shop:
    """What the plan of decrypting reads: one number for all columns."""

    version: int = 1

    def sealed(self, at: str) -> tuple[Any, Any]:
        return SimpleNamespace(at=at, id=1), SimpleNamespace(key_id=self.version)

    def decrypt(self, *_: object) -> tuple[()]:
        return ()

    def remember(self, _: object) -> Any:
        return lambda tx: None


class Stand:
    """As much of an app as the door and these actions need."""

    def __init__(self, house: House) -> None:
        self.access, self.state, self.keyring = house.access, house.state, house.keyring
        self.digest, self.record = house.keyring.digest, house.state.write
        self.fields = Shop()

    def hold(self, *_: object) -> Any:
        return nullcontext()

    def new_run(self) -> RunId:
        return RunId(random.hex_token(16))


@dataclass
class Asked:
    """A request as the model has it."""

    id: str
    by: str
    what: tuple[int, int]
    at: datetime
    approved: dict[str, datetime] = field(default_factory=dict)
    ended: str = ""

    @property
    def lasting(self) -> bool:
        return self.what[0] >= 2

    def stage(self, now: datetime) -> str:
        if not self.approved:
            return "asks" if now <= self.at + HOUR else "expired"
        ready = max([*self.approved.values(), self.at + DAY] if self.lasting else self.approved.values())
        return "waits" if now < ready else "ready" if now <= ready + 7 * DAY else "expired"


OF_APPROVALS = "done,role,no code,wrong code,own request,approved before,expired,not open,changed"
WORDS = {
    *(f"{APPROVE.name} {word}" for word in OF_APPROVALS.split(",")),
    *(f"{each.name} {word}" for each in (DECRYPT, EXPORT) for word in ("done", "waits", "no code", "wrong code")),
}
"""What many runs must have come to."""

people = st.sampled_from(list(ROLES))
approvers = st.sampled_from(["ada", "bob", "cyd", "bob", "cyd", "sue"])
whats = st.integers(0, 3)
codes = st.sampled_from(["right"] * 6 + ["wrong", "none"])


class FourEyes(RuleBasedStateMachine):
    """One house for all runs; each run begins a month later, without the rows of the one before."""

    stand: ClassVar[Stand]
    house: ClassVar[House]
    phones: ClassVar[Mapping[str, Phone]]
    seen: ClassVar[Counter[str]]
    requests = Bundle("requests")

    @initialize(target=requests, who=st.sampled_from(["ada", "bob", "cyd"]), number=whats)
    def begin(self, who: str, number: int) -> Any:
        self.house.clock.step(timedelta(days=30))
        for table in (PENDING, APPROVAL, GRANT):
            self.house.state.write(lambda tx, table=table: tx.execute(delete(table)))
        self.house.state.write(self.no_wrong_codes)
        self.house.events.clear()
        self.model: list[Asked] = []
        self.read: dict[tuple[str, int], datetime] = {}
        self.wrong = dict.fromkeys(ROLES, 0)
        self.stand.fields.version = 1
        return self.run(who, number, "right")

    def no_wrong_codes(self, tx: Tx) -> None:
        rows = Sealed(FACTOR, self.house.keyring.digest)
        for row in rows.find(tx):
            rows.change(tx, row, tries=0, locked_until=None)

    @property
    def now(self) -> datetime:
        return self.house.clock.now()

    def what(self, number: int) -> tuple[int, int]:
        """Return what would be asked for: which of the four, and the shop's number where the plan reads it."""
        return number, self.stand.fields.version if number < 2 else 0

    def act(self, who: str, action: Action[Any], code: str, **args: Any) -> str:
        """Do it with a fresh code and return the ledger's word for how it went. Exit codes are 10 and 14."""
        self.house.clock.step(STEP)
        if code == "wrong" and self.wrong[who] > 3:  # one more, and guard takes none for a while
            code = "none"
        self.code = code
        phone = self.phones[who]
        typed, self.asked_for = wrong(phone) if code == "wrong" else phone.code(), False

        def ask(_: str) -> str:
            self.asked_for = True
            return typed

        caller = Caller(phone.who, None if code == "none" else ask)
        ending, word, code_ = Ending.DONE, "done", 0
        try:
            perform(self.stand, caller, action, **args)  # type: ignore[arg-type]  # as much of one as it needs
        except (DeniedError, WaitingError) as error:
            ending, word, code_ = Ending.DENIED, str(error.reason), int(error.exit_code)
        assert code_ == {"done": 0, "waits": 14}.get(word, 10)
        return self.last(action, ending, word, who)

    def last(self, action: Action[Any], ending: Ending, word: str, who: str) -> str:
        event = self.house.events[-1]
        assert (event.what, event.ending, event.who) == (action.name, ending, self.phones[who].who.id)
        assert ending is Ending.DONE or event.facts == {"reason": word}
        self.seen[f"{action.name} {word}"] += 1
        if self.asked_for:
            self.wrong[who] = self.wrong[who] + 1 if word == "wrong code" else 0
        return word

    @rule(target=requests, who=people, number=whats, code=codes)
    def run(self, who: str, number: int, code: str) -> Any:
        """Ask for a dual action, or carry it out: the command is the same."""
        what = self.what(number)
        found = next((each for each in self.model if not each.ended and (each.by, each.what) == (who, what)), None)
        how = self.perform(who, number, code)
        stage = found.stage(self.now) if found else ""
        assert how == self.expected(who, stage)
        if how == "waits" and stage not in {"asks", "waits"}:
            return self.asked(who, what)
        if found and how == "done":
            found.ended = "done"
            self.seen_by_two(found)
        return multiple()

    @rule(target=requests, asked=requests, code=codes)
    def run_again(self, asked: Asked, code: str) -> Any:
        return self.run(asked.by, asked.what[0], code)

    @rule(
        target=requests,
        asked=requests,
        who=approvers,
        time=st.sampled_from([STEP, HOUR, DAY, DAY, 8 * DAY]),
        code=codes,
    )
    def run_approved(self, asked: Asked, who: str, time: timedelta, code: str) -> Any:
        """What is to happen: approved, waited for, carried out. Here it is only more likely."""
        self.approve(who, asked, "right")
        self.house.clock.step(time)
        return self.run(asked.by, asked.what[0], code)

    def perform(self, who: str, number: int, code: str) -> str:
        if number < 2:
            return self.act(who, DECRYPT, code, columns=[f"Customer.Column{number}"])
        key = f"{self.stand.keyring.current('repository').id:010x}"
        return self.act(who, EXPORTED, code, key=key, recipient=KEYS[number - 2], to="out.json")

    def expected(self, who: str, stage: str) -> str:
        """Return how it has to go that `who` asks for something of which a request stands like this, or none."""
        if who == "sue":
            return "role"
        if self.code == "none":
            return "no code"
        if stage in {"asks", "waits"}:
            return "waits"
        return "wrong code" if self.code == "wrong" else "done" if stage == "ready" else "waits"

    def asked(self, who: str, what: tuple[int, int]) -> Asked:
        """Put the new request into the model; asking ends what expired."""
        for each in self.model:
            if not each.ended and each.stage(self.now) == "expired":
                each.ended = "expired"
        known = {each.id for each in self.model}
        (new,) = [each for each in self.house.access.requests() if each.kind != "standing" and each.id not in known]
        self.model.append(Asked(new.id, who, what, self.now))
        return self.model[-1]

    def seen_by_two(self, found: Asked) -> None:
        """The ledger alone shows that somebody else approved exactly this, within the hour, and that it waited."""
        begun = self.house.events[-2]
        assert begun.ending is Ending.BEGUN
        digest = begun.digests["action"]
        words = [
            each
            for each in self.house.events
            if each.what == APPROVE.name and each.ending is Ending.DONE and each.digests["asked"] == digest
        ]
        assert {each.who for each in words} - {begun.who}
        assert found.id in {name for each in words for name in each.objects}
        assert min(found.approved.values()) <= found.at + HOUR
        assert not found.lasting or self.now >= found.at + DAY

    @rule(who=approvers, asked=requests, code=codes)
    def approve(self, who: str, asked: Asked, code: str) -> None:
        if asked.ended in {"done", "cancelled"}:
            before = len(self.house.events)
            with pytest.raises(ConfigError):
                self.act(who, APPROVE, code, request=asked.id)
            assert len(self.house.events) == before
            return
        how = self.act(who, APPROVE, code, request=asked.id)
        assert how == self.of_approver(who, asked)
        if how == "done":
            asked.approved[who] = self.now

    def of_approver(self, who: str, asked: Asked) -> str:
        """Return how it has to go that `who` approves a request."""
        stage = "expired" if asked.ended else asked.stage(self.now)
        wrongs = {
            "role": who == "sue",
            "no code": self.code == "none",
            "own request": who == asked.by,
            "approved before": who in asked.approved,
            "expired": stage == "expired",
            "not open": stage != "asks",
            "changed": asked.what != self.what(asked.what[0]),
            "wrong code": self.code == "wrong",
        }
        return next((word for word, is_so in wrongs.items() if is_so), "done")

    @rule(who=people, asked=requests)
    def cancel(self, who: str, asked: Asked) -> None:
        self.house.clock.step(STEP)
        open_ = not asked.ended and asked.stage(self.now) != "expired"
        caller = Caller(self.phones[who].who)
        if open_:
            perform(self.stand, caller, REFUSE, request=asked.id)  # type: ignore[arg-type]  # as above
            asked.ended = "cancelled"
            return
        with pytest.raises(ConfigError):
            perform(self.stand, caller, REFUSE, request=asked.id)  # type: ignore[arg-type]  # as above

    @rule()
    def change(self) -> None:
        """Another key seals the columns from now on: what was asked for would do something else."""
        self.stand.fields.version += 1

    @rule(time=st.sampled_from([timedelta(minutes=4), timedelta(minutes=50), HOUR, DAY, 7 * DAY]))
    def wait(self, time: timedelta) -> None:
        self.house.clock.step(time)

    @rule(who=st.just("ada") | st.just("cyd"), n=st.integers(0, 1), code=codes)
    def reveal(self, who: str, n: int, code: str) -> None:
        """What is only read needs no second code for five minutes; for others, other things, and later it does."""
        given = self.read.get((who, n))
        how = self.act(who, READ, code, n=n)
        if given is not None and self.now < given + timedelta(minutes=5):
            assert how == "done"
            assert self.house.events[-2].facts == {"gate": "grant"}
        elif self.code == "right":
            assert how == "done"
            assert self.house.events[-2].facts == {"gate": "code"}
            self.read[who, n] = self.now
        else:
            assert how == ("no code" if self.code == "none" else "wrong code")

    @rule(who=st.sampled_from(["ada", "cyd"]), again=codes)
    def encrypt(self, who: str, again: str) -> None:
        """A grant that changes something is used up: the same again takes another code, and not the same code."""
        assert self.act(who, CHANGE, "right", n=1) == "done"
        used = self.phones[who].code()
        caller = Caller(self.phones[who].who, None if again == "none" else lambda _: used)
        with pytest.raises(DeniedError) as caught:
            perform(self.stand, caller, CHANGE, n=1)  # type: ignore[arg-type]  # as above
        assert caught.value.reason == ("no code" if again == "none" else "used code")
        assert self.house.events[-1].facts == {"reason": caught.value.reason}
        self.wrong[who] += again != "none"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[type[FourEyes]]:
    house = make_house(f"sqlite:///{tmp_path}/state.db", SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC)))
    FourEyes.house, FourEyes.seen = house, Counter()
    FourEyes.phones = {name: house.phone(name, role) for name, role in ROLES.items()}
    FourEyes.stand = Stand(house)
    yield FourEyes
    house.state.close()


PARTS = 4
"""Of the full count, so that as many processes may share it; each draws runs of its own."""


@pytest.mark.parametrize(
    "runs",
    [
        50,
        pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        *(
            pytest.param(10_000 // PARTS, marks=[pytest.mark.soak, pytest.mark.timeout(3600)], id=f"part {part + 1}")
            for part in range(PARTS)
        ),
    ],
)
def test_whatever_is_done_in_whatever_order_two_people_have_seen_it(machine: type[FourEyes], runs: int) -> None:
    chosen = settings(max_examples=runs, stateful_step_count=9, deadline=None, derandomize=False, database=None)
    run_state_machine_as_test(machine, settings=chosen)
    assert runs < 1_000 or machine.seen.keys() >= WORDS
