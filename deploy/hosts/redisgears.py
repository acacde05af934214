"""A shard with RedisGears 1.2: sessions, registrations, and the trigger of each deployment.

What runs there is gears/redisgears; docs/redisgears.md tells how the two work together.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import redis

from deploy.hosts import drivers, hashes, redisgears_status, sessions
from deploy.hosts.base import Deployed, Host, Pause, Pauses, Row
from deploy.hosts.bundles import Bundle
from deploy.hosts.packages import INSTALL_SECONDS, Packages, Progress
from deploy.hosts.redisgears_status import Lane
from deploy.hosts.replies import as_dict, last_line, patient, short_errors, text
from deploy.hosts.sessions import Reader, Session
from gears.applying.change import parsed_id
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.errors import PayloadError
from gears.declaring.functions import Function
from gears.declaring.patterns import Behind, Reading, Through
from gears.redisgears import script
from gears.redisgears.names import ALL, DEAD, LANE, dead_of, family, session
from gears.redisgears.servers import WRONG_SLOTS, files_wrongly

POLL_SECONDS = 0.02
MEETING_SECONDS = 10.0
"""How long the shards may take to find each other."""
READERS = ("KeysReader", "StreamReader", "CommandReader")
"""Capture ends first; who answers for the deployment goes last."""

_END = """
import sys
for name in [each for each in sys.modules if each.startswith({family!r})]:
    runtime = sys.modules.pop(name).runtime
    getattr(runtime, "end", runtime.close)()
"""

_READS_IN_MULTI = (
    "RedisGears itself ends the server when clients read keys that begin so in MULTI: take that command from "
    "them (ACL SETUSER … -multi), or use the module"
)


class Mute(Exception):
    """A deployment does not answer; the text says why."""


class RedisGearsHost(Host):
    """RedisGears itself brings a registration to all shards of a cluster, and takes it from them."""

    title = "RedisGears"
    keeps_rules = False

    @property
    def packages(self) -> Packages:
        return Packages(self.client)

    def status(self) -> dict[str, Any]:
        info: Any = self.client.info("server")
        deployments = [self._document(each) for each in self._sessions().values()]
        first: dict[str, Any] = next((each["shard"] for each in deployments if each["shard"]), {})
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
        return {name: self._deployed(each) for name, each in self._sessions().items()}

    def _deployed(self, session: Session) -> Deployed:
        try:
            payload, deployment = self._running(session)
        except Mute as error:
            return Deployed(session.name, session.version, redisgears_status.state(session, [str(error)]), "")
        state = redisgears_status.state(session, list(session.missing(deployment)))
        return Deployed(session.name, deployment.version, state, payload)

    def refusal(self, deployment: Deployment) -> str:
        problems = []
        if files_wrongly(text(self.client.info("server")["redis_version"]), self._is_in_cluster()):
            problems.append(f"RedisGears can't capture here: {WRONG_SLOTS}")
        for function in deployment.functions:
            if not isinstance(function.pattern, (Behind, Reading, Through)):
                problems.append(f"{function.name}: {function.kind} functions need the module")
            if isinstance(function.pattern, Reading) and function.pattern.refresh_ahead:
                problems.append(
                    f"{function.name}: refresh_ahead needs the module; RedisGears sees no read of a key"
                )
            if kinds.has_members(function.mapping.type):
                problems.append(
                    f"{function.name}: keys of type {function.mapping.type} need the module; what writes to "
                    "the database for RedisGears reads no keys"
                )
            if function.mapping.db:
                problems.append(f"{function.name}: RedisGears works in database 0 alone, not in db")
            if function.mapping.on_flush == "delete":
                problems.append(f'{function.name}: RedisGears sees no flush; use on_flush="keep"')
        if deployment.is_whole:
            problems.append(
                'transactions="whole" needs the module; RedisGears tells of each key by itself, and not '
                "where a transaction ends"
            )
        if deployment.worker == "external":
            problems.append('RedisGears brings the changes to SQL itself; leave out worker="external"')
        if deployment.wheels:
            problems.append("wheels come to RedisGears by gearsync requirements import, not by --wheels")
        if deployment.is_through:
            problems += self._in_the_way(deployment)
        problems += drivers.unusable(deployment)
        problems += self._stranded(deployment)
        return "; ".join(problems)

    def risks(self, deployment: Deployment) -> Sequence[tuple[Function, str]]:
        return [(function, _READS_IN_MULTI) for function in deployment.reading]

    def _in_the_way(self, deployment: Deployment) -> list[str]:
        others = [
            each.name for each in self._sessions().values() if each.hooks and each.name != deployment.name
        ]
        return [f"the deployment {each} is write-through, and RedisGears takes only one" for each in others]

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
        self._ask(deployment.name, "keep")
        stranded = self._stranded(deployment)
        if stranded:
            raise redis.ResponseError("; ".join(stranded))

    def versions(self, name: str) -> list[Deployed]:
        found = json.loads(text(self._ask(name, "versions")))
        return [Deployed(name, int(version), "replaced", payload) for version, payload in found]

    def wheels(self, name: str) -> set[str]:
        return set()

    def deploy_paused(self, deployment: Deployment, pauses: Pauses) -> None:
        self.deploy(deployment)
        if pauses.whole is not None:
            self.pause(deployment.name, pauses.whole)
        for target, pause in pauses.targets.items():
            self.pause(deployment.name, pause, targets=[target])

    def pause(
        self, name: str, pause: Pause, functions: Sequence[str] = (), targets: Sequence[str] = ()
    ) -> None:
        if functions:
            raise redis.ResponseError(self.function_pause_refusal)
        words = [base64.b64encode(each.encode()) for each in (pause.by, pause.reason, *targets)]
        self._ask(name, "pause", *words)

    @property
    def function_pause_refusal(self) -> str:
        return "RedisGears brings all functions of a target to SQL together"

    def resume(self, name: str, functions: Sequence[str] = (), targets: Sequence[str] = ()) -> None:
        # No function is ever paused alone.
        if not functions:
            self._ask(name, "resume", *(base64.b64encode(each.encode()) for each in targets))

    def undeploy(self, name: str, discard: bool) -> None:
        for target in () if discard else self._paused(name):
            what = f"the target {target} of {name}" if target else f"the deployment {name}"
            raise redis.ResponseError(
                f"{what} is paused, so that its changes would never be in SQL; resume it first"
            )
        self._unregister(name, *(READERS if discard else READERS[:1]))
        if discard:
            self._clear(name)

    def finish(self, name: str) -> None:
        found = self._sessions().get(name)
        hooks = [each for each in found.of("CommandReader") if each.place != session(name)] if found else []
        if hooks:
            # Their clients are answered first: who finishes asks again.
            self._take(hooks)
        if found is None or not self._writing(found):
            self._unregister(name, *READERS)
            self._clear(name)

    def _writing(self, session: Session) -> int:
        """Return how many clients' writes are on their way to SQL here."""
        try:
            # What an older gearsync has deployed does not tell.
            return int(json.loads(self._question(session, "status")).get("writing", 0))
        except Mute:
            return 0

    def recapture(self, deployment: str, key: bytes) -> tuple[Any, ...]:
        return "RG.TRIGGER", session(deployment), "recapture", base64.b64encode(key)

    def captured(self, reply: Any) -> int:
        return int(reply[0])

    def backfill(self, deployment: str, keys: Sequence[bytes]) -> tuple[Any, ...]:
        return "RG.TRIGGER", session(deployment), "backfill", *map(base64.b64encode, keys)

    def backfilled(self, reply: Any) -> list[int]:
        return [int(each) for each in json.loads(text(reply[0]))]

    def arrivals(self) -> str:
        """Slots must not move while something is deployed; the one that asks may find that they have."""
        if not self._is_in_cluster():
            return ""
        nodes: Any = self.client.execute_command("CLUSTER NODES")
        return str([each["slots"] for each in nodes.values() if "myself" in str(each["flags"])])

    def mark(self) -> bytes:
        raise redis.ResponseError(
            "RedisGears captures every write as a change, so that rows can't be loaded beside it; "
            "gearsync load needs the gearsync module"
        )

    def put(self, deployment: str, db: int, ttl_ms: int, since: bytes, rows: Sequence[Row]) -> int:
        # There is no mark.
        raise NotImplementedError

    def images(
        self, client: redis.Redis, db: int, fields: Sequence[bytes] | None, keys: Sequence[bytes]
    ) -> list[list[bytes | None] | None]:
        return hashes.images(client, fields, keys)

    def images_since(
        self,
        client: redis.Redis,
        db: int,
        fields: Sequence[bytes] | None,
        keys: Sequence[bytes],
        since: bytes,
    ) -> tuple[list[list[bytes | None] | None], list[int]]:
        # There is no mark.
        raise NotImplementedError

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
                and parsed_id(lane["first_id"]) <= parsed_id(marks[name, lane["stream"]])
            }
            if not marks:
                return True
            # No longer wait would bring what is paused to SQL.
            if time.monotonic() > deadline or self._are_paused(marks):
                return False
            time.sleep(POLL_SECONDS)

    def _are_paused(self, marks: Iterable[tuple[str, str]]) -> bool:
        """Whether each of these lanes, a deployment's by their streams, is of a target that is paused."""
        paused = {
            (name, lane["stream"])
            for name in {name for name, _ in marks}
            for lane in self._lanes(name)
            # What an older gearsync has deployed does not tell.
            if lane.get("paused")
        }
        return all(each in paused for each in marks)

    def _paused(self, name: str) -> list[str]:
        """Return what of a deployment is paused: its targets' names, "" for all of it."""
        found = self._sessions().get(name)
        try:
            status = {} if found is None else json.loads(self._question(found, "status"))
        except Mute:
            return []
        whole = [""] if status.get("paused") else []
        return whole + [each["name"] for each in status.get("targets", ()) if each.get("paused")]

    def _is_in_cluster(self) -> bool:
        info: Any = self.client.info("cluster")
        return bool(info.get("cluster_enabled"))

    # -- Sessions and registrations ----------------------------------------------------------------------

    def _sessions(self) -> dict[str, Session]:
        return sessions.find(self.client)

    def _unregister(self, name: str, *kinds: str) -> None:
        found = self._sessions().get(name)
        for kind in kinds:
            self._take(found.of(kind) if found else ())

    def _take(self, readers: Iterable[Reader]) -> None:
        """Take registrations away."""
        for reader in readers:
            try:
                self.client.execute_command("RG.UNREGISTER", reader.id)
            except redis.ResponseError as error:
                # What another shard was told, RedisGears tells this one by itself.
                if "not registered" not in str(error):
                    raise

    def _upload(self, deployment: Deployment) -> None:
        needed = drivers.needs(self.packages, deployment).requirements
        present = self._sessions().get(deployment.name)
        session_id = session(deployment.name) if present is None else present.id
        if present is None and not self._is_in_cluster():
            # In a cluster another shard may have one, which is upgraded by its id.
            session_id = sessions.new_id(deployment.name)
        words: list[Any] = [script.make(deployment), "ID", session_id]
        words += ["DESCRIPTION", sessions.describe(deployment), "UPGRADE"]
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

    def _document(self, session: Session) -> dict[str, Any]:
        try:
            _, deployment = self._running(session)
            asked: dict[str, Any] = json.loads(self._question(session, "status"))
        except Mute as error:
            return redisgears_status.of_mute(session, self._found_lanes(session.name), str(error))
        return redisgears_status.of(session, asked, list(session.missing(deployment)))

    def _running(self, session: Session) -> tuple[str, Deployment]:
        """Return the payload that runs on this very shard, and what it says. Raises Mute."""
        payload = self._question(session, "deployment")
        try:
            return payload, Deployment.from_payload(payload)
        except PayloadError as error:
            raise Mute(f"what runs there can't be read: {error}") from error

    def _question(self, session: Session, word: str) -> str:
        if not session.answers:
            raise Mute("nobody answers for it: its CommandReader is gone")
        try:
            return text(self._ask(session.name, word))
        except redis.ResponseError as error:
            raise Mute(f"it does not answer inside RedisGears: {error}") from error

    def _found_lanes(self, name: str) -> list[Lane]:
        """Return the lanes of a deployment that does not answer."""
        streams = set(self._streams(LANE, name))
        streams.update(LANE + key[len(DEAD) :] for key in self._streams(DEAD, name))
        return [self._lane(each) for each in sorted(streams)]

    def _lane(self, stream: str) -> Lane:
        last = "0-0"
        if self.client.exists(stream):
            described: Any = self.client.xinfo_stream(stream)
            last = text(described["last-generated-id"])
        return Lane(stream, self.client.xlen(stream), self.client.xlen(dead_of(stream)), last)

    def _lanes(self, name: str) -> list[dict[str, Any]]:
        lanes: list[dict[str, Any]] = json.loads(self._ask(name, "status"))["targets"]
        return lanes

    def _stranded(self, deployment: Deployment) -> list[str]:
        """Say which targets of an earlier version, gone from this one, are paused or still have changes."""
        if deployment.name not in self._sessions():
            return []
        problems = [
            f"the target {target} is paused, and this version leaves it out; resume it first"
            for target in self._paused(deployment.name)
            if target and target not in deployment.targets
        ]
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
        for kind in ALL:
            for key in list(self._streams(kind, name)):
                self.client.delete(key)
