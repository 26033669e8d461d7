"""What was in clear before sealing lives on in guard's own old backups; finalize names each, and until when."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def test_old_backups_are_named_with_store_snapshot_and_end(
    shared: Path, tmp_path: Path, make_desk: Callable[..., Any]
) -> None:
    file = tmp_path / "shop.db"
    shutil.copyfile(shared / "data/chinook/chinook.sqlite", file)
    desk = make_desk(f"sqlite:///{file}")
    desk.guard("data scan", expect=desk.run("data", "scan"))
    desk.guard("data accept --yes")
    desk.guard("backup init")
    desk.guard("backup run")
    desk.clock.step(timedelta(days=1))
    desk.guard("backup run")
    old = desk.json("backup list")["snapshots"]
    assert len(old) == 2
    desk.guard("fields encrypt Customer.Email")
    found = desk.json("fields finalize Customer.Email")
    listed = [each for each in found["remains"] if each["kind"] == "backup"]
    assert [each["id"] in place["place"] for each, place in zip(old, listed, strict=True)] == [True, True]
    assert all(
        place["place"].startswith(f"{each['store']}: snapshot ") for each, place in zip(old, listed, strict=True)
    )
    kept = [
        datetime.fromisoformat(place["until"]) - datetime.fromisoformat(each["at"])
        for each, place in zip(old, listed, strict=True)
    ]
    assert kept == [timedelta(days=30)] * 2  # policies/backup.toml keeps 30 daily ones
    copied = restored(desk, old[0]["id"], tmp_path)
    assert b"luisg@embraer.com.br" in copied
    assert b"luisg@embraer.com.br" not in file.read_bytes()

    # The words for a person say the same, and the ledger counts the places.
    desk.guard("fields finalize Customer.Email")
    assert f"backup: {listed[0]['place']}, until " in desk.err
    done = [
        entry for entry in desk.entries() if entry["what"] == "fields.finalize" and "places" in entry.get("counts", {})
    ]
    assert done[-1]["counts"]["places"] == len(found["remains"])
    assert done[-1]["counts"]["unseen"] == 0

    # A store that does not answer is told, never passed over.
    shutil.rmtree(desk.home / "backups")
    found = desk.json("fields finalize Customer.Email", expect=3)
    assert any(each["kind"] == "could not look" and "backups" in each["place"] for each in found["remains"])


def restored(desk: Any, snapshot: str, tmp_path: Path) -> bytes:
    """Return the shop's file as an old snapshot holds it."""
    desk.guard(f"backup restore {snapshot} --to {tmp_path / 'old'} --source shop --yes")
    return next((tmp_path / "old").rglob("shop.db")).read_bytes()
