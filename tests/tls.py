"""Servers that are reached by TLS, and certificates for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
import trustme

from tests.servers import MariaDBServer, PostgresServer, RedisServer, run_sql

NO_TLS = ("Bad directive", "Failed finding TLS support")
"""What a Redis logs that was built without TLS: up to 7.0, and newer ones."""


class Certificates:
    """An authority, a certificate for 127.0.0.1 and localhost, one for clients, and an authority that nobody
    knows: files in ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        authority, other = trustme.CA(), trustme.CA()
        self.authority, self.other = folder / "ca.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        other.cert_pem.write_to_path(str(self.other))
        self.certificate, self.key = _write(folder, "server", authority.issue_cert("127.0.0.1", "localhost"))
        self.client_certificate, self.client_key = _write(
            folder, "client", authority.issue_cert("worker@here")
        )

    def options(self) -> str:
        """Return what stands in a Redis URL behind the question mark."""
        names = {"ca_certs": self.authority, "certfile": self.client_certificate, "keyfile": self.client_key}
        return "&".join(f"ssl_{name}={quote(str(path))}" for name, path in names.items())


def _write(folder: Path, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return certificate, key


class TlsRedis(RedisServer):
    """A Redis whose only port is of TLS, and which asks clients for a certificate."""

    def __init__(self, certificates: Certificates, *options: str, **settings: Any) -> None:
        super().__init__(*options, **settings)
        self.certificates = certificates

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}?{self.certificates.options()}"

    def client(self, **options: Any) -> redis.Redis:
        own = self.certificates
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            ssl=True,
            ssl_ca_certs=str(own.authority),
            ssl_certfile=str(own.client_certificate),
            ssl_keyfile=str(own.client_key),
            **options,
        )

    def _command(self) -> list[str]:
        own = self.certificates
        command = super()._command()
        command[command.index("--port") : command.index("--port") + 2] = [
            *(
                "--port",
                "0",
                "--tls-port",
                str(self.port),
                "--tls-replication",
                "yes",
                "--tls-cluster",
                "yes",
            ),
            *("--tls-cert-file", str(own.certificate), "--tls-key-file", str(own.key)),
            *("--tls-ca-cert-file", str(own.authority)),
        ]
        return command


class TlsSentinel(TlsRedis):
    """A sentinel that is reached by TLS, and that watches a Redis of ``port`` as ``main``."""

    name = "sentinel"

    def __init__(self, certificates: Certificates, watched: int) -> None:
        super().__init__(certificates)
        self.watched = watched

    def _prepare(self) -> None:
        (self.directory / "sentinel.conf").write_text(f"sentinel monitor main 127.0.0.1 {self.watched} 1\n")

    def _command(self) -> list[str]:
        command = super()._command()
        del command[command.index("--save") :]
        tls = command[1:]
        tls[tls.index("--tls-cluster") : tls.index("--tls-cluster") + 2] = []
        return [self.binary, str(self.directory / "sentinel.conf"), "--sentinel", *tls]


@contextlib.contextmanager
def postgres_with_tls(server: PostgresServer, certificates: Certificates) -> Iterator[str]:
    """Have a PostgreSQL that runs take TLS meanwhile; gives its URL."""
    files = {"ssl_cert_file": certificates.certificate, "ssl_key_file": certificates.key}
    for name, source in files.items():
        copy = server.directory / source.name
        server.give(source, copy)
        run_sql(server.url(), f"ALTER SYSTEM SET {name} = '{copy}'")
    _switch(server, "on")
    try:
        yield server.url()
    finally:
        _switch(server, "off")


def _switch(server: PostgresServer, to: str) -> None:
    run_sql(server.url(), f"ALTER SYSTEM SET ssl = {to}")
    run_sql(server.url(), "SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while run_sql(server.url(), "SHOW ssl") != [(to,)]:
        assert time.monotonic() < deadline, f"PostgreSQL does not set ssl to {to}"
        time.sleep(0.02)


class TlsMariaDB(MariaDBServer):
    """A MariaDB or MySQL that takes TLS."""

    certificates: Certificates

    def _command(self) -> list[str]:
        own = self.certificates
        names = {"ca": own.authority, "cert": own.certificate, "key": own.key}
        files = []
        for name, source in names.items():
            copy = self.directory / f"{name}.pem"
            self.give(source, copy)
            files.append(f"--ssl-{name}={copy}")
        return [*super()._command(), *files]
