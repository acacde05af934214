"""Which servers the tests use. The choice itself is pure; what it looks at is gathered beside it."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """The environment variable with a server's URL, the container image, and how to get a server."""

    variable: str
    image: str
    advice: str


KINDS = {
    "postgres": Kind(
        "GEARSYNC_TEST_POSTGRES_URL",
        "postgres:16",
        "install PostgreSQL (apt-get install postgresql), start Docker, or set GEARSYNC_TEST_POSTGRES_URL",
    ),
    "mariadb": Kind(
        "GEARSYNC_TEST_MYSQL_URL",
        "mariadb:10.11",
        "install MariaDB (apt-get install mariadb-server), start Docker, or set GEARSYNC_TEST_MYSQL_URL",
    ),
    "redisgears": Kind(
        "GEARSYNC_TEST_REDISGEARS_URL",
        "redislabs/redisgears:1.2.5",
        "set GEARSYNC_TEST_REDISGEARS_HOME to a folder with redisgears.so, gears_python.so and "
        "python3_<version> (CPython 3.7 with SQLAlchemy, PyMySQL, psycopg and redis) of RedisGears 1.2, "
        "GEARSYNC_TEST_REDISGEARS_URL to an empty server of it, or start Docker",
    ),
}


#: The path of a module with a JSON type (RedisJSON, or Valkey's), for the tests of documents.
REDISJSON_VARIABLE = "GEARSYNC_TEST_REDISJSON"


class Choice(NamedTuple):
    """Where a server comes from: ``url``, ``docker``, ``binary`` or ``missing``, and the matching value.

    The value is a URL, an image, the path of a server binary (of RedisGears: its folder), or the sentence
    that says how to get one.
    """

    source: str
    value: str


def choose(kind: str, environment: Mapping[str, str], docker: bool, binary: str | None) -> Choice:
    """Choose a server of ``kind``: a URL in the environment, else Docker, else a binary on this machine.

    The folder of RedisGears is named by the environment as well, so that it goes before Docker.
    """
    variable, image, advice = KINDS[kind]
    if environment.get(variable):
        return Choice("url", environment[variable])
    if kind == "redisgears" and binary:
        return Choice("binary", binary)
    if docker:
        return Choice("docker", image)
    if binary:
        return Choice("binary", binary)
    return Choice("missing", advice)


def must_not_miss(environment: Mapping[str, str]) -> bool:
    """Say whether a missing server fails a test (in CI) instead of skipping it."""
    return environment.get("CI", "").lower() == "true"


def newest(paths: list[str]) -> str | None:
    """Return the path with the highest number in it, e.g. of ``/usr/lib/postgresql/15/bin/postgres``."""
    if not paths:
        return None
    return max(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", path)])


def find_binary(kind: str) -> str | None:
    """Return the path of the server binary of ``kind`` on this machine."""
    if kind == "postgres":
        return newest(glob.glob("/usr/lib/postgresql/*/bin/postgres")) or shutil.which("postgres")
    folders = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    return shutil.which("mariadbd", path=folders) or shutil.which("mysqld", path=folders)


def redisjson() -> str | None:
    """Return the path of the module with a JSON type that the environment names; None: none."""
    return os.environ.get(REDISJSON_VARIABLE) or None


def docker_answers() -> bool:
    """Say whether a Docker engine answers; asks only where a socket or DOCKER_HOST exists."""
    if not os.environ.get("DOCKER_HOST") and not os.path.exists("/var/run/docker.sock"):
        return False
    import docker  # type: ignore[import-untyped]

    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except docker.errors.DockerException:
        return False


def version_of(binary: str) -> str:
    """Return what a server binary says about its version, e.g. ``15.18``."""
    run = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=20)
    found = re.search(r"\d+\.\d+(\.\d+)?", run.stdout)
    return found.group(0) if found else run.stdout.strip()
