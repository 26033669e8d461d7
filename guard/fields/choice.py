"""Which columns of the catalog a person means. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from guard.config import Catalog, Column
from guard.errors import ConfigError


def chosen(catalog: Catalog, columns: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns named, each once; all that the catalog wants sealed when none is.

    Raises ConfigError, with the nearest name, for one the catalog lacks or does not want sealed.
    """
    if not columns:
        if not (wanted := catalog.encrypted()):
            raise ConfigError('the catalog has no column with protect = "encrypt"', hint="guard data scan")
        return wanted
    found = tuple(named(catalog, at) for at in dict.fromkeys(columns))
    for column in found:
        if column not in catalog.encrypted():
            raise ConfigError(
                f'{column.at} does not have protect = "encrypt" in the catalog',
                hint="write it in policies/catalog.toml, then guard data accept --from policies/catalog.toml",
            )
    return found


def named(catalog: Catalog, at: str) -> Column:
    """Return the column "Table.Column" of the catalog. Raises ConfigError, with the nearest name, when it has none."""
    if (column := catalog.find(at)) is not None:
        return column
    known = [each.at for each in catalog.column]
    if "." not in at:
        inside = [each.at for each in catalog.encrypted() if each.table == at]
        hint = f"its columns to be sealed: {', '.join(inside)}" if inside else "write Table.Column"
        raise ConfigError(f"{at} does not name a column", hint=hint)
    near = [each for each in known if each.lower() == at.lower()] or difflib.get_close_matches(at, known, 1)
    hint = f"did you mean {near[0]}?" if near else "guard data catalog lists what is"
    raise ConfigError(f"{at} is not in the catalog", hint=hint)
