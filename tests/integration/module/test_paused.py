"""While writes are paused the module writes nothing by itself: the server would end itself at once."""

from __future__ import annotations

import os
import signal
import time

import pytest
import redis

from tests.integration.module.driving import (
    ALWAYS,
    changes,
    connect,
    deploy,
    deployment_status,
    module_server,
    wait_for,
)
from tests.integration.module.test_replication import catch_up, pair, waiting
from tests.servers import RedisServer

PAUSE_MS = 600


def writes_are_paused(server: RedisServer) -> bool:
    """Whether a write waits, as it does while the server is paused."""
    with connect(server, socket_timeout=0.05) as client:
        try:
            client.set("other", 1)
        except redis.TimeoutError:
            return True
    return False


def test_a_deployment_that_has_drained_goes_after_the_pause() -> None:
    with module_server(*ALWAYS) as server, connect(server) as client:
        deploy(client)
        deploy(client, name="others")
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("GEARSYNC.UNDEPLOY", "people")
            pipe.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
            pipe.execute()
        seen = time.monotonic()
        # Several of the module's ticks.
        while time.monotonic() < seen + PAUSE_MS / 2000:
            assert deployment_status(client)["state"] == "draining"
        wait_for(
            lambda: len(client.execute_command("GEARSYNC.DEPLOYMENTS")) == 1, "the end of the drained one"
        )
        assert not writes_are_paused(server)


@pytest.mark.parametrize("line", ["FLUSHALL", "FLUSHDB"])
def test_what_a_flush_would_take_is_written_after_the_pause(line: str) -> None:
    with pair(*ALWAYS) as servers, connect(servers[0]) as primary, connect(servers[1]) as replica:
        deploy(primary)
        for number in range(10):
            primary.hset(f"person:{number}", "first", number)
        with primary.pipeline(transaction=True) as pipe:
            pipe.execute_command(line)
            pipe.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
            pipe.execute()
        assert writes_are_paused(servers[0])
        assert len(changes(primary)) == 10
        wait_for(lambda: not writes_are_paused(servers[0]), "the end of the pause")
        wait_for(lambda: waiting(replica) == waiting(primary), "the replica has the lane again")
        catch_up(primary, replica)
        servers[0].kill9()
        servers[0].start()
        assert [each.image["first"] for each in changes(primary)[:10]] == [str(each) for each in range(10)]


def test_a_server_that_waits_for_its_replica_ends_in_order() -> None:
    with pair() as servers, connect(servers[0]) as primary:
        if "shutdown-timeout" not in primary.config_get("shutdown-timeout"):
            pytest.skip("this server ends without waiting for its replicas")
        primary.config_set("shutdown-timeout", 1)
        deploy(primary)
        os.kill(servers[1].pid, signal.SIGSTOP)
        try:
            with primary.pipeline(transaction=False) as pipe:
                pipe.execute_command("SET", "not with the replica", 1)
                pipe.execute_command("GEARSYNC.UNDEPLOY", "people")
                pipe.execute()
            os.kill(servers[0].pid, signal.SIGTERM)
            assert servers[0].process is not None and servers[0].process.wait(15) == 0
        finally:
            os.kill(servers[1].pid, signal.SIGCONT)
        assert "0 of 1 replicas are in sync when shutting down" in servers[0].log_text()
