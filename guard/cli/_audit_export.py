"""guard audit export and prove: what leaves the house, and what shows an entry to somebody outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli._door import Door, pass_door
from guard.cli._output import say, show_json, show_rows
from guard.cli._time import Time
from guard.clock import stamp
from guard.errors import Exit, UnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from guard.audit.ship import Sink, Write

_STDOUT = "-"


@click.command()
@click.option(
    "--tiles", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="A folder, for auditors."
)
@click.option("--ocsf", is_flag=True, help="Entries as OCSF 1.5.0 events, a line of JSON each.")
@click.option("--since", type=Time(), help="With --ocsf: from this time on.")
@click.option("--until", type=Time(), help="With --ocsf: before this time.")
@click.option("--after", metavar="MARK", help="With --ocsf: behind this entry, as the export before said.")
@click.option("--limit", type=click.IntRange(1, 10**9), help="With --ocsf: at most so many, the oldest first.")
@click.option(
    "--out",
    type=click.Path(path_type=str, dir_okay=False, allow_dash=True),
    default=_STDOUT,
    metavar="FILE|-",
    help="With --ocsf: a new file  [default: -, standard output].",
)
@pass_door
def export(door: Door, /, tiles: Path | None, ocsf: bool, out: str, **part: object) -> Exit:
    """Write the ledger out, for auditors (--tiles) or for a SIEM (--ocsf). Personal details never leave. Recorded.

    --tiles writes a folder that anybody checks without guard: every entry, the tree over them, the signed checkpoint,
    and the program verify.py. Into the same folder again it adds only what is new.

    --ocsf says at the end where it stopped; --after goes on from there.

    \b
    Example: guard audit export --tiles /media/usb/ledger
             guard audit export --ocsf --after 1200:3fa9c2d1 --out part-7.ndjson
    """
    if ocsf == (tiles is not None):
        raise click.UsageError("name one of --tiles DIR and --ocsf")
    if tiles is not None:
        if out != _STDOUT or any(value is not None for value in part.values()):
            raise click.UsageError("--since, --until, --after, --limit and --out go with --ocsf")
        return _tiles(door, tiles)
    return _ocsf(door, out, **part)  # type: ignore[arg-type]  # click's names and types are its own


def _tiles(door: Door, folder: Path) -> Exit:
    from guard.actions.export import TILES  # noqa: PLC0415  # keeps --help light

    done = door.perform(TILES, folder=str(folder.absolute()))
    if door.as_json:
        show_json(done)
        return Exit.DONE
    click.echo(folder)
    new = f", {done.size - done.before} of them new" if done.before else ""
    gone = f"; those before {done.minimum} were removed under retention" if done.minimum else ""
    say(f"{done.size} entries{new}{gone}; root {done.root}")
    say(f"check it with: python3 -I {folder}/verify.py {folder} --vkey '{door.app.ledger.vkey}'")
    return Exit.DONE


def _ocsf(
    door: Door, out: str, since: datetime | None, until: datetime | None, after: str | None, limit: int | None
) -> Exit:
    from guard.actions.export import ocsf_to  # noqa: PLC0415  # keeps --help light
    from guard.audit.ship import Mark, to_file  # noqa: PLC0415

    if after is not None:
        Mark.read(after)  # said before anything is recorded
    path = Path(out).absolute()
    sink: Sink = _stdout if out == _STDOUT else partial(to_file, path)
    times = {name: stamp(at) if at else None for name, at in (("since", since), ("until", until))}
    done = door.perform(ocsf_to(sink), **times, after=after, limit=limit, out=None if out == _STDOUT else str(path))
    if door.as_json and out != _STDOUT:
        told = {name: getattr(done, name) for name in ("entries", "first", "last", "more")}
        show_json({**told, "next": str(done.next) if done.next else None})
    more = "; there are more" if done.more else ""
    on = f"; go on with --after {done.next}" if done.next else ""
    say(f"{done.entries} {'entry' if done.entries == 1 else 'entries'}{more}{on}")
    return Exit.DONE


@contextmanager
def _stdout() -> Iterator[Write]:
    try:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has enough
        raise
    except OSError as error:
        raise UnavailableError(f"cannot write standard output: {error.strerror}") from error


@click.command()
@click.argument("numbers", metavar="[ENTRY]...", type=click.IntRange(0), nargs=-1)
@click.option("--run", help="Every entry of this run.")
@click.option("--anchored", is_flag=True, help="Against the newest checkpoint that witnesses or anchors vouch for.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A folder to hand out, with verify.py and the keys  [default: here, the proof alone].",
)
@pass_door
def prove(door: Door, /, numbers: tuple[int, ...], run: str | None, anchored: bool, out: Path | None) -> Exit:
    """Write the proof that an entry is in the ledger: <n>.tlog-proof, and the entry itself as <n>.json.

    Whoever has the verifier key checks both without guard and without the rest of the ledger.

    \b
    Example: guard audit prove 1200 --out for-the-auditor
    """
    from guard.audit.handout import Wanted, hand_out  # noqa: PLC0415  # keeps --help light

    if not numbers and run is None:
        raise click.UsageError("name the number of an entry, or --run; guard audit list shows both")
    folder, vkey = out or Path(), door.app.ledger.vkey
    with door.app.state.read() as tx:
        done = hand_out(tx, folder, Wanted(numbers, run, anchored, door.app.ledger.witnesses), vkey if out else None)
    if door.as_json:
        show_json(done)
        return Exit.DONE
    names = ("n", "at", "who", "what", "outcome")
    show_rows([{**{name: getattr(each.entry, name) for name in names}, "proof": each.proof} for each in done])
    program = folder / "verify.py" if out else "verify.py"
    say(f"check it with: python3 -I {program} {done[0].proof} --vkey '{vkey}'")
    return Exit.DONE
