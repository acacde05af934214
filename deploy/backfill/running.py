"""One run of a backfill: all shards at once, and once more those to which a resharding brought keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass

from deploy.backfill.chosen import Chosen
from deploy.backfill.limits import Backlog, Pace, Stop, Stopped
from deploy.backfill.place import Counts, Place, Progress
from deploy.backfill.walking import Walk, run_id_of
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shard, Shards
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError

TELL_SECONDS = 0.1


@dataclass(frozen=True)
class Limits:
    """``waiting``: the most changes that may wait on a shard; ``rate``: keys a second, 0 for no limit."""

    waiting: int
    rate: int


class Running:
    """``begin`` says what is known of earlier runs, then ``run`` does it.

    ``again``: how many servers were looked through once more, after keys had moved to them.
    """

    def __init__(self, shards: Shards, chosen: Chosen, limits: Limits) -> None:
        self.again = 0
        self._shards = shards
        self._chosen = chosen
        self._limits = limits
        self._place = Place(chosen.deployment.name, _scope(shards, chosen))
        self._stop = Stop()
        self._pace = Pace(limits.rate, self._stop)
        self._progress: dict[str, Progress] = {}
        self._earlier = Counts()
        self._backlogs: dict[str, Backlog] = {}
        self._stack = ExitStack()

    @property
    def counts(self) -> Counts:
        """What was done so far, by earlier runs too."""
        return sum((each.counts for each in list(self._progress.values())), self._earlier)

    @property
    def waits(self) -> bool:
        """Whether all shards that are not done wait for SQL just now."""
        backlogs = list(self._backlogs.values())
        return bool(backlogs) and all(each.waits for each in backlogs)

    @property
    def problems(self) -> str:
        """What is wrong where a shard waits; empty: nothing is."""
        return " ".join(problem for each in list(self._backlogs.values()) for problem in each.problems)

    def begin(self, restart: bool) -> list[str]:
        """Find out where to go on; return what is worth saying of that. Raises ShardError."""
        if restart:
            self._place.forget(self._shards)
        known = self._place.read(self._shards)
        if known is None:
            return ["An earlier backfill was of other functions, columns or versions: this one begins anew."]
        said = []
        addresses = {each.address for each in known.values()}
        for shard in self._shards.shards:
            run_id = run_id_of(shard)
            if run_id in known:
                self._progress[run_id] = known[run_id]
            elif shard.address in addresses:
                said.append(f"{shard.address} was restarted: its keys are looked through from the beginning.")
        done = self.counts.scanned
        return [*([f"Going on after the {done:,} keys of an earlier run."] if done else []), *said]

    def run(self, tell: Callable[[], None]) -> None:
        """Capture every key that was there at the beginning; ``tell`` is called now and then.

        Raises ShardError and CommandError; what is done until then is remembered.
        """
        with self._stack:
            shards = self._shards
            while todo := list(self._left(shards)):
                self._all(shards, todo, tell)
                shards = self._stack.enter_context(self._shards.again())
            self._place.forget(shards)

    # -- Keys that move meanwhile ------------------------------------------------------------------------

    def _left(self, shards: Shards) -> Iterator[Shard]:
        """Yield the shards that have keys which may have passed by: they came while, or after, their new
        shard was looked through. None is left when no key has come to any shard since its own beginning.
        """
        for shard in shards.shards:
            run_id = run_id_of(shard)
            if run_id not in self._progress or not self._progress[run_id].done:
                yield shard
            elif self._progress[run_id].arrivals != _arrivals(shard):
                self._earlier += self._progress.pop(run_id).counts
                self.again += 1
                yield shard

    # -- All shards at once ------------------------------------------------------------------------------

    def _all(self, shards: Shards, todo: Sequence[Shard], tell: Callable[[], None]) -> None:
        running: list[Future[None]] = []
        with ThreadPoolExecutor(len(todo)) as pool:
            try:
                running += [pool.submit(self._one, shards, shard) for shard in todo]
                while not _is_over(running):
                    tell()
            except BaseException:
                self._stop.set()
                raise
            self._stop.set()
        for each in running:
            if not isinstance(each.exception(), Stopped):
                each.result()
        self._stop.clear()

    def _one(self, shards: Shards, shard: Shard) -> None:
        run_id = run_id_of(shard)
        if run_id not in self._progress:
            self._progress[run_id] = Progress(shard.address, _arrivals(shard))
        name = self._chosen.deployment.name
        backlog = Backlog(shard, name, self._limits.waiting, self._stop, _makes(shard, self._chosen))
        walk = Walk(
            shards, shard, run_id, self._progress[run_id], self._place, backlog, self._pace, self._stop
        )
        self._backlogs[run_id] = backlog
        try:
            walk.run(name, self._chosen.scans)
        finally:
            del self._backlogs[run_id]


def _scope(shards: Shards, chosen: Chosen) -> str:
    """Return what tells this backfill from others: also the version, since an earlier one may have covered
    fewer keys, and nobody captured the writes of the others.
    """
    versions = []
    for shard in shards.shards:
        with errors_of(shard.address):
            deployed = shard.host.deployments().get(chosen.deployment.name)
        versions += [deployed.version] if deployed is not None else []
    return chosen.scope(max(versions, default=0))


def _makes(shard: Shard, chosen: Chosen) -> dict[str, int]:
    """Return how many changes one of the keys makes at most, for each deployment there that covers any."""
    with errors_of(shard.address):
        deployed = shard.host.deployments()
    found = {}
    for each in deployed.values():
        try:
            functions = Deployment.from_payload(each.payload).capturing
        except PayloadError:
            # Of a newer gearsync, or damaged: nothing can be told of its keys.
            continue
        covering = {
            theirs.target_name
            for theirs in functions
            if any(theirs.mapping.shares_keys(ours.mapping) for ours in chosen.functions)
        }
        if covering:
            found[each.name] = len(covering)
    return found


def _is_over(running: Sequence[Future[None]]) -> bool:
    """Wait a moment; return whether all have ended, or one has failed."""
    done, others = wait(running, TELL_SECONDS, FIRST_EXCEPTION)
    return not others or any(each.exception() for each in done)


def _arrivals(shard: Shard) -> str:
    with errors_of(shard.address):
        return shard.host.arrivals()
