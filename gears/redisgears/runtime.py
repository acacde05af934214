"""One deployment inside RedisGears: what the registrations of its script call."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from gears.applying.report import added
from gears.declaring.deployment import Deployment
from gears.redisgears.api import execute, log, plain, start_thread
from gears.redisgears.capture import Capture
from gears.redisgears.commands import REFUSED, WRITES
from gears.redisgears.commits import Commits
from gears.redisgears.drain import Drain
from gears.redisgears.kept import Kept
from gears.redisgears.names import dead_of, lane_prefix, late_prefix, session
from gears.redisgears.operations import OperatingCapture
from gears.redisgears.pausing import Pausing
from gears.redisgears.process import Sources
from gears.redisgears.promotions import Promotions
from gears.redisgears.reads import Reads
from gears.redisgears.shard import Shard
from gears.redisgears.through import Through
from gears.redisgears.written import Written

SWITCH_SECONDS = 0.0005
"""How long the thread that brings batches to SQL may keep Python from the one that captures."""
MISSED_KEY_BYTES = 200


class Runtime:
    """All of one version of one deployment in this process."""

    def __init__(self, payload: str, sources: Sources) -> None:
        self.payload = payload
        self.deployment = Deployment.from_payload(payload)
        self.shard = Shard()
        self._pausing = Pausing(self.deployment.name, self.shard)
        self._kept = Kept(self.deployment.name, self.shard)
        operating = any(each.mapping.operations for each in self.deployment.functions)
        self.capture = (OperatingCapture if operating else Capture)(self.deployment, self.shard)
        self.drains = {
            name: Drain(sources, payload, name, self.deployment.batch, self.shard, self._pausing)
            for name in dict.fromkeys(each.target_name for each in self.deployment.capturing)
        }
        self.reads = Reads(sources, payload, self.deployment, self.shard, self._pausing)
        if self.deployment.reading or self.deployment.is_through:
            Written().watch()
        self._commits: Commits | None = None
        if self.deployment.is_through:
            self.through = Through(self.deployment, self.shard, self.capture, self.reads, self._pausing)
            target = self.deployment.capturing[0].target_name
            self._commits = Commits(sources, payload, target, self.through)
        read = [lane_prefix(self.deployment.name, each) for each in self.drains]
        self._promotions = Promotions([*read, late_prefix(self.deployment.name)])
        sys.setswitchinterval(SWITCH_SECONDS)

    def close(self) -> None:
        """A newer version works here: end what this one has started, without waiting for its batches."""
        self.on_registered()
        self._close()

    def _close(self) -> None:
        self._promotions.close()
        self.reads.close()
        if self._commits is not None:
            self.through.close()
        for drain in self.drains.values():
            start_thread(drain.close)

    def end(self) -> None:
        """The deployment is gone. A write that is on its way to SQL is brought to its end."""
        if self._commits is not None:
            self.through.end()
        self._close()

    def on_registered(self) -> None:
        """The hooks are new ones: who waited by others has been told an error."""
        if self._commits is not None:
            self.through.give_up()

    # -- What the registrations call ---------------------------------------------------------------------

    def on_batch(self, record: dict[str, Any]) -> None:
        """Of StreamReader, in the background: the first of a batch."""
        stream = record["key"]
        target = stream.split(":")[3]
        self._promotions.require_read(stream)
        self.drains[target].on_batch(stream)

    def on_marks(self, record: dict[str, Any]) -> None:
        """Of StreamReader, in the background: operations that the AOF and the replicas lack."""
        if isinstance(self.capture, OperatingCapture):
            self._promotions.require_read(record["key"])
            self.capture.on_marks(record["key"])

    def on_command(self, arguments: list[str]) -> str:
        """Of CommandReader: what the command line asks, as JSON."""
        asked = arguments[1] if len(arguments) > 1 else ""
        if asked == "status":
            return json.dumps(self.status())
        if asked == "deployment":
            return self.payload
        if asked == "recapture":
            return str(sum(self.capture.again(base64.b64decode(each)) for each in arguments[2:]))
        if asked == "backfill":
            return json.dumps([self._backfill(base64.b64decode(each)) for each in arguments[2:]])
        if asked in ("pause", "resume"):
            return self._pause(asked, [base64.b64decode(each).decode() for each in arguments[2:]])
        if asked == "keep":
            self._kept.keep(self.deployment.version, self.payload)
            return "OK"
        if asked == "versions":
            return json.dumps(self._kept.before(self.deployment.version))
        known = "status, deployment, recapture, backfill, pause, resume, keep and versions"
        raise ValueError(f"gearsync knows no {asked}; it knows {known}")

    def _pause(self, asked: str, words: list[str]) -> str:
        """Pause, by whom, why and which targets; or have targets go on. Without targets it is all."""
        who, targets = (words[:2], words[2:]) if asked == "pause" else ([], words)
        unknown = [each for each in targets if each not in self.drains]
        if unknown:
            raise ValueError(f"no function brings changes to a target {unknown[0]} here")
        for target in targets or [""]:
            if asked == "pause":
                self._pausing.begin(who[0], who[1], target)
            else:
                self._pausing.end(target)
        if self._commits is not None:
            self.through.wake.set()
        return "OK"

    def _backfill(self, key: bytes) -> int:
        """Capture a key that its functions take; return for how many targets, -1: they do not, -2: it is
        being written.
        """
        if self.deployment.is_through and self.through.is_writing(key):
            return -2
        return self.capture.again(key) if self.capture.is_held(key) else -1

    def on_hook(self, arguments: list[Any], hook: Callable[[list[Any]], Any]) -> Any:
        """Of CommandReader, for a client's command; or, after a MULTI that was discarded, for a trigger."""
        name = str(arguments[0])
        if name.lower() in WRITES or name.lower() in REFUSED:
            return hook(arguments)
        if name == session(self.deployment.name):
            return [self.on_command(arguments)]
        return "-TRYAGAIN RedisGears took this for a command in a MULTI; send it again"

    def status(self) -> dict[str, Any]:
        """Return what ``gearsync status`` shows of this shard's part of the deployment."""
        self.shard.refresh()
        lanes = {name: self._lane_status(name) for name in self.drains}
        paused = self._pausing.document()
        for name, drain in self.drains.items():
            if paused is None and lanes[name]["paused"] is None:
                drain.open(str(lanes[name]["stream"]))
        return {
            "version": self.deployment.version,
            "pid": next((each.pid for each in self._writers() if each.pid), 0),
            "restarts": sum(max(0, drain.starts - 1) for drain in self.drains.values()),
            "source": self.shard.source,
            "epoch": self.shard.epoch,
            "tag": self.shard.tag,
            "captured": self.capture.captured,
            "failed": self.capture.failed,
            "missed": self.capture.missed,
            "missed_key": self.capture.missed_key.decode("latin-1")[:MISSED_KEY_BYTES],
            "targets": list(lanes.values()),
            "functions": self.capture.counts_of_functions(),
            "writing": 0 if self._commits is None else self._commits.writing,
            "paused": paused,
            "report": self._report_while(
                paused is not None, {name for name in lanes if lanes[name]["paused"] is not None}
            ),
            "reads": self.reads.counts if self.deployment.reading else None,
        }

    def _writers(self) -> list[Any]:
        commits = [] if self._commits is None else [self._commits]
        return [*commits, *self.drains.values(), *self.reads.loaders.values()]

    def _report(self) -> dict[str, Any]:
        found = {name: drain.report for name, drain in self.drains.items()}
        more = [(name, loader.look()) for name, loader in self.reads.loaders.items()]
        if self._commits is not None:
            more.append((self.deployment.capturing[0].target_name, self._commits.report()))
        for name, own in more:
            if name not in found:
                found[name] = own
            else:
                found[name] = added(found[name], own)
        return found

    def _report_while(self, is_all_paused: bool, paused: set[str]) -> dict[str, Any]:
        """Return the same, but nothing goes to SQL of all targets, or of some, than what was on its way."""
        is_busy = self._commits is not None and self._commits.is_busy
        found = self._report()
        for name in found if is_all_paused else paused:
            works = is_busy or (name in self.drains and self.drains[name].is_busy)
            found[name] = {**found[name], "state": "running" if works else "paused", "last_error": ""}
        return found

    def _lane_status(self, target: str) -> dict[str, Any]:
        stream = self.shard.lane(self.deployment.name, target)
        dead = dead_of(stream)
        first = execute("XRANGE", stream, "-", "+", "COUNT", 1)
        first_id = first[0][0] if first else "0-0"
        age = int(time.time() * 1000) - int(first_id.partition("-")[0]) if first else 0
        last = "0-0"
        if execute("EXISTS", stream):
            described = plain(execute("XINFO", "STREAM", stream))
            last = described[described.index(b"last-generated-id") + 1].decode()
        return {
            "name": target,
            "stream": stream,
            "dead_stream": dead,
            "length": execute("XLEN", stream),
            "dead_letters": execute("XLEN", dead),
            "captured": self.capture.counts()[target],
            "paused": self._pausing.document(target),
            "oldest_ms": max(0, age),
            "first_id": first_id,
            "last_id": last,
        }


def start(payload: str, sources: Sources) -> Runtime:
    """Make the runtime of a script; called once a process."""
    runtime = Runtime(payload, sources)
    deployment = runtime.deployment
    log(f"deployment {deployment.name} version {deployment.version} works here")
    return runtime
