"""What surrounds the shop's database and keeps copies of what is written into it. Looked at, never changed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from guard.shop import _around_mysql, _around_postgres
from guard.shop._around_sqlite import around
from guard.shop.connect import Shop
from guard.shop.remains import DISK, Look, Remains, look

_LOOKS: Mapping[str, Callable[[str | None], tuple[Look, ...]]] = MappingProxyType(
    {"postgresql": _around_postgres.looks, "mysql": _around_mysql.looks}
)


def surroundings(shop: Shop, since: str | None = None) -> tuple[Remains, ...]:
    """Return every place around the shop's database that keeps what was written, as far as guard's account sees.

    Where it may not look, the place is listed all the same, as `Kind.UNSEEN` with the grant that is missing. `since` is
    the database's own mark of when old values ended to be written, as `scrub` sets it; logs begun later are left out.
    """
    if shop.path is not None:
        return (*around(shop.path), DISK)
    return (*look(shop, _LOOKS[shop.dialect](since)), DISK)
