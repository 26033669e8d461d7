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
    if any(each.standing == "vanished" for each in standings):
        say("Where a table or column was renamed: guard data rename OLD NEW, before you accept anything", error=True)
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


@data.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@pass_door
def rename(door: Door, old: str, new: str) -> Exit:
    """Follow a table or column that the shop has renamed. Needs a second factor.

    OLD and NEW are two tables, or two times TABLE.COLUMN of the same table. Ids, keys and decisions stay, and what was
    sealed opens as before. Rules of policies/retention.toml that use the old name are for you to change: then it ends
    with 3.

    \b
    Example: guard data rename Customer.Email Customer.Mail
    """
    from guard.actions.data import RENAME  # noqa: PLC0415  # keeps --help light

    done = door.perform(RENAME, old=old, new=new)
    _ = door.app.catalog  # reading it puts the new file in the old one's place
    if door.as_json:
        show_json({"columns": done.moved, "given_up": done.given_up, "by_hand": done.by_hand, "missing": done.missing})
    else:
        say(f"{done.rename.old} is {done.rename.new} now: {len(done.moved)} columns keep their ids.")
    for text in done.by_hand:
        say(f"Change by hand: {text}. Then guard access grant retention.run, where that was granted", error=True)
    for at in done.missing:
        say(f"Not in the schema: {at}. Rename it too, or take it out of the catalog", error=True)
    return Exit.FINDINGS if done.by_hand or done.missing else Exit.DONE
