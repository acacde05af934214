"""Redis and databases by TLS: the command line, the workers, and what is said of a refused certificate."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from connectors import connect as connect_database
from connectors.errors import Unavailable
from deploy.reaching import shards
from deploy.reaching.server_errors import ShardError
from tests.cluster import Cluster
from tests.conftest import Database, chosen
from tests.integration.command import Process, gearsync, until
from tests.integration.deploying import ROOT, write
from tests.sanitizers import module_path
from tests.servers import PostgresServer, ServerError
from tests.tls import NO_TLS, Certificates, TlsMariaDB, TlsRedis, TlsSentinel, postgres_with_tls

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="{name}", worker="{worker}")
WriteBehind(keys="{name}:{{id}}", table="persons", columns=["name"], target=Target("{database}"))
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    # A space and a plus sign: the URL that a worker gets must stand them.
    return Certificates(tmp_path_factory.mktemp("a folder+"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[TlsRedis]:
    with pytest.MonkeyPatch.context() as patch:
        # Workers that Redis starts find this code by it.
        patch.setenv("PYTHONPATH", str(ROOT))
        server = make(certificates)
        try:
            server.start()
        except ServerError as error:
            if any(sign in str(error) for sign in NO_TLS):
                pytest.skip("this Redis was built without TLS")
            raise
        yield server
        server.stop()


def make(certificates: Certificates, *options: str) -> TlsRedis:
    arguments = ["PYTHON", sys.executable]
    return TlsRedis(certificates, *options, module=module_path(), module_arguments=arguments)


class World:
    """A SQLite database, and functions on a Redis."""

    def __init__(self, folder: Path, url: str, name: str, worker: str = "supervised") -> None:
        self.path, self.url = folder / "reporting.db", url
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE persons (id INTEGER PRIMARY KEY, name TEXT)")
        connection.close()
        text = FUNCTIONS.format(name=name, worker=worker, database=f"sqlite:///{self.path}")
        done = gearsync("deploy", write(folder, text), "--timeout", "30", GEARSYNC_REDIS=url)
        assert done.returncode == 0, done.stderr

    def count(self) -> int:
        connection = sqlite3.connect(self.path)
        try:
            return int(connection.execute("SELECT count(*) FROM persons").fetchone()[0])
        finally:
            connection.close()


def test_a_supervised_worker_comes_by_tls_with_a_certificate(tmp_path: Path, server: TlsRedis) -> None:
    world = World(tmp_path, server.url, "inside")
    with server.client() as client:
        client.hset("inside:1", "name", "Ann")
        until(lambda: world.count() == 1, 30)


def test_an_external_worker_comes_by_tls_through_a_sentinel(tmp_path: Path, server: TlsRedis) -> None:
    with TlsSentinel(server.certificates, server.port) as sentinel:
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main?{server.certificates.options()}"
        world = World(tmp_path, url, "outside", "external")
        worker = Process(tmp_path / "worker.log", "worker", "--deployment", "outside", GEARSYNC_REDIS=url)
        try:
            with server.client() as client:
                client.hset("outside:1", "name", "Ann")
                until(lambda: world.count() == 1, 30)
        finally:
            worker.end()
        refused = gearsync("status", GEARSYNC_REDIS=url.split("?")[0])
    assert "certificate that is refused: self-signed certificate" in refused.stderr


def test_a_cluster_by_tls(tmp_path: Path, server: TlsRedis) -> None:
    with Cluster(partial(make, server.certificates), primaries=2) as cluster:
        world = World(tmp_path, cluster.url, "people")
        for number in range(8):
            cluster.clients[cluster.owner(f"people:{number}")].hset(f"people:{number}", "name", "Ann")
        until(lambda: world.count() == 8, 30)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            "ssl_ca_certs={other}&ssl_certfile={cert}&ssl_keyfile={key}",
            "has a certificate that is refused: self-",
        ),
        ("ssl_ca_certs={ca}", "refused the TLS session"),
        ("ssl_ca_certs={ca}.not", "a file of the URL can't be read: No such file"),
        ("ssl_ca_certs={key}", "a file of the URL is no certificate or key that fits"),
        ("ssl_ca_cert={ca}", "does not take (did you mean ssl_ca_certs?)"),
    ],
)
def test_what_is_said_when_there_is_no_session(server: TlsRedis, options: str, told: str) -> None:
    own = server.certificates
    names = {"other": own.other, "ca": own.authority, "cert": own.client_certificate, "key": own.client_key}
    query = options.format(**{name: quote(str(path)) for name, path in names.items()})
    with pytest.raises(ShardError) as raised:
        shards.connect(f"rediss://user:s3cret@127.0.0.1:{server.port}?{query}")
    assert told in str(raised.value)
    assert "s3cret" not in f"{raised.value} {raised.value.hint}"


def test_a_client_without_tls_is_told_of_it(server: TlsRedis) -> None:
    with pytest.raises(ShardError) as raised:
        shards.connect(f"redis://127.0.0.1:{server.port}")
    assert "a port of TLS needs rediss://" in str(raised.value.hint)


def check_database(url: str, trusted: str, untrusted: str, question: str) -> None:
    connector = connect_database(f"{url}?{trusted}")
    with connector.transaction() as connection:
        assert connection.exec_driver_sql(question).fetchone()
    connector.close()
    connector = connect_database(f"{url}?{untrusted}".replace("@", ":s3cret@", 1))
    with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed") as raised:
        with connector.transaction():
            pass
    assert "s3cret" not in str(raised.value)
    connector.close()


def test_postgres_by_tls(postgres: Database, certificates: Certificates) -> None:
    if not isinstance(postgres, PostgresServer):
        pytest.skip("only a PostgreSQL of this machine can be given certificates")
    with postgres_with_tls(postgres, certificates) as url:
        check_database(
            url,
            f"sslmode=verify-full&sslrootcert={quote(str(certificates.authority))}",
            f"sslmode=verify-full&sslrootcert={quote(str(certificates.other))}",
            "SELECT 1 FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl",
        )


def test_mariadb_by_tls(certificates: Certificates) -> None:
    if chosen("mariadb").source != "binary":
        pytest.skip("only a MariaDB of this machine can be given certificates")
    server = TlsMariaDB(chosen("mariadb").value)
    server.certificates = certificates
    with server:
        check_database(
            server.url(),
            f"ssl_ca={quote(str(certificates.authority))}",
            f"ssl_ca={quote(str(certificates.other))}",
            "SELECT 1 FROM information_schema.session_status "
            "WHERE variable_name = 'Ssl_cipher' AND variable_value <> ''",
        )
