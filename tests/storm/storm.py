"""A storm: a workload, faults in several tracks, and what must hold when it is over."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.pair import environment
from tests.chaos.world import URL_VARIABLE
from tests.integration.deploying import ROOT, write
from tests.storm import checks, plan, schema
from tests.storm.checks import Findings
from tests.storm.clustering import Shards
from tests.storm.databases import KINDS
from tests.storm.dbfaults import DatabaseFaults, WorkerFaults
from tests.storm.model import LOST, OK, REFUSED
from tests.storm.topologies import Fault, Pair, Standalone, Topology
from tests.storm.workload import Clients

TOPOLOGIES: dict[str, type[Topology]] = {each.kind: each for each in (Standalone, Pair, Shards)}

_COLUMNS = "columns=['version', 'note', 'age', 'extra'], target=target"
_HEAD = f"""
from connectors import Target
from gears import WriteBehind, WriteThrough, deployment_settings

target = Target("env:{URL_VARIABLE}", name="storm")
"""
#: Deployments, by their names.
FUNCTIONS = {
    "behind": (
        "deployment_settings(name='behind', lanes=2, batch=50)\n"
        f"WriteBehind(keys='item:{{{{{{tag}}}}}}:{{id}}', table='{schema.BEHIND}', {_COLUMNS})\n"
    ),
    "through": (
        "deployment_settings(name='through')\n"
        f"WriteThrough(keys='account:{{{{{{tag}}}}}}:{{id}}', table='{schema.THROUGH}', {_COLUMNS}, "
        "timeout_ms=2000)\n"
    ),
    "flushed": (
        "deployment_settings(name='flushed', lanes=1)\n"
        f"WriteBehind(keys='page:{{{{{{tag}}}}}}:{{id}}', table='{schema.FLUSHED}', {_COLUMNS}, db=1, "
        "on_flush='delete')\n"
    ),
}


@dataclass(frozen=True)
class Weather:
    """Which storm: ``pace`` below 1 makes faults and pauses shorter, ``most``: how many a track has.

    ``only``, a part of their names, leaves out all other faults, and ``without`` those.
    """

    topology: str
    database: str
    seed: int
    seconds: float
    pace: float = 1.0
    most: int = sys.maxsize
    only: str = ""
    without: str = " none "

    def __str__(self) -> str:
        words = f"--storm-seed {self.seed} --storm-minutes {self.seconds / 60:.2f}"
        return f"{self.topology} over {self.database}: {words}"


class Storm:
    """One storm, from the start of its servers to their end; ``live`` returns what does not hold."""

    def __init__(self, weather: Weather, folder: Path) -> None:
        self.weather = weather
        self._folder = folder
        self._database = KINDS[weather.database](folder)
        self._faults = DatabaseFaults(self._database)
        self._over = threading.Event()
        self._begun = 0.0
        self._errors: list[BaseException] = []
        self.happened: Counter[str] = Counter()
        self.files: list[str] = []

    def live(self) -> Findings:
        """Begin, storm, heal and check. Raises what a fault that could not be done or mended raised."""
        _say(f"\nstorm: {self.weather}")
        with self._standing() as topology:
            clients = Clients(topology, self.weather.seed)
            clients.start()
            try:
                self._rage(topology)
            finally:
                clients.end()
            self._tell("over")
            self._database.heal()
            topology.heal()
            self._tell("healed")
            _say(f"faults {dict(sorted(self.happened.items()))}")
            _say(
                f"writes { ({name: clients.count(name) for name in (OK, REFUSED, LOST)}) } {clients.kinds()}"
            )
            _say(f"errors {clients.sentences()}")
            return self._check(topology, clients)

    @contextlib.contextmanager
    def _standing(self) -> Iterator[Topology]:
        """Have all servers, tables and deployments."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._database.stop)
            self._database.start()
            schema.create(self._database.direct)
            variables = {URL_VARIABLE: self._database.url, "PYTHONPATH": str(ROOT)}
            stack.enter_context(environment(variables))
            topology = TOPOLOGIES[self.weather.topology](self._folder, variables)
            stack.callback(topology.stop)
            topology.start()
            for name, functions in FUNCTIONS.items():
                if name != "flushed" or topology.kind != "cluster":
                    self._deploy(name, functions, topology)
            yield topology

    def _deploy(self, name: str, functions: str, topology: Topology) -> None:
        file = write(self._folder, _HEAD + functions, f"{name}.py")
        checks.command("deploy", file, "--redis", topology.url)
        self.files.append(file)

    # -- The storm itself --------------------------------------------------------------------------------

    def _tracks(self, topology: Topology) -> dict[str, dict[str, Fault]]:
        network = {**topology.network_faults(), **self._faults.network_faults()}
        found = {
            "redis": topology.faults(),
            "worker": WorkerFaults(topology).faults(),
            "database": self._faults.faults(),
            "network": network,
        }
        return {
            track: {name: fault for name, fault in faults.items() if self._is_wanted(f"{track} {name}")}
            for track, faults in found.items()
        }

    def _is_wanted(self, name: str) -> bool:
        return self.weather.only in name and self.weather.without not in name

    def _rage(self, topology: Topology) -> None:
        tracks = self._tracks(topology)
        schedule = plan.schedule(
            self.weather.seed, {name: list(faults) for name, faults in tracks.items()}, self.weather.pace
        )
        threads = [
            threading.Thread(target=self._follow, args=(steps, tracks[name]), name=name)
            for name, steps in schedule.items()
        ]
        self._begun = time.monotonic()
        for thread in threads:
            thread.start()
        deadline = self._begun + self.weather.seconds
        while any(thread.is_alive() for thread in threads) and not self._over.is_set():
            self._over.wait(min(0.1, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                self._over.set()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _follow(self, steps: Iterator[plan.Step], faults: Mapping[str, Fault]) -> None:
        try:
            for step in itertools.islice(steps, self.weather.most):
                if self._over.wait(step.pause):
                    return
                self._tell(str(step))
                faults[step.fault](step.seconds, random.Random(step.seed))
                self.happened[f"{step.track} {step.fault}"] += 1
        except BaseException as error:
            self._errors.append(error)
            self._over.set()

    # -- When it is over ---------------------------------------------------------------------------------

    def _check(self, topology: Topology, clients: Clients) -> Findings:
        findings = Findings()
        findings.extend(f"a client failed: {error!r}" for error in clients.errors())
        # Of keys that moved to and fro, what piles up comes to SQL one shard after the other.
        checks.settle(topology, max(120, self.weather.seconds / 3))
        self._tell("settled")
        url, poison = self._database.direct, checks.poisoned(clients)
        end = checks.latest(url)
        buried = {str(each["key"]) for each in checks.letters(topology.url)}
        if not topology.lossy:
            without = "extra" if self._faults.changed else ""
            skipped = poison | buried if self._faults.changed else poison
            before = checks.differences(topology, url, skipped, without)
            before = {key: pair for key, pair in before.items() if key not in skipped}
            for key in checks.ended_since(topology, url, before):
                del before[key]
            findings.differing("SQL has not what Redis has (hash, row)", before)
        if not self._faults.changed:
            checks.check_letters(findings, topology, clients, False)
        checks.check_applied(findings, topology, url, clients, poison | buried)
        checks.check_answered(findings, topology, url, clients, poison | buried)
        checks.check_history(findings, topology, url, clients, end)
        if self._faults.changed or topology.lossy:
            checks.repair(topology, self.files)
            self._tell("repaired")
            checks.check_letters(findings, topology, clients, True)
            rest = checks.differences(topology, url, poison)
            findings.differing("SQL has not what Redis has, also after verify --repair", rest)
        checks.check_answers(findings, topology, clients)
        self._tell("checked")
        return findings

    def _tell(self, what: str) -> None:
        _say(f"{time.monotonic() - self._begun:7.2f} {what}")


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
