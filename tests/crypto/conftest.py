"""What the tests of the crypto floor share."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from guard.clock import SteppedClock
from guard.crypto import random, recovery
from guard.crypto.keyring import Keyring
from guard.crypto.mirrors import FolderMirror
from guard.crypto.recovery import Kit
from guard.crypto.subjects import SubjectKeys
from guard.crypto.vault import Vault
from guard.state import State

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Any]:
    """Read one of our own vector files."""
    return lambda name: json.loads((VECTORS / name).read_text(encoding="utf-8"))


@pytest.fixture
def state(tmp_path: Path, clock: SteppedClock) -> Iterator[State]:
    """An empty state in a file."""
    made = State.create(f"sqlite:///{tmp_path}/state.db", clock, UUID(int=7))
    yield made
    made.close()


@pytest.fixture(scope="session")
def kit() -> Kit:
    """A recovery kit with its shares."""
    return recovery.new_kit()


@pytest.fixture
def root() -> bytes:
    """A root key."""
    return random.token(32)


@pytest.fixture
def keyring(state: State, root: bytes, kit: Kit) -> Keyring:
    """The keys of a new store with a recovery kit."""
    return Keyring.create(state, root, kit.public)


@pytest.fixture
def mirrors(tmp_path: Path) -> tuple[FolderMirror, FolderMirror]:
    """Two empty folders for the vault."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    return FolderMirror("one", tmp_path / "one"), FolderMirror("two", tmp_path / "two")


@pytest.fixture
def vault(state: State, keyring: Keyring, mirrors: tuple[FolderMirror, FolderMirror]) -> Vault:
    """A vault of two folders, without an epoch."""
    return Vault(state, keyring, mirrors, nullcontext)


@pytest.fixture
def subjects(state: State, keyring: Keyring, vault: Vault) -> SubjectKeys:
    """The keys of people of a new store; there are none."""
    return SubjectKeys(state, keyring, vault)
