"""GEARSYNC.STATUS and INFO gearsync: the counts are right, and the document is text whatever the keys are."""

from __future__ import annotations

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


def test_info_has_a_section(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "first", "Ada")
    found: dict[str, Any] = client.info("gearsync")
    assert found["gearsync_role"] == "primary"
    assert found["gearsync_deployments"] == 1
    names = ("backlog_entries", "captured", "refused_writes", "worker")
    assert [found[f"gearsync_people_{name}"] for name in names] == [1, 1, 0, "stopped"]


def test_a_replica_shows_what_its_primary_has() -> None:
    with module_server() as server, module_server("--replicaof", "127.0.0.1", str(server.port)) as copy:
        with connect(server) as client, connect(copy) as replica:
            deploy(client, lanes=3)
            client.hset("person:1", "first", "Ada")
            wait_for(lambda: replica.exists("person:1"), "the replica")
            wait_for(lambda: status(replica)["deployments"], "the deployment")
            found = status(replica)
            assert (found["role"], found["source"]) == ("replica", status(client)["source"])
            assert [each["name"] for each in found["deployments"]] == ["people"]
            assert found["deployments"][0]["worker"]["pid"] == 0
