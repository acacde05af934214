"""Shards that come and go under load: the deployment is on a new one before its first write, and the changes
that wait on one that leaves go with its slots.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from redis.crc import key_slot

from tests.chaos import clustered
from tests.chaos.clustered import PEOPLE, Load, check, command, deployment, key_of
from tests.chaos.test_cluster import ROUNDS, database
from tests.cluster import Cluster
from tests.form import SOAK

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if SOAK else 240)]
__all__ = ["database"]


@pytest.fixture
def cluster(database: str, tmp_path: Path) -> Iterator[Cluster]:
    """Three shards; what is about replicas is in test_cluster.py."""
    with clustered.deployed(database, tmp_path, replicas=0) as found:
        yield found


def covered_slots(cluster: Cluster, owner: int) -> list[int]:
    """The slots of a shard that have people's keys."""
    slots = {key_slot(key_of(person).encode()) for person in range(PEOPLE)}
    return sorted(slots & set(cluster.slots(owner)))


def slot_of_lanes(cluster: Cluster, number: int) -> int:
    document = json.loads(cluster.clients[number].execute_command("GEARSYNC.STATUS"))
    return key_slot(document["tag"].encode())


def look_at_it_by(cluster: Cluster, number: int) -> None:
    """What a user asks, while a slot is open: no answer holds a cluster's redirection."""
    url = cluster.nodes[number].url
    command("wait", "--redis", url, "--timeout", "30")
    command("status", "--redis", url)
    command("deadletters", "list", "--redis", url)


def grow(cluster: Cluster, folder: Path) -> int:
    """Add a shard: deploy once more, then give it slots of all others, those of lanes among them."""
    new = cluster.add_primary()
    assert f"127.0.0.1:{cluster.nodes[new].port} has no deployment people" in command(
        "status", "--redis", cluster.url
    )
    clustered.deploy(cluster, folder)
    assert deployment(cluster, new)["state"] == "active"
    others = [number for number in cluster.primaries() if number != new]
    last, *slots = itertools.chain(*(covered_slots(cluster, number)[::4] for number in others))
    for slot in [*slots, slot_of_lanes(cluster, others[0])]:
        cluster.move_slot(slot, new)
    source = cluster.owner(last)
    cluster.open_slot(last, source, new)
    cluster.move_keys(last, source, new)
    for number in (source, new):
        look_at_it_by(cluster, number)
    cluster.close_slot(last, new)
    return new


@contextlib.contextmanager
def held(url: str) -> Iterator[None]:
    """Hold the positions of all lanes in the database, so that changes wait."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE gearsync_checkpoint SET owner = owner"))
        yield


def shrink(cluster: Cluster, leaving: int, staying: list[int]) -> None:
    """Remove a shard: all its slots move to others; then they forget it."""
    covered = covered_slots(cluster, leaving)
    cluster.move_slot(covered[0], staying[0])
    cluster.move_empty_slots(leaving, staying[0], {*covered, slot_of_lanes(cluster, leaving)})
    for slot, target in zip(cluster.slots(leaving), itertools.cycle(staying)):
        cluster.move_slot(slot, target)
    cluster.remove(leaving)


def test_shards_are_added_and_removed(cluster: Cluster, database: str, tmp_path: Path) -> None:
    with Load(cluster) as load:
        for _ in range(ROUNDS):
            load.until_all_written()
            new = grow(cluster, tmp_path)
            load.until_all_written()
            leaving, *staying = cluster.primaries()
            with held(database):
                load.until_all_written()
                assert deployment(cluster, leaving)["backlog"]["entries"] > 0
                shrink(cluster, leaving, [new, staying[0]])
            load.until_all_written()
    check(cluster, database, load)
