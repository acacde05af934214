"""What a recipe finds in place of rgsync 1.2 and RedisGears: the same names, which only take notes."""

from __future__ import annotations

import contextvars
import sys
import types
from collections.abc import Sequence
from typing import Any, Callable, ClassVar, NoReturn

from deploy.output import CommandError


class Default:
    """An argument that the recipe has not given."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()


class Call:
    """One declaration of the recipe: which of rgsync's classes, where, and with what."""

    def __init__(
        self, kind: str, prefix: Any, mappings: Any, connector: Any, name: Any, **options: Any
    ) -> None:
        self.kind = kind
        self.prefix = prefix
        self.mappings = mappings
        self.connector = connector
        self.name = name
        #: What was given beside that, by rgsync's names.
        self.options = {option: value for option, value in options.items() if value is not DEFAULT}
        self.line = current().line()
        current().calls.append(self)


class Recording:
    """What one run of the recipe at ``path`` has declared."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls: list[Call] = []
        #: The recipe's own functions of RedisGears, each as ``GB('StreamReader').register (line 7)``.
        self.own: list[str] = []
        self.secrets: set[str] = set()

    def line(self) -> int:
        """Return the line of the recipe that runs now; 0: none does."""
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self.path:
            frame = frame.f_back
        return 0 if frame is None else frame.f_lineno

    def without_secrets(self, text: str) -> str:
        """Return ``text`` with every password of the recipe masked."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


_recording: contextvars.ContextVar[Recording] = contextvars.ContextVar("recording")


def current() -> Recording:
    """Return the recording under way."""
    return _recording.get()


def begin(recording: Recording) -> contextvars.Token[Recording]:
    """Record into ``recording`` until ``end``."""
    return _recording.set(recording)


def end(token: contextvars.Token[Recording]) -> None:
    """End what ``begin`` began."""
    _recording.reset(token)


# -- rgsync's functions --------------------------------------------------------------------------------------


class RGWriteBehind:
    """Hashes to rows, behind the write."""

    def __init__(
        self,
        GB: Any,
        keysPrefix: Any,
        mappings: Any,
        connector: Any,
        name: Any,
        version: Any = None,
        onFailedRetryInterval: Any = DEFAULT,
        batch: Any = DEFAULT,
        duration: Any = DEFAULT,
        transform: Any = DEFAULT,
        eventTypes: Any = DEFAULT,
    ) -> None:
        options = {"onFailedRetryInterval": onFailedRetryInterval, "batch": batch, "duration": duration}
        options.update(transform=transform, eventTypes=eventTypes)
        Call("RGWriteBehind", keysPrefix, mappings, connector, name, **options)


class RGWriteThrough:
    """Hashes to rows, before the client has its reply."""

    def __init__(
        self, GB: Any, keysPrefix: Any, mappings: Any, connector: Any, name: Any, version: Any = None
    ) -> None:
        Call("RGWriteThrough", keysPrefix, mappings, connector, name)


class RGJSONWriteBehind:
    """Documents to rows or documents, behind the write."""

    def __init__(
        self, GB: Any, keysPrefix: Any, connector: Any, name: Any, *options: Any, **named: Any
    ) -> None:
        Call("RGJSONWriteBehind", keysPrefix, {}, connector, name)


class RGJSONWriteThrough:
    """Documents to rows or documents, before the client has its reply."""

    def __init__(
        self, GB: Any, keysPrefix: Any, connector: Any, name: Any, *options: Any, **named: Any
    ) -> None:
        Call("RGJSONWriteThrough", keysPrefix, {}, connector, name)


# -- Its connections and connectors --------------------------------------------------------------------------


class Connection:
    """A connection; ``dialect`` is SQLAlchemy's name of a database that gearsync writes to, else empty."""

    dialect = ""
    #: Where a password may stand among the arguments that have no name.
    password_at = 1

    def __init__(self, *arguments: Any, **named: Any) -> None:
        given = [*arguments[self.password_at : self.password_at + 1]]
        given += [named.get(name) for name in ("passwd", "password", "conn_string")]
        current().secrets.update(each for each in given if isinstance(each, str) and each)


class BaseSqlConnection(Connection):
    """What connections to servers of SQL have in common."""

    def __init__(self, user: Any, passwd: Any, db: Any) -> None:
        super().__init__(user, passwd, db)
        self.user = user
        self.passwd = passwd
        self.db = db


class MySqlConnection(BaseSqlConnection):
    """To MySQL or MariaDB."""

    dialect = "mysql"


class PostgresConnection(BaseSqlConnection):
    """To PostgreSQL."""

    dialect = "postgresql"


class SQLiteConnection(Connection):
    """To a file of SQLite."""

    dialect = "sqlite"

    def __init__(self, filePath: Any) -> None:
        super().__init__()
        self.filePath = filePath


class RedisConnection(Connection):
    """To another Redis."""

    password_at = 2


class RedisClusterConnection(Connection):
    """To another cluster of Redis."""

    password_at = 3


class Connector:
    """A connector; ``database`` is what people call the database, ``dialect`` as in Connection."""

    database = ""
    dialect = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass


class BaseSqlConnector(Connector):
    """Writes rows of one table; ``pk`` is its primary key."""

    def __init__(self, connection: Any, tableName: Any, pk: Any, exactlyOnceTableName: Any = None) -> None:
        super().__init__()
        self.connection = connection
        self.tableName = tableName
        self.pk = pk
        self.exactlyOnceTableName = exactlyOnceTableName


class MySqlConnector(BaseSqlConnector):
    """Writes to MySQL or MariaDB."""

    database = "MySQL"
    dialect = "mysql"


class PostgresConnector(BaseSqlConnector):
    """Writes to PostgreSQL."""

    database = "PostgreSQL"
    dialect = "postgresql"


class SQLiteConnector(BaseSqlConnector):
    """Writes to a file of SQLite."""

    database = "SQLite"
    dialect = "sqlite"


def _connection(name: str) -> type[Connection]:
    return type(name, (Connection,), {})


def _connector(name: str, database: str) -> type[Connector]:
    return type(name, (Connector,), {"database": database})


FUNCTIONS: dict[str, Any] = {
    each.__name__: each for each in (RGWriteBehind, RGWriteThrough, RGJSONWriteBehind, RGJSONWriteThrough)
}
SQL: dict[str, Any] = {
    "BaseSqlConnection": BaseSqlConnection,
    "BaseSqlConnector": BaseSqlConnector,
    **{each.__name__: each for each in (MySqlConnection, PostgresConnection, SQLiteConnection)},
    **{each.__name__: each for each in (MySqlConnector, PostgresConnector, SQLiteConnector)},
    **{
        name: _connection(name)
        for name in ("DB2Connection", "MsSqlConnection", "OracleSqlConnection", "SnowflakeSqlConnection")
    },
    "DB2Connector": _connector("DB2Connector", "DB2"),
    "MsSqlConnector": _connector("MsSqlConnector", "SQL Server"),
    "OracleSqlConnector": _connector("OracleSqlConnector", "Oracle"),
    "SnowflakeSqlConnector": _connector("SnowflakeSqlConnector", "Snowflake"),
}
CASSANDRA: dict[str, Any] = {
    "CqlConnection": _connection("CqlConnection"),
    "CqlConnector": _connector("CqlConnector", "Cassandra"),
}
MONGO: dict[str, Any] = {
    "MongoConnection": _connection("MongoConnection"),
    "MongoConnector": _connector("MongoConnector", "MongoDB"),
}
REDIS: dict[str, Any] = {
    "RedisConnection": RedisConnection,
    "RedisClusterConnection": RedisClusterConnection,
    "RedisConnector": _connector("RedisConnector", "Redis"),
}
SIMPLE: dict[str, Any] = {"SimpleHashConnector": _connector("SimpleHashConnector", "Redis")}
CONNECTORS = {**SQL, **CASSANDRA, **MONGO, **REDIS, **SIMPLE}


# -- RedisGears ----------------------------------------------------------------------------------------------


class Builder:
    """Takes the steps of the recipe's own functions, and notes it when one is registered or run."""

    def __init__(self, reader: Any = "KeysReader", *arguments: Any, **named: Any) -> None:
        self._reader = reader

    def __getattr__(self, step: str) -> Callable[..., Builder]:
        if step.startswith("_"):
            raise AttributeError(step)

        def take(*arguments: Any, **named: Any) -> Builder:
            if step in ("run", "register"):
                recording = current()
                recording.own.append(f"GB({self._reader!r}).{step} (line {recording.line()})")
            return self

        return take


def _log(*arguments: Any, **named: Any) -> None:
    pass


def _unset(name: Any) -> None:
    """No configuration is set."""


def _default(name: Any, default: Any = None) -> Any:
    return default


def _hash_tag() -> None:
    """There is no shard."""


def _refuse(name: str) -> Callable[..., NoReturn]:
    def call(*arguments: Any, **named: Any) -> NoReturn:
        recording = current()
        raise CommandError(
            f"{recording.path}:{recording.line()}: the recipe calls {name} of RedisGears itself, and there "
            "is no RedisGears here to answer.",
            "leave in a copy of the recipe what declares to rgsync, and migrate that.",
        )

    return call


#: What works in Redis, or only while a function runs.
_REFUSED: Sequence[str] = ("atomic", "callNext", "executeCommand", "flatError", "gearsFuture", "getCommand")
_REFUSED = (*_REFUSED, "isAsyncAllow", "overrideReply", "registerTimeEvent")

#: The names that RedisGears gives a script beside its module.
SCRIPT_NAMES: dict[str, Any] = {
    "GB": Builder,
    "GearsBuilder": Builder,
    "log": _log,
    "configGet": _unset,
    "gearsConfigGet": _default,
    "hashtag": _hash_tag,
    **{name: _refuse(name) for name in ("execute", "call_next", "runCoroutine", *_REFUSED)},
}
REDISGEARS: dict[str, Any] = {
    "log": _log,
    "config_get": _unset,
    "getMyHashTag": _hash_tag,
    **{name: _refuse(name) for name in _REFUSED},
}


class Modules:
    """Has the stand-ins imported in place of the real modules, for the time of its ``with`` block."""

    NAMES: ClassVar[dict[str, dict[str, Any]]] = {
        "redisgears": REDISGEARS,
        "rgsync": FUNCTIONS,
        "rgsync.redis_gears_write_behind": FUNCTIONS,
        "rgsync.common": {"WriteBehindLog": _log, "WriteBehindDebug": _log},
        "rgsync.Connectors": CONNECTORS,
        "rgsync.Connectors.sql_connectors": SQL,
        "rgsync.Connectors.cql_connector": CASSANDRA,
        "rgsync.Connectors.mongo_connector": MONGO,
        "rgsync.Connectors.redis_connector": REDIS,
        "rgsync.Connectors.simple_hash_connector": SIMPLE,
    }

    def __enter__(self) -> None:
        self._hidden = {name: sys.modules.pop(name) for name in _loaded()}
        for name, contents in self.NAMES.items():
            module = types.ModuleType(name)
            module.__dict__.update(contents)
            module.__all__ = list(contents)  # type: ignore[attr-defined]
            module.__path__ = []
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)

    def __exit__(self, *error: object) -> None:
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(self._hidden)


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] in ("rgsync", "redisgears")]
