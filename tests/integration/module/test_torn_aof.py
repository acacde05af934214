"""A crash that tears a transaction in the AOF must not come back at a later start, half of it or whole."""

from __future__ import annotations

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    aof_files,
    changes,
    connect,
    deploy,
    lanes,
    module_server,
    server_version,
    wait_for,
)
from tests.servers import RedisServer


def rewriting(client: redis.Redis) -> bool:
    found = client.info("persistence")
    return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])


def tear(server: RedisServer, torn: int) -> None:
    """Kill it, and take so many bytes from the end of what it has written."""
    server.kill9()
    newest = aof_files(server.directory)[-1]
    with newest.open("r+b") as file:
        file.truncate(newest.stat().st_size - torn)


@pytest.mark.parametrize("torn", [1, 20, 60], ids="bytes-{}".format)
@pytest.mark.parametrize("checksum", ["yes", "no"], ids="checksum-{}".format)
def test_a_torn_transaction_never_comes_back(torn: int, checksum: str) -> None:
    """A server cuts off the torn command alone, and MULTI stays open in the file; Valkey 9 cuts it all."""
    with module_server(*ALWAYS, "--rdbchecksum", checksum) as server:
        with connect(server) as client:
            deploy(client)
            # From here on Redis 6.2 has an RDB before the commands, in the same file.
            client.execute_command("BGREWRITEAOF")
            wait_for(lambda: not rewriting(client), "the file is written anew")
            client.hset("person:1", "first", "Ada")
            with client.pipeline(transaction=True) as pipe:
                # Redis 6.2 makes a transaction of no single write.
                pipe.hset("person:2", "first", "Eve").execute()
        tear(server, torn)
        server.start()
        with connect(server) as client:
            assert not client.exists("person:2")
            assert [each.key for each in changes(client)] == ["person:1"]
            if server_version() < (7, 0) and checksum == "no":
                wait_for(lambda: "is written anew" in server.log_text(), "the module sees the torn file")
                wait_for(lambda: not rewriting(client), "the file is written anew")
            elif server_version() < (9, 0):
                assert "is cut at offset" in server.log_text()
            client.hset("person:3", "first", "Joe")
        server.restart()
        with connect(server) as client:
            assert sorted(client.keys("person:*")) == [b"person:1", b"person:3"]
            assert [each.key for each in changes(client)] == ["person:1", "person:3"]
            assert len(lanes(client)) == 1
            assert "MULTI calls can not be nested" not in server.log_text()


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"*1\r\n$4\r\nEXEC\r\n and more", ()),
        (b"x" * (65 << 20), ("--auto-aof-rewrite-percentage", "0")),
        (b"Eve", ("--rename-command", "CONFIG", "SETTINGS")),
    ],
    ids=["looks like its end", "large", "CONFIG is renamed"],
)
def test_a_torn_transaction_is_found(value: bytes, options: tuple[str, ...]) -> None:
    """Also behind a file that is none of the server's, as another crash or a backup may leave it."""
    with module_server(*ALWAYS, *options) as server:
        with connect(server) as client:
            deploy(client)
            with client.pipeline(transaction=True) as pipe:
                pipe.set("other", value).hset("person:2", "first", "Eve").execute()
        tear(server, 20)
        if server_version() >= (7, 0):
            (server.directory / "appendonlydir" / "appendonly.aof.7.incr.aof").touch()
        server.start()
        with connect(server) as client:
            client.hset("person:3", "first", "Joe")
        server.restart()
        with connect(server) as client:
            assert client.keys("*er*:*") == [b"person:3"]
            assert [each.key for each in changes(client)] == ["person:3"]


def test_a_crash_while_a_torn_file_is_written_anew_leaves_one_that_loads() -> None:
    """The server refuses an open transaction in a file that is not the last one."""
    with module_server(*ALWAYS, "--rdb-key-save-delay", "20000") as server:
        with connect(server) as client:
            deploy(client)
            client.mset({f"other:{number}": number for number in range(100)})
            with client.pipeline(transaction=True) as pipe:
                pipe.hset("person:1", "first", "Eve").execute()
        tear(server, 20)
        server.start()
        with connect(server) as client:
            client.execute_command("BGREWRITEAOF")
            wait_for(lambda: rewriting(client), "the file is being written anew")
            client.hset("person:2", "first", "Joe")
        server.restart()
        with connect(server) as client:
            assert client.keys("person:*") == [b"person:2"]
            assert [each.key for each in changes(client)] == ["person:2"]


@pytest.mark.parametrize("value", ["Ada", "*1\r\n$5\r\nMULTI"], ids=["plain", "looks like a command"])
def test_a_whole_file_is_left_alone(value: str) -> None:
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy(client)
            client.hset("person:1", "first", "Ada")
            client.set("other", value)
        server.restart()
        with connect(server) as client:
            assert client.get("other") == value.encode()
            wait_for(lambda: client.info("server")["uptime_in_seconds"] >= 1, "some ticks")
            assert not rewriting(client)
            assert "is written anew" not in server.log_text()
            assert "is cut at offset" not in server.log_text()
