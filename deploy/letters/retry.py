"""Dead letters tried again: each by itself, those of one transaction that stays whole as one transaction.

A key that is there is captured as it is. Of one that is gone, the letter of a deletion is captured as a
deletion; the letter of a write captures nothing: the key's end was a change of its own, and a policy may have
kept the row. So it may have done where the key was written again after a deletion that was refused, and ended
once more: a deletion is then captured only for who names its letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from redis.crc import key_slot

from deploy import policies
from deploy.hosts.base import IN_WRITING
from deploy.letters.store import Choice, Letter, drop, each
from deploy.reaching.clients import Clients
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from deploy.room import Room
from gears.applying import change as changes
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.declaring.functions import Function

Place = tuple[int, bytes]
"""The number of a Redis database, and a key."""
BUSY = "a client is writing it at this moment"


class Tried(NamedTuple):
    """What became of letters: ``retried`` are deleted. ``uncovered`` are of keys that no deployment captures
    any more, and stay. ``left`` stay, too, each for a reason: of a key that is gone, a row may be kept.
    """

    retried: list[Letter]
    uncovered: list[Letter]
    left: list[tuple[Letter, str]]


def retry(shards: Shards, letters: list[Letter], are_named: bool = True) -> Tried:
    """Capture the present state of each letter's key anew, then delete the letter. ``are_named``: they were
    chosen one by one.

    In this order, so that a crash between loses nothing. A letter of a transaction brings all others of that
    one along.
    """
    tried = Tried([], [], [])
    known = _Known(shards, letters, are_named)
    with Clients(Room().take) as clients:
        for group in _groups(shards, letters):
            places = {letter.id: known.places(letter) for letter in group}
            ends = {place for letter in group if known.demands_end(letter) for place in places[letter.id]}
            asked = sorted({place for found in places.values() for place in found})
            made = _capture(clients, shards, group, asked, ends)
            for letter in group:
                _sort(shards, known, letter, [made[place] for place in places[letter.id]], tried)
    return tried


def _sort(shards: Shards, known: _Known, letter: Letter, made: list[int], tried: Tried) -> None:
    if not known.covering(letter):
        # What was captured of its key was captured for another deployment.
        tried.uncovered.append(letter)
    elif any(count > 0 for count in made):
        drop(shards, [letter])
        tried.retried.append(letter)
    elif IN_WRITING in made:
        tried.left.append((letter, BUSY))
    elif 0 in made:
        tried.uncovered.append(letter)
    elif reason := known.kept(letter) or known.spared(letter):
        tried.left.append((letter, reason))
    else:
        # The end of the key has taken its row along: nothing is left to be done.
        drop(shards, [letter])
        tried.retried.append(letter)


def _capture(
    clients: Clients, shards: Shards, group: list[Letter], places: list[Place], ends: set[Place]
) -> dict[Place, int]:
    """Return how many changes were captured of each place, on the shard that has the key by now, or what
    ``Host.backfilled`` says. Of ``ends`` a key that is gone is captured as a deletion.
    """
    deployment = group[0].deployment
    if len(group) > 1:
        return clients.capture_together(shards, deployment, places, ends)
    return {(db, key): clients.capture(shards, db, deployment, key, (db, key) in ends) for db, key in places}


class _Known:
    """What the deployments on the letters' shards say of keys."""

    def __init__(self, shards: Shards, letters: Sequence[Letter], are_named: bool) -> None:
        holders = {letter.shard.address: letter.shard for letter in letters}
        names = {letter.deployment for letter in letters}
        self._shards = shards
        self._are_named = are_named
        self._deployments = {address: dict(_deployments(shard, names)) for address, shard in holders.items()}
        self._kept: dict[tuple[str, str], str] = {}

    def places(self, letter: Letter) -> set[Place]:
        """Return where the key is."""
        return {(each.mapping.db, letter.key) for each in self._functions(letter)} or {(0, letter.key)}

    def covering(self, letter: Letter) -> list[Function]:
        """Return the functions of the letter's deployment that capture its key."""
        found = self._deployments[letter.shard.address].get(letter.deployment)
        capturing = found.capturing if found is not None else []
        return [each for each in capturing if each.mapping.keys.match(letter.key) is not None]

    def demands_end(self, letter: Letter) -> bool:
        """Whether the letter's own change was a deletion, and one captured anew would delete the row."""
        functions = self._functions(letter)
        if letter.op not in changes.GONE or any(each.mapping.on_delete == "keep" for each in functions):
            return False
        return not self.spared(letter) and (self._are_named or not self.kept(letter))

    def spared(self, letter: Letter) -> str:
        """Return whose rows a deletion of the key would take along, although a policy may have kept them."""
        said = (
            f"of {each.name} of {name}: {why}"
            for name, deployment in self._deployments[letter.shard.address].items()
            for each in deployment.capturing
            if each.mapping.keys.match(letter.key) is not None
            and (name, each.name) not in ((letter.deployment, one.name) for one in self._functions(letter))
            and each.mapping.on_delete != "keep"
            and not each.mapping.additions.history
            and (why := self._why_kept(letter.shard.address, name, each))
        )
        return "; ".join(said)

    def kept(self, letter: Letter) -> str:
        """Return why the row may be there without its key; empty: it is not."""
        place = letter.shard.address, letter.deployment
        said = (self._why_kept(*place, each) for each in self._functions(letter))
        return "; ".join(dict.fromkeys(filter(None, said)))

    def _functions(self, letter: Letter) -> list[Function]:
        """Return those that the letter names, as far as they cover its key by now, or else all that do."""
        covering = self.covering(letter)
        return [each for each in covering if each.name in letter.functions] or covering

    def _why_kept(self, address: str, name: str, function: Function) -> str:
        place = name, function.name
        if place not in self._kept:
            deployment = self._deployments[address][name]
            self._kept[place] = policies.kept(deployment, function, self._shards)
        return self._kept[place]


def _deployments(shard: Shard, names: Set[str]) -> Iterator[tuple[str, Deployment]]:
    """Yield what captures there."""
    with errors_of(shard.address):
        for deployed in shard.host.deployments().values():
            if not deployed.payload or deployed.state == "draining":
                continue
            try:
                yield deployed.name, Deployment.from_payload(deployed.payload)
            except PayloadError:
                # Another one may be of a newer gearsync.
                if deployed.name in names:
                    raise


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
