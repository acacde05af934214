"""What the command line asks of a shard, whatever runs there."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function

if TYPE_CHECKING:
    from deploy.hosts.packages import Packages


@dataclass(frozen=True)
class Deployed:
    """A deployment as one shard has it.

    ``state`` is ``active``, ``draining``, ``replaced`` (by a newer version), or ``damaged``: of RedisGears,
    when it captures but lacks another part. ``payload`` is empty when it can't be asked for.
    """

    name: str
    version: int
    state: str
    payload: str


@dataclass(frozen=True)
class Pause:
    """Who has a deployment wait, and why."""

    by: str
    reason: str


@dataclass(frozen=True)
class Pauses:
    """The pause of a deployment, and those of its targets that are paused alone, by their names."""

    whole: Pause | None
    targets: Mapping[str, Pause]


#: A key and the fields of its hash.
Row = tuple[bytes, Mapping[bytes, bytes]]


NO_HASH = -1
"""Of a key that was to be captured: it is gone, or no hash any more."""
IN_WRITING = -2
"""A client's write of it waits for SQL: it is to be asked for again."""


class Host(abc.ABC):
    """One shard. Each method may raise redis-py's errors; a refusal is a ResponseError."""

    #: What it is called in sentences.
    title = ""
    #: Whether it knows of which keys a change is on its way: ``mark`` and ``images_since``.
    tells_waiting = False
    #: Whether what an earlier version captured is applied by its rules.
    keeps_rules = True

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    @property
    def packages(self) -> Packages | None:
        """Return the packages that all shards share; None: each worker's are its own."""
        return None

    @abc.abstractmethod
    def status(self) -> dict[str, Any]:
        """Return the status document of docs/design.md."""

    @abc.abstractmethod
    def deployments(self) -> dict[str, Deployed]:
        """Return what is deployed, by name."""

    @abc.abstractmethod
    def refusal(self, deployment: Deployment) -> str:
        """Return why the shard would not take a deployment; empty: it would."""

    def risks(self, deployment: Deployment) -> Sequence[tuple[Function, str]]:
        """Return what functions put at stake on this host, although it takes them."""
        return ()

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make ready for a deploy; called on all shards before the next method is on any."""

    @abc.abstractmethod
    def require_ready(self, shards: int) -> None:
        """Refuse when a deploy to so many shards can't go well, before any of them gets it."""

    @abc.abstractmethod
    def bring(self, deployment: Deployment, progress: Callable[[str], None]) -> None:
        """Bring to all shards what a deployment requires, before any of them gets it; ``progress`` takes
        sentences. Who has it already, or fetches it later, does nothing.
        """

    @abc.abstractmethod
    def deploy(self, deployment: Deployment) -> None:
        """Bring a deployment, or a newer version of it; the same again changes nothing."""

    @abc.abstractmethod
    def versions(self, name: str) -> list[Deployed]:
        """Return the versions that were replaced by the present one and are kept, oldest first."""

    @abc.abstractmethod
    def wheels(self, name: str) -> set[str]:
        """Return the fields (``wheel_field``) of the wheels that were uploaded for a deployment."""

    @abc.abstractmethod
    def deploy_paused(self, deployment: Deployment, pauses: Pauses) -> None:
        """Bring a deployment that is not there yet, it or targets of it paused from its first moment on."""

    @abc.abstractmethod
    def pause(
        self, name: str, pause: Pause, functions: Sequence[str] = (), targets: Sequence[str] = ()
    ) -> None:
        """Have nothing of a deployment, or of some functions or else targets, go to SQL any more; clients of
        write-through are refused at once.
        """

    @property
    def function_pause_refusal(self) -> str:
        """Why a function can't be paused alone there; empty: it can."""
        return ""

    @abc.abstractmethod
    def resume(self, name: str, functions: Sequence[str] = (), targets: Sequence[str] = ()) -> None:
        """Have it, or else these functions or targets, go on; also what is not paused."""

    @abc.abstractmethod
    def undeploy(self, name: str, discard: bool) -> None:
        """Stop capture, and drop what waits if ``discard``; also when half of it is done already."""

    @abc.abstractmethod
    def finish(self, name: str) -> None:
        """End a draining deployment, when all shards have brought to SQL what they had."""

    @abc.abstractmethod
    def recapture(self, deployment: str, key: bytes) -> tuple[Any, ...]:
        """Return the command that captures the present state of a key; its reply is for ``captured``."""

    @abc.abstractmethod
    def captured(self, reply: Any) -> int:
        """Return the number of changes that such a command has made."""

    @abc.abstractmethod
    def backfill(self, deployment: str, keys: Sequence[bytes]) -> tuple[Any, ...]:
        """Return the command that captures those of the keys that are hashes; its reply is for
        ``backfilled``.
        """

    @abc.abstractmethod
    def backfilled(self, reply: Any) -> list[int]:
        """Return for each key the number of changes that such a command has made, NO_HASH or IN_WRITING."""

    @abc.abstractmethod
    def arrivals(self) -> str:
        """Return a text that is another one once a key has come here from another shard of the cluster."""

    @abc.abstractmethod
    def mark(self) -> bytes:
        """Return what tells ``put`` when rows were read: to be asked for before they are."""

    @abc.abstractmethod
    def put(self, deployment: str, db: int, ttl_ms: int, since: bytes, rows: Sequence[Row]) -> int:
        """Set the hashes of rows whose key is not there, captured by nobody; return how many were set.

        ``ttl_ms`` 0: they live for ever. Left alone is also a key of which a change waits, or has come to SQL
        ``since`` the mark, and one of a slot that is another shard's.
        """

    @abc.abstractmethod
    def images(
        self, client: redis.Redis, db: int, fields: Sequence[bytes] | None, keys: Sequence[bytes]
    ) -> list[list[bytes | None] | None]:
        """Return the values of ``fields`` of each key (None: all fields, as pairs, flat), or None: no hash.

        No row is loaded for what is not there. ``client`` is one to the database ``db``.
        """

    @abc.abstractmethod
    def images_since(
        self,
        client: redis.Redis,
        db: int,
        fields: Sequence[bytes] | None,
        keys: Sequence[bytes],
        since: bytes,
    ) -> tuple[list[list[bytes | None] | None], list[int]]:
        """Return ``images``, and the indexes of those keys of which a change waits, or has come to SQL
        ``since`` the mark.
        """

    @abc.abstractmethod
    def wait(self, milliseconds: int, deployment: str | None, key: str | None) -> bool:
        """Return whether all that is captured by now gets into SQL, or a dead letter, in that time."""
