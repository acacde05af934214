"""Rows that others change reach the shard that has their key, also while slots move."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.integration.deploying import ROOT, eventually, gearsync, write
from tests.integration.module.driving import status
from tests.integration.test_resharding import node
from tests.integration.test_write_around import PERSONS, REFRESH, prepare
from tests.servers import run_sql


@pytest.mark.one_database
def test_each_key_reaches_its_shard_also_when_its_slot_moves_meanwhile(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new shard has passed the change, the old one has not got to it: the key would stay as it was."""
    run_sql(database_url, PERSONS)
    prepare(database_url)
    for name, value in {"FIRST_DB_URL": database_url, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    with Cluster(node, primaries=2) as cluster:
        done = gearsync("deploy", write(tmp_path, REFRESH), "--redis", cluster.url)
        assert done.returncode == 0, done.stderr
        eventually(lambda: all(_behind(cluster, number) == 0 for number in (0, 1)))
        values = ", ".join(f"({number}, 'n{number}', 1)" for number in range(100))
        run_sql(database_url, f"INSERT INTO persons VALUES {values}")
        client = cluster.client()
        eventually(lambda: all(client.exists(f"person:{number}") for number in range(100)))
        ours, theirs = (
            next(each for each in range(100) if cluster.owner(f"person:{each}") == number)
            for number in (0, 1)
        )
        worker = psutil.Process(_worker(cluster, 0))
        worker.suspend()
        run_sql(database_url, f"UPDATE persons SET name = 'new' WHERE id IN ({ours}, {theirs})")
        eventually(lambda: client.hget(f"person:{theirs}", "name") == b"new")
        cluster.move_slot(key_slot(f"person:{ours}".encode()), 1)
        assert cluster.clients[1].hget(f"person:{ours}", "name") == f"n{ours}".encode()
        worker.resume()
        eventually(lambda: cluster.clients[1].hget(f"person:{ours}", "name") == b"new")
        run_sql(database_url, f"DELETE FROM persons WHERE id = {ours}")
        eventually(lambda: cluster.clients[1].exists(f"person:{ours}") == 0)
        os.kill(_worker(cluster, 1), signal.SIGKILL)
        run_sql(database_url, f"DELETE FROM persons WHERE id = {theirs}")
        eventually(lambda: client.exists(f"person:{theirs}") == 0)
        client.close()


def _worker(cluster: Cluster, number: int) -> int:
    return int(_deployment(cluster, number)["worker"]["pid"])


def _behind(cluster: Cluster, number: int) -> float:
    report = _deployment(cluster, number)["worker"]["report"] or {}
    return float(report.get("targets", {}).get("first", {}).get("around", {}).get("behind_s", 9))


def _deployment(cluster: Cluster, number: int) -> dict[str, Any]:
    found: dict[str, Any] = status(cluster.clients[number])["deployments"][0]
    return found
