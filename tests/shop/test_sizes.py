"""Sizes of tables, by what each database says."""

from guard.shop import Shop


def test_tables_have_sizes_and_rows(empty: Shop, sql) -> None:
    sql(empty, "CREATE TABLE small (id INTEGER PRIMARY KEY, x VARCHAR(200))")
    sql(
        empty,
        'CREATE TABLE "Large one" (id INTEGER PRIMARY KEY, x VARCHAR(200))'.replace(
            '"', "`" if empty.dialect == "mysql" else '"'
        ),
    )
    clause = empty.clause(empty.tables(fresh=True)["Large one"])
    with empty.begin() as connection:
        connection.execute(clause.insert(), [{"id": number, "x": "x" * 190} for number in range(3000)])
    if empty.dialect != "sqlite":
        with empty.bare() as connection:
            connection.exec_driver_sql(
                'ANALYZE "Large one"' if empty.dialect == "postgresql" else "ANALYZE TABLE `Large one`"
            )
    found = empty.sizes(["small", "Large one", "no such table"])
    assert set(found) == {"small", "Large one"}
    assert found["Large one"].total > 3000 * 190 > found["small"].total
    assert 2000 < (found["Large one"].rows or 0) < 4000
    assert not found["small"].rows
