"""guard audit: read and verify the ledger."""

from __future__ import annotations

import click

from guard.cli._audit_anchor import anchor, checkpoint
from guard.cli._audit_export import export, prove
from guard.cli._audit_ingest import ingest
from guard.cli._audit_list import list_
from guard.cli._audit_verify import verify
from guard.cli._audit_witness import witness


@click.group()
def audit() -> None:
    """Read and verify the ledger: who did what, when, and how it ended.

    \b
    Example: guard audit verify
    """


audit.add_command(list_)
audit.add_command(verify)
audit.add_command(anchor)
audit.add_command(checkpoint)
audit.add_command(witness)
audit.add_command(ingest)
audit.add_command(prove)
audit.add_command(export)
