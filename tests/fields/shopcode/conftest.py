"""A shop's own code on each database, and its columns put into any stage without a sweep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import DeclarativeBase, Session

from guard.clock import SteppedClock
from guard.config import Catalog, Column, Protect, Subject
from guard.crypto.keyring import Keyring
from guard.crypto.subjects import SubjectKeys
from guard.events import Event, PrincipalId
from guard.fields import Fields, Pace, store
from guard.fields.cells import Keys
from guard.fields.column import FieldKeys, protect
from guard.fields.keys import Given
from guard.fields.kinds import form_of, kind_of
from guard.fields.store import Bind, Filling, IndexRecord, Record, Stage
from guard.fields.value import purpose
from guard.shop import Shop, alter
from guard.shop.names import token_column
from guard.state import State

ALL = ("sqlite", "postgresql", "mysql")


@dataclass
class Kiosk:
    """A shop's database, its engine, its keys, and guard's state beside it."""

    url: str
    engine: Engine
    state: State
    keyring: Keyring
    clock: SteppedClock
    columns: dict[str, Column] = field(default_factory=dict)
    persons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    persons_of: Callable[[str], tuple[str, ...]] | None = None
    subjects: SubjectKeys | None = None

    told: list[Event] = field(default_factory=list)
    """What the ledger was told."""

    def __post_init__(self) -> None:
        self.state.attach(lambda _, events: self.told.extend(events))
        self.keys = FieldKeys(self.given)

    def given(self) -> Given:
        return Given(
            self.state,
            self.keyring,
            self.clock,
            PrincipalId("s-shop"),
            self.catalog,
            self.state.write,
            self.cells,
            lambda at: self.persons_of(at) if self.persons_of else self.persons[at],
        )

    def catalog(self) -> Catalog:
        people = {"customer": Subject(table="customer", key="id")}
        return Catalog(subject=people, column=tuple(self.columns.values()))

    def cells(self) -> Keys:
        return Keys(self.state.store_id, self.keyring, self.dialect, subjects=self.subjects)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    shops: list[Shop] = field(default_factory=list)

    @property
    def shop(self) -> Shop:
        self.shops.append(Shop.connect(self.url))
        return self.shops[-1]

    def close(self) -> None:
        for each in self.shops:
            each.close()

    def fields(self, pace: Pace | None = None) -> Fields:
        """The room, as guard's own process has it."""
        guard = Fields(self.shop, self.catalog(), self.keyring, self.state, self.clock, tuple, pace or Pace())
        return replace(guard, subjects=self.subjects)

    def column(self, at: str, *, bind: Bind = "row", index: str | None = None, tight: bool = False) -> Column:
        """List a column in the catalog."""
        made = Column(at=at, id=len(self.columns) + 1, protect=Protect.ENCRYPT, bind=bind, index=index, tight=tight)
        self.columns[at] = made
        return made

    def protect(self, class_: type, *names: str, **options: object) -> None:
        """List columns in the catalog, and protect them in the shop's code."""
        for name in names:
            self.column(f"{class_.__tablename__}.{name}", **options)
        protect(class_, self.keys, *names)

    def create(self, base: type[DeclarativeBase]) -> None:
        base.metadata.create_all(self.engine)

    def session(self) -> Session:
        return Session(self.engine)

    def stage(self, stage: Stage, *names: str) -> None:
        """Bring columns into a stage, as guard's sweeps do: types widened, tokens there, state told."""
        for at in names or self.columns:
            self._stage(stage, self.columns[at])
        self.clock.step(timedelta(seconds=2))

    def _stage(self, stage: Stage, column: Column) -> None:
        shop = self.shop
        table = shop.table(column.table)
        found = table.column(column.name)
        key = self.keyring.ensure(purpose(column.id, tight=column.tight))
        with self.state.read() as tx:
            known = store.find(tx, column.id)
        record = known or Record(
            column.id, column.at, stage, column.bind, table.key, alter.original(shop, table, column.name), key.id,
            self.clock.now(), form=form_of(shop.dialect, found), kind=kind_of(shop.dialect, found), tight=column.tight,
        )  # fmt: skip
        if stage.seals:
            alter.widen(shop, table, column.name, 400)
        if column.index and stage is not Stage.PLAIN:
            self.token(column, 1, Filling.READY)
        self.state.write(lambda tx: store.keep(tx, replace(record, stage=stage)))

    def token(self, column: Column, version: int, stage: Filling, *, unique: bool = True, size: int = 16) -> None:
        """Add a token column, or bring one to another stage."""
        name = token_column(column.name, version)
        shop = self.shop
        table = shop.table(column.table)
        alter.add_token(shop, table, name)
        if stage is Filling.READY:
            alter.index_token(shop, table, name, unique=unique)
        key = self.keyring.ensure(f"index/{column.id}/{column.index}")
        made = IndexRecord(column.id, version, name, key.id, str(column.index), size, unique, stage)
        self.state.write(lambda tx: store.keep_index(tx, made))
        self.clock.step(timedelta(seconds=2))

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Ask the database past guard."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def sql(self, statement: str) -> None:
        """Write past guard."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture
def keyring(state: State) -> Keyring:
    return Keyring.create(state, bytes(range(32)), None)


@pytest.fixture
def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Engine]]:
    """Open an empty database of a kind."""
    made: list[Engine] = []

    def engine(kind: str) -> Engine:
        if kind == "sqlite":
            path = tmp_path_factory.mktemp("shop") / "shop.db"
            path.touch()
            url = make_url(f"sqlite:///{path}")
        else:
            url = make_url(request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[kind]))
            url = url.set(drivername={"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}[kind])
        made.append(sa.create_engine(url))
        return made[-1]

    yield engine
    for each in made:
        each.dispose()


@pytest.fixture
def make(
    engines: Callable[[str], Engine], state: State, keyring: Keyring, clock: SteppedClock
) -> Iterator[Callable[[str], Kiosk]]:
    made: list[Kiosk] = []

    def kiosk(kind: str) -> Kiosk:
        engine = engines(kind)
        made.append(Kiosk(engine.url.render_as_string(hide_password=False), engine, state, keyring, clock))
        return made[-1]

    yield kiosk
    for each in made:
        each.close()


@pytest.fixture(params=ALL)
def kiosk(request: pytest.FixtureRequest, make: Callable[[str], Kiosk]) -> Kiosk:
    """A shop on each database."""
    return make(request.param)


@pytest.fixture
def lite(make: Callable[[str], Kiosk]) -> Kiosk:
    """A shop on SQLite."""
    return make("sqlite")
