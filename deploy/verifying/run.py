"""One comparison of a function: its keys with their rows, then the rows with their keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from connectors import Connector
from deploy import barrier
from deploy.loading.run import Total
from deploy.progress import Count
from deploy.reaching.shards import Shard, Shards
from deploy.sources import Source
from deploy.verifying import collecting, nouns
from deploy.verifying.comparing import Comparer, Portion
from deploy.verifying.expected import EXTRA, Difference, Expecter, Image
from deploy.verifying.extras import KeyMaker, Looker, Pages, Texts
from deploy.verifying.hashes import Hashes
from deploy.verifying.members import AT_ONCE, MembersComparer, MembersExpecter
from deploy.verifying.owners import Owners, Party
from deploy.verifying.report import Counts, Named
from deploy.verifying.settling import BARRIER_SECONDS, LOOKS, Settings, Settler
from gears.applying.deadletters import readable
from gears.applying.images import RowReader
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function, Transform
from gears.declaring.template import Template

CHUNK = 2000
"""How many keys are compared at once."""
THREADS = 3
SUSPECTS = 5000
"""How many keys that seem to differ are kept before they are looked at more closely."""
EXTRAS = 100_000
"""How many keys of rows that seem to have none are kept before they are looked at more closely: for each time
all keys are looked through.
"""
COUNT_AFTER_SECONDS = 2.0
TRIES = 50
"""How many random keys are looked at for each one of the function's that a sample wants."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scope:
    """``sample``: how many random keys, and rows, are compared; 0: all. ``extras``: rows without a hash are
    looked for.
    """

    sample: int = 0
    extras: bool = True


class Verification:
    """Compares the hashes of one function with its table, while both are written. ``writers``: functions that
    write to the table, too, with their deployments.
    """

    def __init__(
        self,
        shards: Shards,
        source: Source,
        transform: Transform | None,
        connector: Connector,
        settings: Settings,
        scope: Scope,
        writers: Sequence[tuple[Deployment, Function]],
    ) -> None:
        self.counts = Counts()
        self.seconds = 0.0
        self._shards = shards
        self._source = source
        self._connector = connector
        self._settings = settings
        self._scope = scope
        self._writers = writers
        self._comparer = _comparer(source.function, transform, connector, source.deployment.name)
        self._expecter = self._comparer.expecter
        self._is_plural = isinstance(self._comparer, MembersComparer)
        self._most_suspects = AT_ONCE if self._is_plural else SUSPECTS
        self._named: set[bytes] = set()
        self._begin = 0.0
        self._rows: Total | None = None
        self._maker = KeyMaker(source.function, self._expecter.table)
        #: Rows could not be looked up, since keys are written otherwise, and a sample does not tell how.
        self.hides_rows = False

    @property
    def moves_rows(self) -> bool:
        """Whether the transform gives rows other keys than the hashes' own, so that rows tell no key."""
        return self._expecter.moves_rows

    def run(self) -> None:
        """Compare all, or a sample. Raises ShardError and ConnectorError."""
        self._begin = time.monotonic()
        with collecting.seldom(), ExitStack() as stack:
            hashes = stack.enter_context(Hashes(self._shards, self._expecter))
            pool = stack.enter_context(ThreadPoolExecutor(THREADS))
            parties = [Party(self._source.deployment.name, self._expecter, hashes)]
            parties += [
                Party(name, each, stack.enter_context(Hashes(self._shards, each)))
                for name, each in self._siblings()
            ]
            owners = Owners(self._connector, parties)
            settler = Settler(hashes, self._comparer, owners, self.counts, self._settings)
            self._compare(hashes, settler, pool)
            if self._scope.extras and not self.moves_rows:
                others = [
                    (KeyMaker(each.expecter.function, each.expecter.table), each.hashes)
                    for each in parties[1:]
                ]
                self._look_for_extras(hashes, settler, pool, others)
        self.seconds = time.monotonic() - self._begin

    # -- Hashes with their rows --------------------------------------------------------------------------

    def _compare(self, hashes: Hashes, settler: Settler, pool: ThreadPoolExecutor) -> None:
        def work(item: tuple[Shard, Sequence[bytes]]) -> tuple[int, list[bytes]]:
            shard, keys = item
            parts = self._source.function.mapping.keys.match_all(keys)
            if None in parts:
                keys = [key for key, each in zip(keys, parts) if each is not None]
            count, differing = 0, list[bytes]()
            for portion in self._comparer.portions(shard, hashes, keys):
                some, images = _of_those_there(*portion)
                count += len(some)
                differing += self._comparer.differing(some, images) if some else []
            return count, differing

        suspects: list[bytes] = []
        with Count(f"Comparing {self._source.function.name}", nouns.of(self._source.function)[1]) as shown:
            for count, differing in spread(pool, work, self._chunks(hashes)):
                self.counts.hashes += count
                suspects += differing
                if len(suspects) >= self._most_suspects:
                    settler.settle(suspects)
                    suspects.clear()
                shown.show(self.counts.hashes, self._total())
        settler.settle(suspects)

    def _chunks(self, hashes: Hashes) -> Iterator[tuple[Shard, Sequence[bytes]]]:
        if self._scope.sample:
            yield from self._random_chunks(hashes)
            return
        known: dict[str, str] = {}
        while todo := list(_with_arrivals(hashes, known)):
            for shard in todo:
                # What comes later may have been ahead of the scan where it was, and is behind it here.
                known[shard.address] = hashes.arrivals(shard)
                yield from self._chunks_of(hashes, shard)
            if hashes.shards.kind == "cluster":
                hashes.refresh()

    def _chunks_of(self, hashes: Hashes, shard: Shard) -> Iterator[tuple[Shard, Sequence[bytes]]]:
        waiting: list[bytes] = []
        for keys in hashes.keys(shard):
            waiting += keys
            if len(waiting) >= CHUNK:
                yield shard, waiting
                waiting = []
        if waiting:
            yield shard, waiting

    def _random_chunks(self, hashes: Hashes) -> Iterator[tuple[Shard, Sequence[bytes]]]:
        """Yield random keys of shards in turn, each once: as many as are wanted, if they are to be found."""
        found: set[bytes] = set()
        shards = [shard for shard in hashes.shards.shards if shard.slots or hashes.shards.kind != "cluster"]
        for _ in range(TRIES):
            for shard in shards:
                wanted = self._scope.sample - len(found)
                tries = min(CHUNK, max(1, -(-wanted // len(shards)))) if wanted > 0 else 0
                keys = [key for key in dict.fromkeys(hashes.random(shard, tries)) if key not in found]
                keys = keys[: max(wanted, 0)]
                found.update(keys)
                if keys:
                    yield shard, keys

    # -- Rows with their hashes --------------------------------------------------------------------------

    def _look_for_extras(
        self,
        hashes: Hashes,
        settler: Settler,
        pool: ThreadPoolExecutor,
        others: Sequence[tuple[KeyMaker, Hashes]],
    ) -> None:
        aliases = self._comparer.aliases
        if self._scope.sample and (aliases or aliases.unkeyed):
            self.hides_rows = True
            return
        looker = Looker(self._maker, hashes, aliases, others)
        mark = self._source.function.mapping.additions.deleted_at
        pages = Pages(self._connector, self._expecter.table, mark)
        sample = self._scope.sample
        rows: Iterable[list[Texts]] = parts(pages.random(sample), CHUNK) if sample else pages
        suspects: list[bytes] = []
        lost: list[Texts] = []

        def work(page: list[Texts]) -> tuple[int, list[bytes], list[Texts]]:
            return (len(page), *looker.without(page))

        with Count(f"Looking for extra rows in {self._expecter.table.name}", "rows") as shown:
            for count, keys, unkeyed in spread(pool, work, rows):
                self.counts.rows += count
                if aliases.unkeyed:
                    lost += unkeyed
                else:
                    self._count_unkeyed(unkeyed)
                if self._settings.kept:
                    self.counts.kept += len(keys)
                else:
                    suspects += self._first_seen(keys)
                if len(suspects) >= EXTRAS:
                    settler.settle(self._without_aliases(hashes, suspects))
                    suspects.clear()
                shown.show(self.counts.rows, self._total())
        settler.settle(self._without_aliases(hashes, suspects))
        self._count_unkeyed(self._still_lost(hashes, looker, lost))

    def _without_aliases(self, hashes: Hashes, keys: list[bytes]) -> list[bytes]:
        """Leave out keys of rows that have a key by another name, which may have come meanwhile: a repair
        would delete its row. Of a sample only all keys can tell.
        """
        aliases = self._comparer.aliases
        if not keys or not (aliases or self._scope.sample):
            return keys
        self._note_all(hashes)
        return [key for key in keys if key not in aliases]

    def _note_all(self, hashes: Hashes) -> None:
        """Remember all keys that are not written as their rows' own keys would be."""
        barrier.wait(hashes.shards, BARRIER_SECONDS, None, self._settings.deployment)
        for shard in hashes.shards.shards:
            for keys in hashes.keys(shard):
                self._comparer.note(keys)

    def _still_lost(self, hashes: Hashes, looker: Looker, rows: list[Texts]) -> list[Texts]:
        """Return those rows that are there still when all keys have been looked through again: a row may have
        come with its key meanwhile, or be about to go with it.
        """
        table = self._expecter.table
        columns = [table.columns[name] for name in table.primary_key]
        for _ in range(LOOKS if rows else 0):
            self._note_all(hashes)
            rows = [row for row in rows if looker.is_lost(row)]
            key_part = self._connector.key_part
            texts = [[text or b"" for text in row] for row in rows]
            places = [tuple(map(key_part, columns, row)) for row in texts]
            there = self._connector.read(table.name, places, [])
            rows = [row for row, found in zip(rows, there) if found is not None]
        return rows

    def _first_seen(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Leave out keys of members that other rows have named."""
        if self._is_plural:
            keys = [key for key in dict.fromkeys(keys) if key not in self._named]
            self._named.update(keys)
        return keys

    def _count_unkeyed(self, rows: Sequence[Texts]) -> None:
        names = self._expecter.table.primary_key
        for row in rows:
            self.counts.unkeyed += 1
            self.counts.extra += 1
            if len(self.counts.named) < self._settings.named:
                texts = {name: readable(text or b"") for name, text in zip(names, row)}
                said = Difference(EXTRA, reason="no key of the template can be this row's")
                self.counts.named.append(Named(None, said.kind, (), said.reason, texts))

    def _siblings(self) -> Iterator[tuple[str, Expecter]]:
        """Yield what other functions write rows of the same table, each with its deployment."""
        own = self._source.function
        for deployment, function in self._writers:
            if function.transform_name is None and _keys_of(function) == _keys_of(own):
                continue
            transform = deployment.transforms().get(function.name)
            yield deployment.name, _comparer(function, transform, self._connector, deployment.name).expecter

    def _total(self) -> int | None:
        """Return how many there are, as far as that is known; it is asked for once this takes some time."""
        if self._scope.sample or self._is_plural:
            return self._scope.sample or None
        if self._rows is None and time.monotonic() > self._begin + COUNT_AFTER_SECONDS:
            self._rows = Total(RowReader(self._source.function, self._connector), "")
        return None if self._rows is None else self._rows.rows


def _comparer(
    function: Function, transform: Transform | None, connector: Connector, deployment: str
) -> Comparer | MembersComparer:
    if kinds.has_members(function.mapping.type):
        return MembersComparer(MembersExpecter(function, connector, deployment), connector)
    return Comparer(Expecter(function, transform, connector, deployment), connector)


def _with_arrivals(hashes: Hashes, known: Mapping[str, str]) -> Iterator[Shard]:
    """Yield the shards to which keys have come since what is ``known``, and new ones."""
    for shard in hashes.shards.shards:
        if known.get(shard.address) != hashes.arrivals(shard):
            yield shard


def _of_those_there(keys: Sequence[bytes], images: Sequence[Image]) -> Portion:
    if None not in images:
        return keys, images
    there = [(key, image) for key, image in zip(keys, images) if image is not None]
    return [key for key, _ in there], [image for _, image in there]


def _keys_of(function: Function) -> tuple[Template, int, str]:
    return function.mapping.keys, function.mapping.db, function.mapping.type


def spread(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield the results of ``work`` in the order of ``items``, of which only a few are taken ahead."""
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) > THREADS:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def parts(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Cut a list into parts of at most ``size``."""
    for at in range(0, len(items), size):
        yield list(items[at : at + size])
