"""A Redis Cluster with one deployment on every shard, and clients that write to it all the while."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

import gears.module
from tests.chaos.pair import environment
from tests.chaos.world import TABLES, URL_VARIABLE, until
from tests.cluster import Cluster
from tests.integration.deploying import ROOT, gearsync, gearsync_json, write
from tests.servers import RedisServer, run_sql

PEOPLE = 300
TEAMS = {"red": range(200, 250), "blue": range(250, 300)}
"""Whose keys have a hash tag, so that all of a team are in one slot."""

FUNCTIONS = f"""
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")
target = Target("env:{URL_VARIABLE}", name="chaos")
for name, prefix in (("all", "person"), ("red", "team:{{{{red}}}}"), ("blue", "team:{{{{blue}}}}")):
    keys = prefix + ":{{person_id}}"
    WriteBehind(keys=keys, name=name, table="persons", columns=["version", "note", "age"], target=target)
"""
BOTH = "for at = 1, 2 do redis.call('HSET', KEYS[at], 'version', ARGV[1], 'note', 'both') end"
# What a write may meet while primaries change; whether it was done stays open, and nobody repeats it.
AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,
    # redis-py, when ASK sends it to a node that had no slot before.
    AttributeError,
)
# A cluster's redirections and refusals, of which redis-py leaves out the first word.
REDIRECTS = re.compile(
    r"MOVED|CROSSSLOT|ASK |TRYAGAIN|CLUSTERDOWN|answered: \d+ \S+:\d+|hash to the same slot|"
    "during rehashing of slot|[Cc]luster is down|slot not served"
)


def key_of(person: int) -> str:
    """Return the key of a person."""
    team = next((name for name, people in TEAMS.items() if person in people), "")
    return f"team:{{{team}}}:{person}" if team else f"person:{person}"


def node(*options: str) -> RedisServer:
    """Return a server of the cluster, which starts a worker while it is a primary."""
    persistent = ("--appendonly", "yes")
    arguments = ("PYTHON", sys.executable)
    return RedisServer(*persistent, *options, module=gears.module.path(), module_arguments=arguments)


def command(*words: str, code: int = 0) -> str:
    """Run a command; return what it printed. A cluster's redirections must never be in it."""
    done = gearsync(*words)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert not REDIRECTS.search(printed), printed
    return printed


@contextlib.contextmanager
def deployed(url: str, folder: Path, shards: int = 3, replicas: int = 1) -> Iterator[Cluster]:
    """A cluster with the deployment on every shard; the tables are made in the database at ``url``."""
    dialect = make_url(url).get_backend_name()
    for statement in TABLES["mysql" if dialect == "mariadb" else dialect]:
        run_sql(url, statement)
    with environment({URL_VARIABLE: url, "PYTHONPATH": str(ROOT)}):
        with Cluster(node, primaries=shards, replicas=replicas) as cluster:
            deploy(cluster, folder)
            yield cluster


def deploy(cluster: Cluster, folder: Path) -> None:
    """Deploy once, by one node's URL."""
    command("deploy", write(folder, FUNCTIONS), "--redis", cluster.url)


def deployment(cluster: Cluster, number: int) -> dict[str, Any]:
    """Return what a node says of the deployment; empty: it has none."""
    document = json.loads(cluster.clients[number].execute_command("GEARSYNC.STATUS"))
    found: list[dict[str, Any]] = document["deployments"]
    return found[0] if found else {}


def until_worker_runs(cluster: Cluster, number: int) -> None:
    """Wait until a node's own worker runs."""
    until(
        lambda: deployment(cluster, number).get("worker", {}).get("state") == "running",
        60,
        f"a worker of node {number}",
    )


class Load:
    """A client that follows the cluster and writes; ``answered``: person → last version, None: deleted.
    ``deleted``: person → how many times.

    Every write has a version of its own that grows, and none is ever repeated.
    """

    def __init__(self, cluster: Cluster, seed: int = 1) -> None:
        self.answered: dict[int, int | None] = {}
        self.deleted: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self.failed = 0
        self._cluster = cluster
        self._dice = random.Random(seed)
        self._versions = itertools.count(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert not self.errors, self.errors

    def until_all_written(self) -> None:
        """Wait until every person was written, or deleted, from now on."""
        self.answered.clear()
        until(lambda: len(self.answered) == PEOPLE or bool(self.errors), 60, "writes of all")

    def _run(self) -> None:
        try:
            client = self._client()
            with client:
                while not self._stop.is_set():
                    try:
                        self._write(client)
                    except AWAY:
                        self.failed += 1
                    time.sleep(0.001)
        except BaseException as error:
            self.errors.append(error)

    def _client(self) -> redis.RedisCluster:
        # A client that retried by itself might do a write twice.
        return self._cluster.client(retry=Retry(NoBackoff(), 0), socket_timeout=5)

    def _write(self, client: redis.RedisCluster) -> None:
        kind, version = self._dice.random(), next(self._versions)
        # Not by chance: that would take long to come to the last one.
        person = version * 7 % PEOPLE
        if kind < 0.1:
            self.deleted[person] += 1
            client.delete(key_of(person))
            self.answered[person] = None
        elif kind < 0.2 and person >= min(TEAMS["red"]):
            team = next(people for people in TEAMS.values() if person in people)
            other = self._dice.choice([each for each in team if each != person])
            client.eval(BOTH, 2, key_of(person), key_of(other), version)
            self.answered.update({person: version, other: version})
        else:
            client.hset(key_of(person), mapping={"version": version, "note": f"n{version}"})
            self.answered[person] = version


def check(cluster: Cluster, url: str, load: Load) -> None:
    """All that was answered (since ``answered`` was emptied last) is in Redis, and SQL has what Redis has."""
    command("wait", "--redis", cluster.url, "--timeout", "60")
    with cluster.client() as client:
        found: dict[int, Any] = {each: client.hget(key_of(each), "version") for each in range(PEOPLE)}
    hashes = {person: int(value) for person, value in found.items() if value is not None}
    # A write that failed may have been done all the same: so Redis may have a later one.
    lost = {person for person, version in load.answered.items() if hashes.get(person, 0) < (version or 0)}
    assert not lost, f"{len(lost)} answered writes are lost"
    rows = {row[0]: row[1] for row in run_sql(url, "SELECT person_id, version FROM persons")}
    differing = {each: (hashes.get(each), rows.get(each)) for each in {*hashes, *rows}}
    assert rows == hashes, {each: pair for each, pair in differing.items() if pair[0] != pair[1]}
    check_history(url, load.deleted)
    assert gearsync_json("deadletters", "list", "--redis", cluster.url) == []


def check_history(url: str, deleted: Counter[int]) -> None:
    """No row ever went back, and no version came twice; but for a key that was deleted and made again while
    its slot was open: such a key is captured anew.
    """
    last: dict[int, int] = {}
    left = deleted.copy()
    for person, version in run_sql(url, "SELECT person_id, version FROM history ORDER BY seq"):
        before = last.get(person, 0)
        left[person] -= version == before
        assert version >= before and left[person] >= 0, f"person {person}: {version} after {before}"
        last[person] = version
