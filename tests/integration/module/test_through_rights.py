"""What a client may do by GEARSYNC.THROUGH, which anybody may call: no more than by its own commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.module.building import build
from tests.integration.module.driving import connect, deploy, deploy_arguments, module_server, server_version
from tests.integration.module.test_through import PERSONS, Sent, Worker
from tests.servers import RedisServer

#: Before, rights are those of the twin, which is there alone (docs/guarantees.md).
HAS_RIGHTS = server_version() >= (7, 0)
needs_rights = pytest.mark.skipif(not HAS_RIGHTS, reason="this server can't tell rights to a module")
NAMES = ["GEARSYNC.THROUGH.AUTH", *(["GEARSYNC.THROUGH"] if HAS_RIGHTS else [])]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server with one write-through function, and a user who has all commands but only the keys app:*."""
    with module_server() as found, connect(found) as client:
        deploy(client, PERSONS)
        client.set("secret", "s")
        client.execute_command("ACL", "SETUSER", "app", "on", ">p", "+@all", "~app:*")
        yield found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "words",
    [
        ["EVAL", "return redis.call('GET', 'secret')", "0"],
        ["GEARSYNC.DEPLOY", *deploy_arguments(name="evil")],
        ["GEARSYNC.RECAPTURE", "app:1"],
        ["GEARSYNC.THROUGH", "SET", "app:1", "x"],
        ["CONFIG", "GET", "port"],
    ],
)
def test_it_runs_nothing_that_it_was_never_put_before(
    server: RedisServer, name: str, words: list[Any]
) -> None:
    with connect(server, username="app", password="p") as app:
        with pytest.raises(redis.ResponseError, match="is for commands that change keys"):
            app.execute_command(name, *words)
        assert len(app.execute_command("GEARSYNC.DEPLOYMENTS")) == 1


@needs_rights
@pytest.mark.parametrize("name", NAMES)
def test_a_sort_reads_no_other_keys(server: RedisServer, name: str) -> None:
    with connect(server, username="app", password="p") as app:
        app.rpush("app:list", "secret")
        with pytest.raises(redis.ResponseError, match=r"(?i)denied|permission"):
            app.execute_command(name, "SORT", "app:list", "BY", "nosort", "GET", "*", "STORE", "app:found")
        assert app.execute_command(name, "SET", "app:1", "x") in (b"OK", True)


@pytest.mark.parametrize("name", [*NAMES, *(each.replace("THROUGH", "READ") for each in NAMES)])
def test_of_itself_it_asks_for_no_keys(server: RedisServer, name: str) -> None:
    """However often it stands there: the server would ask once for each, and has only so much of a stack."""
    words = [name] * 30_000
    with connect(server, username="app", password="p") as app, pytest.raises(redis.ResponseError):
        app.execute_command(*words)
    with connect(server) as client:
        with pytest.raises(redis.ResponseError):
            client.execute_command("COMMAND", "GETKEYS", *words)
        assert client.ping()


@needs_rights
def test_the_rights_of_a_user_of_another_module(server: RedisServer, tmp_path: Path) -> None:
    """ACL has no user of that name: who is refused has not written, and who may write does."""
    with connect(server) as client, connect(server, single_connection_client=True) as stranger:
        client.execute_command("MODULE", "LOAD", build("authenticating.c", tmp_path))
        stranger.execute_command("AUTHENTICATING.BECOME")
        with pytest.raises(redis.exceptions.NoPermissionError):
            stranger.set("secret", "t")
        if server_version() < (7, 2):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.hset("person:1", "age", 1)
            assert not client.exists("person:1")
            return
        worker = Worker(client)
        sent = Become(server, "HSET", "person:1", "age", 1)
        worker.wait_for(1)
        assert not client.exists("person:1")
        worker.take()
        worker.settle()
        assert sent.result() == 1


class Become(Sent):
    """A command of a user whom only the other module knows."""

    def _run(self, words: tuple[Any, ...]) -> None:
        self.client.execute_command("AUTHENTICATING.BECOME")
        super()._run(words)
