"""The door: from Enter on a correct code to the start of work, in both modes."""

import sys

from bench import _access_door, _access_lease
from bench.harness import Row, finish


def rows() -> list[Row]:
    """Measure everything there is to measure of the door and the agent's socket."""
    return [*_access_door.rows(), *_access_lease.rows()]


def main() -> int:
    """Measure, and say whether the bars are met."""
    return finish("access", rows())


if __name__ == "__main__":
    sys.exit(main())
