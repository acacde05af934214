"""Which functions a backfill is of, and by which scans their keys are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.output import CommandError
from deploy.sources import load
from gears.declaring import kinds
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.template import Template

OWN_KEYS = b"gearsync:"
KEY_TYPES = {kinds.HASH: "hash", kinds.JSON: None, kinds.SET: "set", kinds.LIST: "list", kinds.ZSET: "zset"}
"""What SCAN is to find; None: documents are of two types, and those of Redis' own have a longer name."""


@dataclass(frozen=True)
class Scan:
    """One way through a database of Redis: keys that look like ``pattern``, of which ``templates`` cover
    some.
    """

    db: int
    pattern: bytes
    templates: tuple[Template, ...]
    type: str | None = "hash"

    def covers(self, key: bytes) -> bool:
        """Whether one of the functions covers a key; none covers gearsync's own."""
        if key.startswith(OWN_KEYS):
            return False
        return any(each.match(key) is not None for each in self.templates)


@dataclass(frozen=True)
class Chosen:
    """What ``file`` declares, and the functions of it that are meant."""

    deployment: Deployment
    functions: tuple[Function, ...]

    @property
    def scans(self) -> list[Scan]:
        """Return the scans, one for all templates that look alike."""
        found: dict[tuple[int, bytes, str], list[Template]] = {}
        for function in self.functions:
            mapping = function.mapping
            found.setdefault((mapping.db, mapping.keys.glob(), mapping.type), []).append(mapping.keys)
        return [
            Scan(db, pattern, tuple(found[db, pattern, kind]), KEY_TYPES[kind])
            for db, pattern, kind in sorted(found)
        ]

    def scope(self, version: int) -> str:
        """Return what tells this backfill from others of the deployment, of which this version is there."""
        payload = json.loads(self.deployment.to_payload())
        names = {each.name for each in self.functions}
        functions = [each for each in payload["functions"] if each["name"] in names]
        return json.dumps(
            {"functions": functions, "targets": payload["targets"], "version": version}, sort_keys=True
        )


def choose(file: str, name: str | None, wanted: Sequence[str]) -> Chosen:
    """Return the functions of ``file`` that are named, or all that bring writes to SQL.

    Raises CommandError.
    """
    deployment = load(file, name)
    capturing = {each.name: each for each in deployment.capturing}
    if not wanted:
        if not capturing:
            raise CommandError("no function brings writes to SQL, so that there is nothing to backfill.")
        return Chosen(deployment, tuple(capturing.values()))
    known = {each.name: each.kind for each in deployment.functions}
    for each in wanted:
        if each not in known:
            raise CommandError(f"there is no function {each}.", f"one of {', '.join(known)}.")
        if each not in capturing:
            raise CommandError(
                f"the function {each} is {known[each]}: it brings nothing from Redis to SQL.",
                f"one of {', '.join(capturing)}." if capturing else "",
            )
    return Chosen(deployment, tuple(capturing[each] for each in dict.fromkeys(wanted)))
