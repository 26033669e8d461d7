"""Which laws still want a person's rows kept, so that their key must not be shredded. Reads; changes nothing.

What cannot be told counts as wanted: a class the policy does not know, rows whose term nobody says the beginning of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from guard.config.retention import Term
from guard.privacy import retain, store
from guard.privacy.plan import Key, chunks
from guard.privacy.retention import Ruling
from guard.privacy.rules import Ground, Treatment, fit
from guard.shop import Shop


def running(
    shop: Shop, ruling: Ruling, class_: str, rows: Mapping[str, Sequence[Key]], now: datetime
) -> tuple[str, ...]:
    """Return, in words without names of people, why data of `class_` in `rows` must be kept at `now`; empty: nothing.

    `rows` are the keys of one person's rows, by table. A law is a class with `least` in policies/retention.toml; its
    term begins where a rule of that class says. Raises ConfigError when the rules do not fit the shop.
    """
    term = ruling.policy.class_.get(class_)
    if term is None:
        known = ", ".join(sorted(ruling.policy.class_))
        return (f"retention.toml has no class {class_} (it has {known}), so whether a law wants it kept is not known",)
    if not term.least:
        return ()
    tables = shop.tables(fresh=True)
    fitted = fit(Ground(ruling.policy, ruling.catalog, tables, shop.dialect == "sqlite"))
    mine = [each for each in fitted if each.rule.class_ == class_]
    out = []
    for table, keys in rows.items():
        fitting = [each for each in mine if each.table.name == table]
        over = {key for each in fitting for key in _over(shop, term, each, keys, now)}
        if len(over) < len(keys) and not fitting:
            out.append(f"{term.basis}: no rule of class {class_} says since when {term.keep} run for rows of {table}")
        elif len(over) < len(keys):
            left = len(keys) - len(over)
            out.append(f"{term.basis}: {term.keep} are not known to be over for {left} of {len(keys)} rows of {table}")
    return tuple(out)


def _over(shop: Shop, term: Term, treatment: Treatment, keys: Sequence[Key], now: datetime) -> Iterator[Key]:
    """Yield the rows whose term is over."""
    for chunk in chunks(keys):
        with shop.begin() as connection:  # the rows are locked while they are looked at
            for row in store.candidates(shop, connection, treatment, chunk):
                since = retain.moment(row.since if row.since is not None else row.otherwise)
                if since is not None and retain.due(since, term.keep, term.count, now):
                    yield row.key
