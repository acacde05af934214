"""Write-through in the module: the test plays the worker, which takes intents and settles them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from deploy.reaching.clients import Clients
from deploy.reaching.shards import connect as connect_shards
from tests.integration.module.driving import (
    ALWAYS,
    Change,
    Function,
    Read,
    changes,
    connect,
    debug_options,
    deploy,
    deploy_arguments,
    deployment_status,
    entries,
    has_command,
    lanes,
    module_server,
    server_version,
    wait_for,
)
from tests.servers import RedisServer

PERSONS = Function(timeout_ms=20_000)
HURRIED = Function(timeout_ms=150)


class Sent:
    """A command that waits for its reply in a thread of its own."""

    def __init__(self, server: RedisServer, *words: Any, **options: Any) -> None:
        self.client = connect(server, socket_timeout=60, **options)
        self.reply: Any = None
        self._thread = threading.Thread(target=self._run, args=(words,))
        self._thread.start()

    def _run(self, words: tuple[Any, ...]) -> None:
        try:
            self.reply = self.client.execute_command(*words)
        except redis.RedisError as error:
            self.reply = error
        self.client.close()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(30)
        assert not self.waits, "no reply came"
        return self.reply

    def error(self) -> str:
        reply = self.result()
        assert isinstance(reply, redis.RedisError), reply
        return str(reply)


class Worker:
    """What the worker says to the module."""

    def __init__(self, client: redis.Redis, name: str = "worker") -> None:
        self.client = client
        self.name = name
        [self.stream] = lanes(client)
        self.begin()

    def begin(self) -> None:
        """Have the lane, with nothing to be done again."""
        applied = self.client.execute_command("GEARSYNC.APPLIED", self.stream)
        self.client.execute_command("GEARSYNC.REDO", self.stream, *applied, self.name)

    def last(self) -> bytes:
        return entries(self.client, self.stream)[-1][0]

    def take(self) -> list[bytes]:
        """Take all; returns the ids."""
        version, *ids = self.client.execute_command("GEARSYNC.TAKE", self.stream, self.last(), self.name)
        assert version == 1
        return list(ids)

    def settle(self, *refused: Any, upto: bytes = b"") -> int:
        words = ("GEARSYNC.SETTLE", self.stream, upto or self.last(), self.name)
        return int(self.client.execute_command(*words, *refused))

    def wait_for(self, count: int) -> None:
        wait_for(lambda: len(changes(self.client)) == count, f"{count} entries in the lane")


def ticket(*words: str) -> bytes:
    """Return a command of database 0 as an intent has it."""
    said = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
    return b"0 *%d\r\n" % len(words) + said


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with module_server(*ALWAYS) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server) as client:
        deploy(client, PERSONS)
        yield client


@pytest.fixture
def worker(client: redis.Redis) -> Worker:
    return Worker(client)


def test_a_key_that_a_client_writes_is_not_backfilled(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """Its hash is older than the row that SQL may have any moment, and would come behind it."""
    sent = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    assert client.execute_command("GEARSYNC.BACKFILL", "person:1", "person:2") == [-2, -1]
    worker.take()
    assert client.execute_command("GEARSYNC.BACKFILL", "person:1") == [-2]
    worker.settle()
    assert sent.result() == 1
    assert client.execute_command("GEARSYNC.BACKFILL", "person:1") == [1]


def test_a_key_is_captured_anew_once_the_clients_that_write_it_have_their_answers(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """As verify --repair and deadletters retry want it: behind the row, never an older hash over it."""
    sent = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    with pytest.raises(redis.ResponseError, match=r"THROUGH .* ask again"):
        client.execute_command("GEARSYNC.RECAPTURE", "person:2", "person:1")
    with connect_shards(server.url) as shards, Clients() as clients, ThreadPoolExecutor(1) as pool:
        captured = pool.submit(clients.recapture, shards, 0, "people", b"person:1")
        worker.take()
        assert not captured.done()
        worker.settle()
        assert sent.result() == 1
        assert captured.result(10) == 1


def test_a_row_that_goes_without_its_key_breaks_the_watch_of_who_read_it_before(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """A follower of the table would bring the hash of a row that is gone: DEL changes nothing in Redis."""
    with client.pipeline() as follower:
        follower.watch("person:1")
        assert client.execute_command("GEARSYNC.WAITING", 0, "person:1") == []
        sent = Sent(server, "DEL", "person:2", "person:1")
        worker.wait_for(2)
        worker.take()
        worker.settle()
        assert sent.result() == 0
        assert client.execute_command("GEARSYNC.WAITING", 0, "person:1") == []
        follower.multi()
        follower.execute_command("GEARSYNC.PUT", "people", 0, "REPLACE", 0, 1, "person:1", 1, "first", "Ada")
        with pytest.raises(redis.WatchError):
            follower.execute()
    assert not client.exists("person:1")


def test_a_write_of_an_old_primary_is_not_taken_for_another_one_of_its_id(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """Two primaries, for a while, give ids by the same clock; the older epoch tells whose it was."""
    client.execute_command("GEARSYNC.EPOCH", 1 << 20)
    sent = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    [mine] = worker.take()
    words = ("GEARSYNC.REDO", worker.stream, 1, mine, worker.name)
    lost = ticket("HSET", "person:2", "age", "2")
    client.execute_command(*words, mine, lost, b"")
    assert client.hgetall("person:2") == {b"age": b"2"}
    assert not client.exists("person:1")
    worker.settle()
    assert sent.result() == 1
    assert client.hgetall("person:1") == {b"age": b"1"}


def test_a_write_that_was_computed_before_an_old_one_came_back_is_refused(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """It is of a state that nobody was told of, and would be written over the one that clients know."""
    client.execute_command("GEARSYNC.EPOCH", 1 << 20)
    sent = Sent(server, "HINCRBY", "person:1", "age", 1)
    worker.wait_for(1)
    lost = ticket("HSET", "person:1", "age", "17")
    client.execute_command("GEARSYNC.REDO", worker.stream, 1, "9-1", worker.name, "9-1", lost, b"")
    assert worker.take() == []
    assert "nothing was written" in sent.error()
    assert client.hgetall("person:1") == {b"age": b"17"}
    again = Sent(server, "HINCRBY", "person:1", "age", 1)
    wait_for(lambda: len(worker.take()) == 1, "the next write")
    worker.settle()
    assert again.result() == 18


def test_what_changes_nothing_here_waits_for_what_sql_has_committed(
    server: RedisServer, client: redis.Redis
) -> None:
    """After a restart the field may be one that Redis has forgotten; then 0 were no true answer."""
    server.restart()
    with connect(server) as client:
        removed, nothing = (Sent(server, "HDEL", key, "age") for key in ("person:1", "person:2"))
        wait_for(lambda: blocked(client) == 2, "the clients that wait")
        worker = Worker(client)
        lost = ticket("HSET", "person:1", "age", "1")
        client.execute_command("GEARSYNC.REDO", worker.stream, 1, "9-1", worker.name, "9-1", lost, b"")
        assert client.execute_command("GEARSYNC.TAKE", worker.stream, "9-1", worker.name) == [1]
        assert nothing.result() == 0
        wait_for(lambda: len(worker.take()) == 1, "the write that changes something")
        worker.settle()
        assert removed.result() == 1
        assert not client.exists("person:1")
        assert client.hdel("person:1", "age") == 0


def test_who_waits_for_that_is_told_when_the_database_is_away(
    server: RedisServer, client: redis.Redis
) -> None:
    server.restart()
    with connect(server) as client:
        sent = Sent(server, "HDEL", "person:1", "age")
        wait_for(lambda: blocked(client) == 1, "the client that waits")
        assert client.execute_command("GEARSYNC.DENY", Worker(client).stream, "the database is away") == 1
        assert "the database is away" in sent.error()


def blocked(client: redis.Redis) -> int:
    return int(client.info("clients")["blocked_clients"])


def test_nobody_sees_it_before_it_is_settled(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    sent = Sent(server, "HSET", "person:1", "first", "Ada", "age", "36", "other", "x")
    worker.wait_for(1)
    assert not client.exists("person:1")
    client.hset("elsewhere", "first", "B")
    assert changes(client) == [
        Change(
            "U",
            1,
            "person:1",
            {"first": "Ada", "age": "36"},
            "0 *8\r\n$4\r\nHSET\r\n$8\r\nperson:1\r\n$5\r\nfirst\r\n$3\r\nAda\r\n$3\r\nage\r\n$2\r\n36\r\n"
            "$5\r\nother\r\n$1\r\nx\r\n",
        )
    ]
    assert len(worker.take()) == 1
    assert sent.waits and not client.exists("person:1")
    assert worker.settle() == 1
    assert sent.result() == 3
    assert client.hgetall("person:1") == {b"first": b"Ada", b"age": b"36", b"other": b"x"}
    assert changes(client) == []
    assert blocked(client) == 0


def test_a_refused_write_changes_nothing(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    one, two = Sent(server, "HSET", "person:1", "age", 1), Sent(server, "HSET", "person:2", "age", 2)
    worker.wait_for(2)
    first, second = worker.take()
    named = {each.key: entry for each, entry in zip(changes(client), (first, second))}
    worker.settle(named["person:1"], "person:1 is not written: age must be even")
    assert one.error() == "THROUGH person:1 is not written: age must be even"
    assert two.result() == 1
    assert client.keys("person:*") == [b"person:2"]


def test_the_writes_of_a_key_take_turns(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    first = Sent(server, "HINCRBY", "person:1", "age", 5)
    worker.wait_for(1)
    second = Sent(server, "HINCRBY", "person:1", "age", 5)
    wait_for(lambda: blocked(client) == 2, "the second client")
    third = Sent(server, "DEL", "person:1", "person:2")
    wait_for(lambda: blocked(client) == 3, "the third client")
    fourth = Sent(server, "HSETNX", "person:2", "age", 1)
    wait_for(lambda: blocked(client) == 4, "the fourth client")
    assert [each.image for each in changes(client)] == [{"age": "5"}]
    rest: list[list[tuple[str, dict[str, str]]]] = [
        [("U", {"age": "10"})],
        [("D", {})] * 2,
        [("U", {"age": "1"})],
    ]
    for expected in rest:
        worker.take()
        worker.settle()
        assert [(each.op, each.image) for each in changes(client)] == expected
    worker.take()
    worker.settle()
    assert [first.result(), second.result(), third.result(), fourth.result()] == [5, 10, 1, 1]
    assert client.hgetall("person:2") == {b"age": b"1"}


def test_a_refused_write_is_no_base_of_the_next(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    first = Sent(server, "HINCRBY", "person:1", "age", 5)
    worker.wait_for(1)
    second = Sent(server, "HINCRBY", "person:1", "age", 7)
    wait_for(lambda: blocked(client) == 2, "the second client")
    [taken] = worker.take()
    worker.settle(taken, "no")
    assert "no" in first.error()
    worker.take()
    worker.settle()
    assert second.result() == 7


@pytest.mark.parametrize(
    ("words", "image", "reply"),
    [
        (["HSET", "person:1", "first", "A", "first", "B"], ("U", {"first": "B", "age": "7"}), 1),
        (["HMSET", "person:1", "age", "8"], ("U", {"age": "8"}), b"OK"),
        (["HSETNX", "person:1", "last", "L"], ("U", {"age": "7", "last": "L"}), 1),
        (["HINCRBY", "person:1", "age", "-9"], ("U", {"age": "-2"}), -2),
        (["HINCRBYFLOAT", "person:1", "age", "0.1"], ("U", {"age": "7.1"}), b"7.1"),
        (["HINCRBYFLOAT", "person:1", "last", "1e2"], ("U", {"age": "7", "last": "100"}), b"100"),
        (["HDEL", "person:1", "age", "age", "none"], ("R", {}), 1),
        (["HDEL", "person:1", "age", "x"], ("D", {}), 2),
        (["DEL", "person:1"], ("D", {}), 1),
        (["UNLINK", "person:1", "person:1"], ("D", {}), 1),
        (["DEL", "person:9"], ("D", {}), 0),
        (["EXPIRE", "person:1", "-1"], ("D", {}), 1),
        (["PEXPIREAT", "person:1", "1000"], ("D", {}), 1),
    ],
)
def test_what_each_command_does(
    server: RedisServer,
    client: redis.Redis,
    worker: Worker,
    words: list[str],
    image: tuple[str, dict[str, str]],
    reply: object,
) -> None:
    with connect(server) as other:
        given = Sent(server, "HSET", "person:1", "age", "7", "x", "1")
        worker.wait_for(1)
        worker.take()
        worker.settle()
        assert given.result() == 2
        raw = redis.Redis(connection_pool=other.connection_pool)
        raw.response_callbacks.clear()
        sent = Sent(server, *words)
        sent_raw = sent.client.response_callbacks
        sent_raw.clear()
        worker.wait_for(1)
        [change] = changes(client)
        assert (change.op, change.image) == image
        worker.take()
        worker.settle()
        assert sent.result() == reply
        assert changes(client) == []


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["HSET", "person:1", "age"], "wrong number of arguments"),
        (["HINCRBY", "person:1", "age", "x"], "not an integer"),
        (["HINCRBY", "person:1", "first", "1"], "not an integer"),
        (["HINCRBY", "person:1", "age", "9223372036854775807"], "overflow"),
        (["HINCRBYFLOAT", "person:1", "first", "1"], "not a float"),
        (["HSET", "person:text", "age", "1"], "WRONGTYPE"),
        (["HSETNX", "person:1", "age", "1"], 0),
        (["HDEL", "person:1", "none"], 0),
        (["HDEL", "person:9", "age"], 0),
        (["EXPIRE", "person:1", "100"], 1),
        (["EXPIRE", "person:9", "-1"], 0),
        (["EXPIRE", "person:1", "-9223372036854775807"], "invalid expire time"),
        (["EXPIREAT", "person:1", "-9223372036854775807"], "invalid expire time"),
        (["EXPIRE", "person:1", "-1", "NX", "LT"], "not compatible|wrong number of arguments"),
    ],
)
def test_what_changes_no_row_waits_for_nobody(server: RedisServer, words: list[str], reply: object) -> None:
    with connect(server) as client:
        client.set("person:text", "x")
        client.hset("person:1", mapping={"age": 7, "first": "A"})
        deploy(client, PERSONS)
        client.response_callbacks.clear()
        if isinstance(reply, str):
            with pytest.raises(redis.ResponseError, match=reply):
                client.execute_command(*words)
        else:
            assert client.execute_command(*words) == reply
        assert changes(client) == []


@pytest.mark.parametrize(
    "words",
    [
        ["SET", "person:1", "x"],
        ["RENAME", "elsewhere", "person:1"],
        ["RENAME", "person:1", "elsewhere"],
        ["COPY", "elsewhere", "person:1"],
        ["HGETDEL", "person:1", "FIELDS", "1", "age"],
        ["SUNIONSTORE", "person:1", "elsewhere"],
    ],
)
def test_commands_that_can_not_wait_are_refused(
    server: RedisServer, client: redis.Redis, words: list[str]
) -> None:
    if not has_command(client, words[0]):
        pytest.skip(f"this server has no {words[0]}")
    client.hset("elsewhere", "a", "b")
    with pytest.raises(redis.ResponseError, match="THROUGH this command can't wait"):
        client.execute_command(*words)
    assert client.keys("person:*") == []


def test_in_a_transaction_it_is_refused(server: RedisServer, client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=True)
    pipe.set("elsewhere", "1")
    pipe.hset("person:1", "age", "1")
    with pytest.raises(redis.ResponseError, match="send it alone"):
        pipe.execute()
    # Where the server can't tell the filter that a transaction is open, its neighbours have run.
    assert client.exists("elsewhere") == (server_version() < (7, 2))
    assert not client.exists("person:1")


def test_in_a_script_it_is_refused(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="send it alone"):
        client.eval("return redis.call('HSET', KEYS[1], 'age', 1)", 1, "person:1")
    assert not client.exists("person:1")


def test_a_script_keeps_room_for_long_commands(client: redis.Redis) -> None:
    """Servers before 7.0.8 reuse the array of its words, which our own word must not shorten."""
    script = """
        local words = {}
        for i = 1, 3000 do words[i] = tostring(i) end
        redis.call('HSET', KEYS[1], unpack(words))
        local refused = redis.pcall('HSET', KEYS[2], 'age', 1).err
        for _ = 1, 20 do redis.call('HSET', KEYS[1], unpack(words)) end
        return refused
    """
    for _ in range(20):
        assert b"send it alone" in client.eval(script, 2, "elsewhere", "person:1")
    assert client.hlen("elsewhere") == 1500
    assert not client.exists("person:1")


def test_who_waits_too_long_is_told(server: RedisServer) -> None:
    with connect(server) as client:
        deploy(client, HURRIED)
        worker = Worker(client)
        one = Sent(server, "HSET", "person:1", "age", 1)
        two = Sent(server, "HSET", "person:1", "age", 2)
        assert "within 150 ms, so nothing was written" in one.error()
        assert "nothing was written" in two.error()
        wait_for(lambda: blocked(client) == 0, "nobody waiting")
        assert worker.take() == []
        worker.settle()
        assert not client.exists("person:1")
        wait_for(lambda: changes(client) == [], "an empty lane")


@pytest.mark.parametrize("committed", [True, False])
def test_what_was_given_up_does_not_come_true(server: RedisServer, committed: bool) -> None:
    with connect(server) as client:
        client.hset("person:1", "age", 1)
        deploy(client, HURRIED)
        worker = Worker(client)
        sent = Sent(server, "HSET", "person:1", "age", 2)
        worker.wait_for(1)
        [taken] = worker.take()
        assert "given up" in sent.error()
        if committed:
            worker.settle()
            # SQL goes back to what Redis has.
            assert [(each.op, each.image) for each in changes(client)] == [("r", {"age": "1"})]
        else:
            worker.settle(taken, "no")
            assert changes(client) == []
        assert client.hget("person:1", "age") == b"1"


@pytest.mark.parametrize("how", ["KILL", "UNBLOCK", "UNBLOCK ERROR", "close"])
@pytest.mark.parametrize("taken", [True, False])
def test_a_client_that_leaves(
    server: RedisServer, client: redis.Redis, worker: Worker, how: str, taken: bool
) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [waiting] = [each["id"] for each in client.client_list() if "b" in each["flags"]]
    if taken:
        worker.take()
    if how == "KILL":
        client.execute_command("CLIENT", "KILL", "ID", waiting)
    elif how == "close":
        sent.client.connection_pool.disconnect()
    else:
        client.execute_command("CLIENT", "UNBLOCK", waiting, *how.split()[1:])
    wait_for(lambda: blocked(client) == 0, "nobody waiting")
    if not taken:
        assert worker.take() == []
    # By the module, or with ERROR by the server itself: then SQL goes back to what Redis has.
    told = how.startswith("UNBLOCK")
    worker.settle()
    assert [each.op for each in changes(client)] == (["d"] if taken and told else [])
    assert client.exists("person:1") == (taken and not told), sent.reply
    sent.result()
    # Nothing is left: another write of the key has its turn.
    again = Sent(server, "HSET", "person:1", "age", 3)
    wait_for(lambda: any(each.op == "U" for each in changes(client)), "the next intent")
    worker.take()
    worker.settle()
    assert again.result() in (0, 1)
    assert client.execute_command("MODULE", "UNLOAD", "gearsync") in (b"OK", True), "a write is left"


def test_keys_of_two_deployments_are_not_deleted_together(server: RedisServer, client: redis.Redis) -> None:
    deploy(client, Function("car:{id}", timeout_ms=1000), name="cars")
    with pytest.raises(redis.ResponseError, match="two deployments"):
        client.delete("person:1", "car:1")


def test_a_key_of_two_deployments_is_refused(server: RedisServer, client: redis.Redis) -> None:
    deploy(client, Function("person:{other}", timeout_ms=1000), name="cars")
    with pytest.raises(redis.ResponseError, match="two deployments"):
        client.hset("person:1", "age", 1)


def test_the_status_counts_them(server: RedisServer) -> None:
    with connect(server) as client:
        deploy(client, Function(timeout_ms=1000))
        assert deployment_status(client)["through"] == {
            "waiting": 0,
            "committed": 0,
            "refused": 0,
            "timed_out": 0,
        }
        worker = Worker(client)
        sent = [Sent(server, "HSET", f"person:{number}", "age", 1) for number in range(3)]
        worker.wait_for(3)
        assert deployment_status(client)["through"]["waiting"] == 3
        [first, second, _] = worker.take()
        worker.settle(first, "no", upto=second)
        for each in sent:
            each.result()
        assert deployment_status(client)["through"] == {
            "waiting": 0,
            "committed": 1,
            "refused": 1,
            "timed_out": 1,
        }


def test_a_key_that_expires_meanwhile(server: RedisServer) -> None:
    with connect(server) as client:
        client.hset("person:1", mapping={"age": 1, "first": "A"})
        deploy(client, PERSONS)
        worker = Worker(client)
        client.pexpire("person:1", 200)
        sent = Sent(server, "HINCRBY", "person:1", "age", 1)
        worker.wait_for(1)
        [taken] = worker.take()
        wait_for(lambda: not client.exists("person:1"), "the key's end")
        worker.settle(upto=taken)
        # It was written, and then its time was over.
        assert sent.result() == 2
        assert not client.exists("person:1")
        assert [each.op for each in changes(client)] == ["x"]


def sent_behind(server: RedisServer, client: redis.Redis, *words: Any) -> Sent:
    """A write that waits for the one before it."""
    before = blocked(client)
    sent = Sent(server, *(words or ("HSET", "person:1", "age", 3)))
    wait_for(lambda: blocked(client) > before, "the next write")
    return sent


def test_what_was_given_up_is_taken_back_before_the_next_write(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """Behind it, SQL would have an older state than Redis in the end."""
    given_up = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    worker.take()
    [waiting] = [each["id"] for each in client.client_list() if "b" in each["flags"]]
    client.execute_command("CLIENT", "UNBLOCK", waiting)
    assert "given up" in given_up.error()
    behind = sent_behind(server, client)
    worker.settle()
    assert [(each.op, each.image) for each in changes(client)] == [("d", {}), ("U", {"age": "3"})]
    worker.take()
    worker.settle()
    assert behind.result() == 1


def test_what_was_disturbed_is_captured_before_the_next_write(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    disturbed = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [taken] = worker.take()
    client.flushall()
    behind = sent_behind(server, client)
    worker.settle(upto=taken)
    assert disturbed.result() == 1
    assert [(each.op, each.image.get("age")) for each in changes(client)][-2:] == [("u", "2"), ("U", "3")]
    worker.take()
    worker.settle()
    assert behind.result() == 0


@pytest.mark.parametrize("count", [2, 200])
def test_what_was_disturbed_does_not_stand_between_the_keys_of_the_next_write(
    server: RedisServer, client: redis.Redis, worker: Worker, count: int
) -> None:
    disturbed = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [taken] = worker.take()
    client.flushall()
    keys = [f"person:{number}" for number in range(count, 0, -1)]
    behind = sent_behind(server, client, "DEL", *keys)
    worker.settle(upto=taken)
    assert disturbed.result() == 1
    found = [(each.op, each.key) for each in changes(client)][-1 - count :]
    assert found == [("u", "person:1"), *(("D", key) for key in keys)]
    worker.take()
    worker.settle()
    assert behind.result() == 1


def test_the_end_that_a_write_finds_stands_before_it(server: RedisServer) -> None:
    with connect(server) as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        client.hset("person:1", mapping={"age": 1, "first": "A"})
        deploy(client, PERSONS)
        worker = Worker(client)
        client.pexpire("person:1", 5)
        time.sleep(0.02)
        sent = Sent(server, "HSET", "person:1", "age", 2)
        worker.wait_for(2)
        assert [(each.op, each.image) for each in changes(client)] == [("x", {}), ("U", {"age": "2"})]
        worker.take()
        worker.settle()
        assert sent.result() == 1


def test_the_applied_position_is_one_with_the_writes(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [taken] = worker.take()
    assert client.execute_command("GEARSYNC.APPLIED", worker.stream) == [1, b"0-0"]
    client.execute_command("GEARSYNC.EPOCH", 5)
    worker.settle()
    sent.result()
    assert client.execute_command("GEARSYNC.APPLIED", worker.stream) == [1, taken]
    server.restart()
    with connect(server) as again:
        assert again.execute_command("GEARSYNC.APPLIED", worker.stream) == [1, taken]
        assert again.hgetall("person:1") == {b"age": b"2"}


def test_who_has_not_begun_with_what_sql_has_takes_nothing(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """Another worker, or another primary meanwhile, may have committed what this one knows nothing of."""
    other = Worker(client, "other")
    sent = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    with pytest.raises(redis.ResponseError, match=r"FENCED .* begin with REDO"):
        worker.take()
    with pytest.raises(redis.ResponseError, match="FENCED"):
        other.take()
    other.begin()
    assert len(other.take()) == 1
    other.settle()
    assert sent.result() == 1
    server.restart()
    with connect(server) as client:
        nothing = Sent(server, "HDEL", "person:2", "age")
        wait_for(lambda: blocked(client) == 1, "the client that waits")
        other.client = client
        with pytest.raises(redis.ResponseError, match="FENCED"):
            client.execute_command("GEARSYNC.TAKE", other.stream, "9-1", other.name)
        assert nothing.waits
        other.begin()
        assert client.execute_command("GEARSYNC.TAKE", other.stream, "9-1", other.name) == [1]
        assert nothing.result() == 0


def test_after_a_restart_nothing_waits(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    server.restart()
    assert isinstance(sent.result(), redis.ConnectionError)
    with connect(server) as again:
        worker = Worker(again)
        assert worker.take() == []
        assert worker.settle() == 0
        assert not again.exists("person:1") and changes(again) == []


def test_what_sql_has_is_done_again(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    waiting = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [taken] = worker.take()
    refused = Sent(server, "HSET", "person:2", "age", 2)
    worker.wait_for(2)
    other = worker.take()[1]
    lost = "3 *4\r\n$4\r\nHSET\r\n$8\r\nperson:3\r\n$3\r\nage\r\n$1\r\n9\r\n"
    words = [
        taken,
        "0 *2\r\n$3\r\nDEL\r\n$1\r\nx\r\n",
        "",
        other,
        "",
        "no",
        "9-1",
        lost.replace("3 *", "0 *"),
        "",
    ]
    redo = ("GEARSYNC.REDO", worker.stream, 1, other, "other")
    with pytest.raises(redis.ResponseError, match=r"FENCED .* begin with REDO"):
        # It may have asked SQL before the other one did so, and what that one has done is another's by now.
        client.execute_command(*redo, *words)
    assert waiting.waits and not client.exists("person:3")
    client.execute_command(*redo, *words)
    assert waiting.result() == 1
    assert "no" in refused.error()
    assert client.hgetall("person:3") == {b"age": b"9"}
    assert client.execute_command("GEARSYNC.APPLIED", worker.stream) == [1, other]
    with pytest.raises(redis.ResponseError, match="FENCED"):
        worker.settle()


def test_others_are_denied(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    taken = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    worker.take()
    denied = Sent(server, "HSET", "person:2", "age", 2)
    worker.wait_for(2)
    assert client.execute_command("GEARSYNC.DENY", worker.stream, "the database is away") == 1
    assert denied.error() == "THROUGH the database is away"
    worker.settle()
    assert taken.result() == 1
    assert client.keys("person:*") == [b"person:1"]


def test_a_deployment_that_goes(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
    assert "taken away" in sent.error()
    assert client.hset("person:1", "age", 3) == 1


def test_a_replica_has_what_the_primary_has(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    with module_server("--replicaof", "127.0.0.1", str(server.port)) as replica, connect(replica) as reader:
        wait_for(lambda: reader.info("replication")["master_link_status"] == "up", "the link")
        sent = Sent(server, "HSET", "person:1", "age", 2)
        worker.wait_for(1)
        worker.take()
        worker.settle()
        sent.result()
        wait_for(lambda: reader.hgetall("person:1") == {b"age": b"2"}, "the write on the replica")
        wait_for(lambda: entries(reader, worker.stream) == [], "an empty lane there")
        with pytest.raises(redis.ReadOnlyError):
            reader.hset("person:1", "age", 3)
        reader.config_set("replica-read-only", "no")
        reader.execute_command("GEARSYNC.STATUS")
        twin = "" if server_version() >= (7, 0) else ".auth"
        assert reader.execute_command(f"GEARSYNC.THROUGH{twin}", "HSET", "person:1", "age", 3) == 0
        assert entries(reader, worker.stream) == []


def test_a_primary_that_becomes_a_replica_lets_its_clients_go(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    with module_server() as other:
        client.replicaof("127.0.0.1", other.port)
        assert isinstance(sent.result(), redis.RedisError)
        wait_for(lambda: blocked(client) == 0, "nobody waiting")
        client.replicaof("NO", "ONE")


def test_in_another_database_nothing_waits(server: RedisServer, client: redis.Redis) -> None:
    with connect(server, db=1) as other:
        assert other.hset("person:1", "age", 1) == 1
        assert client.copy("plain", "person:1", destination_db="1") is False
        for words in (["MOVE", "person:1", 0], ["COPY", "person:1", "person:2", "REPLACE", "DB", 0]):
            with pytest.raises(redis.ResponseError, match="THROUGH this command can't wait"):
                other.execute_command(*words)
        assert other.delete("person:1") == 1
        if server_version() >= (7, 2):
            popping = Sent(server, "BLPOP", "person:1", 10, db=1)
            wait_for(lambda: blocked(client) == 1, "a client that waits")
            other.rpush("person:1", "x")
            assert tuple(popping.result()) == (b"person:1", b"x")
    assert client.dbsize() == len(client.keys("gearsync:*"))


def test_a_value_that_looks_like_a_covered_key_is_none(server: RedisServer) -> None:
    with connect(server, db=1) as other:
        deploy(other, PERSONS, Function(template="pet:{id}", db=1, timeout_ms=20_000))
        other.select(0)
        assert other.set("pet:1", "person:1")


def test_rights_are_those_of_the_command(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    client.execute_command("ACL", "SETUSER", "writer", "on", ">x", "+hset", "~person:1*")
    if server_version() < (7, 0):
        client.execute_command("ACL", "SETUSER", "writer", "+gearsync.through.auth")
    sent = Sent(server, "HSET", "person:1", "age", 2, username="writer", password="x")
    worker.wait_for(1)
    worker.take()
    worker.settle()
    assert sent.result() == 1
    with connect(server, username="writer", password="x") as writer:
        with pytest.raises(redis.exceptions.NoPermissionError):
            writer.hset("person:2", "age", 1)
        if server_version() >= (7, 0):
            with pytest.raises(redis.exceptions.NoPermissionError):
                writer.hincrby("person:1", "age", 1)
    client.config_set("requirepass", "secret")
    with connect(server) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.hset("person:1", "age", 1)
    client.config_set("requirepass", "")


def test_a_flush_meanwhile(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    [taken] = worker.take()
    client.flushall()
    worker.settle(upto=taken)
    assert sent.result() == 1
    assert client.hgetall("person:1") == {b"age": b"2"}
    assert [(each.op, each.image) for each in changes(client)] == [("u", {"age": "2"})]


def test_a_key_does_not_leave_amid_its_write(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    first = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    worker.take()
    worker.settle()
    first.result()
    sent = Sent(server, "HSET", "person:1", "age", 2)
    worker.wait_for(1)
    with module_server() as other, connect(other) as there:
        words = ("MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", "elsewhere", "person:1")
        for keys in (words, (*words[:-1], worker.stream)):
            with pytest.raises(redis.ResponseError, match="try again"):
                client.execute_command(*keys)
        worker.take()
        worker.settle()
        sent.result()
        client.execute_command(*words)
        assert there.hgetall("person:1") == {b"age": b"2"}


def test_a_lane_stays_until_what_sql_has_of_it_is_in_redis(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """The shard that has it next has not its keys, and does nothing of it again."""
    waiting = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    server.restart()
    assert isinstance(waiting.result(), redis.ConnectionError)
    with connect(server) as client, module_server() as other, connect(other) as there:
        deploy(there, PERSONS)
        worker = Worker(client)
        words = ("MIGRATE", "127.0.0.1", other.port, worker.stream, 0, 5000, "COPY")
        with pytest.raises(redis.ResponseError, match="on its way to SQL"):
            client.execute_command(*words)
        worker.take()
        client.execute_command(*words)
        assert there.execute_command("GEARSYNC.APPLIED", worker.stream) == [1 << 62, b"0-0"]


def test_what_sql_has_is_not_taken_for_done_while_a_cluster_is_down() -> None:
    """It would refuse each write, which the worker then were never to do again."""
    with module_server(*ALWAYS, "--cluster-enabled", "yes") as server, connect(server) as client:

        def is_ok() -> bool:
            state: dict[str, str] = client.execute_command("CLUSTER INFO")
            return state["cluster_state"] == "ok"

        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        wait_for(is_ok, "the cluster")
        deploy(client, PERSONS)
        worker = Worker(client)
        sent = Sent(server, "HSET", "person:1", "age", 1)
        worker.wait_for(1)
        [mine] = worker.take()
        # Redis itself would tell a client who stays that the cluster is down, at some time within a second.
        [waiting] = [each["id"] for each in client.client_list() if "b" in each["flags"]]
        client.client_kill_filter(_id=waiting)
        sent.result()
        client.execute_command("CLUSTER DELSLOTS", 5)
        wait_for(lambda: not is_ok(), "the cluster's end")
        with pytest.raises(redis.RedisError, match="cluster is down"):
            worker.settle(upto=mine)
        with pytest.raises(redis.RedisError, match="cluster is down"):
            worker.begin()
        client.execute_command("CLUSTER ADDSLOTS", 5)
        wait_for(is_ok, "the cluster")
        assert worker.settle(upto=mine) == 1
        assert client.hgetall("person:1") == {b"age": b"1"}


def test_a_lane_of_the_same_name_begins_anew(
    server: RedisServer, client: redis.Redis, worker: Worker
) -> None:
    """What SQL has kept of the one before is not done again over what clients have written since."""
    sent = Sent(server, "HSET", "person:1", "age", 1)
    worker.wait_for(1)
    worker.take()
    worker.settle()
    sent.result()
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    wait_for(lambda: client.execute_command("GEARSYNC.DEPLOYMENTS") == [], "the end of the deployment")
    deploy(client, PERSONS)
    assert Worker(client).stream == worker.stream
    for _ in range(2):
        with connect(server) as client:
            assert client.execute_command("GEARSYNC.APPLIED", worker.stream) == [2, b"0-0"]
        server.restart()


@pytest.mark.parametrize("failure", ["ERROR", "MISS"])
def test_a_write_of_a_row_that_is_not_in_redis_begins_with_it(server: RedisServer, failure: str) -> None:
    """A counter whose key has expired goes on where its row is."""
    with connect(server) as client:
        arguments = deploy_arguments(functions=[PERSONS])
        reads = ["READS", 1, "t1", 0, "person:{id}", 20_000, 1000, 0, failure]
        client.execute_command("GEARSYNC.DEPLOY", *arguments, *reads)
        worker = Worker(client)
        take = ("GEARSYNC.MISSES", "people", 1, "t1", 10, 100)
        sent = Sent(server, "HINCRBY", "person:1", "age", 1)
        [[token, *_]] = wait_for(lambda: client.execute_command(*take), "a miss")
        assert changes(client) == []
        client.execute_command("GEARSYNC.LOADED", "people", "t1", 1, token, 0, 2, "age", 41, "first", "A")
        assert [each.image for each in changes(client)] == [{"first": "A", "age": "42"}]
        worker.take()
        worker.settle()
        assert sent.result() == 42
        assert client.hmget("person:1", "age", "first") == [b"42", b"A"]
        failing = Sent(server, "HSET", "person:2", "age", 1)
        [[token, *_]] = wait_for(lambda: client.execute_command(*take), "a miss")
        client.execute_command("GEARSYNC.UNREAD", "people", "t1", "the database is away", token)
        assert "nothing was written: the database is away" in failing.error()
        leaving = Sent(server, "HSET", "person:3", "age", 1)
        wait_for(lambda: blocked(client) == 1, "the client")
        [waiting] = [each["id"] for each in client.client_list() if "b" in each["flags"]]
        client.execute_command("CLIENT", "KILL", "ID", waiting)
        leaving.result()
        wait_for(lambda: blocked(client) == 0, "nobody waiting")
        assert client.keys("person:*") == [b"person:1"]


def test_nothing_is_logged_while_writes_are_paused(server: RedisServer) -> None:
    """A row that can't be read ends one write, so that its key's next has its turn: not now."""
    with connect(server) as client:
        deploy(client, PERSONS, reads=[Read()])
        worker = Worker(client)
        first = Sent(server, "HINCRBY", "person:1", "age", 1)
        take = ("GEARSYNC.MISSES", "people", 1, "t1", 10, 100)
        [[token, *_]] = wait_for(lambda: client.execute_command(*take), "a miss")
        second = Sent(server, "DEL", "person:1")
        wait_for(lambda: blocked(client) == 2, "both")
        client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        client.execute_command("GEARSYNC.UNREAD", "people", "t1", "the database is away", token)
        assert "the database is away" in first.error()
        assert changes(client) == []
        client.execute_command("CLIENT", "UNPAUSE")
        worker.wait_for(1)
        worker.take()
        worker.settle()
        assert second.result() == 0


def test_without_memory_nothing_is_logged(server: RedisServer, client: redis.Redis, worker: Worker) -> None:
    client.select(1)
    client.config_set("maxmemory", 1)
    for database in (0, 1) if server_version() >= (7, 0) else (0,):
        client.select(database)
        with pytest.raises(redis.ResponseError, match="command not allowed when used memory"):
            client.hset("person:1", "age", 1)
    client.select(0)
    deleting = Sent(server, "DEL", "person:1")
    worker.wait_for(1)
    worker.take()
    worker.settle()
    assert deleting.result() == 0
    client.config_set("maxmemory", 0)


def test_a_hundred_functions_over_one_key(server: RedisServer) -> None:
    """More than the module tells apart: the intent has the whole hash."""
    fields = [f"f{number}" for number in range(100)]
    with connect(server) as client:
        client.hset("person:1", "other", "x")
        deploy(client, *(Function(fields=[field], timeout_ms=20_000) for field in fields))
        worker = Worker(client)
        words = [word for field in (*fields, "none") for word in (field, "1")]
        sent = Sent(server, "HSET", "person:1", *words)
        worker.wait_for(1)
        [change] = changes(client)
        assert change.image == dict.fromkeys(fields, "1") | {"other": "x", "none": "1"}
        worker.take()
        worker.settle()
        assert sent.result() == 101


def test_thousands_of_fields_and_keys_do_not_hold_the_server_up(server: RedisServer) -> None:
    names = [f"f{number}" for number in range(30_000)]
    with connect(server) as client:
        client.config_set("slowlog-log-slower-than", 1_000_000)
        deploy(client, Function(fields=None, timeout_ms=60_000))
        worker = Worker(client)

        def done(*words: str) -> tuple[Change, Any]:
            sent = Sent(server, *words)
            wait_for(lambda: changes(client), "the intent")
            [change, *others] = changes(client)
            assert all(each.ticket == "+" for each in others)
            worker.take()
            worker.settle()
            return change, sent.result()

        pairs = [word for name in names for word in (name, "1")]
        change, reply = done("HSET", "person:1", *pairs, "f7", "2", "f7", "3")
        assert (change.image, reply) == (dict.fromkeys(names, "1") | {"f7": "3"}, len(names))
        change, reply = done("HSET", "person:1", *pairs, "more", "1", "more", "2")
        assert (change.image, reply) == (dict.fromkeys(names, "1") | {"more": "2"}, 1)
        change, reply = done("HDEL", "person:1", *names[1:], "f5", "none")
        assert (change.op, change.image, reply) == ("R", {"f0": "1", "more": "2"}, len(names) - 1)
        keys = [f"person:{number}" for number in range(20_000)]
        change, reply = done("DEL", *keys, *keys)
        assert (change.op, reply) == ("D", 1)
        assert client.slowlog_len() == 0, "a command took a second"


def test_a_field_whose_time_is_over_meanwhile() -> None:
    with module_server(*debug_options()) as server, connect(server) as client:
        if not has_command(client, "HPEXPIRE"):
            pytest.skip("fields have no time of their own here")
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        end = time.time() + 0.7
        client.hset("person:1", "age", 10)
        client.execute_command("HPEXPIREAT", "person:1", round(end * 1000), "FIELDS", 1, "age")
        deploy(client, PERSONS)
        worker = Worker(client)
        sent = Sent(server, "HINCRBY", "person:1", "age", 1)
        worker.wait_for(1)
        worker.take()
        assert [change.image["age"] for change in changes(client)] == ["11"]
        time.sleep(max(0.0, end + 0.01 - time.time()))
        worker.settle()
        assert sent.result() == 1
        assert [change.image for change in changes(client)] == [{"age": "1"}], "SQL has 11"


def test_nobody_is_left_without_a_reply(server: RedisServer) -> None:
    """What waits for its turn, and has no effect for SQL, is answered however short its time is."""
    with connect(server, socket_timeout=10) as client:
        deploy(client, Function(timeout_ms=1))
        for _ in range(20):
            with pytest.raises(redis.ResponseError, match="within 1 ms"):
                client.delete("person:1")
            with contextlib.suppress(redis.ResponseError):
                client.expire("person:1", 100)
