"""RedisGears' sessions of deployments: what is registered there, what has been taken away, what failed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from deploy.hosts.replies import as_dict, last_line, text
from gears.declaring.deployment import Deployment
from gears.redisgears.commands import REFUSED, WRITES
from gears.redisgears.names import lane_prefix, late_prefix, session
from gears.redisgears.script import captured_targets, has_operations, prefixes, through_functions

PREFIX = session("")
_DESCRIBED = re.compile(r"gearsync: deployment (.+), version (\d+)")


def new_id(name: str) -> str:
    """Return the id of a session for a deployment that has none.

    No session had it before: RedisGears, which may let go of an older one of the same id later, as after a
    restart by an AOF that has both, would forget the newer one with it.
    """
    return f"{session(name)}-{secrets.token_hex(4)}"


def describe(deployment: Deployment) -> str:
    """Return a session's description, from which its name is read, and when it is mute the version."""
    return f"gearsync: deployment {deployment.name}, version {deployment.version}"


@dataclass(frozen=True)
class Reader:
    """A registration; ``kind`` is KeysReader, StreamReader or CommandReader, ``place`` what it is for.

    ``reads``: it is a KeysReader for keys that are missed.
    """

    id: str
    kind: str
    place: str
    failures: int
    last_error: str
    is_well: bool
    reads: bool = False

    @property
    def target(self) -> str:
        """The target of a StreamReader."""
        return self.place.split(":")[3]


@dataclass(frozen=True)
class Session:
    """A deployment as RedisGears knows it."""

    name: str
    version: int
    readers: list[Reader]
    id: str

    def of(self, kind: str) -> list[Reader]:
        """Return the registrations of one kind."""
        return [each for each in self.readers if each.kind == kind]

    @property
    def is_active(self) -> bool:
        """Whether anything is captured; undeploy ends that first."""
        return bool(self.of("KeysReader"))

    @property
    def capture_failures(self) -> int:
        """How many events RedisGears could not bring to capture at all."""
        return sum(each.failures for each in self.of("KeysReader") if not each.reads)

    @property
    def capture_error(self) -> str:
        """Why, the last time; empty: none is known."""
        failed = (each for each in self.of("KeysReader") if each.last_error and not each.reads)
        return next((each.last_error for each in failed), "")

    def missing(self, deployment: Deployment) -> Iterator[str]:
        """Say which registrations somebody has taken away that the deployment needs."""
        if self.is_active:
            yield from self._missing_keys(deployment)
            yield from self._missing_hooks(deployment)
        read = {each.place for each in self.of("StreamReader")}
        for target in captured_targets(deployment):
            if lane_prefix(deployment.name, target) + "*" not in read:
                yield f"nothing is brought to {target}: its StreamReader is gone"
        if has_operations(deployment) and late_prefix(deployment.name) + "*" not in read:
            yield "what operations do does not reach the AOF and the replicas: their StreamReader is gone"

    @property
    def answers(self) -> bool:
        """Whether somebody can be asked."""
        return any(each.place == session(self.name) for each in self.of("CommandReader"))

    @property
    def hooks(self) -> bool:
        """Whether it holds clients that write."""
        return any(each.place in WRITES for each in self.of("CommandReader"))

    def _missing_hooks(self, deployment: Deployment) -> Iterator[str]:
        there = [each.place for each in self.of("CommandReader")]
        wanted = len(prefixes(through_functions(deployment)))
        for command in (*WRITES, *REFUSED) if wanted else ():
            # One more is for what stands in a MULTI.
            if there.count(command) <= wanted:
                yield f"{command} does not wait for SQL: its CommandReader is gone"

    def _missing_keys(self, deployment: Deployment) -> Iterator[str]:
        there = {(each.place, each.reads) for each in self.of("KeysReader")}
        for prefix in prefixes(deployment.capturing):
            if (prefix + "*", False) not in there:
                yield f"writes to keys that begin with {prefix} are not captured: their KeysReader is gone"
        for prefix in prefixes(deployment.reading):
            if (prefix + "*", True) not in there:
                yield f"rows of keys that begin with {prefix} are not loaded: their KeysReader is gone"


def find(client: redis.Redis) -> dict[str, Session]:
    """Return the sessions of deployments on a shard, by the deployment's name."""
    reply: Any = client.execute_command("RG.PYDUMPSESSIONS", "VERBOSE")
    found = {}
    for each in map(as_dict, reply):
        session_id = text(each["ID"])
        # One that is about to go is still there by its id alone.
        readers = [_reader(as_dict(one)) for one in each["registrations"] if isinstance(one, list)]
        if session_id.startswith(PREFIX) and readers:
            described = _DESCRIBED.fullmatch(text(each["sessionDescription"] or b""))
            name, version = described.groups() if described else (session_id[len(PREFIX) :], "0")
            found[name] = Session(name, int(version), readers, session_id)
    return found


def _reader(registration: dict[str, Any]) -> Reader:
    data = as_dict(registration["RegistrationData"])
    arguments = as_dict(data["args"])
    place = next((text(arguments[name]) for name in ("regex", "stream", "trigger") if name in arguments), "")
    return Reader(
        id=text(registration["id"]),
        kind=text(registration["reader"]),
        place=place,
        reads=bool(arguments.get("hookCommands")),
        failures=int(data["numFailures"]) + int(data["numAborted"]),
        last_error="" if data["lastError"] is None else last_line(text(data["lastError"])),
        is_well=text(data.get("status", b"OK")) == "OK",
    )
