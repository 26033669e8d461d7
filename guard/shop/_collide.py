"""How many rows share a token that must be unique. Values are never named."""

import sqlalchemy as sa

from guard.errors import InterlockError
from guard.shop.catalog import Table
from guard.shop.connect import Shop


def collide(shop: Shop, table: Table, token: str) -> None:
    """Raise InterlockError, saying how many rows collide, when a token stands in more than one row."""
    column: sa.ColumnClause[bytes] = sa.column(token)
    source = sa.table(table.name, column, schema=shop.schema)
    shared = (
        sa.select(sa.func.count().label("rows"))
        .select_from(source)
        .where(column.is_not(None))
        .group_by(column)
        .having(sa.func.count() > 1)
        .subquery()
    )
    with shop.read() as connection:
        values, rows = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(shared.c.rows), 0)).select_from(shared)
        ).one()
    if values:
        raise InterlockError(
            f"{table.name}: {int(rows)} rows share {values} values that are the same once normalised ({token})",
            hint="the column is unique: make these rows differ in the shop, or choose another normaliser",
        )
