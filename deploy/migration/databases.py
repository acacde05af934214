"""Which database a recipe's connector writes to, as the target of a function; never its password."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from connectors.rgsync import RgsyncConnector
from deploy.migration import standins
from deploy.variables import masked, variable_of

#: What gearsync writes to, for sentences.
DATABASES = "PostgreSQL, MySQL, MariaDB and SQLite"


class Untranslated(Exception):
    """A declaration has no counterpart; the message says why, as the second half of a sentence."""


class Database(NamedTuple):
    """The target of a function. ``url`` is the form of what the variable has to hold; its password is ***."""

    reference: str
    name: str
    schema: str | None = None
    url: str = ""


class Place(NamedTuple):
    """Where rows go."""

    database: Database
    table: str
    primary_key: str
    folds: bool
    """Whether the recipe's SQL had names in lower case, because it did not quote them."""


class Databases:
    """The databases of one recipe; each has one variable, however many connections name it."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}

    def place(self, connector: Any) -> Place:
        """Return where ``connector`` writes to. Raises Untranslated."""
        if type(connector) is RgsyncConnector:
            target = connector.target
            database = Database(target.reference, target.name, target.schema)
            return Place(database, connector.table, connector.primary_key, False)
        kind = type(connector)
        if kind not in standins.CONNECTORS.values() or kind is standins.BaseSqlConnector:
            raise Untranslated(f"its connector, {kind.__name__}, is the recipe's own or none of rgsync's")
        if not kind.dialect:
            raise Untranslated(
                f"gearsync has no connector for {kind.database} ({kind.__name__}); it writes to {DATABASES}"
            )
        connection = connector.connection
        if type(connection) not in standins.CONNECTORS.values() or connection.dialect != kind.dialect:
            raise Untranslated(f"its {kind.__name__} has a {type(connection).__name__}")
        schema, table, folds = _table(connector.tableName, kind.dialect)
        if not isinstance(connector.pk, str) or not connector.pk:
            raise Untranslated(f"the column of its primary key is called {connector.pk!r}")
        key = connector.pk.lower() if folds else connector.pk
        return Place(self._database(connection, schema), table, key, folds)

    def _database(self, connection: Any, schema: str | None) -> Database:
        url = _url(connection)
        shown = masked(url)
        variable = self._variables.get(shown)
        if variable is None:
            variable = self._new_variable(url.database or "")
            self._variables[shown] = variable
        name = variable.lower()
        if schema is not None:
            name = f"{name.removesuffix('_url')}_{schema}"
        return Database(f"env:{variable}", re.sub("[^A-Za-z0-9_-]", "_", name)[:64], schema, shown)

    def _new_variable(self, database: str) -> str:
        first = variable_of(database)
        number = 1
        while True:
            variable = first if number == 1 else re.sub("(_DB)?_URL$", rf"_{number}\g<0>", first)
            if variable not in self._variables.values():
                return variable
            number += 1


def _url(connection: Any) -> URL:
    if isinstance(connection, standins.SQLiteConnection):
        path = _text(connection.filePath)
        if not path:
            raise Untranslated("the path of its SQLite file can't be told from the recipe alone")
        return URL.create("sqlite", database="/" + path.lstrip("/"))
    where = _text(connection.db) or "HOST/DATABASE"
    try:
        url = make_url(f"{connection.dialect}://{where}")
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise Untranslated("its connection is no address of a database as host:port/database") from None
    # A password may stand behind the user as well, for rgsync only joins the parts.
    user = (_text(connection.user) or "USER").partition(":")[0]
    # The recipe's is never looked at: this one is masked when the URL is shown.
    return url.set(username=user, password="password")  # noqa: S106 (none)


def _text(value: Any) -> str:
    """Return what a connection was given, which may be a function that reads it; empty: it can't tell."""
    if callable(value):
        try:
            value = value()
        except Exception:
            return ""
    return value if isinstance(value, str) else ""


def _table(name: Any, dialect: str) -> tuple[str | None, str, bool]:
    """Return schema, table, and whether names that are not quoted are folded to lower case."""
    if not isinstance(name, str) or not name:
        raise Untranslated(f"its table is called {name!r}")
    parts = re.findall(r'"[^"]+"|`[^`]+`|[^.]+', name)
    if len(parts) > 2 or ".".join(parts) != name:
        raise Untranslated(f"its table, {name}, is not written as table or schema.table")
    folds = dialect == "postgresql"
    names = [each[1:-1] if each[0] in '"`' else each.lower() if folds else each for each in parts]
    return (names[0] if len(names) == 2 else None), names[-1], folds
