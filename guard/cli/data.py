"""guard data: find personal data in the shop and keep the catalog of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.errors import Exit

if TYPE_CHECKING:
    from guard.privacy import Finding

_COLUMNS = ("at", "category", "tier", "protect", "confidence", "sample", "why")


@click.group()
def data() -> None:
    """Find personal data and keep the catalog.

    \b
    Example: guard data scan
    """


@data.command()
@pass_door
def scan(door: Door) -> Exit:
    """Look at every column of the shop and propose a catalog. Reads at most 200 distinct values a column.

    Writes catalog.proposed.toml beside the policies; it holds reasons, never values. What catalog.toml has decided is
    kept. Ends with 3 when columns are left that nobody but you can decide.

    \b
    Example: guard data scan --json
    """
    from guard.actions.data import SCAN  # noqa: PLC0415  # keeps --help light

    found = door.perform(SCAN)
    if door.as_json:
        show_json({"findings": found.findings, "looked": found.looked, "proposal": str(door.app.discovery.proposed)})
    else:
        show_rows([_row(finding) for finding in found.findings], columns=_COLUMNS)
    for looked in found.looked:
        say(f"{looked.by}: {looked.outcome}" + (f": {looked.why}" if looked.why else ""), error=bool(looked.why))
    if found.undecided:
        say(f"Decide on these: {', '.join(found.undecided)}", error=True)
    say(f"Proposed in {door.app.discovery.proposed}. Read it, correct it, then: guard data accept")
    return Exit.FINDINGS if found.undecided else Exit.DONE


def _row(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in _COLUMNS} | {"why": "; ".join(finding.why)}


@data.command()
@pass_door
def catalog(door: Door) -> Exit:
    """Compare the accepted catalog with the schema: classified, unclassified, vanished.

    Ends with 3 when a column is unclassified or has vanished.

    \b
    Example: guard data catalog
    """
    standings = door.app.discovery.catalog()
    columns = ("at", "standing", "category", "tier", "protect", "anonymize")
    show_rows(standings, columns=columns, empty="the shop has no columns and the catalog none either")
    findings = [each.at for each in standings if each.is_finding]
    if findings:
        say(
            f"{len(findings)} of {len(standings)} columns need you: guard data scan, then guard data accept", error=True
        )
    return Exit.FINDINGS if findings else Exit.DONE


@data.command()
@click.option("--from", "source", type=click.Path(path_type=Path, dir_okay=False), help="TOML file to accept.")
@pass_door
def accept(door: Door, source: Path | None) -> Exit:
    """Check a catalog and take it as the one that counts. Needs a second factor.

    Without --from it takes what `guard data scan` proposed. Columns get their ids here; a column keeps its id for ever.

    \b
    Example: guard data accept --from policies/catalog.toml
    """
    from guard.actions.data import ACCEPT  # noqa: PLC0415  # keeps --help light

    door.confirm(f"Accept {source or door.app.discovery.proposed} as the catalog?")
    done = door.perform(ACCEPT, source=str(source.absolute()) if source else None)
    if door.as_json:
        show_json({"columns": len(done.catalog.column), "new": done.fresh, "unclassified": done.unclassified})
    else:
        say(f"Accepted {len(done.catalog.column)} columns, {len(done.fresh)} new. Next: guard fields plan")
    if done.unclassified:
        say(f"Still unclassified: {', '.join(done.unclassified)}", error=True)
    return Exit.FINDINGS if done.unclassified else Exit.DONE
