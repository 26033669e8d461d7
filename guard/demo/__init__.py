"""The sample shop: made, policed and looked at from outside.

Lantern & Leaf sells stationery and tea and exists nowhere. `guard demo` takes the whole main job through it; journeys
and benchmarks use its pieces. Nothing here changes a shop that it did not make.
"""

from guard.demo.checks import Comparison, Found, TableDifference, compare, find_values, values_only_in
from guard.demo.policies import RETENTION, write_policies
from guard.demo.shop import SEED, Size, make_shop

__all__ = [
    "RETENTION",
    "SEED",
    "Comparison",
    "Found",
    "Size",
    "TableDifference",
    "compare",
    "find_values",
    "make_shop",
    "values_only_in",
    "write_policies",
]
