"""Loading: refused with one line where the server lacks a function; cycles of it lose and leave nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from tests.integration.module.building import build
from tests.integration.module.driving import (
    ALWAYS,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    module_server,
    status,
)
from tests.sanitizers import module_path
from tests.servers import RedisServer

HEADER = Path(__file__).parents[3] / "gears" / "module" / "api.h"
CYCLES = 24
#: Bytes by which the server may differ after many cycles; one lane that stays would be more.
NOISE = 20_000


def required() -> list[str]:
    """Return the names of the functions that the module can't do without."""
    listed = HEADER.read_text().partition("#define API_REQUIRED(X)")[2].partition("#define API_OPTIONAL")[0]
    return re.findall(r"^    X\([^,]+, (\w+),", listed, re.MULTILINE)


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a module that loads gearsync where one function is missing."""
    return build("lacking.c", tmp_path_factory.mktemp("lacking"))


def lines_about(server: RedisServer, text: str) -> list[str]:
    return [line for line in server.log_text().splitlines() if text in line]


def test_it_refuses_to_load_where_a_function_is_missing(lacking: str) -> None:
    names = required()
    assert len(names) > 60
    with module_server() as server, connect(server) as client:
        client.execute_command("MODULE", "UNLOAD", "gearsync")
        for name in names:
            with pytest.raises(redis.ResponseError, match="Error loading"):
                client.execute_command("MODULE", "LOAD", lacking, module_path(), f"RedisModule_{name}")
            lines = lines_about(server, f"lacks {name};")
            assert len(lines) == (name != "Log"), lines
            assert all("gearsync can't be loaded: this server's module API lacks" in each for each in lines)
        assert len(lines_about(server, "can't be loaded")) == len(names) - 1
        client.execute_command("MODULE", "LOAD", module_path(), "SUPERVISE", "no")
        deploy(client)
        client.hset("person:1", "first", "A")
        assert [each.key for each in changes(client)] == ["person:1"]


def used_memory(client: redis.Redis) -> int:
    client.execute_command("MEMORY", "PURGE")
    return int(client.info("memory")["used_memory"])


def deploy_all(client: redis.Redis) -> None:
    deploy(client, Function(), Function("pet:{id}", None, "t2"), targets=["t1", "t2"], lanes=8)
    deploy(client, Function(), name="others", payload="x" * 1000)


def test_cycles_of_unloading_and_loading_leave_nothing_behind() -> None:
    """Each takes all memory of the module along; deployments, changes and epochs go on."""
    with module_server() as server, connect(server) as client:
        deploy_all(client)
        sizes = []
        for cycle in range(CYCLES):
            client.hset("person:1", "first", cycle)
            epoch = status(client)["epoch"]
            with client.pipeline(transaction=True) as pipe:
                pipe.execute_command("MODULE", "UNLOAD", "gearsync")
                pipe.execute_command("MODULE", "LOAD", module_path(), "SUPERVISE", "no")
                pipe.execute()
            assert status(client)["epoch"] == epoch + 1
            client.hset("pet:1", "first", cycle)
            assert acknowledge(client) == 2 and acknowledge(client, "others") == 1
            client.execute_command("GEARSYNC.STATUS")
            sizes.append(used_memory(client))
        assert abs(sizes[-1] - sizes[3]) < NOISE, sizes


def test_cycles_of_servers_and_loads_and_reloads() -> None:
    """Started, loaded anew, emptied and filled by DEBUG RELOAD, killed: what waits is never another."""
    with module_server(*ALWAYS) as server:
        with connect(server) as client:
            deploy_all(client)
        for cycle in range(CYCLES):
            with connect(server) as client:
                client.hset("person:1", "first", cycle)
                client.hset("pet:1", "first", cycle)
                before = [changes(client), changes(client, target="t2"), changes(client, "others")]
                client.execute_command("MODULE", "UNLOAD", "gearsync")
                client.execute_command("MODULE", "LOAD", module_path(), "SUPERVISE", "no")
                client.execute_command("DEBUG", "RELOAD")
            server.restart()
            with connect(server) as client:
                after = [changes(client), changes(client, target="t2"), changes(client, "others")]
                assert after == before
                assert [len(each) for each in after] == [cycle + 1] * 3
        assert not lines_about(server, "can't be loaded")
