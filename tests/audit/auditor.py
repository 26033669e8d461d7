"""What the tests of exports share: a ledger whose key changes, exports of it, and an auditor who runs `verify.py`."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete

from guard.audit import FolderAnchor, Ledger, proof
from guard.audit.export import Exported, export
from guard.audit.prune import Prune
from guard.audit.rekey import Rekey, Seeds
from guard.audit.store import ENTRY, NODE
from guard.clock import SteppedClock
from guard.crypto.cosign import WitnessKey
from guard.crypto.sign import Signer
from guard.events import GUARD, RunId
from guard.state import State, Tx
from tests.audit.conftest import START, STORE, event

VERIFY = Path(proof.__file__).with_name("shipped") / "verify.py"
RUN = RunId("0f" * 16)


@dataclass
class Shop:
    """A ledger with as many keys as it takes."""

    folder: Path
    clock: SteppedClock = field(default_factory=lambda: SteppedClock(START))
    seeds: list[bytes] = field(default_factory=lambda: [bytes([1]) * 32])
    number: int = 0
    witnesses: tuple[WitnessKey, ...] = ()

    def __post_init__(self) -> None:
        self.anchor = FolderAnchor("here", self.folder / "anchor")
        if not (self.folder / "state.db").exists():
            self.folder.mkdir(exist_ok=True)
            State.create(f"sqlite:///{self.folder}/state.db", self.clock, STORE).close()
            self.anchor.create()
        self.open()

    def open(self) -> None:
        """Open the ledger."""
        self.state = State.open(f"sqlite:///{self.folder}/state.db", self.clock)
        self.ledger = Ledger(self.state, lambda: Seeds(self.seeds[-1], tuple(self.seeds[:-1])), [self.anchor])
        self.state.attach(self.ledger.append)

    def add(self, count: int) -> None:
        """Record entries, up to fifty in a commit."""
        while count:
            group = min(50, count)
            self.state.write(lambda tx: None, *[event(self.number + each) for each in range(group)])
            self.number, count = self.number + group, count - group
            self.clock.step(timedelta(minutes=7))

    def rekey(self, more: int = 0) -> None:
        """Change the key; `more` entries are recorded in the same commit."""
        origin = self.ledger.vkey.split("+")[0]
        old, self.seeds = self.seeds[-1], [*self.seeds, bytes([len(self.seeds) + 1]) * 32]
        change = Rekey(Signer(old, origin).verifier, Signer(self.seeds[-1], origin).verifier, len(self.seeds))
        self.state.write(lambda tx: None, change.event(GUARD, RUN), *[event(3 * each + 1) for each in range(more)])

    def vkey(self, version: int) -> str:
        """Return the verifier key of a version (from 0), under the first log's name."""
        return Signer(self.seeds[version], f"guard-ledger/{STORE}").vkey

    def prune(self, minimum: int, kept: frozenset[int] = frozenset(), before: frozenset[int] = frozenset()) -> None:
        """Remove what retention removes below `minimum`, and say so; `before`: what an earlier one kept."""
        with self.state.read() as tx:
            root = proof.root(tx, minimum)
        event = Prune(minimum, root, kept).event(GUARD, RUN)
        self.state.write(lambda tx: remove(tx, minimum, kept | before), event)

    def restored(self, saved: Path) -> None:
        """Put an older state in place of this one, and begin a new log as `guard state restore` does."""
        self.state.close()
        for end in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                (self.folder / f"state.db{end}").unlink()
        (self.folder / "state.db").write_bytes(saved.read_bytes())
        self.open()
        self.state.write(lambda tx: None, self.ledger.restart().event(GUARD, RUN), event(1))

    def export(self, folder: Path) -> Exported:
        """Export the ledger."""
        with self.state.read() as tx:
            return export(tx, folder, self.ledger.vkey, witnesses=self.witnesses)


def remove(tx: Tx, minimum: int, kept: frozenset[int]) -> None:
    """Remove entries below `minimum` and the nodes below level 8 over them, but those of kept blocks of 256."""
    for block in set(range(minimum // 256)) - kept:
        first = block * 256
        tx.execute(delete(ENTRY).where(ENTRY.c.n >= first, ENTRY.c.n < first + 256))
        for level in range(1, 8):
            within = (NODE.c.position >= first >> level) & (NODE.c.position < first + 256 >> level)
            tx.execute(delete(NODE).where((NODE.c.level == level) & within))


def check(path: Path, *words: str, program: Path = VERIFY) -> tuple[int, str, str]:
    """Run `verify.py` as an auditor does, apart from everything; return exit code, stdout, stderr."""
    line: Sequence[str] = [sys.executable, "-I", str(program), str(path), *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd="/")
    return done.returncode, done.stdout, done.stderr


def flip(path: Path, at: int) -> None:
    """Change the bits of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
