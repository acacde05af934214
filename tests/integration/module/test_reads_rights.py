"""Read-through asks of a client for the rights of the command that it sent, no more and no less."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.module.driving import Read, connect, module_server, server_version
from tests.integration.module.reading import ADA, Client, Worker, counts, deploy_reads
from tests.servers import RedisServer

pytestmark = pytest.mark.skipif(
    server_version() < (7, 0),
    reason="on Redis 6.2 rights are those of GEARSYNC.READ.AUTH (docs/guarantees.md)",
)
#: From 7.2 on the filter knows whose command it sees.
KNOWS_CLIENTS = server_version() >= (7, 2)
USERS = {
    "hget": ["+hget", "~person:*"],
    "no_hget": ["+@all", "-hget", "~*"],
    "other_keys": ["+@all", "~order:*"],
    "reads": ["+@all", "%R~person:*"],
    "writes": ["+@all", "%W~person:*"],
    "selectors": ["(+hget ~person:*)", "(+hset ~order:*)", "(+hget ~order:1)"],
    "wrong_selectors": ["(+hset ~person:*)", "(+hget ~order:*)"],
}
MAY = {"hget", "reads", "selectors"}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server whose users all have the password ``p``, with an administrator."""
    with module_server() as found, connect(found) as client:
        deploy_reads(client, Read(), Read("order:{id}"))
        for name, rules in USERS.items():
            client.execute_command("ACL", "SETUSER", name, "on", ">p", "+client|id", *rules)
        client.execute_command("ACL", "SETUSER", "admin", "on", ">p", "+@all", "~*", "&*")
        yield found


def as_user(server: RedisServer, name: str) -> redis.Redis:
    return connect(server, username=name, password="p", protocol=2)


def guard(server: RedisServer, state: str) -> redis.Redis:
    """Bring the user default into a state; return an administrator's client."""
    admin = as_user(server, "admin")
    if state == "password":
        admin.config_set("requirepass", "q")
    elif state == "off":
        admin.execute_command("ACL", "SETUSER", "default", "off")
    return admin


@pytest.mark.parametrize("state", ["open", "password", "off"])
@pytest.mark.parametrize("name", USERS)
def test_users(server: RedisServer, name: str, state: str) -> None:
    admin = guard(server, state)
    worker = Worker.__new__(Worker)
    worker.redis, worker.words = as_user(server, "admin"), ("GEARSYNC.MISSES", "people", 1, "t1")
    with as_user(server, name) as client:
        if state == "password" and not KNOWS_CLIENTS and name in MAY - {"reads"}:
            # The twin needs a right of its own there, and nothing else does.
            with pytest.raises(redis.exceptions.NoPermissionError, match=r"gearsync\.read\.auth"):
                client.hget("person:1", "first")
            add = "(+gearsync.read.auth ~person:*)" if name == "selectors" else "+gearsync.read.auth"
            admin.execute_command("ACL", "SETUSER", name, add)
        if name not in MAY:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.hget("person:1", "first")
            assert counts(admin)["misses"] == 0
            return
        reader = Client(server, "HGET", "person:1", "first", username=name, password="p", protocol=2)
        worker.serve({"person:1": ADA})
        assert reader.result() == b"Ada"
        assert client.hget("person:1", "first") == b"Ada"
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.hget("order:2", "first")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command("GEARSYNC.READ", "HGET", "order:2", "first")


@pytest.mark.parametrize("state", ["password", "off"])
def test_who_has_not_authenticated_reads_nothing(server: RedisServer, state: str) -> None:
    admin = guard(server, state)
    admin.hset("person:1", "first", "Ada")
    commands: list[list[Any]] = [["HGET", key, "first"] for key in ("person:1", "person:2")]
    commands += [[f"GEARSYNC.READ{end}", *words] for end in ("", ".AUTH") for words in commands]
    with connect(server, protocol=2) as client:
        for words in commands:
            with pytest.raises(redis.exceptions.AuthenticationError, match="Authentication required"):
                client.execute_command(*words)
    assert counts(admin)["misses"] == 0


def test_the_user_default_with_its_password(server: RedisServer) -> None:
    guard(server, "password").hset("person:1", "first", "Ada")
    with connect(server, password="q") as client:
        assert client.hget("person:1", "first") == b"Ada"
        client.delete("person:3")
        with client.pipeline(transaction=True) as pipe:
            pipe.hget("person:2", "first")
            with pytest.raises(redis.ResponseError, match="READTHROUGH"):
                pipe.execute()


def test_a_change_of_the_default_user_is_seen_at_once(server: RedisServer) -> None:
    admin = guard(server, "open")
    admin.hset("person:1", "first", "Ada")
    with connect(server, protocol=2) as before:
        assert before.hget("person:1", "first") == b"Ada"
        with admin.pipeline(transaction=True) as pipe:
            pipe.config_set("requirepass", "q")
            pipe.execute()
        # It is past the password, for the server.
        assert before.hget("person:1", "first") == b"Ada"
        with connect(server, protocol=2) as after, pytest.raises(redis.exceptions.AuthenticationError):
            after.hget("person:1", "first")
    admin.config_set("requirepass", "")
    with connect(server, protocol=2) as again:
        assert again.hget("person:1", "first") == b"Ada"


def test_a_change_of_the_default_user_behind_a_read_of_its_transaction(server: RedisServer) -> None:
    admin = guard(server, "open")
    admin.hset("person:1", "first", "Ada")
    with connect(server, protocol=2) as client, client.pipeline(transaction=True) as pipe:
        pipe.execute_command("GEARSYNC.READ", "HGET", "person:1", "first")
        pipe.execute_command("ACL", "SETUSER", "default", "resetpass", ">q")
        assert pipe.execute() == [b"Ada", b"OK"]
    time.sleep(0.3)
    with connect(server, protocol=2) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.execute_command("GEARSYNC.READ", "HGET", "person:1", "first")


def test_a_script_has_the_rights_of_its_user(server: RedisServer) -> None:
    admin = guard(server, "password")
    admin.execute_command("ACL", "SETUSER", "scripts", "on", ">p", "+eval", "+hget", "~person:*")
    admin.execute_command("ACL", "SETUSER", "no_hget", "+eval")
    if not KNOWS_CLIENTS:
        admin.execute_command("ACL", "SETUSER", "scripts", "+gearsync.read.auth")
    admin.hset("person:1", "first", "Ada")
    script = "return redis.call('HGET', KEYS[1], 'first')"
    with as_user(server, "scripts") as client:
        assert client.eval(script, 1, "person:1") == b"Ada"
        with pytest.raises(redis.ResponseError, match="READTHROUGH"):
            client.eval(script, 1, "person:2")
    # Redis 7.0 tells it when the command runs, so of a key that is there.
    for key in ("person:1", "person:2") if KNOWS_CLIENTS else ("person:1",):
        with (
            as_user(server, "no_hget") as client,
            pytest.raises(redis.ResponseError, match=r"(?i)acl|permission"),
        ):
            client.eval(script, 1, key)


def test_keys_are_those_of_the_clients_command(server: RedisServer) -> None:
    admin = guard(server, "open")
    reader = redis.Redis(connection_pool=admin.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    for words, keys in (
        (["HGET", "a", "b"], [b"a"]),
        (["EXISTS", "a", "b"], [b"a", b"b"]),
        (["HMGET", "a", "b", "c"], [b"a"]),
    ):
        assert reader.execute_command("COMMAND", "GETKEYS", "GEARSYNC.READ", *words) == keys
