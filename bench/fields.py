"""Field encryption against its peers, all in one run: each value and token, then whole columns in their databases."""

import sys

from bench import _fields_bulk, _fields_values
from bench.harness import finish


def main() -> int:
    """Measure, and say whether the bars are met."""
    return finish("fields", [*_fields_values.rows(), *_fields_bulk.rows()])


if __name__ == "__main__":
    sys.exit(main())
