"""How much room the database has on its disk, where that can be seen from this host."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from guard.errors import GuardError
from guard.shop.connect import Shop, is_local

_WHERE = {"postgresql": "SELECT setting FROM pg_settings WHERE name = 'data_directory'", "mysql": "SELECT @@datadir"}


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk a database lies on: the folder, and the bytes that are free there."""

    folder: Path
    free: int


def disk(shop: Shop) -> Disk | None:
    """Return the disk of the shop's database; None for a server elsewhere, or one that hides where its files are."""
    folder = _folder(shop)
    try:
        return Disk(folder, shutil.disk_usage(folder).free) if folder is not None else None
    except OSError:  # a container's own path, or a folder this account may not reach
        return None


def file_size(shop: Shop) -> int | None:
    """Return the bytes of an SQLite file and its log; None for a server."""
    if shop.path is None:
        return None
    parts = (shop.path, shop.path.with_name(f"{shop.path.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _folder(shop: Shop) -> Path | None:
    if shop.path is not None:
        return shop.path.absolute().parent
    if not is_local(shop.engine.url):
        return None
    try:
        with shop.read() as connection:
            found = connection.exec_driver_sql(_WHERE[shop.dialect]).scalar()
    except GuardError:  # guard's account may not ask
        return None
    return Path(str(found)) if found else None
