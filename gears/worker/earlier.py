"""Versions that an upgrade replaced: what they captured, and still waits, is applied by their rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import redis

from gears.applying.change import EntryId
from gears.applying.rules import Rules, of_target
from gears.declaring.deployment import Deployment
from gears.declaring.errors import DeclarationError, PayloadError
from gears.declaring.functions import Transform
from gears.declaring.patterns import Through
from gears.worker import lanes

log = logging.getLogger("gearsync.worker")


class Intents(NamedTuple):
    """Writes whose clients wait: up to which id a lane may have some, and for how long they wait."""

    upto: EntryId
    timeout_ms: int


class Earlier:
    """The versions before a deployment's, asked for in each session: what is in SQL counts no more."""

    def __init__(self, deployment: Deployment, transforms: Mapping[str, Transform]) -> None:
        self._deployment = deployment
        self._transforms = transforms
        self._parsed: dict[bytes, tuple[Deployment, Mapping[str, Transform]] | None] = {}

    def of_lane(self, client: redis.Redis, stream: str, target: str) -> list[Rules]:
        """Return the rules for what waits in a lane, oldest first; only those that differ from the present
        ones. Raises RedisError.
        """
        present = _signature(self._deployment, target)
        found: list[Rules] = []
        for version, payload, marks in lanes.fetch_versions(client, self._deployment.name):
            upto = next(((ms, seq) for name, ms, seq in marks if name.decode() == stream), None)
            if upto is None:
                continue
            deployment, transforms = self._read(version, payload) or (self._deployment, self._transforms)
            functions, signature = of_target(deployment, target), _signature(deployment, target)
            found.append(Rules(version, upto, functions, transforms, signature))
        # What the last ones would do differs in nothing from what is done without them.
        while found and found[-1].signature == present:
            found.pop()
        return found

    def intents(self, client: redis.Redis, stream: str) -> Intents | None:
        """Return what a lane may have of versions that were write-through; None: nothing.

        Raises RedisError.
        """
        found = []
        for _, payload, marks in lanes.fetch_versions(client, self._deployment.name):
            times = _timeouts(payload)
            found += [
                Intents((ms, seq), min(times)) for name, ms, seq in marks if times and name.decode() == stream
            ]
        return max(found, default=None)

    def _read(self, version: int, payload: bytes) -> tuple[Deployment, Mapping[str, Transform]] | None:
        if payload not in self._parsed:
            self._parsed[payload] = self._parse(version, payload)
        return self._parsed[payload]

    def _parse(self, version: int, payload: bytes) -> tuple[Deployment, Mapping[str, Transform]] | None:
        try:
            deployment = Deployment.from_payload(payload)
            return deployment, deployment.transforms()
        except (PayloadError, DeclarationError) as error:
            reason = str(error)
        except (Exception, SystemExit) as error:
            # The user's own code, which may raise anything, and call sys.exit.
            reason = f"its file raised {type(error).__name__}: {error}"
        log.warning(
            "what version %d captured and still waits is applied by the rules of version %d, because its own "
            "can't be loaded: %s",
            version,
            self._deployment.version,
            reason,
        )
        return None


def _timeouts(payload: bytes) -> list[int]:
    """Return how long clients of its functions wait. As the text says: its file may not load any more."""
    functions = json.loads(payload or b"{}").get("functions", ())
    return [int(each["timeout_ms"]) for each in functions if each["kind"] == Through.kind]


def _signature(deployment: Deployment, target: str) -> list[Any]:
    """What makes rows of changes: the functions as they are declared, and the source of transforms."""
    document = json.loads(deployment.to_payload())
    functions = [each for each in document["functions"] if each["target"] == target]
    has_transform = any(each["transform"] for each in functions)
    return [functions, document["source"] if has_transform else ""]
