"""Dead letters tried again: each by itself, those of one transaction that stays whole as one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from redis.crc import key_slot

from deploy.clients import Clients
from deploy.letters import Choice, Letter, drop, each
from deploy.shards import Shard, Shards, errors_of
from gears.deployment import Deployment

Databases = dict[str, dict[tuple[str, str], int]]
"""Of each shard, by address: (deployment, function) → the number of its Redis database."""


def retry(shards: Shards, letters: list[Letter]) -> tuple[list[Letter], list[Letter]]:
    """Capture the present state of each letter's key anew, then delete the letter.

    In this order, so that a crash between loses nothing. A letter of a transaction brings all others of that
    one along. Returns (retried, not covered): the latter are of keys that no deployment captures any more,
    and they stay.
    """
    holders = {letter.shard.address: letter.shard for letter in letters}
    databases = {address: _databases(shard) for address, shard in holders.items()}
    retried, uncovered = [], []
    with Clients() as clients:
        for group in _groups(shards, letters):
            places = {letter.id: _places(databases, letter) for letter in group}
            asked = sorted({place for found in places.values() for place in found})
            made = _recapture(clients, shards, group, asked)
            for letter in group:
                if sum(made[place] for place in places[letter.id]):
                    drop(shards, [letter])
                    retried.append(letter)
                else:
                    uncovered.append(letter)
    return retried, uncovered


def _recapture(
    clients: Clients, shards: Shards, group: list[Letter], places: list[tuple[int, bytes]]
) -> dict[tuple[int, bytes], int]:
    """Return how many changes were captured of each place, on the shard that has the key by now."""
    deployment = group[0].deployment
    if len(group) > 1:
        return clients.recapture_together(shards, deployment, places)
    return {(db, key): clients.recapture(shards, db, deployment, key) for db, key in places}


def _groups(shards: Shards, letters: list[Letter]) -> Iterator[list[Letter]]:
    """Yield letters that are to be tried together; of a transaction in a cluster, those of one slot."""
    wanted = {(letter.stream, letter.transaction) for letter in letters if letter.transaction}
    whole: dict[tuple[str, str, int], list[Letter]] = {}
    for letter in each(shards, Choice()) if wanted else ():
        if (letter.stream, letter.transaction) in wanted:
            slot = key_slot(letter.key) if shards.kind == "cluster" else 0
            whole.setdefault((letter.stream, letter.transaction, slot), []).append(letter)
    yield from whole.values()
    for letter in letters:
        if not letter.transaction:
            yield [letter]


def _places(databases: Databases, letter: Letter) -> set[tuple[int, bytes]]:
    """Return where the key is: numbers of databases, with its name."""
    known = databases[letter.shard.address]
    return {(known.get((letter.deployment, name), 0), letter.key) for name in letter.functions or [""]}


def _databases(shard: Shard) -> dict[tuple[str, str], int]:
    """Return the number of the Redis database of each (deployment, function) on a shard."""
    with errors_of(shard.address):
        deployments = shard.host.deployments().values()
    return {
        (deployed.name, function.name): function.mapping.db
        for deployed in deployments
        if deployed.payload
        for function in Deployment.from_payload(deployed.payload).functions
    }
