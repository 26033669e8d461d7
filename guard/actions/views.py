"""Make the views by which staff with accounts of their own in the shop's database see what their role's tiers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from guard.access.tiers import KEY_DOMAIN, Form, pads
from guard.access.views import STAFF, Place, Shown, View, drops, script
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.actions.view import Eyes, policy_of, sealed_columns, shown
from guard.canon import Json
from guard.errors import ConfigError
from guard.events import Activity, Level, Role
from guard.shop.views import Apart, build

if TYPE_CHECKING:
    from guard.app import App
    from guard.shop import ShopColumn, Table


def place_of(app: App) -> Place:
    """Return where views of this shop go. Raises ConfigError for SQLite, which has no accounts to keep apart."""
    shop = app.shop
    if shop.dialect == "sqlite":
        raise ConfigError(
            "SQLite has no accounts: whoever can read the file reads all of it, and no view changes that",
            hint="`guard access view` shows single rows; masking views are for PostgreSQL and MariaDB",
        )
    if not (database := shop.engine.url.database):
        raise ConfigError(
            "shop.url names no database, after which the roles are named", hint="write it at the URL's end"
        )
    return Place(shop.dialect, shop.schema or database, database)


def views_of(app: App, roles: Sequence[Role]) -> dict[Role, tuple[View, ...]]:
    """Return how each table looks for each role. What is sealed, or is to be, is hidden: no view can open it."""
    policy, catalog, tables, sealed = policy_of(app), app.catalog, app.shop.tables(fresh=True), sealed_columns(app)

    def column(eyes: Eyes, table: str, each: ShopColumn) -> Shown:
        seen = shown(eyes, table, each)
        return replace(seen, form=Form.HIDDEN) if f"{table}.{each.name}" in sealed else seen

    def view(eyes: Eyes, table: Table) -> View:
        return View(table.name, tuple(column(eyes, table.name, each) for each in table.columns))

    return {role: tuple(view(Eyes(policy, catalog, role), table) for table in tables.values()) for role in roles}


def written(app: App, roles: Sequence[Role]) -> tuple[str, ...]:
    """Return the statements that make the views of these roles, with a note in place of the key of pseudonyms."""
    return script(place_of(app), views_of(app, roles), None)


def _roles(args: Mapping[str, Json]) -> tuple[Role, ...]:
    given = args["roles"]
    return tuple(Role(str(each)) for each in given) if isinstance(given, list | tuple) else STAFF


def _plan_views(app: App, args: Mapping[str, Json]) -> Plan:
    roles, place = _roles(args), place_of(app)
    if args["what"] == "drop":
        statements = drops(place, roles)
        lines = tuple(f"drop all that is in {place.space(each.value)}" for each in roles)
    else:
        seen = views_of(app, roles)
        statements = script(place, seen, pads(bytes.fromhex(app.digest(KEY_DOMAIN, b""))))
        where = "make anew all that is in" if args["what"] == "apply" else "write the SQL, with the key, that makes"
        lines = tuple(
            f"{where} {place.space(role.value)}, read by {place.group(role)}: "
            f"{sum(not view.is_hidden for view in views)} views"
            for role, views in seen.items()
        )
    digest = app.digest("access.views", "\n".join(statements).encode())
    return Plan(lines, {"statements": len(statements), "digest": digest}, statements)


def _views(app: App, task: Task) -> Outcome[tuple[str, ...]]:
    statements: tuple[str, ...] = task.plan.payload  # type: ignore[assignment]  # _plan_views put it there
    roles, place, what = _roles(task.args), place_of(app), task.text("what")
    if what != "write":
        build(app.shop, statements, {place.group(each): _apart(place, each) for each in roles if what == "apply"})
    names = tuple(place.space(role.value) for role in roles)
    return Outcome(statements, objects=names, counts={"statements": len(statements)}, facts={"what": what})


def _apart(place: Place, role: Role) -> Apart:
    own = place.space(role.value)
    spaces = (place.schema, place.space("views"), *(place.space(each.value) for each in STAFF))
    return Apart(own, tuple(each for each in spaces if each != own))


VIEWS: Action[tuple[str, ...]] = Action(
    "access.views", Level.PRIVILEGED, Activity.API_UPDATE, _views, _plan_views, holds=("shop",)
)
"""Makes or drops masking views and their grants, or gives their SQL with the key in it."""
