"""Whose rows are those of which the own key is not there: of a key that is written otherwise (``007`` for the
row 7), that a transform gives another row, or of another function that writes to the table.

To take such a row for one without a key, and to delete it, would be a loss. Keys tell their rows, and rows do
not tell all of their keys: so every key is looked at, once for all rows in question.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from connectors import Connector
from deploy.reaching.shards import Shard
from deploy.verifying.expected import Expecter
from deploy.verifying.hashes import Hashes
from gears.declaring import kinds

LOOKS = 3
"""How often keys are looked through while slots move, which can take one to where SCAN has been."""

Place = tuple[Any, ...]


class Party(NamedTuple):
    """A function that writes rows of the table, and the keys of it."""

    deployment: str
    expecter: Expecter
    hashes: Hashes


class Owner(NamedTuple):
    """A key that is there, and whose row is in question."""

    party: Party
    key: bytes
    place: Place

    def is_there(self) -> bool:
        """Whether the key holds what makes a row, on whichever shard."""
        return self.party.hashes.now([self.key])[self.key] is not None

    def recapture(self) -> None:
        """Have the row written anew. Raises ShardError."""
        self.party.hashes.recapture(self.party.deployment, [self.key])


class Owners:
    """Looks through the keys of all functions that write rows of one table; the first of ``parties`` is the
    one that is compared.
    """

    def __init__(self, connector: Connector, parties: Sequence[Party]) -> None:
        self._connector = connector
        self._function = parties[0].expecter.function
        self._key_columns = parties[0].expecter.table.primary_key
        self._parties = parties

    def of(self, places: Mapping[bytes, Place]) -> dict[bytes, Owner]:
        """Return, of keys that are not there with the places of their rows, those whose row is another key's.

        Raises ShardError and ConnectorError.
        """
        wanted: dict[Place, list[bytes]] = {}
        for key, place in places.items():
            wanted.setdefault(_alike(place), []).append(key)
        found: dict[bytes, Owner] = {}
        for party in self._parties if wanted else ():
            for owner in _candidates(party, wanted):
                for key in wanted[_alike(owner.place)]:
                    if key not in found and self._is_of(owner, places[key]) and owner.is_there():
                        found[key] = owner
        return found

    def _is_of(self, owner: Owner, place: Place) -> bool:
        """Whether a row is an owner's: the database's collation may take different texts for equal."""
        if owner.place == place:
            return True
        if kinds.has_members(self._function.mapping.type):
            return False
        table, columns = self._function.mapping.table, self._key_columns
        theirs, ours = self._connector.read(table, [owner.place, place], columns)
        return ours is not None and theirs == ours


def _candidates(party: Party, wanted: Mapping[Place, Sequence[bytes]]) -> Iterator[Owner]:
    hashes = party.hashes
    for _ in range(LOOKS):
        if hashes.shards.kind == "cluster":
            hashes.refresh()
        before = [hashes.arrivals(each) for each in hashes.shards.shards]
        for shard in hashes.shards.shards:
            for keys in hashes.keys(shard):
                for key, place in _places(party.expecter, hashes, shard, keys):
                    if place is not None and _alike(place) in wanted:
                        yield Owner(party, key, place)
        if [hashes.arrivals(each) for each in hashes.shards.shards] == before:
            return


def _places(
    expecter: Expecter, hashes: Hashes, shard: Shard, keys: Sequence[bytes]
) -> Iterator[tuple[bytes, Place | None]]:
    """Yield the keys of the function with the place of each one's row; None: none can be its row."""
    matched = [(key, parts) for key in keys if (parts := expecter.match(key)) is not None]
    if expecter.key_tells:
        yield from ((key, expecter.own_place(parts)) for key, parts in matched)
        return
    own = [key for key, _ in matched]
    for key, image in zip(own, hashes.images(shard, own)):
        if image is not None:
            yield key, expecter.expect(key, image).place


def _alike(place: Place) -> Place:
    """Return what is the same of all primary keys that some database might take for this one."""
    return tuple(_folded(part) if isinstance(part, str) else part for part in place)


def _folded(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text)
    return "".join(each for each in letters if not unicodedata.combining(each)).casefold().rstrip(" ")
