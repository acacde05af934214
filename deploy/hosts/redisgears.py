"""A shard with RedisGears 1.2: sessions, registrations, and the trigger of each deployment.

What runs there is gears/redisgears; docs/redisgears.md tells how the two work together.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import redis

from deploy.hosts import drivers
from deploy.hosts.base import Deployed, Host, text
from deploy.hosts.bundles import Bundle
from deploy.hosts.packages import INSTALL_SECONDS, Packages, Progress
from deploy.hosts.replies import as_dict, last_line, patient, short_errors
from gears.deployment import Deployment
from gears.redisgears import script
from gears.redisgears.names import DEAD, LANE, family, session

PREFIX = session("")
POLL_SECONDS = 0.02
MEETING_SECONDS = 10.0
"""How long the shards may take to find each other."""
READERS = ("KeysReader", "StreamReader", "CommandReader")
"""Capture ends first; who answers for the deployment goes last."""

_END = """
import sys
for name in [each for each in sys.modules if each.startswith({family!r})]:
    sys.modules.pop(name).runtime.close()
"""


class RedisGearsHost(Host):
    """RedisGears itself brings a registration to all shards of a cluster, and takes it from them."""

    title = "RedisGears"

    @property
    def packages(self) -> Packages:
        return Packages(self.client)

    def status(self) -> dict[str, Any]:
        info: Any = self.client.info("server")
        deployments = [self._document(name, readers) for name, readers in self._sessions().items()]
        first: dict[str, Any] = next((each["shard"] for each in deployments), {})
        return {
            "host": "redisgears",
            "server": text(info["redis_version"]),
            "role": "primary",
            "source": first.get("source", ""),
            "epoch": first.get("epoch", 0),
            "tag": first.get("tag", ""),
            "deployments": [
                {name: value for name, value in each.items() if name != "shard"} for each in deployments
            ],
        }

    def deployments(self) -> dict[str, Deployed]:
        found = {}
        for name, readers in self._sessions().items():
            payload = text(self._ask(name, "deployment"))
            found[name] = Deployed(name, Deployment.from_payload(payload).version, _state(readers), payload)
        return found

    def refusal(self, deployment: Deployment) -> str:
        problems = []
        for function in deployment.functions:
            if function.mapping.db:
                problems.append(f"{function.name}: RedisGears works in database 0 alone, not in db")
            if function.mapping.on_flush == "delete":
                problems.append(f'{function.name}: RedisGears sees no flush; use on_flush="keep"')
        if deployment.worker == "external":
            problems.append('RedisGears brings the changes to SQL itself; leave out worker="external"')
        if deployment.wheels:
            problems.append("wheels come to RedisGears by gearsync requirements import, not by --wheels")
        problems += drivers.unusable(deployment)
        problems += self._stranded(deployment)
        return "; ".join(problems)

    def prepare(self) -> None:
        if self._is_in_cluster():
            self.client.execute_command("RG.REFRESHCLUSTER")

    def require_ready(self, shards: int) -> None:
        if not self._is_in_cluster():
            return
        deadline = time.monotonic() + MEETING_SECONDS
        while True:
            seen: Any = self.client.execute_command("RG.INFOCLUSTER")
            nodes = [as_dict(each) for each in seen[-1]] if isinstance(seen, list) else []
            # Who has not answered yet has no runid.
            met = {each["id"] for each in nodes if each["runid"] is not None}
            if len(met) == shards:
                return
            if time.monotonic() > deadline:
                raise redis.ResponseError(
                    f"RedisGears on this shard has met {len(met)} of {shards} shards of the cluster, also "
                    f"{MEETING_SECONDS:g} s after RG.REFRESHCLUSTER"
                )
            time.sleep(POLL_SECONDS)

    def bring(self, deployment: Deployment, progress: Progress) -> None:
        missing = drivers.needs(self.packages, deployment).missing
        bundles = [self._bundle(each, progress) for each in missing]
        for bundle in bundles:
            progress(f"Installing {bundle.requirement} on every shard")
            self.packages.bring(bundle)

    def _bundle(self, requirement: str, progress: Progress) -> Bundle:
        if any(each.requirement == requirement for each in self.packages.known()):
            return self.packages.export(requirement)
        return self.packages.fetch(requirement, progress)

    def deploy(self, deployment: Deployment) -> None:
        present = self.deployments().get(deployment.name)
        if present is None or present.payload != deployment.to_payload() or present.state != "active":
            self._upload(deployment)
        # RedisGears does not tell when a shard could not load what it was sent; its answer does.
        if text(self._ask(deployment.name, "deployment")) != deployment.to_payload():
            raise redis.ResponseError("RedisGears kept another version of the deployment")
        stranded = self._stranded(deployment)
        if stranded:
            raise redis.ResponseError("; ".join(stranded))

    def undeploy(self, name: str, discard: bool) -> None:
        readers = self._sessions().get(name, [])
        for reader in READERS if discard else READERS[:1]:
            self._unregister(readers, reader)
        if discard:
            self._clear(name)

    def finish(self, name: str) -> None:
        readers = self._sessions().get(name, [])
        for reader in READERS:
            self._unregister(readers, reader)
        self._clear(name)

    def recapture(self, deployment: str, key: bytes) -> tuple[Any, ...]:
        return "RG.TRIGGER", session(deployment), "recapture", base64.b64encode(key)

    def captured(self, reply: Any) -> int:
        return int(reply[0])

    def wait(self, milliseconds: int, deployment: str | None, key: str | None) -> bool:
        # Which changes are of one key is not known here: all of the deployment is waited for.
        deadline = time.monotonic() + milliseconds / 1000
        names = [name for name in self._sessions() if deployment in (None, name)]
        marks = {(name, lane["stream"]): lane["last_id"] for name in names for lane in self._lanes(name)}
        while True:
            marks = {
                (name, lane["stream"]): marks[name, lane["stream"]]
                for name in names
                for lane in self._lanes(name)
                if (name, lane["stream"]) in marks
                and lane["length"]
                and _id(lane["first_id"]) <= _id(marks[name, lane["stream"]])
            }
            if not marks:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def _is_in_cluster(self) -> bool:
        info: Any = self.client.info("cluster")
        return bool(info.get("cluster_enabled"))

    # -- Sessions and registrations ----------------------------------------------------------------------

    def _sessions(self) -> dict[str, list[dict[str, Any]]]:
        """Return the registrations of each deployment, by its name."""
        reply: Any = self.client.execute_command("RG.PYDUMPSESSIONS", "VERBOSE")
        found = {}
        for each in map(as_dict, reply):
            name = text(each["ID"])
            # One that is being unregistered has no reader any more.
            readers = [one for one in map(as_dict, each["registrations"]) if "reader" in one]
            if name.startswith(PREFIX) and any(text(one["reader"]) == "CommandReader" for one in readers):
                found[name[len(PREFIX) :]] = readers
        return found

    def _unregister(self, readers: list[dict[str, Any]], reader: str) -> None:
        for each in readers:
            if text(each["reader"]) == reader:
                try:
                    self.client.execute_command("RG.UNREGISTER", each["id"])
                except redis.ResponseError as error:
                    # What another shard was told, RedisGears tells this one by itself.
                    if "not registered" not in str(error):
                        raise

    def _upload(self, deployment: Deployment) -> None:
        needed = drivers.needs(self.packages, deployment).requirements
        description = f"gearsync: deployment {deployment.name}, version {deployment.version}"
        words: list[Any] = [script.make(deployment), "ID", session(deployment.name)]
        words += ["DESCRIPTION", description, "UPGRADE"]
        if needed:
            words += ["REQUIREMENTS", *needed]
        with patient(self.client, INSTALL_SECONDS) as client, short_errors():
            reply: Any = client.execute_command("RG.PYEXECUTE", *words)
        if isinstance(reply, list):
            # The other shards may have it: who deploys takes it from them.
            raise redis.ResponseError("; ".join(last_line(text(each)) for each in reply))

    def _ask(self, name: str, *words: Any) -> Any:
        """Ask what runs on this very shard."""
        with short_errors():
            reply: Any = self.client.execute_command("RG.TRIGGER", session(name), *words)
        return reply[0]

    # -- Status ------------------------------------------------------------------------------------------

    def _document(self, name: str, readers: list[dict[str, Any]]) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(self._ask(name, "status"))
        lanes = {each["name"]: each for each in asked["targets"]}
        entries = sum(each["length"] for each in lanes.values())
        return {
            "shard": {key: asked[key] for key in ("source", "epoch", "tag")},
            "name": name,
            "version": asked["version"],
            "state": _state(readers),
            "captured": asked["captured"],
            "failed": asked["failed"] + _failures(readers),
            "missed": asked["missed"],
            "missed_key": asked["missed_key"],
            "refused_writes": 0,
            "backlog": {
                "entries": entries,
                "bytes": 0,
                "limit_entries": 0,
                "limit_bytes": 0,
                "on_full": "grow",
                "full": False,
            },
            "worker": _worker(asked, readers),
            "targets": [
                {"name": key, "dead_letters": each["dead_letters"], "lanes": [_lane(each)]}
                for key, each in lanes.items()
            ],
        }

    def _lanes(self, name: str) -> list[dict[str, Any]]:
        lanes: list[dict[str, Any]] = json.loads(self._ask(name, "status"))["targets"]
        return lanes

    def _stranded(self, deployment: Deployment) -> list[str]:
        """Say which targets of an earlier version, gone from this one, still have changes to be brought."""
        if deployment.name not in self._sessions():
            return []
        problems = []
        for key in self._streams(LANE, deployment.name):
            target = key.split(":")[3]
            waiting = int(self.client.xlen(key)) if target not in deployment.targets else 0
            if waiting:
                problems.append(
                    f"{waiting} changes still wait for the target {target}, which this version has no more: "
                    "stop writing, let gearsync wait end, then deploy"
                )
        return problems

    def _streams(self, kind: str, name: str) -> Iterator[str]:
        for key in self.client.scan_iter(match=f"{kind}{name}:*", count=1000):
            yield text(key)

    def _clear(self, name: str) -> None:
        """End what runs on this very shard, and delete its streams."""
        self.client.execute_command("RG.PYEXECUTE", _END.format(family=family(name)))
        for kind in (LANE, DEAD):
            for key in list(self._streams(kind, name)):
                self.client.delete(key)


def _state(readers: list[dict[str, Any]]) -> str:
    return "active" if any(text(each["reader"]) == "KeysReader" for each in readers) else "draining"


def _failures(readers: list[dict[str, Any]]) -> int:
    """Return how many events RedisGears could not bring to capture at all."""
    return sum(
        int(data["numFailures"]) + int(data["numAborted"])
        for data in (
            as_dict(each["RegistrationData"]) for each in readers if text(each["reader"]) == "KeysReader"
        )
    )


def _worker(asked: dict[str, Any], readers: list[dict[str, Any]]) -> dict[str, Any]:
    targets: dict[str, Any] = asked["report"]
    for each in readers:
        if text(each["reader"]) == "StreamReader":
            data = as_dict(each["RegistrationData"])
            target = text(as_dict(data["args"])["stream"]).split(":")[3]
            if text(data["status"]) != "OK" and targets.get(target, {}).get("state") == "running":
                targets[target].update(state="waiting", last_error=last_line(text(data["lastError"])))
    states = [each["state"] for each in targets.values()]
    state = next((each for each in ("waiting", "starting") if each in states), "running")
    report = {"worker": "redisgears", "version": asked["version"], "pid": asked["pid"], "state": state}
    return {
        "mode": "redisgears",
        "pid": asked["pid"],
        "state": "running",
        "restarts": asked["restarts"],
        "last_exit": "",
        "heartbeat_age_ms": 0,
        "report": {**report, "error": "", "targets": targets},
    }


def _lane(asked: dict[str, Any]) -> dict[str, Any]:
    names = ("stream", "dead_stream", "length", "dead_letters", "last_id")
    return {"status": "current", **{name: asked[name] for name in names}}


def _id(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)
