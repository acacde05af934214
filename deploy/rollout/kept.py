"""The versions of a deployment that the shards keep, to go back to them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deploy.hosts.base import Deployed
from deploy.reaching.server_errors import errors_of
from deploy.reaching.shards import Shards


@dataclass(frozen=True)
class Kept:
    """``earlier`` are by their numbers those before ``present``, the newest version that any shard has."""

    present: Deployed
    earlier: dict[int, Deployed]

    @property
    def last_other(self) -> Deployed | None:
        """The last earlier version that differs from the present one; None: none does."""
        rules = _rules(self.present)
        others = [each for each in self.earlier.values() if _rules(each) != rules]
        return max(others, key=lambda each: each.version, default=None)


def find(shards: Shards, name: str) -> Kept | None:
    """Return the versions of a deployment on all shards; None: there is none of that name. Raises
    ShardError.
    """
    present: Deployed | None = None
    kept: dict[int, Deployed] = {}
    for each in shards.shards:
        with errors_of(each.address):
            found = each.host.deployments().get(name)
            if found is None:
                continue
            kept.update((one.version, one) for one in each.host.versions(name) if one.payload)
        present = found if present is None or found.version > present.version else present
    if present is None:
        return None
    # A newer one was taken back, because a shard refused it.
    return Kept(present, {version: each for version, each in kept.items() if version < present.version})


def _rules(deployed: Deployed) -> object:
    if not deployed.payload:
        return None
    document = json.loads(deployed.payload)
    document.pop("version", None)
    return document
