"""GEARSYNC.WAIT answers when all that was captured before it is acknowledged, and never for less."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.module.driving import (
    Function,
    acknowledge,
    connect,
    decode,
    deploy,
    entries,
    lanes,
    module_server,
    status,
    wait_for,
)
from tests.servers import RedisServer


class Waiter:
    """One client in GEARSYNC.WAIT; ``answer`` is what came, OK or the error's text."""

    def __init__(self, server: RedisServer, *arguments: Any) -> None:
        self.answer = ""
        self.client = connect(server, socket_timeout=None, single_connection_client=True)
        self.id = self.client.client_id()
        self._thread = threading.Thread(target=self._run, args=arguments)
        self._thread.start()

    def _run(self, *arguments: Any) -> None:
        try:
            self.answer = self.client.execute_command("GEARSYNC.WAIT", *arguments).decode()
        except redis.RedisError as error:
            self.answer = str(error)

    def result(self, seconds: float = 15) -> str:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "no answer"
        return self.answer


@contextlib.contextmanager
def waiting(server: RedisServer, client: redis.Redis, *arguments: Any) -> Iterator[Waiter]:
    """A client that waits by now; let go at the end whatever happens."""
    before = status(client)["barriers"]
    waiter = Waiter(server, *arguments)
    wait_for(lambda: status(client)["barriers"] > before, "the barrier")
    try:
        yield waiter
    finally:
        client.client_kill_filter(_id=str(waiter.id))
        waiter.result()


def test_it_answers_at_once_when_nothing_waits(client: redis.Redis) -> None:
    assert client.execute_command("GEARSYNC.WAIT", 0) == b"OK"
    deploy(client)
    client.hset("person:1", "first", "Ada")
    acknowledge(client)
    assert client.execute_command("GEARSYNC.WAIT", 0) == b"OK"


def test_it_waits_for_what_was_before_it_and_not_for_what_comes_after(
    shared_server: RedisServer, client: redis.Redis
) -> None:
    deploy(client)
    for number in range(3):
        client.hset("person:1", "age", number)
    lane = lanes(client)[0]
    ids = [entry_id for entry_id, _ in entries(client, lane)]
    with waiting(shared_server, client, 0) as waiter:
        client.hset("person:1", "age", 99)
        for entry_id in ids[:2]:
            client.execute_command("GEARSYNC.ACK", lane, entry_id)
            client.ping()
            assert waiter.answer == ""
        client.execute_command("GEARSYNC.ACK", lane, ids[2])
        assert waiter.result() == "OK"
    assert len(entries(client, lane)) == 1


def test_an_id_that_was_never_given_opens_no_later_barrier(
    shared_server: RedisServer, client: redis.Redis
) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    client.execute_command("GEARSYNC.ACK", lanes(client)[0], f"{2**63}-0")
    client.hset("person:1", "age", 2)
    with waiting(shared_server, client, 0) as waiter:
        acknowledge(client)
        assert waiter.result() == "OK"


def test_a_timeout_says_what_still_waits(client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    begin = time.monotonic()
    with pytest.raises(redis.ResponseError, match=rf"^TIMEOUT .* 1 in {re.escape(lanes(client)[0])}; see"):
        client.execute_command("GEARSYNC.WAIT", 200)
    assert time.monotonic() - begin >= 0.19
    wait_for(lambda: status(client)["barriers"] == 0, "no barrier is left")


def test_one_deployment_or_one_key(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client, lanes=8)
    deploy(client, Function("order:{id}", ["total"]), name="orders")
    client.hset("order:1", "total", 1)
    assert client.execute_command("GEARSYNC.WAIT", 0, "DEPLOYMENT", "people") == b"OK"
    assert client.execute_command("GEARSYNC.WAIT", 0, "KEY", "person:1") == b"OK"
    for arguments in (
        ["DEPLOYMENT", "orders"],
        ["KEY", "order:1"],
        ["DEPLOYMENT", "orders", "KEY", "order:2"],
    ):
        with pytest.raises(redis.ResponseError, match="TIMEOUT"):
            client.execute_command("GEARSYNC.WAIT", 1, *arguments)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0, "key", "person:1") as waiter:
        acknowledge(client)
        assert waiter.result() == "OK"


def test_a_key_waits_for_its_own_lane_alone_and_for_every_retired_one(
    shared_server: RedisServer, client: redis.Redis
) -> None:
    deploy(client, lanes=8)
    numbers = range(40)
    for number in numbers:
        client.hset(f"person:{number}", "age", number)
    held = {lane: {decode(pairs).key for _, pairs in entries(client, lane)} for lane in lanes(client)}
    for lane, keys in held.items():
        if "person:0" not in keys:
            client.execute_command("GEARSYNC.ACK", lane, entries(client, lane)[-1][0])
    others = sorted({f"person:{number}" for number in numbers} - held[lane_of("person:0", held)])
    assert client.execute_command("GEARSYNC.WAIT", 0, "KEY", others[0]) == b"OK"
    with waiting(shared_server, client, 0, "KEY", "person:0") as waiter:
        deploy(client, version=2, lanes=3)
        # The retired lane is one of all keys now.
        with waiting(shared_server, client, 0, "KEY", others[0], "DEPLOYMENT", "people") as other:
            client.ping()
            assert (waiter.answer, other.answer) == ("", "")
            assert acknowledge(client) == len(held[lane_of("person:0", held)])
            assert (waiter.result(), other.result()) == ("OK", "OK")


@pytest.mark.parametrize("lanes_then", [1, 2])
def test_a_key_that_an_earlier_version_covered(
    shared_server: RedisServer, client: redis.Redis, lanes_then: int
) -> None:
    """Its change is applied by the rules of that version: it is waited for, and its row is an older one."""
    deploy(client)
    client.hset("person:1", "age", 1)
    deploy(client, Function("order:{id}", ["total"]), version=2, lanes=lanes_then)
    client.hset("order:1", "total", 1)
    assert client.execute_command("GEARSYNC.WAITING", 0, "person:1") == [b"person:1"]
    lane = next(
        each for each in lanes(client) if "person:1" in {decode(it).key for _, it in entries(client, each)}
    )
    with waiting(shared_server, client, 0, "KEY", "person:1") as waiter:
        client.execute_command("GEARSYNC.ACK", lane, entries(client, lane)[0][0])
        # What this version captured is of none of its keys.
        assert waiter.result() == "OK"
    assert client.execute_command("GEARSYNC.WAIT", 0, "KEY", "person:1") == b"OK"
    assert client.execute_command("GEARSYNC.WAITING", 0, "person:1") == []


def lane_of(key: str, held: dict[str, set[str]]) -> str:
    return next(lane for lane, keys in held.items() if key in keys)


def test_writes_that_go_on_never_starve_it(shared_server: RedisServer, client: redis.Redis) -> None:
    """There is never a moment at which nothing waits."""
    deploy(client, lanes=2)
    for number in range(8):
        client.hset(f"person:{number}", "age", 0)
    with waiting(shared_server, client, 30_000) as waiter:
        for age in range(1, 10):
            before = {lane: entries(client, lane)[-1][0] for lane in lanes(client)}
            for number in range(8):
                client.hset(f"person:{number}", "age", age)
            for lane, last in before.items():
                assert client.execute_command("GEARSYNC.ACK", lane, last) > 0
        assert waiter.result() == "OK"


@pytest.mark.parametrize("command", [["DEL"], ["XTRIM", "MAXLEN", "0"]], ids=lambda each: str(each[0]))
def test_a_lane_that_somebody_empties_by_hand_lets_them_go(
    shared_server: RedisServer, client: redis.Redis, command: list[str]
) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        client.execute_command(command[0], lanes(client)[0], *command[1:])
        assert waiter.result() == "OK"


@pytest.mark.parametrize(("how", "answer"), [("TIMEOUT", "TIMEOUT not all"), ("ERROR", "UNBLOCKED")])
def test_client_unblock(shared_server: RedisServer, client: redis.Redis, how: str, answer: str) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        assert client.execute_command("CLIENT", "UNBLOCK", waiter.id, how) == 1
        assert waiter.result().startswith(answer)
    wait_for(lambda: status(client)["barriers"] == 0, "no barrier is left")
    acknowledge(client)


def test_a_reload_keeps_the_barrier(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        client.execute_command("DEBUG", "RELOAD")
        client.hset("person:1", "age", 2)
        client.ping()
        assert waiter.answer == ""
        oldest: Any = client.xrange(lanes(client)[0], count=1)
        client.execute_command("GEARSYNC.ACK", lanes(client)[0], oldest[0][0])
        assert waiter.result() == "OK"


def test_the_module_stays_as_long_as_somebody_waits(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        with pytest.raises(redis.ResponseError, match="blocked clients"):
            client.execute_command("MODULE", "UNLOAD", "gearsync")
        acknowledge(client)
        assert waiter.result() == "OK"


def test_many_clients_that_leave_before_their_answer(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    leavers = [connect(shared_server, single_connection_client=True) for _ in range(30)]
    for number, leaver in enumerate(leavers):
        assert leaver.connection is not None
        leaver.connection.send_command("GEARSYNC.WAIT", number % 3 * 100)
    wait_for(lambda: status(client)["barriers"] >= 10, "those without a timeout wait")
    for leaver in leavers:
        leaver.close()
    acknowledge(client)
    wait_for(lambda: status(client)["barriers"] == 0, "no barrier is left")
    client.execute_command("DEBUG", "RELOAD")


def test_all_who_wait_are_answered_and_one_that_left_harms_nobody(
    shared_server: RedisServer, client: redis.Redis
) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as first, waiting(shared_server, client, 60_000) as second:
        with waiting(shared_server, client, 0) as leaver:
            client.client_kill_filter(_id=str(leaver.id))
            assert "closed" in leaver.result().lower()
        wait_for(lambda: status(client)["barriers"] == 2, "the one that left is forgotten")
        acknowledge(client)
        assert (first.result(), second.result()) == ("OK", "OK")
    assert status(client)["barriers"] == 0


def test_an_upgrade_to_other_lanes_keeps_the_barrier(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        deploy(client, version=2, lanes=4)
        client.hset("person:1", "age", 2)
        assert waiter.answer == ""
        client.execute_command("GEARSYNC.ACK", lanes(client)[0], f"{2**62}-0")
        assert waiter.result() == "OK"


@pytest.mark.parametrize("command", [["UNDEPLOY", "people", "DISCARD"], ["UNDEPLOY", "people"]])
def test_undeploy_lets_them_go_when_nothing_waits_any_more(
    shared_server: RedisServer, client: redis.Redis, command: list[str]
) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        client.execute_command(f"GEARSYNC.{command[0]}", *command[1:])
        if len(command) == 2:
            assert waiter.answer == ""
            acknowledge(client)
        assert waiter.result() == "OK"


def test_a_flush_keeps_the_barrier(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 0) as waiter:
        client.flushall()
        client.ping()
        assert waiter.answer == ""
        acknowledge(client)
        assert waiter.result() == "OK"


def test_inside_multi_and_scripts_it_says_that_it_cannot_wait(client: redis.Redis) -> None:
    deploy(client)
    pipe = client.pipeline(transaction=True)
    pipe.hset("person:1", "age", 1)
    pipe.execute_command("GEARSYNC.WAIT", 0)
    with pytest.raises(redis.ResponseError, match="can't wait inside MULTI or a script"):
        pipe.execute()
    with pytest.raises(redis.ResponseError, match="can't wait inside MULTI or a script"):
        client.eval("return redis.call('GEARSYNC.WAIT', '0')", 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "wrong number of arguments"),
        (["soon"], "the timeout must be milliseconds"),
        (["-1"], "the timeout must be milliseconds"),
        ([str(2**40 + 1)], "the timeout must be milliseconds"),
        (["0x10"], "the timeout must be milliseconds"),
        ([""], "the timeout must be milliseconds"),
        (["0", "DEPLOYMENT"], "use GEARSYNC.WAIT"),
        (["0", "LANE", "x"], "use GEARSYNC.WAIT"),
        (["0", "KEY", "a", "KEY"], "use GEARSYNC.WAIT"),
        (["0", "KEY", "a", "KEY", "b"], "use GEARSYNC.WAIT"),
        (["0", "DEPLOYMENT", "people", "DEPLOYMENT", "people"], "use GEARSYNC.WAIT"),
        (["0", "DEPLOYMENT", ""], "there is no deployment of that name"),
        (["0", "DEPLOYMENT", b"peo\0ple"], "there is no deployment of that name"),
        (["0", "DEPLOYMENT", "nobody"], "there is no deployment of that name"),
    ],
)
def test_wrong_use(client: redis.Redis, arguments: list[Any], reason: str) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with pytest.raises(redis.ResponseError, match=reason):
        client.execute_command("GEARSYNC.WAIT", *arguments)
    assert status(client)["barriers"] == 0


@pytest.mark.parametrize("timeout", [2**63 - 1, 2**62, 2**41])
def test_a_timeout_that_the_server_would_not_take_leaves_nobody_behind(
    shared_server: RedisServer, client: redis.Redis, timeout: int
) -> None:
    """Since 7.2 the server answers such a client itself; to remember it as waiting is a crash."""
    deploy(client)
    client.hset("person:1", "age", 1)
    with connect(shared_server) as other, pytest.raises(redis.ResponseError, match="the timeout must be"):
        other.execute_command("GEARSYNC.WAIT", timeout)
    acknowledge(client)
    assert status(client)["barriers"] == 0
    with connect(shared_server) as other:
        other.ping()


def test_the_longest_timeout_waits(shared_server: RedisServer, client: redis.Redis) -> None:
    deploy(client)
    client.hset("person:1", "age", 1)
    with waiting(shared_server, client, 2**40) as waiter:
        acknowledge(client)
        assert waiter.result() == "OK"


def test_a_primary_that_becomes_a_replica_lets_nobody_wait_in_vain() -> None:
    with module_server() as other, module_server() as server, connect(server) as client:
        deploy(client)
        client.hset("person:1", "age", 1)
        with waiting(server, client, 0) as waiter:
            client.replicaof("127.0.0.1", other.port)
            assert "UNBLOCKED" in waiter.result() or "replica" in waiter.answer
        with pytest.raises(redis.ResponseError, match="replica"):
            client.execute_command("GEARSYNC.WAIT", 0)
