"""gearsync load while clients write and delete the same keys, and a worker carries that to SQL."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import redis

from tests.integration.deploying import gearsync, rows
from tests.integration.system import System
from tests.servers import run_sql

FUNCTIONS = """
from gears import ReadThrough, WriteBehind, deployment_settings
from connectors import Target

deployment_settings(name="people")
reporting = Target("env:REPORTING_DB_URL", name="reporting")
mapping = {"keys": "person:{person_id}", "table": "persons", "columns": {"name": "name"}, "target": reporting}

WriteBehind(**mapping)
ReadThrough(**mapping, name="read")
"""
KEYS = 3000
LOADS = 4

#: Somebody writes the rows that are missing. The lock keeps it from a deadlock with the worker.
REFILL = f"""
DO $$ BEGIN
    LOCK TABLE persons IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO persons SELECT i, 'SQL' FROM generate_series(1, {KEYS}) i ON CONFLICT DO NOTHING;
END $$
"""


def write_and_delete(system: System, over: threading.Event, seed: int) -> None:
    """Write keys and delete them, in bursts with breaks in which the worker has brought all to SQL."""
    dice = random.Random(seed)
    with system.server.client(socket_timeout=60) as client:
        while not over.wait(dice.random() / 20):
            with client.pipeline(transaction=False) as pipe:
                for _ in range(dice.randrange(1, 30)):
                    key = f"person:{dice.randrange(1, KEYS + 1)}"
                    pipe.hset(key, "name", f"{seed}-{dice.random()}")
                    if dice.random() < 0.8:
                        pipe.delete(key)
                pipe.execute()


def hashes(client: redis.Redis) -> dict[int, bytes | None]:
    """Return the name in each hash that is there, by the number of its key."""
    keys = list(client.scan_iter("person:*", count=1000))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(key, "name")
        return dict(zip((int(key.partition(b":")[2]) for key in keys), pipe.execute()))


def test_no_old_row_comes_back(tmp_path: Path, postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE persons (person_id INT PRIMARY KEY, name TEXT)")
    system = System(tmp_path, FUNCTIONS, {"REPORTING_DB_URL": postgres_url})
    with system as client, system.environment():
        over = threading.Event()
        writers = [threading.Thread(target=write_and_delete, args=(system, over, seed)) for seed in range(2)]
        reports: list[Any] = []
        try:
            for writer in writers:
                writer.start()
            for _ in range(LOADS):
                run_sql(postgres_url, REFILL)
                done = gearsync("load", system.functions, "--redis", system.server.url, "--json")
                assert done.returncode == 0, done.stderr
                reports.append(json.loads(done.stdout))
        finally:
            over.set()
            for writer in writers:
                writer.join()
        system.wait()
        table = dict(rows(postgres_url, "SELECT person_id, name FROM persons"))
        found = hashes(client)
    # How many depends on how far the worker is behind; but that they are loaded at all is what is tested.
    assert sum(report["set"] for report in reports) > KEYS // 30
    stale = {
        number: name for number, name in found.items() if name is None or table.get(number) != name.decode()
    }
    assert stale == {}
