"""docker-compose.yml in a Docker engine: the example deployed, its rows read, and nothing left."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.choice import docker_answers
from tests.integration.deploying import ROOT, eventually
from tests.servers import free_port

PORTS = ("POSTGRES", "MYSQL", "REDISGEARS", "REDIS", "VALKEY", "PROMETHEUS", "GRAFANA")
WRITE = ("HSET", "person:1", "first_name", "Ada", "last_name", "Lovelace", "age", "36")
SELECT = "SELECT person_id, first, last, age FROM persons"
#: How to ask for the example's rows in the container of each database.
ROWS = {
    "postgres": f"psql --username gearsync --csv --tuples-only --command '{SELECT}' | tr , ' '",
    "mysql": (
        f'MYSQL_PWD="$MYSQL_PASSWORD" mysql --user gearsync --skip-column-names --execute "{SELECT}" gearsync'
    ),
}
#: Deployment, where its writes go to, and the client there.
HOSTS = {
    "deploy": ("redisgears", ["redis-cli"]),
    "deploy-module": ("redis", ["redis-cli"]),
    "deploy-valkey": ("valkey", ["valkey-cli"]),
    "deploy-cluster": ("shard-1", ["redis-cli", "-c"]),
}

Compose = Callable[..., str]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers: start one"),
]


@pytest.fixture
def compose() -> Iterator[Compose]:
    """Run docker compose in a project of its own, of which nothing is left."""
    ports = {f"GEARSYNC_{name}_PORT": str(free_port()) for name in PORTS}
    passwords = {
        "GEARSYNC_DB_PASSWORD": secrets.token_hex(8),
        "GEARSYNC_GRAFANA_PASSWORD": secrets.token_hex(8),
    }
    project = f"gearsync-test-{secrets.token_hex(4)}"

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["docker", "compose", "--project-name", project, *arguments],
            cwd=ROOT,
            env={**os.environ, **ports, **passwords},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    try:
        yield run
    finally:
        with contextlib.suppress(AssertionError):
            print(run("logs", "--no-color", "--tail", "200"))
        run("--profile", "*", "down", "--volumes", "--remove-orphans")


@pytest.mark.parametrize("service", sorted(HOSTS))
def test_the_example_is_deployed_and_its_rows_arrive(compose: Compose, service: str) -> None:
    host, client = HOSTS[service]
    # With all that it depends on, in its order, and with the deployment's own exit code.
    compose("--profile", "*", "build")
    compose("run", "--rm", "-T", service)
    compose("exec", "-T", host, *client, *WRITE)

    def arrived() -> bool:
        found = [compose("exec", "-T", name, "sh", "-c", script).split() for name, script in ROWS.items()]
        return all(row == ["1", "Ada", "Lovelace", "36"] for row in found)

    eventually(arrived, seconds=60)


def test_grafana_runs_with_its_data_source(compose: Compose) -> None:
    compose("up", "--detach", "--wait", "redis", "grafana")
    query = "http://prometheus:9090/api/v1/query?query=redis_up"
    ask = ("exec", "-T", "grafana", "wget", "--quiet", "--output-document", "-", query)
    eventually(lambda: '"instance":"redis"' in compose(*ask), seconds=60)
