"""Write-through in slots that change their shard: what SQL commits is done by the shard that has the key."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from connectors import Position
from gears.worker import lanes
from tests.cluster import Cluster
from tests.integration.module.driving import (
    ALWAYS,
    changes,
    deploy,
    module_server,
    server_version,
    wait_for,
)
from tests.integration.module.driving import lanes as streams
from tests.integration.module.test_through import PERSONS, Sent
from tests.integration.module.test_through_forgotten import Runner, commit, database

#: Keys of the first shard, each in a slot of its own; a test takes one and leaves its slot stable.
KEYS = iter([f"person:{{k{n}}}" for n in range(500) if key_slot(b"k%d" % n) < 8000])
JOBS = server_version() >= (7, 2)
"""There the server has a write start after its command, not in it."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(functools.partial(module_server, *ALWAYS), primaries=2) as found:
        for client in found.clients:
            deploy(client, PERSONS)
        yield found


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """A cluster, after which no client waits."""
    yield shared
    for client in shared.clients:
        wait_for(functools.partial(_nobody_waits, client), "nobody waiting")


def _nobody_waits(client: redis.Redis) -> bool:
    return waiting(client) == 0


def waiting(client: redis.Redis) -> int:
    """Return how many clients wait."""
    return int(client.info("clients")["blocked_clients"])


@pytest.fixture
def key() -> str:
    return next(KEYS)


class Worker:
    """The worker's own exchange with the module of a node; ``asks=False``: as one that may not say ASKING."""

    def __init__(self, cluster: Cluster, number: int, asks: bool = True) -> None:
        self.client = cluster.clients[number]
        [stream] = streams(self.client)
        self.stream = stream
        position = lanes.fetch_applied(self.client, stream)
        lanes.redo(self.client, stream, position, "me", [])
        url = f"redis://127.0.0.1:{cluster.nodes[number].port}"
        self.exchange = lanes.Exchange(url, stream, "me")
        if not asks:
            self.exchange._asking, self.exchange._of_asked = [], [True]
        self.last = ""

    def take(self) -> int:
        """Take what there is; return how many clients wait for it."""
        self.exchange.ask(None, 100)
        intake = self.exchange.answer()
        self.last = intake.reading.last_id or self.last
        return len(intake.alive)

    def take_one(self) -> None:
        wait_for(lambda: self.take() == 1, "a write that is taken")

    def settle(self) -> None:
        self.exchange.settle(lanes.Settled(self.last, []))


@pytest.fixture
def old(cluster: Cluster) -> Iterator[Worker]:
    worker = Worker(cluster, 0)
    yield worker
    worker.exchange.close()


@pytest.fixture
def new(cluster: Cluster) -> Iterator[Worker]:
    worker = Worker(cluster, 1)
    yield worker
    worker.exchange.close()


class Asking(Sent):
    """A command that comes after ASKING, as of a client that another shard sent here."""

    def _run(self, words: tuple[Any, ...]) -> None:
        self.client.execute_command("ASKING")
        super()._run(words)


def ask(cluster: Cluster, *words: Any) -> Asking:
    return Asking(cluster.nodes[1], *words, single_connection_client=True)


def done(worker: Worker, sent: Sent) -> Any:
    """The worker takes a write and settles it; the client's reply."""
    worker.take_one()
    worker.settle()
    return sent.result()


def slot_of(key: str) -> int:
    return key_slot(key.encode())


def keys_of_slot(client: redis.Redis, key: str) -> int:
    return int(client.execute_command("CLUSTER COUNTKEYSINSLOT", slot_of(key)))


def set_slot(cluster: Cluster, number: int, key: str, *words: Any) -> None:
    cluster.clients[number].execute_command("CLUSTER SETSLOT", slot_of(key), *words)


def end(cluster: Cluster, key: str) -> None:
    """Bring the slot of a key to the new shard."""
    cluster.move_keys(slot_of(key), 0, 1)
    cluster.close_slot(slot_of(key), 1)


def test_who_is_sent_to_the_new_shard_writes_there(
    cluster: Cluster, key: str, old: Worker, new: Worker
) -> None:
    """Keys that have moved, and keys that are made, while their slot is open."""
    moved, made = f"{key}moved", f"{key}made"
    done(old, Sent(cluster.nodes[0], "HSET", moved, "age", 1))
    cluster.open_slot(slot_of(key), 0, 1)
    cluster.move_keys(slot_of(key), 0, 1)
    for name in (moved, made):
        with pytest.raises(redis.exceptions.AskError):
            cluster.clients[0].hset(name, "age", 2)
    assert done(new, ask(cluster, "HINCRBY", moved, "age", 2)) == 3
    assert done(new, ask(cluster, "HSET", made, "age", 2)) == 1
    first = ask(cluster, "HSET", made, "age", 3)
    new.take_one()
    second = ask(cluster, "HINCRBY", made, "age", 1)
    new.settle()
    assert first.result() == 0
    assert done(new, second) == 4
    end(cluster, key)
    there = cluster.clients[1]
    assert (there.hget(moved, "age"), there.hget(made, "age")) == (b"3", b"4")


def test_what_changes_nothing_for_sql_is_told_to_try_again(cluster: Cluster, key: str, new: Worker) -> None:
    cluster.open_slot(slot_of(key), 0, 1)
    assert done(new, ask(cluster, "HSET", key, "age", 1)) == 1
    again = ask(cluster, "HSETNX", key, "age", 2)
    if JOBS:
        assert isinstance(again.result(), redis.exceptions.TryAgainError)
    else:
        assert again.result() == 0
    end(cluster, key)
    assert cluster.clients[1].hsetnx(key, "age", 2) == 0


def test_a_worker_that_may_not_ask_takes_nothing_of_such_a_slot(cluster: Cluster, key: str) -> None:
    worker = Worker(cluster, 1, asks=False)
    cluster.open_slot(slot_of(key), 0, 1)
    sent = ask(cluster, "HSET", key, "age", 1)
    wait_for(lambda: worker.take() == 0 and not sent.waits, "an answer")
    assert isinstance(sent.result(), redis.exceptions.TryAgainError)
    worker.exchange.close()
    end(cluster, key)
    assert not cluster.clients[1].exists(key)


def test_a_slot_is_not_opened_while_a_new_key_of_it_is_on_its_way_to_sql(
    cluster: Cluster, key: str, old: Worker
) -> None:
    there = cluster.node_id(1)
    set_slot(cluster, 1, key, "IMPORTING", cluster.node_id(0))
    sent = Sent(cluster.nodes[0], "HSET", key, "age", 1)
    old.take_one()
    for words in (("MIGRATING", there), ("NODE", there)):
        with pytest.raises(redis.ResponseError, match="on its way to SQL; try again"):
            set_slot(cluster, 0, key, *words)
    old.settle()
    assert sent.result() == 1
    sent = Sent(cluster.nodes[0], "HINCRBY", key, "age", 1)
    old.take_one()
    set_slot(cluster, 0, key, "MIGRATING", there)
    old.settle()
    assert sent.result() == 2
    end(cluster, key)
    assert cluster.clients[1].hget(key, "age") == b"2"


def test_a_new_key_that_no_worker_has_taken_is_made_on_the_new_shard(
    cluster: Cluster, key: str, old: Worker, new: Worker
) -> None:
    sent = Sent(cluster.nodes[0], "HSET", key, "age", 1)
    wait_for(lambda: waiting(cluster.clients[0]) == 1, "a write that waits")
    cluster.open_slot(slot_of(key), 0, 1)
    assert old.take() == 0
    assert isinstance(sent.result(), redis.exceptions.TryAgainError)
    assert done(new, ask(cluster, "HSET", key, "age", 1)) == 1
    end(cluster, key)
    assert cluster.clients[1].hget(key, "age") == b"1"


def test_a_key_that_was_deleted_by_the_write_before(
    cluster: Cluster, key: str, old: Worker, new: Worker
) -> None:
    """The old shard must not make it again."""
    done(old, Sent(cluster.nodes[0], "HSET", key, "age", 1))
    first = Sent(cluster.nodes[0], "DEL", key)
    old.take_one()
    cluster.open_slot(slot_of(key), 0, 1)
    second = Sent(cluster.nodes[0], "HSET", key, "age", 2)
    wait_for(lambda: waiting(cluster.clients[0]) == 2, "two that wait")
    old.settle()
    assert first.result() == 1
    assert old.take() == 0
    assert isinstance(second.result(), redis.exceptions.TryAgainError)
    end(cluster, key)
    assert not cluster.clients[1].exists(key)


@pytest.mark.parametrize("comes", [False, True])
def test_keys_of_one_delete_of_which_one_ends_by_itself(
    cluster: Cluster, key: str, old: Worker, new: Worker, comes: bool
) -> None:
    """The server takes it for one on the other shard, and would refuse them all."""
    short, long = f"{key}short", f"{key}long"
    for name in (short, long):
        done(old, Sent(cluster.nodes[0], "HSET", name, "age", 1))
    cluster.clients[0].pexpire(short, 700)
    cluster.open_slot(slot_of(key), 0, 1)
    if comes:
        cluster.move_keys(slot_of(key), 0, 1)
    worker, here = (new, cluster.clients[1]) if comes else (old, cluster.clients[0])
    sent = ask(cluster, "DEL", short, long) if comes else Sent(cluster.nodes[0], "DEL", short, long)
    worker.take_one()
    wait_for(lambda: keys_of_slot(here, short) == 1, "the end of a key")
    worker.settle()
    assert sent.result() == 1
    end(cluster, key)
    assert cluster.clients[1].exists(short, long) == 0


def test_a_slot_that_comes_does_not_go_back_amid_a_write(cluster: Cluster, key: str, new: Worker) -> None:
    cluster.open_slot(slot_of(key), 0, 1)
    sent = ask(cluster, "HSET", key, "age", 1)
    new.take_one()
    for words in (("STABLE",), ("NODE", cluster.node_id(0))):
        with pytest.raises(redis.ResponseError, match="on its way to SQL; try again"):
            set_slot(cluster, 1, key, *words)
    cluster.close_slot(slot_of(key), 1)
    new.settle()
    assert sent.result() == 1
    assert cluster.clients[1].hget(key, "age") == b"1"


def test_who_loses_a_slot_by_force_says_so(cluster: Cluster, key: str, old: Worker) -> None:
    """Nobody asks the old shard: it hears of its new owner from the cluster."""
    sent = Sent(cluster.nodes[0], "HSET", key, "age", 1)
    old.take_one()
    set_slot(cluster, 1, key, "IMPORTING", cluster.node_id(0))
    set_slot(cluster, 1, key, "NODE", cluster.node_id(1))
    wait_for(lambda: slot_of(key) not in cluster.slots(0), "the loss of a slot")
    old.settle()
    assert "took the slot of its key by force" in sent.error()


def test_after_a_restart_slots_stay_until_the_worker_has_begun(cluster: Cluster, key: str) -> None:
    """What SQL has and this shard has forgotten could not be done here any more."""
    cluster.nodes[0].restart()
    cluster.wait_until_whole()
    with pytest.raises(redis.ResponseError, match="after a restart; try again"):
        set_slot(cluster, 0, key, "MIGRATING", cluster.node_id(1))
    set_slot(cluster, 0, key, "NODE", cluster.node_id(0))
    worker = Worker(cluster, 0)
    worker.take()
    worker.exchange.close()
    cluster.move_slot(slot_of(key), 1)


@contextlib.contextmanager
def opened(cluster: Cluster, key: str) -> Iterator[None]:
    """The slot of a key is on its way to the new shard; in the end it is there, with its keys."""
    cluster.open_slot(slot_of(key), 0, 1)
    try:
        yield
    finally:
        end(cluster, key)


def redo(cluster: Cluster, tmp_path: Path, *writes: tuple[str, ...]) -> None:
    """A worker of the old shard begins, where SQL has writes of which Redis has no key any more."""
    with lanes.connect(f"redis://127.0.0.1:{cluster.nodes[0].port}") as client, database(tmp_path) as sql:
        runner = Runner(client)
        stream = runner._lane.stream
        applied = lanes.fetch_applied(client, stream)
        for number, words in enumerate(writes, 1):
            commit(sql, stream, Position(applied.epoch, applied.ms + number, 0), *words)
        runner._redo(client, sql, applied)


def test_a_forgotten_key_of_a_slot_that_leaves_is_made_here_again(
    cluster: Cluster, key: str, tmp_path: Path
) -> None:
    """No command makes one there: the server sends who tries to the new shard, which has none either."""
    with opened(cluster, key):
        redo(cluster, tmp_path, ("HSET", key, "age", "1", "first", "A"), ("HDEL", key, "first"))
        assert cluster.clients[0].hgetall(key) == {b"age": b"1"}
        assert [(each.key, each.image) for each in changes(cluster.clients[0])][-1] == (key, {"age": "1"})
    assert cluster.clients[1].hgetall(key) == {b"age": b"1"}


def test_a_forgotten_key_that_has_left_already_is_not_made_here_again(
    cluster: Cluster, key: str, old: Worker, tmp_path: Path
) -> None:
    """Else an older state of it would go over what the new shard has."""
    done(old, Sent(cluster.nodes[0], "HSET", key, "age", 7))
    with opened(cluster, key):
        cluster.move_keys(slot_of(key), 0, 1)
        redo(cluster, tmp_path, ("HSET", key, "age", "1"))
        assert not keys_of_slot(cluster.clients[0], key)
    assert cluster.clients[1].hgetall(key) == {b"age": b"7"}


@pytest.mark.parametrize("taken", [True, False])
def test_who_is_told_that_the_cluster_is_down_has_written_nothing(
    cluster: Cluster, key: str, old: Worker, taken: bool
) -> None:
    """A server tells that to all who wait; so they must not find their writes done later."""
    client = cluster.clients[0]
    if "valkey_version" in client.info("server"):
        pytest.skip("Valkey lets the clients of modules wait on")
    done(old, Sent(cluster.nodes[0], "HSET", key, "age", 1))
    [spare] = [slot for slot in cluster.slots(0) if not client.cluster("COUNTKEYSINSLOT", slot)][:1]
    sent = Sent(cluster.nodes[0], "HSET", key, "age", 2)
    if taken:
        old.take_one()
    else:
        wait_for(lambda: waiting(client) == 1, "a client that waits")
    client.execute_command("CLUSTER DELSLOTS", spare)
    assert "cluster is down" in sent.error()
    client.execute_command("CLUSTER ADDSLOTS", spare)
    cluster.wait_until_whole()
    if taken:
        old.settle()
        # SQL goes back to what Redis has.
        assert [(each.op, each.image) for each in changes(client)] == [("r", {"age": "1"})]
    else:
        wait_for(lambda: old.take() == 0 and not waiting(client), "nobody waiting")
    assert client.hget(key, "age") == b"1"
