"""The status document of docs/design.md, from what RedisGears and the deployment itself say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.hosts.sessions import Session
from gears.redisgears.names import dead_of


@dataclass(frozen=True)
class Lane:
    """A stream of changes that wait, as it is in Redis."""

    stream: str
    length: int
    dead_letters: int
    last_id: str
    told: dict[str, Any] = field(default_factory=dict)
    """What only the deployment itself can say: ``oldest_ms``, and how many changes were ``captured``."""

    @property
    def target(self) -> str:
        """The target's name."""
        return self.stream.split(":")[3]

    def document(self) -> dict[str, Any]:
        """Return its part of the status."""
        return {
            "status": "current",
            "stream": self.stream,
            "dead_stream": dead_of(self.stream),
            "length": self.length,
            "dead_letters": self.dead_letters,
            "last_id": self.last_id,
            **{name: self.told[name] for name in ("oldest_ms",) if name in self.told},
        }


def state(session: Session, problems: Sequence[str]) -> str:
    """Return ``active``, ``draining``, or ``damaged``: it captures, and does not do all else."""
    if not session.is_active:
        return "draining"
    return "damaged" if problems else "active"


def of(session: Session, asked: dict[str, Any], problems: Sequence[str]) -> dict[str, Any]:
    """Return the document of a deployment that has answered ``asked``."""
    lanes = [
        Lane(each["stream"], each["length"], each["dead_letters"], each["last_id"], each)
        for each in asked["targets"]
    ]
    made = _document(session, asked["version"], lanes, problems)
    made["shard"] = {key: asked[key] for key in ("source", "epoch", "tag")}
    made["captured"] = asked["captured"]
    made["failed"] += asked["failed"]
    made["functions"] = asked.get("functions", [])
    made["missed"] = asked["missed"]
    made["missed_key"] = asked["missed_key"]
    if asked["reads"]:
        made["reads"] = asked["reads"]
    worker = made["worker"]
    worker.update(pid=asked["pid"], restarts=asked["restarts"])
    worker["report"].update(pid=asked["pid"], targets=_with_errors_of(session, asked["report"]))
    if asked["paused"] is not None:
        made["paused"] = _pause(asked["paused"])
        made["state"] = "paused" if made["state"] == "active" else made["state"]
    if not problems:
        states = [each["state"] for each in worker["report"]["targets"].values()]
        wanted = ("waiting", "starting") if asked["paused"] is None else ("running", "paused")
        worker["report"]["state"] = next((each for each in wanted if each in states), "running")
    return made


def _pause(told: dict[str, Any]) -> dict[str, Any]:
    """Return a pause with one character a byte in its texts, as the module writes them."""
    return {**told, **{name: told[name].encode().decode("latin-1") for name in ("by", "reason")}}


def of_mute(session: Session, lanes: Sequence[Lane], problem: str) -> dict[str, Any]:
    """Return the document of a deployment that does not answer; its streams are found all the same."""
    return _document(session, session.version, lanes, [problem])


def _document(
    session: Session, version: int, lanes: Sequence[Lane], problems: Sequence[str]
) -> dict[str, Any]:
    error = "; ".join([*problems, "deploy it again"]) if problems else ""
    report = {"worker": "redisgears", "version": version, "pid": 0, "error": error, "targets": {}}
    return {
        "shard": {},
        "name": session.name,
        "version": version,
        "state": state(session, problems),
        "captured": 0,
        "failed": session.capture_failures,
        "failed_because": session.capture_error,
        "missed": 0,
        "missed_key": "",
        "refused_writes": 0,
        "backlog": {
            "entries": sum(each.length for each in lanes),
            "bytes": 0,
            "limit_entries": 0,
            "limit_bytes": 0,
            "on_full": "grow",
            "full": False,
        },
        "worker": {
            "mode": "redisgears",
            "pid": 0,
            "state": "failed" if problems else "running",
            "restarts": 0,
            "last_exit": "",
            "heartbeat_age_ms": 0,
            "report": {**report, "state": "failed" if problems else "running"},
        },
        "targets": [_target(name, lanes) for name in dict.fromkeys(each.target for each in lanes)],
    }


def _target(name: str, lanes: Sequence[Lane]) -> dict[str, Any]:
    own = [each for each in lanes if each.target == name]
    captured = [each.told["captured"] for each in own if "captured" in each.told]
    paused = [_pause(each.told["paused"]) for each in own if each.told.get("paused")]
    return {
        "name": name,
        **({"captured": sum(captured)} if captured else {}),
        "dead_letters": sum(each.dead_letters for each in own),
        **({"paused": paused[0]} if paused else {}),
        "lanes": [each.document() for each in own],
    }


def _with_errors_of(session: Session, targets: dict[str, Any]) -> dict[str, Any]:
    """Return the targets' reports, with what RedisGears itself says of its readers where they say nothing."""
    for reader in session.of("StreamReader"):
        report = targets.get(reader.target, {})
        if not reader.is_well and report.get("state") == "running":
            report.update(state="waiting", last_error=reader.last_error)
    return targets
