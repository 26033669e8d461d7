"""The report: what was done with the shop's personal data, as the ledger proves it, in one HTML file.

A report is a pure function of ledger and catalog: the same log size and the same arguments give the same bytes. It
reads no row of the shop, keeps nothing in state, and passes no claim without entries that show it.
"""

from guard.report.build import Report, Reports, Sources
from guard.report.controls import Control, Finding, Result, Verdict
from guard.report.evidence import EntryView
from guard.report.standing import standing

__all__ = ["Control", "EntryView", "Finding", "Report", "Reports", "Result", "Sources", "Verdict", "standing"]
