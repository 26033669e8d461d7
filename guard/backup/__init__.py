"""Back the shop and guard's own state up into sealed repositories, and bring them back.

A repository lies in a folder or a bucket, is never changed but by adding objects and by prune, and opens without
guard's state by its key slots. The room reads databases and files; it writes to stores, to scratch and to the folder
of a restore.
"""

from guard.backup.backups import Backups, Keys, Setup
from guard.backup.prune import PrunePlan
from guard.backup.restore import Restored, RestorePlan, Wanted
from guard.backup.results import Founded, Listed, Several, SourceRun, StoreRun
from guard.backup.snapshot import Snapshot, SnapshotId
from guard.backup.sources import Source, Uncovered
from guard.backup.sources.choose import Configured, sources_of
from guard.backup.stores.places import Places
from guard.backup.verify import Finding, Verified

__all__ = [
    "Backups",
    "Configured",
    "Finding",
    "Founded",
    "Keys",
    "Listed",
    "Places",
    "PrunePlan",
    "RestorePlan",
    "Restored",
    "Setup",
    "Several",
    "Snapshot",
    "SnapshotId",
    "Source",
    "SourceRun",
    "StoreRun",
    "Uncovered",
    "Verified",
    "Wanted",
    "sources_of",
]
