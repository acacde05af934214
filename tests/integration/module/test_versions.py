"""Versions that were replaced: kept with marks of what they captured, bounded, through restarts."""

from __future__ import annotations

from typing import Any

import redis

from tests.integration.module.driving import (
    ALWAYS,
    Function,
    acknowledge,
    connect,
    deploy,
    entries,
    lanes,
    module_server,
)


def versions(client: redis.Redis) -> list[tuple[int, bytes, list[Any]]]:
    return [tuple(each) for each in client.execute_command("GEARSYNC.VERSIONS", "people")]


def test_what_waits_is_marked_and_five_versions_are_kept() -> None:
    with module_server(*ALWAYS) as server, connect(server) as client:
        deploy(client, Function(), payload='{"v": 1}')
        assert versions(client) == []
        client.hset("person:1", "first", "of 1")
        client.hset("person:2", "first", "of 1")
        [stream] = lanes(client)
        last = entries(client, stream)[-1][0]
        deploy(client, Function(), version=2, payload='{"v": 2}')
        client.hset("person:1", "first", "of 2")
        ms, seq = map(int, last.split(b"-"))
        mark = [[stream.encode(), ms, seq]]
        for number in range(3, 9):
            deploy(client, Function(), version=number, payload=f'{{"v": {number}}}')
        kept = versions(client)
        assert [version for version, _, _ in kept] == [1, 2, 3, 4, 5, 6, 7]
        assert kept[0][1:] == (b'{"v": 1}', mark)
        server.restart()
        assert versions(client) == kept
        client.execute_command("GEARSYNC.ACK", stream, last)
        assert [len(marks) for _, _, marks in versions(client)] == [0, *[1] * 6]
        acknowledge(client)
        assert not any(marks for _, _, marks in versions(client))
        deploy(client, Function(), version=9)
        assert [version for version, _, _ in versions(client)] == [4, 5, 6, 7, 8]
        client.execute_command("GEARSYNC.UNDEPLOY", "people", "DISCARD")
        deploy(client, Function())
        assert versions(client) == []
