"""A shard's first slot and its last one: captured from the first write on, and nothing stays behind."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.integration.deploying import eventually
from tests.integration.module.driving import (
    ALWAYS,
    Function,
    changes,
    connect,
    deploy,
    key_changes,
    lanes,
    module_server,
    server_version,
    status,
    wait_for,
)
from tests.servers import RedisServer

# A slot of the first of two shards.
TAG = next(f"red{number}" for number in range(100) if key_slot(f"red{number}".encode()) < 8192)
SLOT = key_slot(TAG.encode())
FUNCTION = Function("team:{{" + TAG + "}}:{id}")
MEMBERS = Function("members:{{" + TAG + "}}:{id}", type="SET")
DOCUMENTS = Function("document:{{" + TAG + "}}:{id}", type="JSON")


DOCUMENT = f"document:{{{TAG}}}:1"


def key(number: int) -> str:
    return f"team:{{{TAG}}}:{number}"


def node(*options: str) -> RedisServer:
    # A primary without slots stays one: else it would become a replica of who has taken them.
    return module_server(*ALWAYS, "--cluster-allow-replica-migration", "no", *options)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two shards, and a node without a slot, all with the deployment."""
    with Cluster(node, primaries=2, spare=1) as found:
        for client in found.clients:
            deploy(client, FUNCTION, MEMBERS, DOCUMENTS)
        yield found


def tag(client: redis.Redis) -> str:
    return str(status(client)["tag"])


def write_asking(client: redis.Redis, number: int, first: str) -> None:
    """Write as a client that was sent here by ASK; redis-py's own does not know a node without slots."""
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("ASKING").hset(key(number), "first", first)
        pipe.execute()


def registries(client: redis.Redis) -> list[bytes]:
    found: Any = client.keys("gearsync:*:registry")
    return list(found)


def test_a_node_without_a_slot_captures_from_its_first_write_on(cluster: Cluster) -> None:
    new = cluster.clients[2]
    assert (tag(new), lanes(new)) == ("", [])
    with cluster.client() as client:
        client.hset(key(1), "first", "old")
        client.sadd(f"members:{{{TAG}}}:1", "a")
        cluster.open_slot(SLOT, 0, 2)
        write_asking(new, 2, "there")
        cluster.move_keys(SLOT, 0, 2)
        write_asking(new, 1, "moved")
        # Also after a crash amid the move.
        cluster.nodes[2].restart()
        cluster.close_slot(SLOT, 2)
        client.hset(key(1), "first", "settled")
    eventually(lambda: key_slot(tag(new).encode()) == SLOT)
    found = [(each.op, each.key, each.image.get("first")) for each in key_changes(new)]
    # The old shard's worker can't read members any more, so that they are marked here.
    members = [(op, name) for op, name, _ in found if name.startswith("members:")]
    assert members == [(op, f"members:{{{TAG}}}:1") for op in "ir"]
    assert [each for each in found if not each[1].startswith("members:")] == [
        ("u", key(2), "there"),
        ("i", key(1), None),
        ("u", key(1), "moved"),
        ("u", key(1), "settled"),
    ]
    assert registries(new) == [f"gearsync:{{{tag(new)}}}:registry".encode()]


def test_a_node_without_a_slot_lives_through_a_write_that_changes_nothing(cluster: Cluster) -> None:
    """Of write-through, whose lane it has to look at, as its first slot begins to come."""
    new = cluster.clients[2]
    deploy(new, Function("house:{{" + TAG + "}}:{id}", timeout_ms=20_000), name="houses")
    with new.pipeline(transaction=False) as pipe:
        pipe.execute_command("CLUSTER SETSLOT", SLOT, "IMPORTING", cluster.node_id(0))
        pipe.execute_command("ASKING").expire(f"house:{{{TAG}}}:1", 100)
        *_, found = pipe.execute(raise_on_error=False)
    assert found == 0 or isinstance(found, redis.exceptions.TryAgainError)
    assert [each["name"] for each in status(new)["deployments"]] == ["people", "houses"]


def test_a_key_that_was_to_leave_while_writes_were_paused_is_not_deleted(cluster: Cluster) -> None:
    old = cluster.clients[0]
    old.hset(key(1), "first", "old")
    cluster.open_slot(SLOT, 0, 1)
    old.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    with connect(cluster.nodes[0], socket_timeout=60) as mover, ThreadPoolExecutor(1) as pool:
        words: Any = ("MIGRATE", "127.0.0.1", cluster.nodes[1].port, key(1), 0, 5000)
        moving = pool.submit(mover.execute_command, *words)
        wait_for(lambda: moving.done() or old.info("clients")["blocked_clients"], "it waits, or is refused")
        old.ping()
        old.execute_command("CLIENT", "UNPAUSE")
        with contextlib.suppress(redis.ResponseError):
            moving.result(30)
        if server_version() >= (7, 2):
            mover.execute_command("MULTI")
            with pytest.raises(redis.ResponseError, match="send it alone"):
                mover.execute_command(*words)
    cluster.move_keys(SLOT, 0, 1)
    cluster.close_slot(SLOT, 1)
    assert [each.op for each in key_changes(old)] == ["u", "m"]
    assert [each.op for each in key_changes(cluster.clients[1])] == ["i"]


def test_an_operation_in_a_slot_on_its_way_is_done(cluster: Cluster) -> None:
    """Commands on such a key are for clients who are ASKING alone, which a module can't be."""
    old, new = cluster.clients[:2]
    if not status(new)["jobs"]:
        pytest.skip("operations need a server with post-notification jobs")
    for client in (old, new):
        deploy(client, Function("wish:{{" + TAG + "}}:{id}", operations=True), name="wishes")
    wish = f"wish:{{{TAG}}}:"
    old.hset(wish + "old", "last", "L")
    cluster.open_slot(SLOT, 0, 1)
    with new.pipeline(transaction=False) as pipe:
        for operation in "=+-~":
            pipe.execute_command("ASKING").hset(
                wish + operation, mapping={"first": "A", "#": operation + "t"}
            )
        pipe.execute_command("ASKING").hset(wish + "only", "#", "+")
        pipe.execute()
    # The old shard makes the stream of an acknowledgment, though it has no such key yet.
    old.hset(wish + "old", "#", "-t")
    for number, left, acknowledged in ((1, "=+", ["+", "-"]), (0, "", ["old"])):
        expected = {wish + each for each in left} | {f"{{{TAG}}}{{{wish}{each}}}t" for each in acknowledged}
        for _ in range(2):
            found: Any = cluster.clients[number].keys(f"*{wish}*")
            assert {each.decode() for each in found} == expected
            cluster.nodes[number].restart()
    cluster.wait_until_whole()
    with new.pipeline(transaction=False) as pipe:
        for each in "=+":
            pipe.execute_command("ASKING").hkeys(wish + each)
        assert pipe.execute()[1::2] == [[b"first"], [b"first"]]


def test_a_document_in_a_slot_on_its_way_here_is_no_deletion(cluster: Cluster) -> None:
    """The module, for which nobody is ASKING, can't read it: a mark. The worker does: test_resharding."""
    new = cluster.clients[1]
    cluster.open_slot(SLOT, 0, 1)
    with new.pipeline(transaction=False) as pipe:
        pipe.execute_command("ASKING").set(DOCUMENT, "{}")
        pipe.execute_command("ASKING").delete(DOCUMENT)
        pipe.execute()
    cluster.close_slot(SLOT, 1)
    new.set(DOCUMENT, "[]")
    found = [(each.op, each.image) for each in key_changes(new) if each.key == DOCUMENT and each.op != "w"]
    assert found == [("r", {}), ("d", {}), ("r", {"$": "[]"})]


def leave_one_slot(cluster: Cluster) -> None:
    """Let the first shard have no slot but that of the keys, and so of its lanes too."""
    cluster.move_slot(8000 if SLOT != 8000 else 8001, 1)
    own = key_slot(tag(cluster.clients[0]).encode())
    cluster.move_empty_slots(0, 1, {SLOT, own})
    if own != SLOT:
        cluster.move_slot(own, 1)
    eventually(lambda: key_slot(tag(cluster.clients[0]).encode()) == SLOT)


def test_what_waits_goes_with_the_last_slot(cluster: Cluster) -> None:
    """Lanes go last, so that no mark and no change comes after them."""
    old, new = cluster.clients[:2]
    for client in cluster.clients:
        # More keys of the module's own than a batch takes.
        deploy(client, FUNCTION, version=2, lanes=8)
    people, written = 45, Counter[str]()
    with cluster.client() as client:

        def write(number: int) -> None:
            client.hset(key(number), "first", str(written.total()))
            written[key(number)] += 1

        leave_one_slot(cluster)
        for number in range(people):
            write(number)
        cluster.open_slot(SLOT, 0, 1)
        move_some = functools.partial(old.execute_command, "CLUSTER GETKEYSINSLOT", SLOT, 7)
        while keys := move_some():
            address = ("127.0.0.1", cluster.nodes[1].port, "", 0, 10_000)
            old.execute_command("MIGRATE", *address, "REPLACE", "KEYS", *keys)
            for number in (0, people - 1, people // 2):
                write(number)
        cluster.close_slot(SLOT, 1)
    found = key_changes(new)
    assert Counter(each.key for each in found if each.op == "u") == written
    assert Counter(each.op for each in found) == {
        "u": written.total(),
        "m": people,
        "i": people,
    }
    eventually(lambda: tag(old) == "" and lanes(old) == [])
    assert list(old.keys()) == []
    eventually(lambda: len(registries(new)) == 1)


def test_a_tool_that_asks_once_for_the_keys_of_the_last_slot(cluster: Cluster) -> None:
    """No mark comes after the lanes: it would make a lane that nobody looks for."""
    old, new = cluster.clients[:2]
    leave_one_slot(cluster)
    with cluster.client() as client:
        client.hset(key(1), "first", "A")
    cluster.open_slot(SLOT, 0, 1)
    address = ("127.0.0.1", cluster.nodes[1].port, "", 0, 10_000)
    for keys in ([key(1)], old.keys("gearsync:*")):
        old.execute_command("MIGRATE", *address, "REPLACE", "KEYS", *keys)
    cluster.close_slot(SLOT, 1)
    eventually(lambda: tag(old) == "" and list(old.keys()) == [])
    assert [each.op for each in key_changes(new)] == ["u", "m", "i"]


def test_a_shard_that_had_no_slot_for_a_while_goes_on(cluster: Cluster) -> None:
    old = cluster.clients[0]
    leave_one_slot(cluster)
    cluster.move_slot(SLOT, 1)
    eventually(lambda: tag(old) == "")
    cluster.move_slot(SLOT, 0)
    with cluster.client() as client:
        client.hset(key(1), "first", "back")
    assert [(each.op, each.key) for each in key_changes(old)] == [("u", key(1))]
    eventually(lambda: len(registries(old)) == 1)


def deployed_of(client: redis.Redis) -> list[bytes]:
    """What the shard's registry has of deployments."""
    fields: Any = client.hkeys(f"gearsync:{{{tag(client)}}}:registry")
    return [each for each in fields if each.startswith(b"deployment:")]


def test_the_registry_that_comes_with_the_only_slot_is_not_taken_for_a_strangers(cluster: Cluster) -> None:
    """Its tag is the one that a node without a slot takes for that slot."""
    leave_one_slot(cluster)
    cluster.move_slot(SLOT, 2)
    new = cluster.clients[2]
    eventually(lambda: key_slot(tag(new).encode()) == SLOT)
    # Strangers are dropped at a tick, once the slot is ours.
    time.sleep(1)
    assert deployed_of(new) != []


def test_a_registry_that_left_with_a_slot_which_stays_is_written_again(cluster: Cluster) -> None:
    old = cluster.clients[0]
    leave_one_slot(cluster)
    cluster.open_slot(SLOT, 0, 1)
    cluster.move_keys(SLOT, 0, 1)
    assert registries(old) == []
    for client in cluster.clients[:2]:
        client.execute_command("CLUSTER SETSLOT", SLOT, "STABLE")
    eventually(lambda: deployed_of(old) != [])


def test_of_two_registries_the_one_in_a_slot_of_its_own_is_read(cluster: Cluster) -> None:
    """A crash between the coming of another shard's last keys and the end of the move."""
    old, new = cluster.clients[1], cluster.clients[0]
    home = key_slot(tag(old).encode())
    cluster.move_slot(home - 1, 0)
    cluster.move_empty_slots(1, 0, {home})
    # The first one would be the other shard's.
    assert int(tag(old)) < int(tag(new))
    own, source = tag(new), status(new)["source"]
    cluster.open_slot(home, 1, 0)
    cluster.move_keys(home, 1, 0)
    assert len(registries(new)) == 2
    cluster.nodes[0].restart()
    eventually(lambda: (tag(new), status(new)["source"]) == (own, source))


@contextlib.contextmanager
def opened(replicas: int = 0) -> Iterator[Cluster]:
    """A cluster in which a slot with one key is on its way from the first shard to the second."""
    with Cluster(node, primaries=2, replicas=replicas) as cluster:
        for client in cluster.clients[:2]:
            deploy(client, FUNCTION)
        cluster.clients[0].hset(key(1), "first", "Ada")
        cluster.open_slot(SLOT, 0, 1)
        yield cluster


def test_slots_stay_open_through_a_restart() -> None:
    """What ends or begins there has its marks: without them the two shards' workers could pass each other."""
    with opened() as cluster:
        old, new = cluster.clients
        wait_for(lambda: [each.op for each in changes(old)] == ["u", "m"], "the mark of the open slot")
        for server in cluster.nodes:
            server.restart()
        cluster.wait_until_whole()
        old.delete(key(1))
        write_asking(new, 1, "Eve")
        assert [each.op for each in changes(old)] == ["u", "m", "d", "w"]
        assert [each.op for each in changes(new)] == ["i", "u"]
        cluster.move_keys(SLOT, 0, 1)
        cluster.close_slot(SLOT, 1)
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m", "d", "w", "m"])
        eventually(lambda: [each.op for each in changes(new)] == ["i", "u", "i"])


def test_a_slot_that_comes_back_has_its_marks_though_nobody_told_that_it_had_gone() -> None:
    """A tool that dies right after it has told the new shard leaves the old one to hear of it by itself."""
    with opened() as cluster:
        old, new = cluster.clients
        cluster.move_keys(SLOT, 0, 1)
        new.execute_command("CLUSTER SETSLOT", SLOT, "NODE", cluster.node_id(1))
        wait_for(lambda: SLOT in cluster.slots(1, old), "the old shard hears of it")
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m", "m", "m"])
        new.delete(key(1))
        cluster.move_slot(SLOT, 0)
        old.hset(key(1), "first", "Eve")
        eventually(lambda: [each.op for each in changes(new)][-3:] == ["d", "m", "m"])
        assert [each.op for each in changes(old)][4:] == ["i", "i", "u"]


def test_a_move_that_the_server_refuses_to_begin_has_no_marks() -> None:
    """The first mark of such a pair would be taken by the next move of the slot."""
    with Cluster(node, primaries=2) as cluster:
        old, new = cluster.clients
        for client in cluster.clients:
            deploy(client, FUNCTION)
        old.hset(key(1), "first", "Ada")
        ids = cluster.node_id(0)
        with pytest.raises(redis.ResponseError, match="not the owner"):
            new.execute_command("CLUSTER SETSLOT", SLOT, "MIGRATING", ids)
        with pytest.raises(redis.ResponseError, match="already the owner"):
            old.execute_command("CLUSTER SETSLOT", SLOT, "IMPORTING", cluster.node_id(1))
        old.hset(key(1), "first", "Eve")
        new.ping()
        assert [each.op for each in changes(old)] == ["u", "u"]
        assert changes(new) == []
        cluster.move_slot(SLOT, 1)
        eventually(lambda: [each.op for each in changes(old)] == ["u", "u", "m", "m", "m"])
        eventually(lambda: [each.op for each in changes(new)] == ["i", "i", "i"])


def moving_marks(*clients: redis.Redis) -> tuple[Counter[str], Counter[str]]:
    """How often each key has a mark that it left, and one that it came, in all lanes."""
    found = [each for client in clients for each in changes(client)]
    left, came = (Counter(each.key for each in found if each.op == op) for op in "mi")
    return left, came


def test_a_node_knows_its_deployment_as_soon_as_it_has_its_first_slot(cluster: Cluster) -> None:
    """Also one without keys: a crash right after it forgets neither what is deployed nor the marks."""
    cluster.open_slot(SLOT, 0, 2)
    cluster.clients[2].execute_command("CLUSTER SETSLOT", SLOT, "NODE", cluster.node_id(2))
    assert registries(cluster.clients[2]) == [f"gearsync:{{{tag(cluster.clients[2])}}}:registry".encode()]
    assert {each.op for each in changes(cluster.clients[2])} == {"i"}


def test_a_first_slot_that_does_not_come_after_all_leaves_nothing_behind(cluster: Cluster) -> None:
    """Its lanes would be in a slot that is another shard's, where no worker reaches them."""
    old, new = cluster.clients[0], cluster.clients[2]
    old.hset(key(1), "first", "Ada")
    cluster.open_slot(SLOT, 0, 2)
    eventually(lambda: "m" in {each.op for each in changes(old)})
    for client in (new, old):
        client.execute_command("CLUSTER SETSLOT", SLOT, "STABLE")
    eventually(lambda: [each.op for each in changes(old)] == ["u", "m", "m"])
    eventually(lambda: (tag(new), lanes(new)) == ("", []))
    cluster.move_slot(cluster.slots(1)[0], 2)
    eventually(lambda: [each.op for each in changes(new)].count("i") >= 4)
    left, came = moving_marks(*cluster.clients)
    assert left == came


def test_a_move_that_the_server_refuses_to_end_goes_on() -> None:
    with opened() as cluster:
        old, new = cluster.clients
        with pytest.raises(redis.ResponseError, match="still hold keys"):
            old.execute_command("CLUSTER SETSLOT", SLOT, "NODE", cluster.node_id(1))
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m"])
        old.delete(key(1))
        write_asking(new, 1, "Eve")
        assert [each.op for each in changes(old)] == ["u", "m", "d", "w"]
        cluster.move_keys(SLOT, 0, 1)
        cluster.close_slot(SLOT, 1)
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m", "d", "w", "m"])
        eventually(lambda: [each.op for each in changes(new)] == ["i", "u", "i"])


def test_moves_of_shards_with_replicas_have_their_marks() -> None:
    """Valkey 8 and newer do CLUSTER SETSLOT only when the replicas have it."""
    with opened(replicas=1) as cluster:
        old, new = cluster.clients[:2]
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m"])
        old.delete(key(1))
        write_asking(new, 1, "Eve")
        cluster.move_keys(SLOT, 0, 1)
        cluster.close_slot(SLOT, 1)
        eventually(lambda: [each.op for each in changes(old)] == ["u", "m", "d", "w", "m"])
        eventually(lambda: [each.op for each in changes(new)] == ["i", "u", "i"])
        cluster.move_slot(SLOT, 0)
        eventually(lambda: [each.op for each in changes(new)][3:] == ["m", "m", "m"])
        eventually(lambda: [each.op for each in changes(old)][5:] == ["i", "i", "i"])
