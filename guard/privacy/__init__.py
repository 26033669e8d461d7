"""Personal data in the shop: where it lies, what the catalog says of it, and when it has to go.

This room proposes and checks the catalog, and treats rows that have outlived their purpose. It does not seal columns
(it is handed the functions that read and write sealed values) and does not decide who may see what.
"""

from guard.privacy.catalog import Acceptance, CatalogFile, Standard, Standing
from guard.privacy.discovery import Discovery
from guard.privacy.plan import RulePlan, Seals
from guard.privacy.proposal import Finding, Looked, Proposal
from guard.privacy.rename import RenamePlan
from guard.privacy.retention import Retained, Retention, RetentionPlan, Ruling

__all__ = [
    "Acceptance", "CatalogFile", "Discovery", "Finding", "Looked", "Proposal", "RenamePlan", "Retained", "Retention",
    "RetentionPlan", "RulePlan", "Ruling", "Seals", "Standard", "Standing",
]  # fmt: skip
