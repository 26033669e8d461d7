"""Show one row of the shop as a role sees it.

Who looks is who the door says; their role decides. To look as another role is an action of its own, `access.view-as`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.access.refusals import Refusal, refused
from guard.access.tiers import KEY_DOMAIN, Form, form_of, is_open, mask
from guard.access.views import Shape, Shown, shape_of
from guard.actions._perform import Action, Outcome, Plan, Task
from guard.canon import Json, KeyPart, key_bytes
from guard.config import Catalog, Column, Protect, load_policy
from guard.config.access import AccessPolicy
from guard.config.taxonomy import Taxonomy
from guard.errors import ConfigError, InterlockError
from guard.events import GUARD, About, Activity, Ending, Event, Level, Principal, Role
from guard.fields.person import owner, parsed
from guard.fields.store import Stage
from guard.shop.rows import key_trouble, typed_key
from guard.shop.views import one_row, person_at

if TYPE_CHECKING:
    from guard.app import App
    from guard.fields import Fields
    from guard.shop import ShopColumn, Table

_OPAQUE = b""
"""Stands for a value that has no text to be masked by."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of the row, as it is seen."""

    column: str
    form: Form
    value: object


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as a role sees it."""

    table: str
    role: Role
    purpose: str | None
    columns: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Eyes:
    """Who looks, what for, and what says how they see."""

    policy: AccessPolicy
    catalog: Catalog
    role: Role
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class _Sight:
    """What is to be seen of which row."""

    table: Table
    key: tuple[KeyPart, ...]
    eyes: Eyes
    columns: tuple[Shown, ...]
    kept: tuple[str, ...]
    """The columns that are seen clear and are not for everybody: "Table.Column"."""

    def of_form(self, form: Form) -> tuple[str, ...]:
        return tuple(f"{self.table.name}.{each.column.name}" for each in self.columns if each.form is form)


def action_for(app: App, who: Principal, args: Mapping[str, Json]) -> Action[Seen]:
    """Return the action by which `who` sees the row: routine where it shows nothing clear that is not for everybody."""
    if args["role"] != who.role.value:
        return VIEW_AS
    return VIEW if _sight(app, args).kept else LOOK


def _plan_look(app: App, args: Mapping[str, Json]) -> Plan:
    sight = _sight(app, args)
    if sight.kept:
        raise InterlockError("this shows something in clear, which is more than a look", hint="guard access view")
    return _planned(sight, None)


def _plan_view(app: App, args: Mapping[str, Json]) -> Plan:
    sight = _sight(app, args)
    return _planned(sight, _subject(app, sight))


def _planned(sight: _Sight, subject: str | None) -> Plan:
    forms: dict[str, Json] = {f"{sight.table.name}.{each.column.name}": each.form.value for each in sight.columns}
    told = [f"{form.value}: {', '.join(names)}" for form in Form if (names := sight.of_form(form))]
    reason = f" for {sight.eyes.purpose}" if sight.eyes.purpose else ""
    lines = (f"show one row of {sight.table.name} as {sight.eyes.role.value} sees it{reason}", *told)
    return Plan(lines, {"forms": forms}, sight, subject=subject)


def _look(app: App, task: Task) -> Outcome[Seen]:
    if task.text("role") != task.who.role.value:
        raise refused(Refusal.ROLE, "a row is shown as one's own role sees it", "--as is for owners")
    return _seen(app, task)


def _view_as(app: App, task: Task) -> Outcome[Seen]:
    if task.who.role is not Role.OWNER:
        raise refused(Refusal.ROLE, "only an owner looks as another role", "without --as it is your own")
    return _seen(app, task)


def _seen(app: App, task: Task) -> Outcome[Seen]:
    sight: _Sight = task.plan.payload  # type: ignore[assignment]  # the plan put it there
    row, fields = one_row(app.shop, sight.table, sight.key), app.fields
    key = bytes.fromhex(app.digest(KEY_DOMAIN, b""))
    cells = []
    for each in sight.columns:
        value = None if each.form is Form.HIDDEN else _opened(fields, sight, each, row)
        cells.append(Cell(each.column.name, each.form, as_seen(app.shop.dialect, each, value, key)))
    role, purpose = sight.eyes.role, sight.eyes.purpose
    return Outcome(
        Seen(sight.table.name, role, purpose, tuple(cells)),
        objects=sight.kept or (sight.table.name,),
        counts={form.value: len(sight.of_form(form)) for form in Form},
        facts={"as": role.value, "purpose": purpose or "none"},
    )


def _opened(fields: Fields, sight: _Sight, seen: Shown, row: Mapping[str, object]) -> object:
    at, parts = f"{sight.table.name}.{seen.column.name}", dict(zip(sight.table.key, sight.key, strict=True))
    return fields.opener(at)([parts[name] for name in fields.key_columns(at)], row[seen.column.name])


def as_seen(dialect: str, seen: Shown, value: object, key: bytes | None) -> object:
    """Return an opened value as it is seen, by the same words as the views of the shop's database."""
    shape, category = shape_of(dialect, seen.column), seen.category
    if seen.form in {Form.CLEAR, Form.HIDDEN} or value is None:
        return mask(value, seen.form)
    if shape is Shape.OPAQUE:
        value = _OPAQUE
    elif isinstance(value, str) and seen.column.type.lower().startswith(("character(", "char(")):
        value = value.rstrip(" ")
    elif isinstance(value, str) and shape in {Shape.DAY, Shape.MOMENT} and seen.form is Form.MASKED:
        category = "date"  # MariaDB's 0000-00-00, which no driver makes a date of
    return mask(value, seen.form, category, key)


def _sight(app: App, args: Mapping[str, Json]) -> _Sight:
    """Return what is to be seen. Raises ConfigError for a row, role or purpose that there cannot be."""
    purpose = None if args.get("purpose") is None else str(args["purpose"])
    eyes = Eyes(policy_of(app), app.catalog, Role(str(args["role"])), purpose)
    _require_purpose(eyes)
    name = str(args["table"])
    table = app.fields.declared({name: app.shop.table(name)})[name]
    columns = tuple(shown(eyes, name, each) for each in table.columns)
    return _Sight(table, _key(table, args["key"]), eyes, columns, _kept(app, eyes, name, columns))


def shown(eyes: Eyes, table: str, column: ShopColumn) -> Shown:
    """Return a column of a table with the form in which it is seen."""
    known = eyes.catalog.find(f"{table}.{column.name}")
    return Shown(column, known.category if known else "", form_of(eyes.policy, known, eyes.role, eyes.purpose))


def _kept(app: App, eyes: Eyes, table: str, columns: Sequence[Shown]) -> tuple[str, ...]:
    """Return the columns that are seen clear and hold what not everybody may see: personal data, or what is sealed."""
    taxonomy, sealed = load_policy(app.policies, "taxonomy", Taxonomy), sealed_columns(app)
    clear = (eyes.catalog.find(f"{table}.{each.column.name}") for each in columns if each.form is Form.CLEAR)
    return tuple(
        each.at
        for each in clear
        if each and (each.at in sealed or (taxonomy.personal(each.category) and not is_open(eyes.policy, each)))
    )


def sealed_columns(app: App) -> frozenset[str]:
    """Return the columns that are sealed or are to be."""
    sealed = {record.column_id for record in app.fields.records() if record.stage is not Stage.PLAIN}
    columns: tuple[Column, ...] = app.catalog.column
    return frozenset(each.at for each in columns if each.id in sealed or each.protect is Protect.ENCRYPT)


def _require_purpose(eyes: Eyes) -> None:
    known = sorted({each for rule in eyes.policy.tier.values() for each in rule.purpose.of(eyes.role)})
    if eyes.purpose is not None and eyes.purpose not in known:
        there = f"they are: {', '.join(known)}" if known else f"no tier asks {eyes.role.value} for one"
        raise ConfigError(f"policies/access.toml knows no such purpose for {eyes.role.value}", hint=there)


def _key(table: Table, given: Json) -> tuple[KeyPart, ...]:
    if (trouble := key_trouble(table)) is not None:
        raise ConfigError(f"single rows of {table.name} cannot be shown: {trouble}")
    texts = [str(each) for each in given] if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(texts) != len(table.key):
        raise ConfigError(
            f"the key of {table.name} has {len(table.key)} parts, not {len(texts)}",
            hint=f"give {', '.join(table.key)}, in this order",
        )
    return tuple(parsed(table, name, text) for name, text in zip(table.key, texts, strict=True))


def _subject(app: App, sight: _Sight) -> str | None:
    """Return the pseudonym of whom the row is about; who has none gets one. None without a person, or without a vault.

    A row belongs to the nearest person that its references lead to.
    """
    tables, persons = app.shop.tables(), app.persons
    if persons is None or not app.catalog.subject:
        return None
    try:
        way = owner(tables, app.catalog, Column(at=f"{sight.table.name}.{sight.table.key[0]}"))
    except ConfigError:  # nothing leads from this table to a person
        return None
    found = person_at(app.shop, tables[sight.table.name], sight.key, way.path, way.subject.key)
    if found is None:
        return None
    about = About(way.kind, key_bytes(typed_key(tables[way.subject.table], (found,))))
    event = Event("access.view", Ending.BEGUN, GUARD, app.new_run(), Activity.DATA_READ, about=about)
    return persons.prepare((event,))[0].subject  # nothing is recorded here


def policy_of(app: App) -> AccessPolicy:
    """Return who sees what, as policies/access.toml has it now."""
    return load_policy(app.policies, "access", AccessPolicy)


LOOK: Action[Seen] = Action("access.look", Level.ROUTINE, Activity.DATA_READ, _look, _plan_look)
"""Shows a row in which nothing is clear but what is everybody's."""

VIEW: Action[Seen] = Action("access.view", Level.PRIVILEGED, Activity.DATA_READ, _look, _plan_view, reads=True)
"""Shows a row with something of a person's in clear, to whose role that is clear."""

VIEW_AS: Action[Seen] = Action("access.view-as", Level.PRIVILEGED, Activity.DATA_READ, _view_as, _plan_view, reads=True)
"""Shows an owner a row as another role sees it."""
