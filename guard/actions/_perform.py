"""The door. Who acts comes from the caller's context, never from an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from guard import canon
from guard.access import Approves, Terms
from guard.actions._resolve import resolve
from guard.errors import DeniedError, WaitingError
from guard.events import Activity, Ending, Event, Level, Principal, PrincipalId, Progress, RunId, silent

if TYPE_CHECKING:
    from guard.app import App
    from guard.canon import Json
    from guard.state import Tx

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action will do: words and row counts for a person, facts that bind the approval."""

    lines: tuple[str, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)
    payload: object = None
    """The room's own plan, handed back to the work; not part of the digest."""
    beyond: tuple[str, ...] = ()
    """Why no standing approval covers it, whatever the policy: a person has to look. Empty: one may."""
    subject: str | None = None
    """The pseudonym of the one person it is about, where the ledger has one; all its entries carry it."""
    concerns: PrincipalId | None = None
    """The person guard knows whom it is done to, and who therefore neither asks for nor approves it when it is dual."""
    approves: Approves | None = None
    """What somebody else asked for, and this would approve."""


@dataclass(frozen=True, slots=True)
class Task:
    """One performed action, as its work sees it."""

    args: Mapping[str, Json]
    plan: Plan
    run: RunId
    who: Principal
    progress: Progress

    def text(self, name: str) -> str:
        """Return the argument `name`, which is a text. Raises KeyError when it was not given."""
        value = self.args[name]
        if not isinstance(value, str):
            raise TypeError(f"argument {name} is a {type(value).__name__}")
        return value


def _nothing(_: Tx) -> None:
    """Nothing to remember."""


def _nothing_more(_: App) -> None:
    """Nothing is left to be done."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What a work did: its result for the caller, its words for the ledger, what state must remember of it."""

    result: R
    objects: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    remember: Callable[[Tx], None] = _nothing
    """Runs in the transaction that records the end."""
    ending: Ending = Ending.DONE
    after: Callable[[App], None] = _nothing_more
    """Runs once the end is recorded; it raises nothing."""


@dataclass(frozen=True, slots=True)
class Action(Generic[R]):
    """One thing guard can do. `holds` names what no two runs may work on at once ("shop", "state")."""

    name: str
    level: Level
    activity: Activity
    work: Callable[[App, Task], Outcome[R]]
    plan: Callable[[App, Mapping[str, Json]], Plan] | None = None
    holds: tuple[str, ...] = ()
    standing: Callable[[App], bytes] | None = None
    """The policy bytes whose standing approval lets a service do this (night jobs), if any."""
    lasting: bool = False
    """Whether it cannot be undone: once it is approved, a dual action waits a day besides."""
    reads: bool = False
    """Whether it changes nothing: a code for it stands for the same again for some minutes."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who stands at the door and how to talk to them. `ask` is None where nobody can type a code."""

    who: Principal
    ask: Callable[[str], str] | None = None
    show: Callable[[str], None] = lambda _: None
    progress: Progress = silent
    wait: timedelta = timedelta()


def perform(app: App, caller: Caller, action: Action[R], **args: Json) -> R:
    """Carry out `action` with `args` for the caller and return its result.

    Raises DeniedError without a right, a valid code or an approval; WaitingError when it has to wait first; BusyError
    when another run holds what it needs; and whatever the work raises, after it was recorded.
    """
    resolve(app)
    plan = action.plan(app, args) if action.plan else Plan()
    digest = digest_of(app, action.name, args, plan.facts, caller.who.id)
    begun = Event(
        action.name,
        Ending.BEGUN,
        caller.who.id,
        app.new_run(),
        action.activity,
        digests={"action": digest},
        subject=plan.subject,
    )
    terms = Terms(action.lasting, action.reads, args, plan.concerns, plan.approves)
    with ExitStack() as held:
        try:
            with app.hold(action.holds, caller.wait, action.name):
                policy = action.standing(app) if action.standing else None  # busy is said before a code is spent
            gate = app.access.allow(caller, action.name, action.level, digest, plan, policy, terms)
            held.enter_context(app.hold(action.holds, caller.wait, action.name))
            if action.level is Level.DUAL:
                app.access.require_ready(digest)
        except (DeniedError, WaitingError) as error:
            facts = {"reason": error.reason} if error.reason else {}
            app.record(_nothing, replace(begun, ending=Ending.DENIED, facts=facts))
            raise
        except BaseException:
            _record(app, action, begun.ended(Ending.GATE_FAILED))
            raise
        app.record(_nothing, replace(begun, facts={"gate": gate}))
        return _work(app, action, Task(args, plan, begun.run, caller.who, caller.progress), begun, caller.show)


def digest_of(app: App, name: str, args: Mapping[str, Json], facts: Mapping[str, Json], who: PrincipalId) -> str:
    """Return the keyed digest that binds an approval to an action, its arguments, its plan and a person."""
    return app.digest("action", canon.json_bytes({"action": name, "args": args, "plan": facts, "who": who}))


def _work(app: App, action: Action[R], task: Task, begun: Event, show: Callable[[str], None]) -> R:
    try:
        outcome = action.work(app, task)  # may take hours; holds no transaction of guard's state
        done = replace(
            begun,
            ending=outcome.ending,
            objects=outcome.objects,
            counts=outcome.counts,
            digests={**begun.digests, **outcome.digests},
            facts=outcome.facts,
        )
        _record(app, action, done, outcome.remember)
    except BaseException as error:
        ending = Ending.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Ending.FAILED
        if any(run.run == begun.run for run in app.state.open_runs()):  # else its end was written before this came
            _record(app, action, replace(begun, ending=ending, facts={"error": type(error).__name__}))
        raise
    outcome.after(app)
    if action.level in _WITH_CODE:
        show(_told(done))
    return outcome.result


_WITH_CODE = frozenset({Level.PRIVILEGED, Level.DUAL})
_SHOWN = 5
"""Objects and counts that a person is shown of what was done; the ledger has them all."""


def _told(done: Event) -> str:
    """Return what was really done, in one line: who typed a code for something else sees it."""
    shown = [*done.objects[:_SHOWN], *(f"{name} {count:,}" for name, count in [*done.counts.items()][:_SHOWN])]
    more = max(0, len(done.objects) - _SHOWN) + max(0, len(done.counts) - _SHOWN)
    return f"{done.what} {done.ending}{': ' if shown else ''}{', '.join(shown)}{f' and {more} more' if more else ''}"


def _record(app: App, action: Action[R], end: Event, remember: Callable[[Tx], None] = _nothing) -> None:
    """Record an end with what the work wants kept. A dual action that was done is asked for anew another time."""

    def work(tx: Tx) -> None:
        remember(tx)
        if action.level in _WITH_CODE:
            app.access.ended(tx, end.digests["action"], end.who, end.ending)
        if action.level is Level.DUAL and end.ending is Ending.DONE:
            app.access.settle(tx, end.digests["action"], end.who)

    app.record(work, end)
