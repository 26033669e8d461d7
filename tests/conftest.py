"""Fixtures every room uses."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guard.clock import SteppedClock


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real shops and outside vectors; tests that need it skip where it is absent."""
    root = Path(os.environ.get("GUARD_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        if os.environ.get("GUARD_REQUIRE_SHARED") == "1":
            pytest.fail(f"GUARD_REQUIRE_SHARED=1, but {root} is not there; set GUARD_SHARED")
        pytest.skip(f"{root} is not there; set GUARD_SHARED to the folder with data/ and vectors/")
    return root


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands at 2026-01-05 09:00 UTC, a Monday."""
    return SteppedClock(datetime(2026, 1, 5, 9, tzinfo=UTC))
