"""A slot moves to another shard: what the old owner has captured comes to SQL before what the new one has."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.chaos.world import TABLES
from tests.cluster import Cluster
from tests.integration.command import environment
from tests.integration.deploying import ROOT, eventually, gearsync, rows, write
from tests.integration.module.driving import (
    ALWAYS,
    changes,
    decode,
    entries,
    key_changes,
    lanes,
    server_version,
    status,
)
from tests.sanitizers import module_path
from tests.servers import RedisServer, run_sql

FUNCTIONS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="{worker}")
WriteBehind(
    keys="person:{{person_id}}",
    table="persons",
    columns=["version", "note", "age"],
    target=Target("env:REPORTING_DB_URL", name="t1"),
)
"""
#: Of their keys Redis has more than the module could capture in a slot that is on its way to it.
OTHER_KINDS = """
from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people", worker="{worker}")
here = Target("env:REPORTING_DB_URL", name="t1")
WriteBehind(keys="document:{{id}}", table="documents", type="json", columns={{"$": "text"}}, target=here)
WriteBehind(keys="tags:{{id}}", table="tags", type="set", columns={{"member": "tag"}}, target=here)
"""
Variables = dict[str, str]


def node(*options: str) -> RedisServer:
    return RedisServer(*options, module=module_path(), module_arguments=("PYTHON", sys.executable))


@pytest.fixture
def variables(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Variables:
    for statement in TABLES["sqlite"]:
        run_sql(sqlite_url, statement)
    found = {"REPORTING_DB_URL": sqlite_url, "PYTHONPATH": str(ROOT)}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def cluster(variables: Variables) -> Iterator[Cluster]:
    with Cluster(node, primaries=2) as found:
        yield found


def deploy(cluster: Cluster, folder: Path, worker: str = "external", functions: str = FUNCTIONS) -> None:
    done = gearsync("deploy", write(folder, functions.format(worker=worker)), "--redis", cluster.url)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def worker(cluster: Cluster, number: int, variables: Variables) -> Iterator[None]:
    """The worker of one shard, as a process of its own."""
    command = [sys.executable, "-m", "gears.worker", "--deployment", "people"]
    process = subprocess.Popen(
        [*command, "--redis", cluster.nodes[number].url],
        env=environment(**variables),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def table(url: str) -> dict[int, Any]:
    return {row[0]: row[1] for row in rows(url, "SELECT person_id, version FROM persons")}


def key_of(cluster: Cluster, number: int, before: str = "person:") -> str:
    """A covered key of a shard; not in the slot of that shard's own keys."""
    own = {key_slot(stream.encode()) for stream in lanes(cluster.clients[number])}
    candidates = (f"{before}{each}" for each in range(1000))
    return next(
        key for key in candidates if cluster.owner(key) == number and key_slot(key.encode()) not in own
    )


def leaving_key(cluster: Cluster) -> tuple[str, int, int]:
    """A covered key of the first shard, its number, and the slot with which it can leave."""
    key = key_of(cluster, 0)
    return key, int(key.split(":")[1]), key_slot(key.encode())


def wait(cluster: Cluster) -> None:
    """Wait until all is in SQL; fail with what the workers wait for."""
    for node_ in cluster.nodes:
        with node_.client(socket_timeout=None) as client:
            try:
                client.execute_command("GEARSYNC.WAIT", 40_000)
            except redis.ResponseError as error:
                reports = [one.execute_command("GEARSYNC.STATUS").decode() for one in cluster.clients]
                raise AssertionError("\n".join([str(error), *reports])) from error


def test_a_move_changes_no_row_and_leaves_marks(cluster: Cluster, tmp_path: Path) -> None:
    deploy(cluster, tmp_path)
    key = key_of(cluster, 0)
    with cluster.client() as client:
        client.hset(key, mapping={"version": 1, "note": "kept"})
        assert cluster.move_slot(key_slot(key.encode()), 1) == 1
        client.hset(key, "version", 2)
    old, new = ([(each.op, each.image) for each in key_changes(one)] for one in cluster.clients)
    there = {"n": cluster.node_id(1)}
    assert old == [("u", {"version": "1", "note": "kept"}), ("m", there)]
    assert new == [("i", there), ("u", {"version": "2", "note": "kept"})]


def test_a_plain_restore_and_a_plain_delete_are_changes_all_the_same(
    cluster: Cluster, tmp_path: Path
) -> None:
    deploy(cluster, tmp_path)
    key = key_of(cluster, 0)
    one = cluster.clients[0]
    one.hset(key, "version", 1)
    dumped: Any = one.dump(key)
    one.delete(key)
    one.restore(key, 0, dumped)
    assert [each.op for each in changes(one)] == ["u", "d", "n"]


def test_an_atomic_migration_of_slots_is_refused_by_the_server(cluster: Cluster, tmp_path: Path) -> None:
    if server_version() < (9, 0):
        pytest.skip("this server has no CLUSTER MIGRATESLOTS")
    deploy(cluster, tmp_path)
    key = key_of(cluster, 0)
    slot = key_slot(key.encode())
    one = cluster.clients[0]
    one.hset(key, "version", 1)
    with pytest.raises(redis.ResponseError, match="gearsync does not support atomic slot migrations"):
        one.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.node_id(1))
    assert [each.op for each in changes(one)] == ["u"]
    assert cluster.owner(slot) == 0


def test_the_new_owner_waits_for_the_old_ones_changes(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """The old owner's worker is away, the new owner's is there: SQL never goes back to the older state."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, other = key_of(cluster, 0), key_of(cluster, 1)
    number, unmoved = int(key.split(":")[1]), int(other.split(":")[1])
    with cluster.client() as client, worker(cluster, 1, variables):
        client.hset(key, "version", 1)
        client.hset(key, "version", 2)
        client.hset(other, "version", 1)
        eventually(lambda: table(url) == {unmoved: 1})
        cluster.move_slot(key_slot(key.encode()), 1)
        client.hset(key, "version", 3)

        def told() -> bool:
            document = json.loads(cluster.clients[1].execute_command("GEARSYNC.STATUS"))
            report = document["deployments"][0]["worker"]["report"] or {}
            error = report.get("targets", {}).get("t1", {}).get("last_error", "")
            return f"slot {key_slot(key.encode())} came from another shard" in error

        eventually(told)
        assert table(url) == {unmoved: 1}
        with worker(cluster, 0, variables):
            wait(cluster)
    assert table(url) == {unmoved: 1, number: 3}
    history = rows(url, f"SELECT version FROM history WHERE person_id = {number} ORDER BY seq")
    assert history == [(2,), (3,)]
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_documents_and_members_are_read_where_their_slot_is_on_its_way(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    url, (old, new) = variables["REPORTING_DB_URL"], cluster.clients
    run_sql(url, "CREATE TABLE documents (id TEXT PRIMARY KEY, text TEXT)")
    run_sql(url, "CREATE TABLE tags (id TEXT, tag TEXT, PRIMARY KEY (id, tag))")
    deploy(cluster, tmp_path, functions=OTHER_KINDS)
    tag = key_of(cluster, 0, before="")
    document, tags, slot = f"document:{{{tag}}}", f"tags:{{{tag}}}", key_slot(tag.encode())
    with worker(cluster, 0, variables), worker(cluster, 1, variables):
        old.set(document, "[1]")
        cluster.open_slot(slot, 0, 1)
        for words in (("SET", document + "b", "[2]"), ("SADD", tags, "a", "b")):
            with new.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING").execute_command(*words)
                pipe.execute()
        wait(cluster)
        found = (
            rows(url, "SELECT text FROM documents ORDER BY text"),
            rows(url, "SELECT tag FROM tags ORDER BY 1"),
        )
        assert found == ([("[1]",), ("[2]",)], [("a",), ("b",)])
        cluster.move_keys(slot, 0, 1)
        cluster.close_slot(slot, 1)
        new.set(document, "[3]")
        wait(cluster)
    assert rows(url, "SELECT text FROM documents ORDER BY text") == [("[2]",), ("[3]",)]


def waits_for_another(client: redis.Redis) -> bool:
    document = json.loads(client.execute_command("GEARSYNC.STATUS"))
    report = document["deployments"][0]["worker"]["report"] or {}
    return "came from another shard" in report.get("targets", {}).get("t1", {}).get("last_error", "")


def test_a_key_that_is_deleted_here_and_made_again_there(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """Made again while its slot is open, or after: the old owner's last changes of it come first."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    [lane] = lanes(cluster.clients[0])
    candidates = [f"person:{each}" for each in range(100) if cluster.owner(f"person:{each}") == 0]
    keys = [each for each in candidates if key_slot(each.encode()) != key_slot(lane.encode())][:2]
    with cluster.client() as client, worker(cluster, 1, variables):
        for key, is_made_early in zip(keys, (True, False)):
            slot = key_slot(key.encode())
            client.hset(key, "version", 1)
            client.delete(key)
            cluster.open_slot(slot, 0, 1)
            if is_made_early:
                client.hset(key, "version", 2)
            cluster.move_keys(slot, 0, 1)
            cluster.close_slot(slot, 1)
            client.hset(key, "version", 3)
        eventually(lambda: waits_for_another(cluster.clients[1]))
        assert table(url) == {}
        with worker(cluster, 0, variables):
            wait(cluster)
    assert table(url) == {int(key.split(":")[1]): 3 for key in keys}
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_a_key_that_is_deleted_while_its_slot_is_open_and_made_again_after(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, number, slot = leaving_key(cluster)
    with cluster.client() as client, worker(cluster, 1, variables):
        client.hset(key, "version", 1)
        cluster.open_slot(slot, 0, 1)
        with worker(cluster, 0, variables):
            cluster.clients[0].execute_command("GEARSYNC.WAIT", 30_000)
        client.delete(key)
        assert cluster.move_keys(slot, 0, 1) == 0
        cluster.close_slot(slot, 1)
        client.hset(key, "version", 2)
        eventually(lambda: waits_for_another(cluster.clients[1]))
        assert table(url) == {number: 1}
        with worker(cluster, 0, variables):
            wait(cluster)
    assert table(url) == {number: 2}
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_a_key_that_is_made_again_on_a_shard_with_another_number_of_lanes(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """The old shard's mark is in a lane of another number, for longer than a lost mark is waited for."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, number, slot = leaving_key(cluster)
    with cluster.client() as client:
        client.hset(key, "version", 1)
        client.delete(key)
        cluster.open_slot(slot, 0, 1)
        eventually(lambda: "m" in {each.op for each in changes(cluster.clients[0])})
        deploy(cluster, tmp_path, functions=FUNCTIONS.replace("worker=", "lanes=2, worker="))
        client.hset(key, "version", 2)
        cluster.move_keys(slot, 0, 1)
        cluster.close_slot(slot, 1)
        with worker(cluster, 1, variables), cluster.nodes[1].client(socket_timeout=None) as other:
            with pytest.raises(redis.ResponseError, match="TIMEOUT"):
                other.execute_command("GEARSYNC.WAIT", 16_000)
            assert table(url) == {}
            with worker(cluster, 0, variables):
                wait(cluster)
    assert table(url) == {number: 2}


def test_keys_that_are_deleted_and_made_again_while_their_slots_are_open(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """The new shard's worker is ahead of the old one's, which then deletes rows that it must not."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    one, other = cluster.clients
    [lane] = lanes(one)
    candidates = [f"person:{each}" for each in range(100) if cluster.owner(f"person:{each}") == 0]
    keys = [each for each in candidates if key_slot(each.encode()) != key_slot(lane.encode())][:3]
    still_open, moved, given_up = (key_slot(key.encode()) for key in keys)
    with cluster.client() as client, worker(cluster, 1, variables):
        for key in keys:
            client.hset(key, "version", 1)
            cluster.open_slot(key_slot(key.encode()), 0, 1)
        with worker(cluster, 0, variables):
            one.execute_command("GEARSYNC.WAIT", 30_000)
        for key in keys:
            client.delete(key)
            client.hset(key, "version", 2)
        made = {int(key.split(":")[1]): 2 for key in keys}
        eventually(lambda: table(url) == made)
        cluster.move_keys(moved, 0, 1)
        cluster.close_slot(moved, 1)
        one.execute_command("CLUSTER SETSLOT", given_up, "STABLE")
        cluster.move_keys(given_up, 1, 0)
        other.execute_command("CLUSTER SETSLOT", given_up, "STABLE")
        with worker(cluster, 0, variables):
            wait(cluster)
    assert cluster.owner(still_open) == cluster.owner(given_up) == 0
    assert table(url) == made


def test_a_move_that_is_given_up_holds_nothing_up(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """Its marks are in pairs all the same, so that nobody waits, and no token is left for the next move."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    keys = [key_of(cluster, 0), key_of(cluster, 1)]
    slot = key_slot(keys[0].encode())
    with cluster.client() as client, worker(cluster, 0, variables), worker(cluster, 1, variables):
        for key in keys:
            client.hset(key, "version", 1)
        eventually(lambda: sorted(table(url).values()) == [1, 1])
        for _ in range(2):
            cluster.open_slot(slot, 0, 1)
            for one in cluster.clients:
                one.execute_command("CLUSTER SETSLOT", slot, "STABLE")
        for key in keys:
            client.hset(key, "version", 2)
        # In less time than that after which a worker goes on without a token.
        assert [one.execute_command("GEARSYNC.WAIT", 4500) for one in cluster.clients] == [b"OK", b"OK"]
    assert sorted(table(url).values()) == [2, 2]
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_there_and_back_and_there_again(cluster: Cluster, variables: Variables, tmp_path: Path) -> None:
    """All of it waits before any worker starts: each shard waits for the other, in turns, never for ever."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    keys = [key_of(cluster, 0), key_of(cluster, 1)]
    with cluster.client() as client:
        version = 0
        for turn in range(6):
            for key in keys:
                version += 1
                client.hset(key, "version", version)
            for key in keys if turn % 2 else reversed(keys):
                cluster.move_slot(key_slot(key.encode()), 1 - cluster.owner(key))
        with worker(cluster, 0, variables), worker(cluster, 1, variables):
            wait(cluster)
    assert sorted(table(url).values()) == [version - 1, version]
    for key in keys:
        found = rows(url, f"SELECT version FROM history WHERE person_id = {key.split(':')[1]} ORDER BY seq")
        assert found == sorted(found) and len(set(found)) == len(found)


def copy(cluster: Cluster, key: str) -> None:
    """What a MIGRATE has done that ended halfway: the old owner has not let go of the key."""
    copied: Any = cluster.clients[0].dump(key)
    cluster.clients[1].execute_command("RESTORE-ASKING", key, 0, copied)


def test_a_move_that_failed_halfway_holds_nothing_up(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """The key was copied, and the old owner never let go: its own later changes still come first."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, number, slot = leaving_key(cluster)
    with cluster.client() as client, worker(cluster, 0, variables), worker(cluster, 1, variables):
        client.hset(key, "version", 1)
        cluster.open_slot(slot, 0, 1)
        copy(cluster, key)
        cluster.clients[0].hset(key, "version", 2)
        cluster.move_keys(slot, 0, 1)
        cluster.close_slot(slot, 1)
        client.hset(key, "version", 3)
        eventually(lambda: table(url) == {number: 3}, 60)
        cluster.clients[1].execute_command("GEARSYNC.WAIT", 4500)
    assert rows(url, "SELECT version FROM history ORDER BY seq")[-1] == (3,)


def test_a_key_that_was_copied_twice_and_came_again_makes_no_circle(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """Its new shard waits once too often, for a mark that stands behind what it has yet to give itself."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key, number, slot = leaving_key(cluster)
    with cluster.client() as client:
        client.hset(key, "version", 1)
        cluster.open_slot(slot, 0, 1)
        copy(cluster, key)
        cluster.move_keys(slot, 0, 1)
        cluster.close_slot(slot, 1)
        for version, shard in ((2, 0), (3, 1)):
            client.hset(key, "version", version)
            cluster.move_slot(slot, shard)
        client.hset(key, "version", 4)
        with worker(cluster, 0, variables), worker(cluster, 1, variables):
            wait(cluster)
    assert table(url) == {number: 4}
    history = rows(url, "SELECT version FROM history ORDER BY seq")
    assert history == sorted(history)
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_the_slot_of_the_lanes_moves(cluster: Cluster, variables: Variables, tmp_path: Path) -> None:
    """The lane goes with it, to be emptied by the other shard's worker, before what comes after it."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key = key_of(cluster, 0)
    number = int(key.split(":")[1])
    [old] = lanes(cluster.clients[0])
    with cluster.client() as client:
        client.hset(key, "version", 1)
        client.hset(key, "version", 2)
        cluster.clients[0].execute_command("GEARSYNC.EPOCH", 1 << 20)
        client.hset(key, "version", 3)
        cluster.move_slot(key_slot(old.encode()), 1)
        client.hset(key, "version", 4)
    assert old in lanes(cluster.clients[1])
    # As after a promotion: a third shard has to know that its worker, too, may have claimed the lane.
    cluster.clients[1].execute_command("GEARSYNC.EPOCH", 1 << 30)
    assert decode(entries(cluster.clients[1], old)[-1][1]).epoch == 1 << 30
    eventually(lambda: old not in lanes(cluster.clients[0]))
    assert [registry_tags(one) for one in cluster.clients] == [[lanes(cluster.clients[0])[0][10:11]], ["0"]]
    with worker(cluster, 0, variables):
        with pytest.raises(redis.ResponseError, match="TIMEOUT"):
            cluster.clients[0].execute_command("GEARSYNC.WAIT", 2000)
        assert table(url) == {}
        with worker(cluster, 1, variables):
            wait(cluster)
    assert table(url) == {number: 4}
    assert rows(url, "SELECT version FROM history ORDER BY seq") == [(3,), (4,)]
    eventually(lambda: old not in lanes(cluster.clients[1]))


def test_each_change_of_the_tag_has_marks_of_its_own(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    """A lane that was left twice: who waits for its first part takes no turn of who waits for its second."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    one = cluster.clients[0]
    key = key_of(cluster, 0)
    [first] = lanes(one)
    with cluster.client() as client:
        client.hset(key, "version", 1)
        cluster.move_slot(key_slot(first.encode()), 1)
        eventually(lambda: first not in lanes(one))
        [second] = lanes(one)
        client.hset(key, "version", 2)
        cluster.move_slot(key_slot(first.encode()), 0)
        eventually(lambda: first in lanes(one))
        for version, lane in ((3, second), (4, first)):
            cluster.move_slot(key_slot(lane.encode()), 1)
            eventually(functools.partial(lambda left: left not in lanes(one), lane))
            client.hset(key, "version", version)
    assert {first, second} < set(lanes(cluster.clients[1]))
    of_first = [decode(fields) for _, fields in entries(cluster.clients[1], first)]
    left = [each.key for each in of_first if each.op == "m" and each.key.startswith(f"{first} ")]
    assert len(left) == len(set(left)) == 2
    with worker(cluster, 0, variables), worker(cluster, 1, variables):
        wait(cluster)
    assert rows(url, "SELECT version FROM history ORDER BY seq") == [(1,), (2,), (3,), (4,)]
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


@pytest.mark.parametrize("numbers", [(1, 3), (1, 3, 1), (2, 1, 3, 1)])
def test_lanes_of_several_numbers_move(
    cluster: Cluster, variables: Variables, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    """The marks of versions don't go along: the lanes themselves tell which of them comes first."""
    url = variables["REPORTING_DB_URL"]
    one = cluster.clients[0]
    keys = [key for key in (f"person:{each}" for each in range(40)) if cluster.owner(key) == 0]
    drawn = random.Random(7)
    written = 0
    for turn, number in enumerate(numbers):
        text = FUNCTIONS.replace("worker=", f"lanes={number}, batch=20, worker=")
        deploy(cluster, tmp_path, functions=text)
        # Less each time, so that nothing but the order holds the lanes of later versions up.
        for _ in range(1000 >> 2 * turn):
            written += 1
            one.hset(drawn.choice(keys), "version", written)
    old = set(lanes(one))
    home = key_slot(next(iter(old)).encode())
    cluster.move_slot(home, 1)
    eventually(lambda: not old & set(lanes(one)))
    for key in keys:
        if cluster.owner(key) == 0:
            written += 1
            one.hset(key, "version", written)
    with worker(cluster, 0, variables), worker(cluster, 1, variables):
        wait(cluster)
    with cluster.client() as client:
        found = {int(key.split(":")[1]): client.hget(key, "version") for key in keys}
    assert table(url) == {number: int(value) for number, value in found.items() if value is not None}
    last: dict[int, int] = {}
    for person, version in rows(url, "SELECT person_id, version FROM history ORDER BY seq"):
        assert version > last.get(person, 0), f"person {person} went back to {version} from {last[person]}"
        last[person] = version
    assert rows(url, "SELECT count(*) FROM gearsync_handover") == [(0,)]


def test_who_waits_for_a_lane_that_moves_waits_until_it_is_empty(
    cluster: Cluster, variables: Variables, tmp_path: Path
) -> None:
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path)
    key = key_of(cluster, 0)
    one = cluster.clients[0]
    answers: list[dict[int, Any]] = []
    [old] = lanes(one)

    def wait_for_all() -> None:
        with cluster.nodes[0].client() as client:
            client.execute_command("GEARSYNC.WAIT", 60_000)
            answers.append(table(url))

    one.hset(key, "version", 1)
    thread = threading.Thread(target=wait_for_all, daemon=True)
    thread.start()
    eventually(lambda: status(one)["barriers"] == 1)
    cluster.move_slot(key_slot(old.encode()), 1)
    eventually(lambda: old not in lanes(one))
    with worker(cluster, 0, variables):
        with pytest.raises(redis.ResponseError, match="TIMEOUT"):
            one.execute_command("GEARSYNC.WAIT", 1000)
        assert status(one)["barriers"] >= 1 and answers == []
        with worker(cluster, 1, variables):
            thread.join(60)
    assert answers == [{int(key.split(":")[1]): 1}]


def test_a_restart_takes_no_key_that_moved_for_a_deleted_one(variables: Variables, tmp_path: Path) -> None:
    """A key that left is gone from its old shard, and a lane that came is about keys of another."""
    with Cluster(functools.partial(node, *ALWAYS), primaries=2) as cluster:
        deploy(cluster, tmp_path)
        leaves = key_of(cluster, 0)
        [old] = lanes(cluster.clients[0])
        with cluster.client() as client:
            client.hset(leaves, "version", 1)
            cluster.move_slot(key_slot(leaves.encode()), 1)
            cluster.nodes[0].restart()
            cluster.wait_until_whole()
            assert [each.op for each in key_changes(cluster.clients[0])] == ["u", "m"]
            stays = key_of(cluster, 0)
            client.hset(stays, "version", 1)
            cluster.move_slot(key_slot(old.encode()), 1)
        assert old in lanes(cluster.clients[1])
        cluster.nodes[1].restart()
        cluster.wait_until_whole()
        assert {each.op for each in changes(cluster.clients[1])} == {"u", "m", "i"}


def registry_tags(client: redis.Redis) -> list[str]:
    found: Any = client.keys("gearsync:*:registry")
    return sorted(name.decode().partition("{")[2].partition("}")[0] for name in found)


def times_called(client: redis.Redis, command: str) -> int:
    found: Any = client.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_slots_move_under_load(cluster: Cluster, variables: Variables, tmp_path: Path) -> None:
    """Every key ends in SQL as it is in Redis; no row ever goes back, or comes again without a reason."""
    url = variables["REPORTING_DB_URL"]
    deploy(cluster, tmp_path, worker="supervised")
    own = {key_slot(stream.encode()) for one in cluster.clients for stream in lanes(one)}
    slots = sorted({key_slot(f"person:{each}".encode()) for each in range(60)} | own)
    stop, errors = threading.Event(), []
    versions = [0]

    def load() -> None:
        dice = random.Random(5)
        try:
            with cluster.client() as client:
                while not stop.is_set():
                    versions[0] += 1
                    key = f"person:{dice.randrange(60)}"
                    if dice.random() < 0.1:
                        client.delete(key)
                    else:
                        client.hset(key, mapping={"version": versions[0], "note": f"n{versions[0]}"})
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    for slot in [*slots, *slots]:
        cluster.move_slot(slot, 1 - cluster.owner(slot))
    stop.set()
    thread.join()
    assert not errors, errors
    wait(cluster)
    with cluster.client() as client:
        found = {each: client.hget(f"person:{each}", "version") for each in range(60)}
    assert table(url) == {each: int(value) for each, value in found.items() if value is not None}
    last: dict[int, int] = {}
    repeated = 0
    for person, version in rows(url, "SELECT person_id, version FROM history ORDER BY seq"):
        assert version >= last.get(person, 0), f"person {person} went back to {version} from {last[person]}"
        repeated += version == last.get(person)
        last[person] = version
    # A key that was deleted and made again while its slot was open is captured anew: the same row once more.
    assert repeated <= sum(times_called(one, "gearsync.backfill") for one in cluster.clients)
