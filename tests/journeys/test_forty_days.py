"""The daemon over forty days on a small shop, into a folder and S3: thirty snapshots are left, nothing is lost."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from guard import demo
from guard.actions.jobs import tick
from guard.app import App

DAYS = 40
AWAY = 20
HOURS = (1, 2, 3, 4, 5, 7, 13, 19)
"""When the daemon looks at the clock; the real one does every second."""

S3 = """
[[backup.store]]
name = "offsite"
kind = "s3"
bucket = "backups"
region = "us-east-1"
access_key = {env = "TEST_KEY"}
secret_key = {env = "TEST_KEY"}
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TEST_KEY", "testing")
    with mock_aws():
        boto3.client("s3", "us-east-1").create_bucket(Bucket="backups")
        yield


@pytest.fixture
def desk(tmp_path: Path, make_desk: Callable[..., Any], bucket: None) -> Any:
    """The sample shop with its columns sealed, two stores, and a standing approval for retention."""
    desk = make_desk("sqlite:///shop.db", demo=True)
    demo.make_shop(desk.home / "shop.db", desk.clock.now(), size=demo.Size(150, 450))
    demo.write_policies(desk.home / "policies")
    desk.toml("[[audit.anchor]]", S3 + "\n[[audit.anchor]]")
    desk.run("data", "scan")
    for line in ("data accept --yes", "backup init", "backup run", "fields encrypt", "fields finalize"):
        desk.guard(line)
    plan = desk.json("retention plan")
    desk.guard(f"retention run {plan['digest']}")
    desk.guard("access grant retention.run")
    return desk


def sell(shop: Path, day: int) -> None:
    """A day's business: one order more, so that every night's snapshot differs."""
    with closing(sqlite3.connect(shop)) as file:
        file.execute("UPDATE orders SET total_cents = total_cents + ? WHERE order_id = ?", (day, day + 1))
        file.commit()


def live(desk: Any, app: App, runs: list[Any]) -> None:
    """Forty days; in one night the folder of the local store is away from one to five o'clock."""
    start = desk.clock.now().replace(hour=0) + timedelta(days=1)
    tick(app, desk.clock.now())
    folder, gone = desk.home / "backups", desk.home / "backups-away"
    for day in range(DAYS):
        sell(desk.home / "shop.db", day)
        for hour in HOURS:
            desk.clock.step(start + timedelta(days=day, hours=hour) - desk.clock.now())
            if (day, hour) == (AWAY, 1):
                folder.rename(gone)
            if (day, hour) == (AWAY, 5):
                gone.rename(folder)
            if (day, hour) == (DAYS - 1, 2):
                shutil.copyfile(desk.home / "shop.db", desk.home / "as-backed-up.db")
            runs += tick(app, desk.clock.now())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_forty_days(desk: Any, tmp_path: Path) -> None:
    app = desk.app()
    runs: list[Any] = []
    live(desk, app, runs)
    last = desk.clock.now().date()
    kept = {last - timedelta(days=back) for back in range(30)}

    # Exactly the last 30 daily snapshots are left in both stores, and each restores.
    for store in ("local", "offsite"):
        found = [each for rows in app.backups.list([store]).done.values() for each in rows]
        assert [each.at.date() for each in found] == sorted(kept)
        for number, each in enumerate(found):
            plan = app.backups.plan_restore(
                store, each.id, app.backups.wanted({"to": str(tmp_path / store / str(number))})
            )
            restored = app.backups.restore(store, plan)
            assert set(restored.checks.values()) == {"ok"}
        newest = next((tmp_path / store / str(len(found) - 1)).rglob("shop.db"))
        assert demo.compare(desk.home / "as-backed-up.db", newest).differences == 0

    # Retention ran every night, under its approval.
    nights = {run.slot.date() for run in runs if run.job == "retention" and run.state.value == "ok"}
    assert len(nights) == DAYS

    # The night without the folder: said, and caught up the same night.
    away: date = last - timedelta(days=DAYS - 1 - AWAY)
    night = [run for run in runs if run.job == "backup" and run.slot.date() == away]
    assert any("local" in (run.reason or "") for run in night[:-1])
    assert night[-1].state.value == "ok"
    assert away in kept

    # Nothing else failed, and the ledger holds.
    app.ledger.anchor()
    assert app.ledger.verify().size > DAYS * 8
    others = {(run.job, run.slot.date()) for run in runs if run.state.value in {"failed", "missed"}}
    assert {day for _, day in others} <= {away}
    app.close()
