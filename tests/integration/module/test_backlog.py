"""The bound of a backlog: covered writes are refused at it, before anything is written; all else goes on."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.cluster import Cluster
from tests.integration.module.driving import (
    ALWAYS,
    FIELDS,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    deployment_status,
    has_command,
    lanes,
    module_server,
    server_version,
    wait_for,
)
from tests.integration.module.test_registry import WAYS
from tests.integration.module.test_replication import catch_up, pair

LIMIT = 5
SCRIPT = "redis.call('SET', 'before', 'x') return redis.call('HSET', KEYS[1], 'first', 'Eve')"
LIBRARY = "#!lua name=lib\nredis.register_function('put', function(KEYS) {} end)".format(
    SCRIPT.replace("redis.call('SET', 'before', 'x') ", "")
)
REFUSED = "^BACKLOG the change stream of deployment people is full, so nothing was written"


def fill(client: redis.Redis, **settings: Any) -> None:
    """Deploy with a bound of LIMIT changes and reach it."""
    deploy(client, backlog=(LIMIT, 0), **settings)
    for number in range(LIMIT):
        client.hset(f"person:{number}", "first", "Ada")


def snapshot(client: redis.Redis) -> dict[Any, Any]:
    """Return all keys with what DUMP says of each, the lanes included."""
    return {key: client.dump(key) for key in client.keys("*")}


def prepare(client: redis.Redis) -> None:
    """Keys of all types, covered and not; none of them is a change."""
    client.hset("elsewhere", "first", "Joe")
    client.set("text", "x")
    for key in ("set", "person:set"):
        client.sadd(key, "member")
    for key in ("list", "person:list"):
        client.rpush(key, "1")
    client.zadd("person:sorted", {"member": 1})
    client.geoadd("person:place", (1, 1, "here"))


WRITES = """
HSET person:9 first Eve
HSET person:0 first Eve other x
HMSET person:0 first Eve
HSETNX person:9 first Eve
HINCRBY person:0 age 1
HINCRBYFLOAT person:0 age 1.5
HDEL person:0 first
HEXPIRE person:0 100 FIELDS 1 first
HPEXPIREAT person:0 1 FIELDS 1 first
HPERSIST person:0 FIELDS 1 first
HGETDEL person:0 FIELDS 1 first
HGETEX person:0 PX 1 FIELDS 1 first
HSETEX person:0 FIELDS 1 first Eve
DEL person:0
DELEX person:text
DELIFEQ person:text text
DEL elsewhere person:0
UNLINK person:0
RENAME elsewhere person:9
RENAME person:0 elsewhere
RENAMENX elsewhere person:9
COPY elsewhere person:9
COPY person:0 person:9
MOVE person:0 1
SET person:0 text
SETEX person:0 100 text
GETDEL person:text
MSET elsewhere x person:0 text
MSETEX 2 elsewhere x person:0 text
MSETEX 1 person:0 text EX 100
BITOP NOT person:0 text
SUNIONSTORE person:0 set
SDIFFSTORE person:0 nothing
ZRANGESTORE person:0 person:sorted 0 -1
SORT list STORE person:9
GEORADIUS person:place 1 1 9 km STORE person:9
LPOP person:list
BLPOP nothing person:list 1
LMPOP 2 nothing person:list LEFT
RPOPLPUSH person:list elsewhere-list
LMOVE person:list elsewhere-list LEFT LEFT
LTRIM person:list 5 6
SPOP person:set
SMOVE person:set set member
ZREM person:sorted member
ZPOPMIN person:sorted
VREM person:vectors member
GEARSYNC.RECAPTURE elsewhere person:0
""".strip().split("\n")


def run(client: redis.Redis, line: str) -> Any:
    """Run a command; skip the test where the server does not know it."""
    words = line.split(" ")
    if not has_command(client, words[0]):
        pytest.skip(f"this server has no {words[0]}")
    return client.execute_command(*words)


@pytest.mark.parametrize("line", WRITES)
def test_a_covered_write_at_the_bound_is_refused_and_writes_nothing(client: redis.Redis, line: str) -> None:
    prepare(client)
    fill(client)
    before = snapshot(client)
    with pytest.raises(redis.ResponseError, match=REFUSED):
        run(client, line)
    assert snapshot(client) == before
    assert deployment_status(client)["refused_writes"] == 1
    assert deployment_status(client)["backlog"]["full"] is True


#: A key of each kind is covered besides: doc:1 is 1, set:1 {a}, list:1 [a], zset:1 {a: 1}.
WRITES_OF_KINDS = """
APPEND doc:1 2
INCR doc:1
DECRBY doc:2 1
INCRBYFLOAT doc:1 0.5
SETRANGE doc:1 0 2
SETBIT doc:1 0 1
BITFIELD doc:1 SET u8 0 1
PFADD doc:2 a
PFMERGE doc:2 nothing
JSON.SET doc:2 $ {}
JSON.DEL doc:2
JSON.MSET elsewhere $ 1 doc:2 $ 1
JSON.ANY doc:2 of a later version
SADD set:1 b
SMOVE set set:1 member
RPUSH list:1 b
LPUSHX list:1 b
LSET list:1 0 b
LINSERT list:1 BEFORE a b
LMOVE list list:1 LEFT LEFT
BRPOPLPUSH list list:1 1
ZADD zset:1 2 a
ZINCRBY zset:1 1 a
GEOADD zset:1 1 1 a
""".strip().split("\n")
READS_OF_KINDS = """
GET doc:1
JSON.GET doc:2
BITOP NOT inverted doc:1
SADD doc:2 x
RPUSH set:2 x
ZADD list:2 1 x
APPEND zset:2 x
JSON.MSET doc:2
ZRANGE zset:1 0 -1
""".strip().split("\n")


def fill_kinds(client: redis.Redis) -> None:
    """Deploy functions of all kinds, with a bound that is reached."""
    prepare(client)
    kinds = [Function(f"{kind}:{{id}}", type=kind.upper()) for kind in ("set", "list", "zset")]
    client.sadd("set:1", "a")
    client.rpush("list:1", "a")
    client.zadd("zset:1", {"a": 1})
    deploy(client, Function("doc:{id}", type="JSON"), *kinds, backlog=(1, 0))
    client.set("doc:1", "1")


@pytest.mark.parametrize("line", WRITES_OF_KINDS)
def test_a_covered_write_of_any_kind_is_refused(client: redis.Redis, line: str) -> None:
    fill_kinds(client)
    before = snapshot(client)
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.execute_command(*line.split())
    assert snapshot(client) == before


@pytest.mark.parametrize("line", READS_OF_KINDS)
def test_what_changes_no_key_of_its_kind_goes_on(client: redis.Redis, line: str) -> None:
    fill_kinds(client)
    with contextlib.suppress(redis.ResponseError):
        client.execute_command(*line.split())
    assert deployment_status(client)["refused_writes"] == 0


READS = """
HGETALL person:0
HMGET person:0 first last
EXISTS person:0
DUMP person:0
TYPE person:0
SCAN 0 MATCH person:*
COPY person:0 copied
SORT person:list
SORT person:list STORE sorted
GEORADIUS person:place 1 1 9 km
GEORADIUS person:place 1 1 9 km STORE near
SUNIONSTORE union person:set
BITOP NOT inverted person:text
MSETEX 2 elsewhere person:0 further person:1
SMOVE set person:set member
LMOVE list person:list LEFT LEFT
LRANGE person:list 0 -1
EXPIRE person:0 1000
PERSIST person:0
RPUSH person:list 2
HSET elsewhere first Bob
HSET person:1:home first Bob
DEL elsewhere text
RENAME elsewhere further
EVAL return{} 1 person:0
""".strip().split("\n")


@pytest.mark.parametrize("line", READS)
def test_what_changes_no_covered_hash_goes_on(client: redis.Redis, line: str) -> None:
    prepare(client)
    fill(client)
    run(client, line)
    assert deployment_status(client)["refused_writes"] == 0
    assert len(changes(client)) == LIMIT


@pytest.mark.parametrize("kind", ["EVAL", "FCALL"])
def test_a_covered_write_in_a_script_fails_and_what_was_before_it_stays(
    client: redis.Redis, kind: str
) -> None:
    if not has_command(client, kind):
        pytest.skip(f"this server has no {kind}")
    fill(client)
    with pytest.raises(redis.ResponseError, match="BACKLOG"):
        if kind == "FCALL":
            client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            client.set("before", "x")
            client.execute_command("FCALL", "put", 1, "person:9")
        else:
            client.eval(SCRIPT, 1, "person:9")
    assert client.get("before") == b"x" and not client.exists("person:9")
    assert len(changes(client)) == LIMIT and deployment_status(client)["refused_writes"] == 1


def test_a_key_of_two_deployments_is_refused_for_both(client: redis.Redis) -> None:
    fill(client)
    deploy(client, Function("{any*}", ["last"]), name="all")
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:9", "last", "Eve")
    assert changes(client, "all") == []
    client.hset("pet:9", "last", "Rex")
    assert len(changes(client, "all")) == 1
    assert deployment_status(client, "all")["refused_writes"] == 0


def test_exactly_the_limit_is_taken_and_a_trim_opens_it(client: redis.Redis) -> None:
    deploy(client, backlog=(LIMIT, 0))
    for number in range(LIMIT):
        client.hset("person:1", "age", number)
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match=REFUSED):
            client.hset("person:1", "age", 99)
    assert [each.image["age"] for each in changes(client)] == ["0", "1", "2", "3", "4"]
    oldest: Any = client.xrange(lanes(client)[0], count=1)
    assert client.execute_command("GEARSYNC.ACK", lanes(client)[0], oldest[0][0]) == LIMIT - 1
    client.hset("person:1", "age", 5)
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "age", 99)
    acknowledge(client)
    client.hset("person:1", "age", 6)
    assert deployment_status(client)["refused_writes"] == 4


def test_another_deployment_is_not_affected(client: redis.Redis) -> None:
    fill(client)
    deploy(client, Function("order:{id}", ["total"]), name="orders", backlog=(LIMIT, 0))
    client.hset("order:1", "total", 1)
    assert [each.key for each in changes(client, "orders")] == ["order:1"]


def test_grow_captures_beyond_the_limit(client: redis.Redis) -> None:
    fill(client, on_full="GROW")
    client.hset("person:9", "first", "Eve")
    assert len(changes(client)) == LIMIT + 1
    assert deployment_status(client)["backlog"]["full"] is False


def test_expiry_is_captured_beyond_the_limit(client: redis.Redis) -> None:
    deploy(client, backlog=(LIMIT, 0))
    client.hset("person:1", "first", "Ada")
    client.pexpire("person:1", 25)
    wait_for(lambda: not client.exists("person:1"), "the expiry")
    for number in range(2, LIMIT):
        client.hset(f"person:{number}", "first", "Ada")
    client.pexpire("person:2", 25)
    wait_for(lambda: not client.exists("person:2"), "the other expiry")
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:3", "first", "Eve")
    client.pexpire("person:3", 25)
    wait_for(lambda: not client.exists("person:3"), "the expiry at the bound")
    assert [each.op for each in changes(client)].count("x") == 3
    assert len(changes(client)) == LIMIT + 2


def test_eviction_is_captured_beyond_the_limit() -> None:
    with module_server("--maxmemory-policy", "volatile-random") as server, connect(server) as client:
        deploy(client, backlog=(LIMIT, 0))
        for number in range(LIMIT):
            client.hset(f"person:{number}", "first", "Ada")
            client.expire(f"person:{number}", 1000)
        client.config_set("maxmemory", 1)
        wait_for(lambda: not client.keys("person:*"), "the eviction")
        client.config_set("maxmemory", 0)
        assert [each.op for each in changes(client)] == ["u"] * LIMIT + ["v"] * LIMIT
        with pytest.raises(redis.ResponseError, match=REFUSED):
            client.hset("person:1", "first", "Eve")


def test_a_queued_write_at_the_bound(client: redis.Redis) -> None:
    """Since 7.2 it fails when it is queued, so that EXEC aborts; before, it fails inside of EXEC."""
    fill(client)
    at_once = server_version() >= (7, 2)
    queued = "was not refused when it was queued"
    with client.client() as one:
        one.execute_command("MULTI")
        one.execute_command("SET", "neighbour", "x")
        try:
            one.execute_command("HSET", "person:9", "first", "Eve")
        except redis.ResponseError as error:
            queued = str(error)
        assert ("BACKLOG" in queued) is at_once
        with pytest.raises(redis.exceptions.ExecAbortError) if at_once else contextlib.nullcontext():
            found = one.execute_command("EXEC")
            assert "BACKLOG" in str(found[1])
    assert not client.exists("person:9") and client.exists("neighbour") == (0 if at_once else 1)
    assert len(changes(client)) == LIMIT
    acknowledge(client)
    with client.pipeline(transaction=True) as pipe:
        pipe.hset("person:9", "first", "Eve")
        assert pipe.execute() == [1]


def test_a_transaction_that_was_queued_below_the_bound_runs_whole(client: redis.Redis) -> None:
    deploy(client, backlog=(LIMIT, 0))
    with client.pipeline(transaction=True) as pipe:
        for number in range(LIMIT * 2):
            pipe.hset(f"person:{number}", "first", "Ada")
        assert pipe.execute() == [1] * LIMIT * 2
    assert len(changes(client)) == LIMIT * 2
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "first", "Eve")


def test_a_script_that_reaches_the_bound(client: redis.Redis) -> None:
    """Its changes are appended at its end, so it runs whole; before 7.2 its calls fail from the bound on."""
    deploy(client, backlog=(LIMIT, 0))
    script = f"for i = 1, {LIMIT * 2} do redis.call('HSET', 'person:' .. i, 'first', 'Ada') end"
    whole = server_version() >= (7, 2)
    with contextlib.nullcontext() if whole else pytest.raises(redis.ResponseError, match="BACKLOG"):
        client.eval(script, 0)
    assert len(changes(client)) == len(client.keys("person:*")) == (LIMIT * 2 if whole else LIMIT)
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "first", "Eve")


@pytest.mark.parametrize(
    "command", [["DEL"], ["XTRIM", "MAXLEN", "2"], ["XDEL"]], ids=lambda each: str(each[0])
)
def test_a_lane_that_somebody_empties_by_hand_opens_it(client: redis.Redis, command: list[str]) -> None:
    fill(client)
    lane = lanes(client)[0]
    more: Any = command[1:]
    if command[0] == "XDEL":
        oldest: Any = client.xrange(lane, count=1)
        more = [oldest[0][0]]
    client.execute_command(command[0], lane, *more)
    client.hset("person:1", "first", "Eve")


def test_an_upgrade_to_another_bound_holds_at_once(client: redis.Redis) -> None:
    fill(client)
    deploy(client, version=2, backlog=(LIMIT + 1, 0))
    client.hset("person:1", "first", "Eve")
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "first", "Joe")
    deploy(client, version=3)
    client.hset("person:1", "first", "Joe")
    deploy(client, version=4, backlog=(0, 1))
    with pytest.raises(redis.ResponseError, match=REFUSED):
        client.hset("person:1", "first", "Ada")
    deploy(client, version=5, backlog=(0, 1), on_full="GROW")
    client.hset("person:1", "first", "Ada")
    assert deployment_status(client)["refused_writes"] == 2


def test_an_undeployed_deployment_refuses_nothing(client: redis.Redis) -> None:
    fill(client)
    client.execute_command("GEARSYNC.UNDEPLOY", "people")
    assert deployment_status(client)["backlog"]["full"] is False
    client.hset("person:9", "first", "Eve")
    assert len(changes(client)) == LIMIT


def test_bytes_bound_as_well_as_entries(client: redis.Redis) -> None:
    deploy(client, backlog=(0, 100_000))
    taken = 0
    with pytest.raises(redis.ResponseError, match=REFUSED):
        while taken < 1000:
            client.hset(f"person:{taken}", "first", "x" * 1000)
            taken += 1
    assert 80 <= taken <= 105
    acknowledge(client)
    client.hset("person:1", "first", "Ada")


NAMES = [f"a_column_with_number_{number}" for number in range(30)]
DICE = random.Random(1)
#: name -> (fields of the function, the fields of hash number n)
SHAPES: dict[str, tuple[Any, Callable[[int], dict[str, Any]]]] = {
    "a byte": (FIELDS, lambda n: {"first": "x"}),
    "no mapped field": (FIELDS, lambda n: {"other": "x"}),
    "5 kB": (FIELDS, lambda n: {"first": "x" * 5000}),
    "of every size": (FIELDS, lambda n: {"first": "x" * int(DICE.expovariate(1 / 500))}),
    "numbers": (FIELDS, lambda n: {"first": 10**12 + n, "last": -n, "age": 10**9}),
    "many fields": (NAMES, lambda n: dict.fromkeys(NAMES, n)),
    "some of many fields": (NAMES, lambda n: dict.fromkeys(DICE.sample(NAMES, 10), n)),
    "whole hashes": (None, lambda n: dict.fromkeys(NAMES, n)),
    "whole hashes without a schema": (None, lambda n: {str(DICE.random()): n for _ in range(5)}),
}


def estimate_is_sound(client: redis.Redis) -> None:
    """The estimate is within a factor of 2 of what the server says."""
    used = client.memory_usage(lanes(client)[0], samples=0)
    estimate = deployment_status(client)["backlog"]["bytes"]
    assert used is not None and abs(math.log2(estimate / used)) < 1, (estimate, used)


def write_many(client: redis.Redis, shape: Callable[[int], dict[str, Any]], count: int = 1000) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.hset(f"person:{number}", items=[part for pair in shape(number).items() for part in pair])
        pipe.execute()


def trim(client: redis.Redis, count: int) -> None:
    """Acknowledge the oldest changes."""
    oldest: Any = client.xrange(lanes(client)[0], count=count)
    client.execute_command("GEARSYNC.ACK", lanes(client)[0], oldest[-1][0])


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_of_bytes_is_near_what_redis_says(client: redis.Redis, name: str) -> None:
    fields, shape = SHAPES[name]
    deploy(client, Function(fields=fields))
    write_many(client, shape)
    estimate_is_sound(client)
    trim(client, 600)
    estimate_is_sound(client)
    client.execute_command("DEBUG", "RELOAD")
    estimate_is_sound(client)
    trim(client, 200)
    estimate_is_sound(client)


@pytest.mark.parametrize("large_first", [True, False])
def test_the_estimate_knows_whether_the_large_changes_are_gone(
    client: redis.Redis, large_first: bool
) -> None:
    deploy(client)
    write_many(client, lambda n: {"first": "x" * (5000 if (n < 200) is large_first else 10)})
    estimate_is_sound(client)
    trim(client, 220 if large_first else 780)
    estimate_is_sound(client)
    acknowledge(client)
    assert deployment_status(client)["backlog"]["bytes"] == 0


@pytest.mark.parametrize("inside", ["alone", "multi", "script"])
def test_a_user_without_the_right_to_be_told_is_refused_all_the_same(
    client: redis.Redis, inside: str
) -> None:
    fill(client)
    rights = ["+hset", "+multi", "+exec", "+eval"]
    client.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=rights)
    login = {**client.connection_pool.connection_kwargs, "username": "limited", "password": "any"}
    other = redis.Redis(connection_pool=redis.ConnectionPool(**login))
    with other, pytest.raises(redis.ResponseError), other.pipeline(transaction=True) as pipe:
        if inside == "alone":
            other.hset("person:9", "first", "Eve")
        elif inside == "script":
            other.eval("return redis.call('HSET', KEYS[1], 'first', 'Eve')", 1, "person:9")
        else:
            pipe.hset("person:9", "first", "Eve")
            pipe.execute()
    client.acl_deluser("limited")
    assert not client.exists("person:9") and len(changes(client)) == LIMIT
    assert deployment_status(client)["refused_writes"] == 1


@pytest.mark.parametrize("way", ["rdb", "debug reload", "aof, killed", "aof rewritten"])
def test_the_bound_holds_after_a_restart(way: str) -> None:
    options, restart = WAYS[way]
    with module_server(*options) as server:
        with connect(server) as client:
            fill(client)
            wide: Any = {"name": "wide", "backlog": (0, 100_000)}
            deploy(client, Function("doc:{id}", ["text"]), **wide)
            client.hset("doc:1", "text", "x" * 110_000)
        restart(server)
        with connect(server) as client:
            for key in ("person:1", "doc:1"):
                with pytest.raises(redis.ResponseError, match=r"^BACKLOG"):
                    client.hset(key, "first", "Eve")
            assert acknowledge(client) == LIMIT and acknowledge(client, "wide") == 1
            client.hset("person:1", "first", "Eve")
            client.hset("doc:1", "text", "short")


def same_data(one: redis.Redis, other: redis.Redis) -> bool:
    """Whether two servers hold the same; the registry is compared as a hash, which has no order."""
    registry = b"gearsync:{0}:registry"
    found, expected = snapshot(one), snapshot(other)
    found[registry], expected[registry] = one.hgetall(registry), other.hgetall(registry)
    return found == expected


def test_bytes_are_counted_after_a_restart_of_a_node_of_a_cluster() -> None:
    """Right after its start the node takes no command on a key, so it can't say yet what a lane takes."""
    with Cluster(functools.partial(module_server, *ALWAYS), primaries=1) as cluster:
        [client] = cluster.clients
        deploy(client, lanes=2)
        write_many(client, lambda n: {"first": "x" * 100})
        before = deployment_status(client)["backlog"]["bytes"]
        cluster.nodes[0].restart()
        cluster.wait_until_whole()
        wait_for(lambda: deployment_status(client)["backlog"]["bytes"] > before / 2, "all is counted")
        assert deployment_status(client)["backlog"]["bytes"] < before * 2


def test_a_replica_applies_all_that_its_primary_takes() -> None:
    with pair() as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        fill(primary)
        primary.pexpire("person:0", 25)
        wait_for(lambda: not primary.exists("person:0"), "the expiry at the bound")
        catch_up(primary, replica)
        deploy(primary, version=2, backlog=(LIMIT, 0), on_full="GROW")
        primary.hset("person:9", "first", "Eve")
        deploy(primary, version=3, backlog=(LIMIT, 0))
        catch_up(primary, replica)
        assert same_data(replica, primary)
        # A replica that is promoted knows the bound as well, and the old primary, full, follows it.
        replica.replicaof("NO", "ONE")
        primary.replicaof("127.0.0.1", servers[1].port)
        wait_for(lambda: primary.info("replication")["master_link_status"] == "up", "the link")
        with pytest.raises(redis.ResponseError, match=REFUSED):
            replica.hset("person:1", "first", "Eve")
        acknowledge(replica)
        for number in range(LIMIT):
            replica.hset(f"person:{number}", "first", "Joe")
        catch_up(replica, primary)
        assert len(primary.keys("person:*")) == LIMIT + 1 and same_data(primary, replica)
