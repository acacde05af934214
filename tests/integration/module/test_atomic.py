"""A write and its change exist together or not at all, whatever kills the server."""

from __future__ import annotations

import random
import threading
import time

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    FIELDS,
    PLAIN_AOF,
    Change,
    Function,
    aof_commands,
    aof_files,
    changes,
    connect,
    deploy,
    module_server,
    server_version,
    wait_for,
)
from tests.servers import RedisServer


def last_changes(client: redis.Redis) -> dict[str, Change]:
    return {each.key: each for each in changes(client)}


def mapped_fields(client: redis.Redis, key: str) -> dict[str, str] | None:
    """Return what a change of the key holds; None when it is no hash."""
    if client.type(key) != b"hash":
        return None
    found = zip(FIELDS, client.hmget(key, list(FIELDS)))
    return {field: value.decode("latin-1") for field, value in found if isinstance(value, bytes)}


def check_lane_equals_hashes(client: redis.Redis) -> int:
    """Compare the last change of each key with its hash, both ways; return the number of keys seen."""
    last = last_changes(client)
    keys = {key.decode("latin-1") for key in client.scan_iter("person:*", count=1000, _type="hash")}
    for key in keys - set(last):
        raise AssertionError(f"{key} is a hash without a change")
    for key, change in last.items():
        found = mapped_fields(client, key)
        assert (change.op in "dxv") == (found is None), change
        assert change.image == (found or {}), change
    return len(last)


def write_until_killed(server: RedisServer, seed: int) -> None:
    """Write all kinds of changes by pipelines and transactions until the connection is lost."""
    chance = random.Random(seed)
    with connect(server) as client:
        while True:
            try:
                pipe = client.pipeline(transaction=chance.random() < 0.3)
                for _ in range(chance.randrange(1, 60)):
                    write_once(pipe, chance)
                pipe.execute(raise_on_error=False)
            except redis.ConnectionError:
                return


def write_once(pipe: redis.Redis, chance: random.Random) -> None:
    key, other = (f"person:{chance.randrange(200)}" for _ in range(2))
    kind = chance.randrange(10)
    if kind < 5:
        values = {chance.choice(FIELDS): "v" * chance.randrange(1, 200), "age": str(chance.random())}
        pipe.execute_command("HSET", key, *(part for pair in values.items() for part in pair))
    elif kind == 5:
        pipe.hdel(key, chance.choice(FIELDS))
    elif kind == 6:
        pipe.delete(key, other, f"person:{chance.randrange(200)}")
    elif kind == 7:
        pipe.rename(key, other)
    elif kind == 8:
        pipe.copy(key, other, replace=True)
    else:
        pipe.eval("redis.call('HSET', KEYS[1], 'first', 'lua') redis.call('UNLINK', KEYS[2])", 2, key, other)


@pytest.mark.parametrize("lanes", [1, 4])
def test_kill9_under_load(lanes: int) -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client, lanes=lanes)
        for round_number in range(5):
            writers = [
                threading.Thread(target=write_until_killed, args=(server, 10 * round_number + number))
                for number in range(3)
            ]
            for writer in writers:
                writer.start()
            # The moment of the kill is meant to be any.
            time.sleep(random.uniform(0.05, 0.6))
            server.kill9()
            for writer in writers:
                writer.join()
            server.start()
            with connect(server) as client:
                assert check_lane_equals_hashes(client) > 0


def test_write_and_change_are_one_unit_in_the_aof() -> None:
    if server_version() < (7, 0):
        pytest.skip("Redis 6.2 writes two units, and the module heals what a crash tears apart")
    with module_server(*PLAIN_AOF) as server, connect(server) as client:
        deploy(client)
        client.hset("person:1", mapping={"first": "Ada"})
        client.delete("person:1", "person:2")
        names: list[str] = []
        for path in aof_files(server.directory):
            names += [
                words[0].upper()
                for _, words in aof_commands(path.read_bytes())
                if "registry" not in words[min(1, len(words) - 1)]
            ]
    units = " ".join(names).split("MULTI")[1:]
    assert [sorted(unit.split()) for unit in units if "XADD" in unit] == [
        ["EXEC", "HSET", "XADD"],
        ["DEL", "EXEC", "XADD"],
    ]


def test_an_aof_that_a_renamed_command_turns_on_has_the_changes() -> None:
    with module_server("--rename-command", "CONFIG", "SETTINGS") as server, connect(server) as client:
        deploy(client)
        client.execute_command("SETTINGS", "SET", "appendonly", "yes")
        wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the first AOF")
        time.sleep(0.3)
        client.hset("person:1", mapping={"first": "Ada"})
        written = aof_files(server.directory)[-1].read_bytes()
        assert written.count(b"XADD") == written.count(b"HSET\r\n$8\r\nperson:1") == 1


TORN = {
    "hset": lambda client: client.hset("person:1", "age", 9),
    "hset of a new key": lambda client: client.hset("person:7", "age", 9),
    "hdel": lambda client: client.hdel("person:1", "age"),
    "del of many": lambda client: client.delete("person:1", "person:2", "person:3"),
    "rename over an equal hash": lambda client: client.rename("person:1", "person:2"),
    "copy": lambda client: client.copy("person:1", "person:3", replace=True),
    "set": lambda client: client.set("person:1", "v"),
    "script": lambda client: client.eval(
        "redis.call('HSET', 'person:1', 'age', 9) redis.call('DEL', 'person:2')", 0
    ),
}


@pytest.mark.parametrize("name", TORN)
@pytest.mark.parametrize("lanes", [1, 3])
def test_torn_aof(name: str, lanes: int) -> None:
    """Cut after each command of what one write put into the AOF, as a crash may, and start on it."""
    server = module_server(*PLAIN_AOF, "--aof-load-truncated", "yes")
    try:
        server.start()
        with connect(server) as client:
            deploy(client, Function(), Function(template="{name}", fields=["age"]), lanes=lanes)
            for number in (1, 2):
                client.hset(f"person:{number}", mapping={"first": "Ada", "age": "3"})
            client.hset("person:3", mapping={"first": "Bob"})
            path = aof_files(server.directory)[-1]
            before = path.stat().st_size
            TORN[name](client)
        server.kill9()
        text = path.read_bytes()
        cuts = [at for at, _ in aof_commands(text) if at >= before] + [len(text)]
        assert len(cuts) > 3
        for cut in cuts:
            path.write_bytes(text[:cut])
            server.start()
            with connect(server) as client:
                assert check_lane_equals_hashes(client) >= 3, cut
            server.kill9()
    finally:
        server.stop()
