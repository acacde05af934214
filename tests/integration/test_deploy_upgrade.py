"""An upgrade under load loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import hosts
from tests.integration.deploying import (
    FUNCTIONS,
    PERSONS,
    deployments,
    eventually,
    gearsync,
    rows,
    worker_environment,
    write,
)
from tests.servers import RedisServer, run_sql

MAPPINGS = [
    '{"first_name": "first"}',
    '{"first_name": "first", "last_name": "last"}',
    '{"first_name": "first", "last_name": "last", "age": "age", "city": "city"}',
]
PAUSE_SECONDS = 0.0005


class Writer(threading.Thread):
    """Writes a new key each time, so that a lost change is never healed by a later one; deletes some
    again.
    """

    def __init__(self, server: RedisServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.enough = threading.Event()
        self.writes = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self.server.client() as client:
                while not self.enough.wait(PAUSE_SECONDS):
                    self._write_once(client)
        except BaseException as error:
            self.error = error
            raise

    def _write_once(self, client: redis.Redis) -> None:
        number = self.writes
        image: dict[Any, Any] = {"first_name": f"f{number}", "last_name": f"l{number}"}
        image.update(age=number, city=f"c{number}")
        client.hset(f"person:{number}", mapping=image)
        if number % 10 == 9:
            client.delete(f"person:{number - 5}")
        self.writes += 1

    def finish(self) -> None:
        self.enough.set()
        self.join(30)
        assert self.error is None, self.error


@pytest.fixture
def server(host: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    run_sql(database_url, PERSONS)
    for name, value in worker_environment(database_url).items():
        monkeypatch.setenv(name, value)
    with hosts.server_of(host) as running:
        yield running


@pytest.mark.one_database
def test_three_upgrades_under_load_lose_no_write(
    server: RedisServer, database_url: str, tmp_path: Path
) -> None:
    original = '{"first_name": "first", "last_name": "last"}'
    texts = [FUNCTIONS.replace(original, mapping) for mapping in MAPPINGS]
    texts.append(texts[-1].replace('name="people"', 'name="people", lanes=3'))
    assert gearsync("deploy", write(tmp_path, texts[0]), "--redis", server.url).returncode == 0
    writer = Writer(server)
    writer.start()
    for text in texts[1:]:
        before = writer.writes
        run = gearsync("deploy", write(tmp_path, text), "--redis", server.url)
        assert run.returncode == 0, run.stderr
        assert writer.writes > before, "nothing was written during the upgrade"
    last_version_from = writer.writes
    eventually(lambda: writer.writes > last_version_from + 100 or writer.error is not None)
    writer.finish()
    assert gearsync("wait", "--redis", server.url, "--timeout", "60").returncode == 0
    assert deployments(server) == {"people": (4, "active")}
    written, arrived = hashes(server), table(database_url)
    assert {key: row[0] for key, row in arrived.items()} == {key: image[0] for key, image in written.items()}
    late = [key for key in written if int(key) > last_version_from]
    assert late and {key: arrived[key] for key in late} == {key: written[key] for key in late}


def hashes(server: RedisServer) -> dict[str, tuple[str, str, int, str]]:
    with server.client(decode_responses=True) as client:
        keys = list(client.scan_iter("person:*", count=1000))
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, "first_name", "last_name", "age", "city")
        images = pipeline.execute()
    return {
        key.split(":")[1]: (first, last, int(age), city)
        for key, (first, last, age, city) in zip(keys, images)
    }


def table(url: str) -> dict[str, tuple[str, str, int, str]]:
    return {row[0]: row[1:] for row in rows(url, "SELECT person_id, first, last, age, city FROM persons")}
