"""One privileged action whose work says when it begins; a program that `_access_door` starts."""

import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

from guard.actions import Action, Caller, Outcome, perform
from guard.actions.backup import INIT
from guard.app import App
from guard.cli._door import ask_code
from guard.clock import SteppedClock


def main() -> int:
    """Go through the door. Arguments: a guard.toml and the time; or the descriptor on which the agent says them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    config, at = sys.argv[1], sys.argv[-1]
    if config == at:
        given = json.loads(os.read(int(config), 1 << 16))
        config, at = given["config"], given["argv"][0]
    app = App.open(Path(config), SteppedClock(datetime.fromisoformat(at)), ask_code)
    caller = Caller(app.access.person_of("bench"), ask_code, lambda line: print(line, file=sys.stderr))
    perform(app, caller, Action(INIT.name, INIT.level, INIT.activity, _work))
    app.close()
    return 0


def _work(_: App, __: object) -> Outcome[None]:
    print(f"BEGUN {time.monotonic_ns()}", flush=True)
    return Outcome(None)


if __name__ == "__main__":
    sys.exit(main())
