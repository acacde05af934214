"""GEARSYNC.STATUS and INFO gearsync: the counts are right, and the document is text whatever the keys are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Function,
    acknowledge,
    connect,
    deploy,
    deployment_status,
    entries,
    lanes,
    module_server,
    status,
    wait_for,
)
from tests.servers import RedisServer


def test_an_empty_server(client: redis.Redis) -> None:
    found = status(client)
    assert set(found) == {
        "module",
        "server",
        "role",
        "source",
        "epoch",
        "tag",
        "jobs",
        "barriers",
        "came",
        "life",
        "deployments",
    }
    assert (found["role"], found["tag"], found["deployments"], found["barriers"]) == ("primary", "0", [], 0)
    info: Any = client.info("server")
    version = info.get("valkey_version", info["redis_version"])
    assert version.startswith(found["server"].rpartition(".")[0])


def test_every_field_of_a_deployment(client: redis.Redis) -> None:
    deploy(
        client, Function(fields=["first"]), Function(target="t2"), targets=["t1", "t2"], backlog=(100, 5000)
    )
    for number in range(3):
        client.hset("person:1", "first", number)
    lane = lanes(client)[0]
    first, *_, last = [entry_id.decode() for entry_id, _ in entries(client, lane)]
    client.execute_command("GEARSYNC.ACK", lane, first)
    found = deployment_status(client)
    report = found.pop("worker")
    assert {key: report[key] for key in ("mode", "pid", "state", "restarts", "last_exit", "report")} == {
        "mode": "external",
        "pid": 0,
        "state": "stopped",
        "restarts": 0,
        "last_exit": "",
        "report": None,
    }
    targets = found.pop("targets")
    estimate = found["backlog"].pop("bytes")
    assert 0 < estimate < 5000
    assert found == {
        "name": "people",
        "version": 1,
        "state": "active",
        "captured": 6,
        "functions": [],
        "failed": 0,
        "missed": 0,
        "missed_key": "",
        "refused_writes": 0,
        "backlog": {
            "entries": 5,
            "limit_entries": 100,
            "limit_bytes": 5000,
            "on_full": "refuse",
            "full": False,
        },
    }
    assert [each["name"] for each in targets] == ["t1", "t2"]
    assert [each["captured"] for each in targets] == [3, 3]
    shown = targets[0]["lanes"][0]
    assert 0 < shown.pop("bytes") < estimate
    assert 0 <= shown.pop("oldest_ms") < 60_000
    assert targets[0]["lanes"] == [
        {
            "stream": lane,
            "dead_stream": lane.replace(":lane:", ":dead:"),
            "status": "current",
            "length": 2,
            "dead_letters": 0,
            "last_id": last,
            "acked_id": first,
        }
    ]


def test_dead_letters_are_counted_by_target_and_lane(client: redis.Redis) -> None:
    deploy(client, lanes=2)
    dead = [lane.replace(":lane:", ":dead:") for lane in lanes(client)]
    client.xadd(dead[0], {"reason": "x"})
    client.xadd(dead[1], {"reason": "x"})
    client.xadd(dead[1], {"reason": "y"})
    target = deployment_status(client)["targets"][0]
    assert target["dead_letters"] == 3
    assert [each["dead_letters"] for each in target["lanes"]] == [1, 2]


@pytest.mark.parametrize(
    "tail", [b'"\\', b"\0\n\x1b[31m", b"\xff\xfe", "\u00e9\u4e16".encode(), b"x" * 5000, b"\x7f"]
)
def test_a_missed_key_never_spoils_the_document(client: redis.Redis, tail: bytes) -> None:
    """Only hashes count: other types under the prefix are meant for something else."""
    deploy(client)
    client.hset(b"person:1:" + tail, "first", "Ada")
    client.set(b"person:2:" + tail, "text")
    found = deployment_status(client)
    assert (found["missed"], found["captured"]) == (1, 0)
    shown = found["missed_key"].encode("latin-1")
    assert (b"person:1:" + tail).startswith(shown) and len(shown) == min(200, 9 + len(tail))


def test_retired_lanes_are_shown_until_they_are_empty(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "first", "Ada")
    deploy(client, version=2, lanes=2)

    def shown() -> list[str]:
        return sorted(lane["status"] for lane in deployment_status(client)["targets"][0]["lanes"])

    assert shown() == ["current", "current", "retired"]
    acknowledge(client)
    wait_for(lambda: shown() == ["current", "current"], "the empty lane is gone")


def test_a_target_that_still_has_changes_cannot_be_left_out(client: redis.Redis) -> None:
    deploy(client, Function(), Function(target="t2"), targets=["t1", "t2"])
    client.hset("person:1", "first", "Ada")
    with pytest.raises(redis.ResponseError, match="leaves out the target t2, which still has 1 changes"):
        deploy(client, version=2)
    acknowledge(client)
    deploy(client, version=2)
    assert [each["name"] for each in deployment_status(client)["targets"]] == ["t1"]


def test_refused_writes_are_counted(client: redis.Redis) -> None:
    deploy(client, backlog=(2, 0))
    client.hset("person:1", "first", "Ada")
    assert deployment_status(client)["backlog"]["full"] is False
    client.hset("person:2", "first", "Ada")
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="the change stream of deployment people is full"):
            client.hset("person:3", "first", "Ada")
    found = deployment_status(client)
    assert (found["captured"], found["refused_writes"], found["backlog"]["full"]) == (2, 3, True)
    acknowledge(client)
    found = deployment_status(client)
    assert (found["refused_writes"], found["backlog"]["full"]) == (3, False)
    assert (found["backlog"]["entries"], found["backlog"]["bytes"]) == (0, 0)


def test_a_limit_may_be_passed_by_one_that_grows(client: redis.Redis) -> None:
    deploy(client, backlog=(1, 0), on_full="GROW")
    for _ in range(3):
        client.hset("person:1", "first", "Ada")
    backlog = deployment_status(client)["backlog"]
    assert (backlog["entries"], backlog["on_full"], backlog["full"]) == (3, "grow", False)


def test_barriers_are_counted(client: redis.Redis, shared_server: RedisServer) -> None:
    deploy(client)
    client.hset("person:1", "first", "Ada")
    with connect(shared_server) as waiting:
        connection = waiting.connection_pool.get_connection()
        connection.send_command("GEARSYNC.WAIT", 0)
        wait_for(lambda: status(client)["barriers"] == 1, "the barrier")
        acknowledge(client)
        assert connection.read_response() == b"OK"
    wait_for(lambda: status(client)["barriers"] == 0, "no barrier")


def test_a_large_report_is_shown_as_it_is_until_the_next(client: redis.Redis) -> None:
    deploy(client)
    error = 'caf\u00e9 \u4e16 \U0001f600 "\\/\b\n\0\x1b\x7f' * 40
    report = {"state": "waiting", "targets": {f"t{number}": {"last_error": error} for number in range(2000)}}
    for text in (json.dumps(report), json.dumps(report, indent=1)):
        client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", text)
        assert deployment_status(client)["worker"]["report"] == report
    client.execute_command("GEARSYNC.HEARTBEAT", "people", "w1", "{}")
    assert deployment_status(client)["worker"]["report"] == {}


def test_many_deployments_make_one_document(client: redis.Redis) -> None:
    names = [f"d{number}" + "x" * 60 for number in range(40)]
    for name in names:
        deploy(client, Function(f"{name}:{{id}}"), name=name, lanes=16)
    found = status(client)["deployments"]
    assert [each["name"] for each in found] == names
    assert all(len(each["targets"][0]["lanes"]) == 16 for each in found)


def test_info_has_a_section(client: redis.Redis) -> None:
    deploy(client, backlog=(1, 0))
    client.hset("person:1", "first", "Ada")
    with pytest.raises(redis.ResponseError, match="is full"):
        client.hset("person:1", "first", "Ada")
    document = status(client)
    assert info(client) == {
        "version": document["module"],
        "role": "primary",
        "source": document["source"],
        "epoch": str(document["epoch"]),
        "deployments": "1",
        "people_backlog_entries": "1",
        "people_backlog_bytes": str(document["deployments"][0]["backlog"]["bytes"]),
        "people_captured": "1",
        "people_paused": "0",
        "people_refused_writes": "1",
        "people_worker": "stopped",
    }


def info(client: redis.Redis) -> dict[str, str]:
    """Return the module's part of INFO, each value as it stands there."""
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("INFO", lambda reply, **_: reply.decode())
    lines = str(reader.execute_command("INFO", "gearsync")).split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.replace("gearsync_", "", 1): value for name, _, value in pairs}


def test_a_replica_shows_what_its_primary_has() -> None:
    with module_server() as server, module_server("--replicaof", "127.0.0.1", str(server.port)) as copy:
        with connect(server) as client, connect(copy) as replica:
            deploy(client, Function("person:{id}"), lanes=3)
            wait_for(lambda: status(replica)["deployments"], "the deployment")
            for number in range(6):
                client.hset(f"person:{number}", "first", "Ada")
            lane = lanes(client)[0]
            dead = lane.replace(":lane:", ":dead:")
            client.xadd(dead, {"reason": "x"})
            same_on(replica, client)
            client.execute_command("GEARSYNC.ACK", lane, entries(client, lane)[0][0])
            same_on(replica, client)
            deploy(client, version=2)
            acknowledge(client)
            client.delete(dead)
            wait_for(lambda: len(lanes(client)) == 1, "the retired lanes are gone")
            same_on(replica, client)
            found = status(replica)
            assert (found["role"], found["source"]) == ("replica", status(client)["source"])
            worker = found["deployments"][0]["worker"]
            assert (worker["pid"], worker["state"], worker["report"]) == (0, "stopped", None)


def same_on(replica: redis.Redis, client: redis.Redis) -> None:
    """Assert that a replica, once it has all that was written, shows the same lanes, also in INFO."""
    assert client.wait(1, 15_000) == 1
    # INFO first: either of them must look by itself.
    told = info(replica)
    here, there = deployment_status(client), deployment_status(replica)
    assert told["people_backlog_entries"] == str(here["backlog"]["entries"])
    for found in (here, there):
        for target in found["targets"]:
            # What this very process has captured.
            del target["captured"]
            target["lanes"].sort(key=lambda lane: str(lane["stream"]))
            for lane in target["lanes"]:
                # Not replicated, estimated by each in its own way, and of the moment.
                del lane["acked_id"], lane["bytes"], lane["oldest_ms"]
                if lane["length"] == 0:
                    # Of an empty lane nothing in the keyspace tells.
                    del lane["last_id"]
    assert there["targets"] == here["targets"]
    assert (there["version"], there["state"]) == (here["version"], here["state"])
    assert there["backlog"]["entries"] == here["backlog"]["entries"]
    assert (there["backlog"]["bytes"] > 0) == (here["backlog"]["entries"] > 0)
