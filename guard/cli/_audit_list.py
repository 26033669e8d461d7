"""guard audit list: who did what, when, about whom, and, for who may, what was said of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import plain, say, show_json, show_rows
from guard.cli._time import Time
from guard.clock import stamp
from guard.events import Ending

if TYPE_CHECKING:
    from guard.audit import Entry
    from guard.audit.reveal import Revealed


@click.command("list")
@click.option("--since", type=Time(), help="From this time on.")
@click.option("--until", type=Time(), help="Before this time.")
@click.option("--who", help="A principal's id, or a name that somebody has in the shop.")
@click.option("--what", help='An action, e.g. "fields.encrypt", or a group of them, e.g. "fields.*".')
@click.option("--outcome", type=click.Choice([each.value for each in Ending]), help="How it ended.")
@click.option("--subject", help="About whom: a pseudonym, or KIND:KEY, which is looked up and recorded.")
@click.option("--run", help="The entries of one run, by its id; --json shows it.")
@click.option("--limit", type=click.IntRange(1, 10**9), default=100, show_default=True, help="The last so many.")
@click.option("--payloads", is_flag=True, help="Open what they say of people. Needs a second factor; recorded.")
@pass_door
def list_(door: Door, /, limit: int, payloads: bool, who: str | None, subject: str | None, **fits: Any) -> None:
    """List the last entries that fit, oldest first.

    Whom an entry is about it tells by a pseudonym. KIND is a [subject] of the catalog, KEY what its key column holds.

    \b
    Example: guard audit list --outcome denied --since 2026-11-01
             guard audit list --subject customer:4711 --payloads
    """
    from guard.actions.reveal import REVEAL, actors  # noqa: PLC0415  # keeps --help light
    from guard.audit import Query  # noqa: PLC0415  # keeps --help light

    found = None if subject is None else _pseudonym(door, subject)
    if subject is not None and found is None:
        _show(door, [])
        return
    names = None if who is None else actors(door.app, who)
    if not payloads:
        entries = door.app.ledger.list(Query(**fits, who=names, subject=found), limit)
        _show(door, [(plain(each), _row(each)) for each in entries])
        return
    times = {name: stamp(fits[name]) for name in ("since", "until") if fits[name] is not None}
    revealed = door.perform(REVEAL, **{**fits, **times}, who=names, subject=found, limit=limit)
    _show(door, [(_opened(each), _opened_row(each)) for each in revealed])


def _pseudonym(door: Door, text: str) -> str | None:
    from guard.actions.reveal import FIND, whom  # noqa: PLC0415  # keeps --help light

    asked = whom(text)
    if isinstance(asked, str):
        return asked
    found = door.perform(FIND, kind=asked[0], key=asked[1])
    if found.forgotten_at is not None:
        say(f"what the ledger held about this {asked[0]} was shredded at {stamp(found.forgotten_at)}")
    if found.subject is None:
        say(f"the ledger says nothing of this {asked[0]}")
    return found.subject


def _show(door: Door, found: list[tuple[Any, dict[str, object]]]) -> None:
    if door.as_json:
        show_json([document for document, _ in found])
    else:
        show_rows([row for _, row in found], empty="no entry fits")


def _opened(each: Revealed) -> Any:
    return {**plain(each.entry), "said": each.said, "erased": each.erased}


def _opened_row(each: Revealed) -> dict[str, object]:
    said = (
        "what it said is erased" if each.erased else each.said and f"says {json.dumps(each.said, ensure_ascii=False)}"
    )
    row = _row(each.entry)
    return {**row, "details": "; ".join(str(part) for part in (row["details"], said) if part)}


def _row(entry: Entry) -> dict[str, object]:
    """Return what a line shows; counts and facts come last, as they may be long."""
    parts = (
        ", ".join(entry.objects),
        f"about {entry.subject}" if entry.subject else "",
        *(f"{name} {each}" for name, each in (*entry.counts.items(), *entry.facts.items())),
    )
    return {
        "n": entry.n,
        "at": entry.at,
        "who": entry.who,
        "what": entry.what,
        "outcome": entry.outcome,
        "details": "; ".join(part for part in parts if part),
    }
