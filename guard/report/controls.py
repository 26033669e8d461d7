"""What we claim, and what the ledger says about each claim: satisfied, not satisfied, or not evaluated.

A control passes only with entries that prove it; without any it is "not evaluated", which is no pass. There is no
score: adding claims up would hide the one that failed.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise

from guard.config import Catalog
from guard.config.breach import BreachRule
from guard.events import Ending
from guard.report import clauses
from guard.report.breaches import breaches
from guard.report.clauses import Clause
from guard.report.evidence import BEATS, Act, Evidence


class Result(StrEnum):
    """How a claim stands, worst first."""

    NOT_SATISFIED = "not satisfied"
    NOT_EVALUATED = "not evaluated"
    SATISFIED = "satisfied"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the ledger says about one claim: the result, why, and the entries that show it."""

    result: Result
    reasons: tuple[str, ...]
    entries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.result is not Result.NOT_EVALUATED and not self.entries:
            raise ValueError("a result without evidence")


@dataclass(frozen=True, slots=True)
class Promises:
    """What the shop set out to do: its catalog, and the rules by which breaches are told."""

    catalog: Catalog
    breach_rules: tuple[BreachRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Control:
    """One claim: its clauses, how it is judged, and the function that judges it."""

    id: str
    claim: str
    method: str
    clauses: tuple[Clause, ...]
    judge: Callable[[Evidence, Promises], Finding]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A control and what was found."""

    control: Control
    finding: Finding

    @property
    def result(self) -> Result:
        """How the claim stands."""
        return self.finding.result


def judge(evidence: Evidence, promises: Promises) -> tuple[Verdict, ...]:
    """Judge every control by the evidence; the worst come first."""
    verdicts = [Verdict(control, control.judge(evidence, promises)) for control in CONTROLS]
    worst = list(Result)
    return tuple(sorted(verdicts, key=lambda verdict: worst.index(verdict.result)))


def _unknown(reason: str) -> Finding:
    return Finding(Result.NOT_EVALUATED, (reason,))


def _numbers(*found: Act | None) -> tuple[int, ...]:
    return tuple(sorted({number for act in found if act is not None for number in act.numbers}))


def _encryption(evidence: Evidence, promises: Promises) -> Finding:
    columns = promises.catalog.encrypted()
    if not columns:
        return _unknown("the catalog marks no column for encryption")
    states = {column.at: evidence.column(column.at) for column in columns}
    proof = [state.changed for state in states.values() if state.changed]
    accepted = evidence.last("data.accept", ever=True, done=True)
    if not proof and accepted is None:
        return _unknown("no entry says that the catalog was accepted or a column sealed")
    left = [f"{at}: {state.word}" for at, state in states.items() if not state.sealed]
    if left:
        said = f"{len(columns) - len(left)} of {len(columns)} columns are sealed"
        return Finding(Result.NOT_SATISFIED, (said, *left), _numbers(accepted, *proof))
    return Finding(Result.SATISFIED, (f"all {len(columns)} columns are sealed",), _numbers(*proof))


def _verification(evidence: Evidence, promises: Promises) -> Finding:
    states = [evidence.column(column.at) for column in promises.catalog.encrypted()]
    sealed = [state for state in states if state.sealed]
    if not sealed:
        return _unknown("no column is sealed, so there is nothing to verify")
    checked = [state for state in sealed if state.checked and state.checked.last.at >= evidence.since]
    if not checked:
        return _unknown("no sealed column was verified in this period")
    bad = [f"{state.at}: the newest verification found something wrong" for state in checked if not state.clean]
    left = [f"{state.at}: not verified" for state in sealed if state not in checked]
    said = f"{len(checked) - len(bad)} of {len(sealed)} sealed columns were verified in this period and are clean"
    result = Result.NOT_SATISFIED if bad or left else Result.SATISFIED
    return Finding(result, (said, *bad, *left), _numbers(*(state.checked for state in checked)))


RETENTION_AGE = timedelta(hours=48)
BACKUP_AGE = timedelta(hours=48)
"""A nightly job that missed one night has been caught up by then; two missed nights are red."""


def _nightly(evidence: Evidence, job: str, noun: str, age: timedelta) -> Finding:
    tried = [act for act in evidence.acts(f"{job}.run") if not act.refused and act.outcome is not Ending.BEGUN]
    missed = [act for act in evidence.acts("jobs.missed") if act.names(job)]
    if not tried and not missed:
        return _unknown(f"no {noun} was tried in this period")
    newest = max((act for act in tried if act.done), key=lambda act: act.last.n, default=None)
    failed = [act for act in tried if not act.done]
    said = [f"{len(tried) - len(failed)} of {len(tried)} were carried out"]
    if missed:
        said.append(f"nights missed: {len(missed)}")
    wrong = []
    if newest is None:
        wrong.append(f"no {noun} was carried out")
    elif evidence.at - newest.last.at > age:
        wrong.append(f"the newest one is {_hours(evidence.at - newest.last.at)} old; {_hours(age)} are allowed")
    if tried and not tried[-1].done:
        wrong.append(f"the newest try ended as {tried[-1].outcome}")
    result = Result.NOT_SATISFIED if wrong else Result.SATISFIED
    return Finding(result, (*wrong, *said), _numbers(newest, *failed, *missed))


def _hours(length: timedelta) -> str:
    return f"{length // timedelta(hours=1)} hours"


def _retention(evidence: Evidence, _: Promises) -> Finding:
    return _nightly(evidence, "retention", "retention run", RETENTION_AGE)


def _backup(evidence: Evidence, _: Promises) -> Finding:
    return _nightly(evidence, "backup", "backup", BACKUP_AGE)


def _tested(evidence: Evidence, names: tuple[str, ...], nothing: str) -> Finding:
    tried = [act for act in evidence.acts(*names) if not act.refused and act.outcome is not Ending.BEGUN]
    if not tried:
        return _unknown(nothing)
    newest = tried[-1]
    said = f"{sum(act.done for act in tried)} of {len(tried)} succeeded"
    if newest.done:
        return Finding(Result.SATISFIED, (said,), _numbers(newest))
    return Finding(Result.NOT_SATISFIED, (f"the newest one ended as {newest.outcome}", said), _numbers(newest))


def _backup_verified(evidence: Evidence, _: Promises) -> Finding:
    return _tested(evidence, ("backup.verify",), "no backup was verified in this period")


def _restore(evidence: Evidence, _: Promises) -> Finding:
    return _tested(evidence, ("backup.restore", "backup.drill"), "no backup was restored in this period")


ENROLMENTS = ("init", "access.add", "access.enrol")


def _access(evidence: Evidence, _: Promises) -> Finding:
    given = [act for act in evidence.acts(*ENROLMENTS, ever=True) if act.done]
    enrolled = {name for act in given for entry in act.entries for name in entry.objects if name.startswith("p-")}
    acted = [act for act in evidence.period if act.who.startswith("p-") and not act.refused]
    if not acted:
        return _unknown("no person acted in this period")
    strangers = [act for act in acted if act.who not in enrolled]
    refused = [act for act in evidence.period if act.refused]
    if strangers:
        names = ", ".join(sorted({act.who for act in strangers}))
        return Finding(
            Result.NOT_SATISFIED, (f"acted without a recorded second factor: {names}",), _numbers(*strangers)
        )
    begun = [act for act in evidence.period if act.first.outcome is Ending.BEGUN]
    if silent := [act for act in begun if "gate" not in act.first.facts]:
        return Finding(
            Result.NOT_SATISFIED, (f"acts that do not say what let them through: {len(silent)}",), _numbers(*silent)
        )
    gates = Counter(act.first.facts["gate"] for act in begun)
    said = (
        f"people who acted: {len({act.who for act in acted})}, each with a recorded second factor",
        f"acts by what let them through: {', '.join(f'{gate} {count}' for gate, count in sorted(gates.items()))}",
        f"attempts refused: {len(refused)}",
    )
    return Finding(Result.SATISFIED, said, _numbers(*given, *refused))


def _ledger(evidence: Evidence, _: Promises) -> Finding:
    entries = evidence.entries
    if not entries:
        return _unknown("the ledger is empty")
    whole = [entry.n for entry in entries if entry.n >= evidence.minimum]
    ends = (whole[0] if whole else entries[0].n, entries[-1].n)
    gaps = [
        n
        for n, expected in zip(whole, range(evidence.minimum, evidence.minimum + len(whole)), strict=True)
        if n != expected
    ]
    back = [b.n for a, b in pairwise(entries) if b.at < a.at or b.n <= a.n]
    if gaps or back:
        wrong = tuple(f"entry {n}: out of order" for n in gaps[:1]) + tuple(f"entry {n}: older" for n in back[:1])
        return Finding(Result.NOT_SATISFIED, wrong, (*gaps[:1], *back[:1]))
    beats = evidence.acts(*BEATS)
    said = [f"{len(whole)} entries without a gap, each not older than the one before"]
    if evidence.whole_since is not None:
        old = f"{evidence.whole_since:%Y-%m-%d %H:%M} UTC"
        said.append(
            f"entries before #{evidence.minimum} of {old} were removed by retention; {len(entries) - len(whole)} stay"
        )
    return Finding(Result.SATISFIED, (*said, f"heartbeats in this period: {len(beats)}"), ends)


def _breach(evidence: Evidence, promises: Promises) -> Finding:
    found = breaches(evidence, promises.breach_rules)
    if not found:
        return _unknown("no breach was opened; that is no proof that there was none")
    proof = tuple(sorted({number for breach in found for act in breach.acts for number in act.numbers}))
    late = [f"{breach.id}: {duty.rule.id} is overdue" for breach in found for duty in breach.duties if duty.overdue]
    if late:
        return Finding(Result.NOT_SATISFIED, tuple(late), proof)
    return Finding(Result.SATISFIED, (f"breaches in the register: {len(found)}; no duty is overdue",), proof)


CONTROLS = (
    Control(
        "encryption",
        "Columns marked for encryption are sealed",
        "For each column the catalog marks: the newest entry that sealed or opened it was a sealing, and it was done.",
        clauses.ENCRYPTION,
        _encryption,
    ),
    Control(
        "verification",
        "Sealed values were opened and compared",
        "For each sealed column: a verification in the period, and the newest one found nothing wrong.",
        clauses.VERIFICATION,
        _verification,
    ),
    Control(
        "retention",
        "Data that outlived its purpose was treated",
        "The newest retention run in the period was done and is at most 48 hours older than the report's time.",
        clauses.RETENTION,
        _retention,
    ),
    Control(
        "backup",
        "Backups were made",
        "The newest backup in the period was done and is at most 48 hours older than the report's time.",
        clauses.BACKUP,
        _backup,
    ),
    Control(
        "backup-verified",
        "Backups were verified",
        "The newest verification of the backup repository in the period was done.",
        clauses.RESTORE[1:3],
        _backup_verified,
    ),
    Control(
        "restore",
        "A backup was restored",
        "The newest restore or drill in the period was done.",
        clauses.RESTORE,
        _restore,
    ),
    Control(
        "access",
        "Everybody who acted had a second factor of their own",
        "Everybody who acted in the period was enrolled by an entry before; each act that began says what let it "
        "through (code, recovery code, standing approval, role, open to all known); who was refused is recorded.",
        clauses.ACCESS,
        _access,
    ),
    Control(
        "ledger",
        "The record is whole and in order",
        "Entries are numbered without a gap, from 0 or from where retention ended, and never go back in time; the "
        "checkpoint signs all of them, and those that were removed.",
        clauses.LEDGER,
        _ledger,
    ),
    Control(
        "breach",
        "Breaches are registered and told in time",
        "For each breach an entry opened: no deadline passed before an entry said that it was told or closed.",
        clauses.BREACH,
        _breach,
    ),
)
