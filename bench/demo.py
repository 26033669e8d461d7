"""How long the demo takes, step by step: one run, as a person who tries guard sees it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness import Bar, Row, finish, wall

WHOLE = Bar("ours", "<=", 60)


def main() -> int:
    """Run the demo in a scratch folder, and say whether it stays below a minute."""
    with tempfile.TemporaryDirectory(prefix="guard-bench-") as folder:
        begun = wall()
        command = [sys.executable, "-m", "guard", "--json", "demo", str(Path(folder) / "shop")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        taken = wall() - begun
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        print(f"guard demo ended with {done.returncode}", file=sys.stderr)
        return done.returncode
    return finish("demo", rows(json.loads(done.stdout), taken))


def rows(told: Mapping[str, Any], taken: float) -> list[Row]:
    """Return a row for each step of what `guard demo --json` printed, and one for all of `taken` seconds."""
    steps = [Row(step["name"], float(step["seconds"]), None, "s") for step in told["steps"]]
    return [*steps, Row("the whole demo, from the prompt to the report", taken, None, "s", WHOLE)]


if __name__ == "__main__":
    sys.exit(main())
