"""An upgrade under load loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.deploying import (
    FUNCTIONS,
    PERSONS,
    deployments,
    gearsync,
    redis_with_module,
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
KEYS = 200


class Writer(threading.Thread):
    """Writes to a few hundred keys, over and over, until it is told to stop; deletes now and then."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.enough = threading.Event()
        self.writes = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self.server.client() as client:
                while not self.enough.is_set():
                    self._write_once(client)
        except BaseException as error:
            self.error = error
            raise

    def _write_once(self, client) -> None:  # type: ignore[no-untyped-def]
        number = self.writes
        key = f"person:{number * 7 % KEYS}"
        if number % 50 == 49:
            client.delete(key)
        else:
            image = {
                "first_name": f"f{number}",
                "last_name": f"l{number}",
                "age": number,
                "city": f"c{number}",
            }
            client.hset(key, mapping=image)
        self.writes += 1

    def finish(self) -> None:
        self.enough.set()
        self.join(30)
        assert self.error is None, self.error


@pytest.fixture
def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    run_sql(database_url, PERSONS)
    for name, value in worker_environment(database_url).items():
        monkeypatch.setenv(name, value)
    with redis_with_module() as running:
        yield running


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
    # Every key is written once more under the last mapping, so that no row is of an earlier one.
    last_pass = writer.writes + 2 * KEYS
    while writer.writes < last_pass and writer.error is None:
        writer.join(0.05)
    writer.finish()
    assert gearsync("wait", "--redis", server.url, "--timeout", "60").returncode == 0
    assert deployments(server) == {"people": (4, "active")}
    assert table(database_url) == hashes(server)


def hashes(server: RedisServer) -> dict[str, tuple[str, str, int, str]]:
    found = {}
    with server.client(decode_responses=True) as client:
        for key in client.keys("person:*"):
            image = client.hgetall(key)
            found[key.split(":")[1]] = (
                image["first_name"],
                image["last_name"],
                int(image["age"]),
                image["city"],
            )
    return found


def table(url: str) -> dict[str, tuple[str, str, int, str]]:
    return {row[0]: row[1:] for row in rows(url, "SELECT person_id, first, last, age, city FROM persons")}
