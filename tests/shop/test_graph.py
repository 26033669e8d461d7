"""Which joins lead to a person."""

from guard.shop import Shop
from guard.shop.graph import Link, Step, dependents, steps, subject_path


def test_the_shortest_path_leads_over_foreign_keys(northwind: Shop) -> None:
    assert subject_path(northwind.tables(), "Order Details", "Customers") == (
        Step("Order Details", ("OrderID",), "Orders", ("OrderID",)),
        Step("Orders", ("CustomerID",), "Customers", ("CustomerID",)),
    )


def test_the_subjects_own_table_needs_no_join(northwind: Shop) -> None:
    assert subject_path(northwind.tables(), "Customers", "Customers") == ()


def test_no_path_is_none(chinook: Shop) -> None:
    assert subject_path(chinook.tables(), "Album", "Customer") is None


def test_a_declared_link_leads_where_the_schema_does_not(chinook: Shop) -> None:
    links = (Link("Artist", "Name", "Customer", "Company"),)
    path = subject_path(chinook.tables(), "Album", "Customer", links)
    assert path is not None
    assert [step.to_table for step in path] == ["Artist", "Customer"]


def test_a_table_that_refers_to_itself_ends(chinook: Shop) -> None:
    assert any(step.to_table == "Employee" for step in steps(chinook.tables())["Employee"])
    assert subject_path(chinook.tables(), "Employee", "Customer") is None


def test_dependents_stand_before_what_they_depend_on(chinook: Shop) -> None:
    assert dependents(chinook.tables(), "Customer") == ("InvoiceLine", "Invoice")
    assert dependents(chinook.tables(), "InvoiceLine") == ()
