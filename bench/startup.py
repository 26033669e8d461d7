"""How long `guard --help` takes: against importing every room, and against bare Python."""

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.harness import Bar, Pace, Row, finish, race, wall
from guard import __version__

ROOMS = ("access", "audit", "aws", "backup", "breach", "crypto.keyring", "fields", "jobs", "privacy", "report", "shop")
IMPORTS = ", ".join(f"guard.{name}" for name in ROOMS)
PACE = Pace(rounds=20, timer=wall, unit="ms", scale=1000)


def main() -> int:
    """Measure, and say whether the bars are met."""
    script = Path(sys.executable).with_name("guard")
    guard = [str(script)] if script.exists() else [sys.executable, "-m", "guard"]
    ours, rooms, bare = race(
        PACE,
        _run([*guard, "--help"]),
        _run([sys.executable, "-c", f"import {IMPORTS}"]),
        _run([sys.executable, "-c", ""]),
    )
    rows = [
        Row(
            f"guard --help, against importing every room of guard {__version__}",
            ours,
            rooms,
            "ms",
            Bar("ratio", "<=", 0.2),
        ),
        Row(f"guard --help, against bare Python {platform.python_version()}", ours, bare, "ms", Bar("ours", "<=", 120)),
    ]
    return finish("startup", rows)


def _run(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
