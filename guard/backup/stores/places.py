"""Open the stores that guard.toml names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guard.backup.stores import Store
from guard.backup.stores.local import LocalStore
from guard.clock import Clock
from guard.config import StoreSettings
from guard.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Places:
    """The configured stores. `clock` dates what is written to folders; relative ones start at `home`."""

    settings: Sequence[StoreSettings]
    home: Path
    clock: Clock
    open_s3: Callable[[StoreSettings], Store]
    """Opens a bucket; handed in, because only shops that have one should load boto3."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all stores, in the order of guard.toml."""
        return tuple(each.name for each in self.settings)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of local stores, which are never backed up themselves."""
        return tuple(self.home / each.path for each in self.settings if each.kind == "local" and each.path)

    def open(self, name: str) -> Store:
        """Return a store by its name. Raises ConfigError when there is none of this name."""
        settings = self._named(name)
        if settings.kind == "local":
            return LocalStore(self.home / (settings.path or ""), self.clock)
        return self.open_s3(settings)

    def prepare(self, name: str) -> None:
        """Make the folder of a local store; a bucket is made by its owner."""
        store = self.open(name)
        if isinstance(store, LocalStore):
            store.prepare()

    def _named(self, name: str) -> StoreSettings:
        for each in self.settings:
            if each.name == name:
                return each
        if not self.settings:
            raise ConfigError("no store for backups is configured", hint="add a [[backup.store]] to guard.toml")
        near = difflib.get_close_matches(name, self.names, n=1)
        raise ConfigError(
            f"there is no store {name}",
            hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(self.names)}",
        )
