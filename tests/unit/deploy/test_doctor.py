"""What the doctor makes of what a Redis says, where no healthy server says so."""

from __future__ import annotations

import ast
import re
import time
from typing import Any

import pytest
import redis

from deploy.doctor import clocks, cluster, deployments, durability, memory, replication, versions
from deploy.doctor.asking import Redis
from deploy.doctor.databases.common import Asked, check_room
from deploy.doctor.findings import Diagnosis
from deploy.hosts.module import ModuleHost
from deploy.hosts.redisgears import RedisGearsHost
from gears.declaring.deployment import settings_arguments

PRIMARY = {"role": "master", "redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction"}


class Client(redis.Redis):
    """Answers what it is told to."""

    def __init__(self, info: dict[str, Any], **replies: Any) -> None:
        super().__init__()
        self.replies = {"INFO": info, "CONFIG GET": {"appendfsync": "always"}, **replies}

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        if arguments[0] not in self.replies:
            raise redis.exceptions.ResponseError(f"unknown command '{arguments[0]}'")
        return self.replies[arguments[0]]


def server(diagnosis: Diagnosis, info: dict[str, Any], **replies: Any) -> Redis:
    names = {name.replace("_", " "): reply for name, reply in replies.items()}
    return Redis(Client({**PRIMARY, **info}, **names), diagnosis.at("h:1"))


def found(diagnosis: Diagnosis) -> set[tuple[str, str]]:
    return {(each.severity, each.check) for each in diagnosis.findings}


@pytest.mark.parametrize(
    ("info", "host", "expected"),
    [
        ({}, ModuleHost, set()),
        ({"redis_version": "6.0.9"}, ModuleHost, {("error", "server-version")}),
        ({"redis_version": "6.2.16"}, ModuleHost, {("note", "aof-units")}),
        ({"redis_version": "6.2.16"}, RedisGearsHost, {("warning", "aof-units")}),
        ({"redis_version": "8.4.0", "cluster_enabled": 1}, ModuleHost, {("warning", "slot-migration")}),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.0", "cluster_enabled": 1}, ModuleHost, set()),
        ({"redis_version": "7.4.1", "cluster_enabled": 1}, RedisGearsHost, {("error", "redisgears-cluster")}),
        ({"redis_version": "7.2.6", "cluster_enabled": 1}, RedisGearsHost, set()),
        ({"redis_version": "8.2.0"}, RedisGearsHost, {("warning", "redisgears-version")}),
        ({"redis_version": "unstable"}, ModuleHost, set()),
    ],
)
def test_versions(info: dict[str, Any], host: Any, expected: set[tuple[str, str]]) -> None:
    diagnosis = Diagnosis()
    versions.check(server(diagnosis, info), host(redis.Redis()), {})
    assert found(diagnosis) == expected


def test_redisgears_has_no_part_in_an_aof_without_an_rdb() -> None:
    diagnosis = Diagnosis()
    asked = server(diagnosis, {}, CONFIG_GET={"aof-use-rdb-preamble": "no"})
    versions.check(asked, RedisGearsHost(redis.Redis()), {})
    assert found(diagnosis) == {("error", "redisgears-aof")}


def test_a_module_of_another_version() -> None:
    diagnosis = Diagnosis()
    versions.check(server(diagnosis, {}), ModuleHost(redis.Redis()), {"module": "0.0.1"})
    assert found(diagnosis) == {("warning", "module-version")}


@pytest.mark.parametrize(
    ("info", "settings", "expected"),
    [
        ({"aof_last_write_status": "err"}, {}, {("error", "aof-write")}),
        ({"aof_last_bgrewrite_status": "err"}, {}, {("warning", "aof-rewrite")}),
        ({"rdb_last_bgsave_status": "err"}, {"save": "60 1"}, {("error", "bgsave")}),
        ({"rdb_last_bgsave_status": "err"}, {"save": ""}, {("warning", "bgsave")}),
        ({"loading": 1}, {}, {("error", "loading")}),
    ],
)
def test_files_that_fail(
    info: dict[str, Any], settings: dict[str, str], expected: set[tuple[str, str]]
) -> None:
    diagnosis = Diagnosis()
    durability.check(server(diagnosis, info, CONFIG_GET={"appendfsync": "always", **settings}))
    assert found(diagnosis) == expected


def test_a_backlog_that_has_no_room() -> None:
    def of(maxmemory: int) -> set[tuple[str, str]]:
        diagnosis = Diagnosis()
        backlog = {"limit_bytes": 1000, "bytes": 100}
        memory.check(server(diagnosis, {"maxmemory": maxmemory, "used_memory": 2000}), [{"backlog": backlog}])
        return found(diagnosis)

    assert of(2900) == set()
    assert of(2899) == {("warning", "memory-headroom")}


def test_a_backlog_that_grows_on_has_no_bound() -> None:
    def of(on_full: str) -> set[tuple[str, str]]:
        diagnosis = Diagnosis()
        backlog = {"limit_bytes": 1000, "bytes": 100, "on_full": on_full}
        memory.check(server(diagnosis, {}), [{"backlog": backlog}])
        return found(diagnosis)

    assert of("refuse") == set()
    assert of("grow") == {("note", "memory-bound")}


def test_what_it_advises_of_a_backlog_is_one() -> None:
    diagnosis = Diagnosis()
    memory.check(server(diagnosis, {}), [{"backlog": {"limit_bytes": 0, "bytes": 100}}])
    (finding,) = diagnosis.findings
    written = re.search(r"backlog=(\{.*?\})", finding.todo)
    assert written is not None, finding.todo
    arguments, mistakes = settings_arguments({"backlog": ast.literal_eval(written[1])}, "")
    assert (arguments, mistakes) == ({"backlog_bytes": 2_000_000_000}, [])


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"role": "slave"}, {("error", "role")}),
        ({"slave0": {"state": "online", "offset": 100, "lag": 0}}, set()),
        ({"slave0": {"state": "wait_bgsave", "offset": 0, "lag": 0}}, {("warning", "replica-state")}),
        ({"slave0": {"state": "online", "offset": 100, "lag": 11}}, {("warning", "replica-lag")}),
        (
            {"slave0": {"state": "online", "offset": 0, "lag": 0}, "master_repl_offset": (16 << 20) + 1},
            {("warning", "replica-lag")},
        ),
    ],
)
def test_replicas(info: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    diagnosis = Diagnosis()
    replication.check(server(diagnosis, {"connected_slaves": 1, "master_repl_offset": 100, **info}))
    assert found(diagnosis) == expected


def test_a_primary_that_needs_no_replica() -> None:
    diagnosis = Diagnosis()
    info = {"connected_slaves": 1, "slave0": {"state": "online", "offset": 0, "lag": 0}}
    replication.check(server(diagnosis, info, CONFIG_GET={"min-replicas-to-write": "0"}))
    assert found(diagnosis) == {("note", "min-replicas-to-write")}


def test_a_cluster() -> None:
    node = {"flags": "myself,master", "migrations": []}
    other = {"flags": "master", "migrations": [{}]}

    def of(*infos: dict[str, str], **nodes: dict[str, Any]) -> set[tuple[str, str]]:
        diagnosis = Diagnosis()
        reply = {"h:1": node, "h:2": other, **nodes}
        servers = [server(diagnosis, {}, CLUSTER_INFO=each, CLUSTER_NODES=reply) for each in infos]
        cluster.check(servers, diagnosis.at("cluster"))
        return found(diagnosis)

    good = {"cluster_state": "ok", "cluster_slots_assigned": "16384", "cluster_current_epoch": "3"}
    assert of(good, good) == set()
    assert of(good, {**good, "cluster_current_epoch": "4"}) == {("warning", "cluster-epochs")}
    assert of({**good, "cluster_slots_assigned": "16383"}) == {("error", "cluster-slots")}
    assert of({**good, "cluster_state": "fail"}) == {("error", "cluster-state")}
    moving = {"flags": "myself,master", "migrations": [{}]}
    assert of(good, **{"h:1": moving}) == {("warning", "cluster-open-slots")}


@pytest.mark.parametrize(("apart", "expected"), [(0.5, set()), (2, {"clock"}), (-2, {"clock"})])
def test_clocks_apart(apart: float, expected: set[str]) -> None:
    diagnosis = Diagnosis()
    clocks.check(diagnosis.at("h:1"), lambda: time.time() + apart)
    assert {each.check for each in diagnosis.findings} == expected


def test_a_command_that_is_renamed_is_a_note() -> None:
    diagnosis = Diagnosis()
    clocks.check_redis(server(diagnosis, {}))
    assert found(diagnosis) == {("note", "not-looked-at")}


def test_keys_that_fit_no_template_warn_and_a_worker_that_is_away_is_an_error() -> None:
    def of(**changes: Any) -> set[tuple[str, str]]:
        worker = {"state": "running", "mode": "external", "heartbeat_age_ms": 1, "report": None}
        backlog = {"entries": 0, "bytes": 0, "limit_entries": 10, "limit_bytes": 0, "full": False}
        document = {
            "name": "people",
            "version": 1,
            "state": "active",
            "worker": worker,
            "backlog": backlog,
            "targets": [],
        }
        diagnosis = Diagnosis()
        deployments.check([{"address": "h:1", "deployments": [{**document, **changes}]}], diagnosis)
        return found(diagnosis)

    assert of() == set()
    assert of(missed=1, missed_key="person:") == {("warning", "deployment")}
    nearly = {"entries": 9, "bytes": 0, "limit_entries": 10, "limit_bytes": 0, "full": False}
    assert of(backlog=nearly) == {("warning", "deployment")}
    stopped = {"state": "stopped", "mode": "external", "heartbeat_age_ms": -1, "report": None}
    assert of(worker=stopped) == {("error", "deployment")}


@pytest.mark.parametrize(("used", "expected"), [(79, set()), (80, {("warning", "connections")})])
def test_a_database_with_few_connections_to_spare(used: int, expected: set[tuple[str, str]]) -> None:
    diagnosis = Diagnosis()
    nothing: Any = None
    check_room(Asked(nothing, nothing, (), diagnosis.at("people, target reporting")), used, 100)
    assert found(diagnosis) == expected
