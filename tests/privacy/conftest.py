"""A state of its own, a small shop, and the real shops of ../shared for the tests of this room."""

import hashlib
import hmac
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guard.clock import SteppedClock
from guard.config import load_policy
from guard.config.retention import RetentionPolicy
from guard.config.taxonomy import Taxonomy
from guard.privacy import store  # declares its tables before State.create makes them
from guard.privacy.detect.evidence import Detector, own_patterns
from guard.shop import Shop
from guard.state import State

POLICIES = Path(__file__).parents[2] / "policies"


def keyed(domain: str, data: bytes) -> str:
    """A keyed digest as the keyring gives it."""
    return hmac.new(b"test", domain.encode() + b"\0" + data, hashlib.sha256).hexdigest()


def own_only() -> tuple[Detector, ...]:
    """Our own patterns alone: Presidio takes a second to load, its own tests are elsewhere."""
    return (Detector("own patterns", own_patterns),)


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return load_policy(POLICIES, "taxonomy", Taxonomy)


@pytest.fixture(scope="session")
def shipped_retention() -> RetentionPolicy:
    return load_policy(POLICIES, "retention", RetentionPolicy)


@pytest.fixture
def state(tmp_path: Path, clock: SteppedClock) -> Iterator[State]:
    assert store.COLUMN.name in State.metadata.tables
    made = State.create(f"sqlite:///{tmp_path / 'state.db'}", clock)
    yield made
    made.close()


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """A folder of policies as `guard init` copies them."""
    folder = tmp_path / "policies"
    folder.mkdir()
    for name in ("taxonomy", "retention"):
        shutil.copy(POLICIES / f"{name}.toml", folder)
    return folder


MakeShop = Callable[[str], Shop]


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[MakeShop]:
    """Makes an SQLite shop of a script."""
    made: list[Shop] = []

    def make(script: str) -> Shop:
        path = tmp_path / f"shop{len(made)}.db"
        with sqlite3.connect(path) as connection:
            connection.executescript(script)
        connection.close()
        made.append(Shop.connect(f"sqlite:///{path}"))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def chinook(chinook_file: Path) -> Iterator[Shop]:
    shop = Shop.connect(f"sqlite:///{chinook_file}")
    yield shop
    shop.close()


@pytest.fixture
def northwind(northwind_file: Path) -> Iterator[Shop]:
    shop = Shop.connect(f"sqlite:///{northwind_file}")
    yield shop
    shop.close()
