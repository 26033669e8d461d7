"""The policy: what it may say, and what the default says."""

from pathlib import Path

import pytest

from guard.config import load_policy
from guard.config.load import decode
from guard.config.schedule import JobName, Schedule
from guard.errors import ConfigError

POLICIES = Path(__file__).parents[2] / "policies"
BACKUP = {"name": "backup", "daily": "02:00"}


def test_the_default_runs_every_job_there_is() -> None:
    schedule = load_policy(POLICIES, "schedule", Schedule)
    assert {rule.name for rule in schedule.job} == set(JobName.__args__)  # type: ignore[attr-defined]  # a Literal's words


def test_by_default_a_store_that_is_down_is_asked_until_the_next_night() -> None:
    retry = load_policy(POLICIES, "schedule", Schedule).job[0].retry
    waits = [min(retry.first.rest * 2**number, retry.most.rest) for number in range(retry.times)]
    assert sum(wait.total_seconds() for wait in waits) > 24 * 3600


def test_a_chain_of_jobs_has_the_slots_of_its_first() -> None:
    schedule = load_policy(POLICIES, "schedule", Schedule)
    assert {schedule.timed(rule).name for rule in schedule.job if rule.after} == {"backup"}


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([{"name": "bakup", "daily": "02:00"}], "job[1].name: Invalid enum value 'bakup'"),
        ([{"name": "backup", "daily": "24:00"}], "daily takes HH:MM"),
        ([{"name": "backup", "daily": "2:00"}], "daily takes HH:MM"),
        ([{**BACKUP, "zone": "Europe/Berlinn"}], "unknown time zone 'Europe/Berlinn'"),
        ([{**BACKUP, "zone": "../../etc/passwd"}], "unknown time zone"),
        ([{**BACKUP, "every": "1 hour"}], "exactly one of daily, every, after"),
        ([{"name": "backup"}], "exactly one of daily, every, after"),
        ([{"name": "backup", "every": "1 month"}], "months differ in length"),
        ([{**BACKUP, "retry": {"first": "1 month"}}], "months differ in length"),
        ([{**BACKUP, "retry": {"times": -1}}], "times is 0 or more"),
        ([BACKUP, BACKUP], "listed twice: backup"),
        ([{"name": "prune", "after": "backup"}, BACKUP], "prune comes after backup, which must be listed before it"),
        ([{**BACKUP, "when": "night"}], "job[1].when: unknown key"),
    ],
)
def test_a_mistake_is_named(jobs: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode({"job": jobs}, Schedule, "schedule.toml")
    assert said in str(caught.value)
