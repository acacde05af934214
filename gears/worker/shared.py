"""What all that works in one worker has in common."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from connectors import Connector
from gears.declaring.deployment import Deployment
from gears.declaring.functions import Transform
from gears.worker.earlier import Earlier
from gears.worker.moving.asking import Asker
from gears.worker.moving.moves import marks_waiting


class Shared:
    """Where a worker's lanes, followers and readers find Redis, the databases and their functions.

    ``owner`` is who claims lanes, a name that no other worker has. ``open_connector`` takes the name of a
    target and, where clients wait, times after which its database gives up. ``stop``: all are to end.
    ``fenced``: why the worker may not go on; empty: it may. ``digest``: of the deployment's payload, as the
    module makes it; empty: it is not known.
    """

    def __init__(
        self,
        url: str,
        deployment: Deployment,
        owner: str,
        open_connector: Callable[..., Connector],
        transforms: dict[str, Transform],
        digest: str = "",
    ) -> None:
        self.url = url
        self.deployment = deployment
        self.digest = digest
        self.owner = owner
        self.open_connector = open_connector
        self.transforms = transforms
        self.earlier = Earlier(deployment, transforms)
        self.stop = threading.Event()
        self.fenced = ""
        # What the module holds back by now, as the heartbeat was told; see ``gears.worker.holds``.
        self.hold_number = 0
        self._askers: dict[str, Asker] = {}

    def runs(self, version: int, digest: str) -> bool:
        """Whether this worker runs the very deployment of which a server tells these. One that was undeployed
        and deployed again has versions of before. An older module tells no digest.
        """
        is_known = bool(digest and self.digest)
        return version == self.deployment.version and (digest == self.digest or not is_known)

    def asker(self, target: str) -> Asker:
        """Return who asks all shards for what the lanes of a target wait for."""
        ask = functools.partial(marks_waiting, self.url, self.deployment.name, target)
        return self._askers.setdefault(target, Asker(ask))
