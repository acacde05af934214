"""A database for the demo: one that is given, a file, or a server that runs for the demo alone."""

from __future__ import annotations

import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.engine import URL, make_url

from deploy.output import CommandError

VARIABLE = "GEARSYNC_DEMO_URL"
TARGETS = ("sqlite", "postgres", "mysql")
START_SECONDS = 60.0
STOP_SECONDS = 30.0

_BACKENDS = {"sqlite": ("sqlite",), "postgres": ("postgresql",), "mysql": ("mysql", "mariadb")}
_PLACES = {
    "postgres": (
        "postgres",
        "/usr/lib/postgresql/*/bin/postgres",
        "/opt/homebrew/opt/postgresql*/bin/postgres",
    ),
    "mysql": ("mariadbd", "mysqld", "/usr/sbin/mariadbd", "/usr/sbin/mysqld", "/usr/libexec/mysqld"),
}
_PACKAGES = {"postgres": "postgresql", "mysql": "mariadb-server"}


class Database(NamedTuple):
    """Where the demo's table is. ``title`` says what it is, without a password."""

    url: URL
    title: str


@contextmanager
def opened(target: str, folder: str) -> Iterator[Database]:
    """Give a database of the kind ``target`` for as long as the block; ``folder`` holds SQLite's file."""
    given = os.environ.get(VARIABLE)
    if given:
        yield _given(target, given)
    elif target == "sqlite":
        path = os.path.join(folder, "reporting.db")
        yield Database(make_url(f"sqlite:///{path}"), f"SQLite, {os.path.relpath(path)}")
    else:
        with _local(target) as database:
            yield database


def driver_url(url: URL) -> URL:
    """Return the URL with the driver that gearsync brings, as a target's own URL gets it."""
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
    return url.set(drivername=drivers.get(url.drivername, url.drivername))


def _given(target: str, text: str) -> Database:
    try:
        url = driver_url(make_url(text))
    except sqlalchemy.exc.ArgumentError as error:
        raise CommandError(
            f"{VARIABLE} is no database URL.", "postgresql://user:password@host/database"
        ) from error
    if url.get_backend_name() not in _BACKENDS[target]:
        raise CommandError(
            f"{VARIABLE} is the URL of another kind of database than --target {target}.",
            f"give --target the kind it is, or unset {VARIABLE}.",
        )
    return Database(url, f"{url.get_backend_name()} of {VARIABLE}")


# -- A server of our own -----------------------------------------------------------------------------------


@contextmanager
def _local(target: str) -> Iterator[Database]:
    program = _find(target)
    # Its own folder, directly under the system's: the path of a socket can't be long.
    folder = tempfile.mkdtemp(prefix="gearsync-demo-")
    account = _account("postgres" if target == "postgres" else "mysql")
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        server = (_Postgres if target == "postgres" else _MySQL)(program, folder, account)
        with server.running() as database:
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find(target: str) -> str:
    for place in _PLACES[target]:
        found = sorted(glob.glob(place)) if os.path.isabs(place) else [shutil.which(place) or ""]
        if found and found[-1]:
            return found[-1]
    raise CommandError(
        f"there is no {target} server on this machine.",
        f"install one (apt-get install {_PACKAGES[target]}; it need not run), "
        f"or give {VARIABLE} the URL of a database.",
    )


def _account(name: str) -> pwd.struct_passwd | None:
    """Return the account to run a database server as: it refuses to run as root; None: as we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise CommandError(f"the database can't run as root, and there is no user {name}.") from error


class _Server:
    """A database server on a free port, with a password of its own."""

    title = ""

    def __init__(self, program: str, folder: str, account: pwd.struct_passwd | None) -> None:
        self.program = program
        self.folder = folder
        self.password = secrets.token_hex(16)
        self.port = free_port()
        # At its start MariaDB deletes what looks like a temporary table in the folder for these, which else
        # is the one of other servers that run here.
        self._process: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "TMPDIR": folder}}
        self._account = account
        if account is not None:
            self._process.update(user=account.pw_uid, group=account.pw_gid, extra_groups=[])

    def url(self) -> URL:
        raise NotImplementedError

    def prepare(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[Database]:
        self.prepare()
        log_path = os.path.join(self.folder, "server.log")
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._process,
            )
        try:
            self._wait_until_ready(process, log_path)
            yield Database(self.url(), f"{self.title}, {self.program} for this demo alone")
        finally:
            # SIGINT is PostgreSQL's fast shutdown; MariaDB and MySQL want SIGTERM.
            process.send_signal(signal.SIGINT if self.title == "PostgreSQL" else signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._process)
        if done.returncode != 0:
            raise CommandError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def write(self, name: str, text: str) -> str:
        """Write a file that only the server's user can read."""
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        return path

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_path: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        engine = sqlalchemy.create_engine(self.url(), poolclass=sqlalchemy.NullPool)
        while True:
            try:
                engine.connect().close()
                return
            except sqlalchemy.exc.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    with open(log_path, encoding="utf-8", errors="replace") as log:
                        raise CommandError(
                            f"{self.program} did not start: {log.read()[-800:].strip()}"
                        ) from error
            time.sleep(0.05)


class _Postgres(_Server):
    title = "PostgreSQL"

    def url(self) -> URL:
        return URL.create("postgresql+psycopg", "gearsync", self.password, "127.0.0.1", self.port, "postgres")

    def prepare(self) -> None:
        initdb = os.path.join(os.path.dirname(self.program), "initdb")
        secret = self.write("password", self.password)
        data = os.path.join(self.folder, "data")
        options = ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-locale"]
        self.run([initdb, "-D", data, "-U", "gearsync", *options])

    def command(self) -> list[str]:
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
        ]
        pairs = [word for setting in settings for word in ("-c", setting)]
        return [self.program, "-D", os.path.join(self.folder, "data"), *pairs]


class _MySQL(_Server):
    title = "MySQL or MariaDB"

    def url(self) -> URL:
        return URL.create("mysql+pymysql", "gearsync", self.password, "127.0.0.1", self.port, "gearsync")

    def prepare(self) -> None:
        self.write(
            "init.sql",
            "CREATE DATABASE IF NOT EXISTS gearsync CHARACTER SET utf8mb4;\n"
            f"CREATE USER IF NOT EXISTS gearsync@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON gearsync.* TO gearsync@'127.0.0.1';\n",
        )
        data = "--datadir=" + os.path.join(self.folder, "data")
        install = shutil.which("mariadb-install-db")
        if install is not None and "maria" in os.path.basename(os.path.realpath(self.program)):
            self.run(
                [install, "--no-defaults", data, "--skip-test-db", "--auth-root-authentication-method=normal"]
            )
        else:
            self.run([self.program, "--no-defaults", "--initialize-insecure", data])

    def command(self) -> list[str]:
        def inside(option: str, name: str) -> str:
            return f"--{option}={os.path.join(self.folder, name)}"

        files = [inside("datadir", "data"), inside("socket", "s"), inside("pid-file", "pid")]
        network = [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        return [self.program, "--no-defaults", *files, *network, inside("init-file", "init.sql")]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
