"""Versions that were replaced: kept with marks of what they captured, bounded, through restarts."""

from __future__ import annotations

from typing import Any

import redis

from tests.integration.module.driving import (
    ALWAYS,
    Function,
    acknowledge,
    changes,
    connect,
    deploy,
    entries,
    lanes,
    module_server,
    wait_for,
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


def test_a_deployment_that_is_made_anew_is_above_its_checkpoint() -> None:
    """Also when the clock was set back: its lanes have the names that SQL knows of before."""
    with module_server(*ALWAYS) as server, connect(server) as client:
        epochs, named = [], []
        for words in (["DISCARD"], [], []):
            deploy(client, Function())
            client.hset("person:1", "first", "Ada")
            epochs.append(changes(client)[-1].epoch)
            named.append(list(lanes(client)))
            client.execute_command("GEARSYNC.UNDEPLOY", "people", *words)
            if not words:
                acknowledge(client)
            wait_for(lambda: not client.execute_command("GEARSYNC.DEPLOYMENTS"), "its end")
        assert named[0] == named[1] == named[2]
        assert epochs == sorted(set(epochs))


def test_a_lane_that_is_made_anew_has_no_marks_of_before_and_is_above_its_checkpoint() -> None:
    """Its ids can be lower, when the clock was set back: only a higher epoch tells what is later."""
    with module_server(*ALWAYS) as server, connect(server) as client:
        deploy(client, Function(), lanes=2)
        later = (client.time()[0] + 10_000) * 1000
        for stream in lanes(client):
            client.execute_command("XADD", stream, f"{later}-0", "k", "person:1", "m", "d1")
        server.restart()
        deploy(client, Function(), version=2, lanes=1)
        assert [len(marks) for _, _, marks in versions(client)] == [2]
        acknowledge(client)
        wait_for(lambda: len(lanes(client)) == 1, "the old lanes to go")
        before = client.execute_command("GEARSYNC.LANES", "people")[0]
        deploy(client, Function(), version=3, lanes=2)
        for number in range(8):
            client.hset(f"person:{number}", "first", "of 3")
        assert not any(marks for _, _, marks in versions(client))
        assert {change.epoch for change in changes(client)} == {before + 1}
