"""Keys that change their shard in a cluster: how the workers of the two shards agree on their order.

The old owner's mark stands in its lane behind all that it captured of the key, the new owner's before all
that it captured. Both name the new owner's node. The token of a mark goes through the database, in the
transactions of the two batches, so that nothing but the database has to be up for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis

from connectors import Moves
from gears.applying import change as changes
from gears.applying.change import Change
from gears.worker import lanes
from gears.worker.logs import event
from gears.worker.moving.circles import Mark

log = logging.getLogger("gearsync.worker")

SLOT = b"gearsync:slot:"
"""How the key of a mark begins that is about all keys of a slot."""
NO_NODE = b"0" * 40
"""The node of a mark that only carries the epoch of the shard that took a lane over."""
PAGE = 1000
"""How many entries of a lane are looked through at a time."""
RENEW_SECONDS = 1.0
"""How long to wait before a key is asked for again."""
BEING_WRITTEN = -2
"""What GEARSYNC.BACKFILL says of a key that is to be asked for again."""
MOST_HOPS = 5
"""From how many shards to another a key is followed."""
_OF_MOVES = (changes.LEFT, changes.CAME)


SlotMove = tuple[bytes, bytes]
"""One mark of a slot on its way to a node, whatever the number of lanes."""


class Waiting(NamedTuple):
    """What waits on all shards: the marks of each lane of a target, and the address of its shard; and of
    which slots marks will be given.
    """

    marks: dict[str, list[Mark]]
    addresses: dict[str, str]
    slots: frozenset[SlotMove] = frozenset()

    def places(self) -> dict[str, str]:
        """Return the lane in which each token will be given."""
        return {mark.token: lane for lane, marks in self.marks.items() for mark in marks if not mark.came}


def token(deployment: str, target: str, mark: Change) -> str:
    """Return what stands for one key on its way to one node, in the lanes of one target: two targets may be
    in one database.
    """
    words = [deployment.encode(), target.encode(), mark.node, mark.key]
    return hashlib.sha256(b"\0".join(words)).hexdigest()


def slot_move(mark: Change) -> SlotMove | None:
    """Return what a mark of a slot has in common with those of the same move in other lanes; None: it is one
    of a key.
    """
    return (mark.key.rpartition(b":")[0], mark.node) if mark.key.startswith(SLOT) else None


def of_marks(deployment: str, target: str, marks: Sequence[Change]) -> Moves:
    """Return the tokens that a batch gives and takes."""
    given = tuple(
        token(deployment, target, mark) for mark in marks if mark.op == changes.LEFT and mark.node != NO_NODE
    )
    taken = tuple(token(deployment, target, mark) for mark in marks if mark.op == changes.CAME)
    return Moves(given, taken)


def marks_waiting(url: str, deployment: str, target: str) -> Waiting:
    """Return all marks of moves that wait in the cluster for a target, in the order of each lane.

    That of a key that came may have none of one that left: when a MIGRATE failed after it had copied the key,
    when the old owner had no such deployment, or when somebody has discarded its changes. Raises
    redis.RedisError when a shard can't be asked.
    """
    found = Waiting({}, {})
    slots: set[SlotMove] = set()
    with lanes.connect(url) as client:
        for address, node in primaries(client):
            with node:
                for lane in _lanes(node, deployment, target):
                    waiting = list(_marks(node, lane))
                    found.marks[lane] = [
                        Mark(each.op == changes.CAME, token(deployment, target, each), each.id)
                        for each in waiting
                    ]
                    found.addresses[lane] = address
                    slots.update(filter(None, map(slot_move, (e for e in waiting if e.op == changes.LEFT))))
    return found._replace(slots=frozenset(slots))


def renew(url: str, key: bytes) -> None:
    """Have a key captured anew by the shard that has it now, or to which its slot is on its way.

    A key that is nowhere makes no change. Raises redis.RedisError when that shard can't be asked.
    """
    with lanes.connect(url) as client:
        there = _backfill(client, key)
        for _ in range(MOST_HOPS):
            if there is None:
                return
            with node_at(client, there.host, there.port) as node, node.client() as asked:
                if not isinstance(there, redis.exceptions.MovedError):
                    asked.execute_command("ASKING")
                there = _backfill(asked, key)
    if there is not None:
        raise redis.ConnectionError(f"its slot is sent from shard to shard ({there})")


def is_lost(client: redis.Redis, key: bytes) -> bool:
    """Whether a key of a slot that is on its way to another shard is on neither of the two."""
    try:
        client.execute_command("EXISTS", key)
    except redis.exceptions.MovedError:
        return False
    except redis.exceptions.AskError as there:
        with node_at(client, there.host, there.port) as node, node.client() as asked:
            asked.execute_command("ASKING")
            return not asked.execute_command("EXISTS", key)
    return False


def _backfill(client: redis.Redis, key: bytes) -> redis.exceptions.AskError | None:
    """Return where to go instead; None: it is done, or will never be, which is told.

    Raises redis.ResponseError while a client's write of it waits for SQL, and may be refused.
    """
    try:
        appended: Any = client.execute_command("GEARSYNC.BACKFILL", key)
    except redis.exceptions.AskError as error:
        return error
    except redis.ResponseError as error:
        is_refused = isinstance(error, redis.exceptions.NoPermissionError)
        if not is_refused and not str(error).lower().startswith("unknown command"):
            raise
        log.warning(
            "key %r ended while its slot moved, and can't be captured anew where it is now (%s): run "
            "gearsync verify --repair once the slots have moved",
            *(key[:200], error),
            extra=event("not_renewed", error=str(error)),
        )
    else:
        if appended == [BEING_WRITTEN]:
            raise redis.ResponseError("a client's write of it waits for SQL")
    return None


def primaries(client: redis.Redis) -> Iterator[tuple[str, redis.Redis]]:
    """Yield the address and a client of each primary of the cluster."""
    found: Any = client.execute_command("CLUSTER SLOTS")
    for host, port in sorted({(each[2][0], int(each[2][1])) for each in found}, key=str):
        node = node_at(client, host, port)
        yield f"{node.connection_pool.connection_kwargs['host']}:{port}", node


def node_at(client: redis.Redis, host: bytes | str | None, port: int) -> redis.Redis:
    """Return a client of another node, which is reached as this one; without a host it has this one's."""
    options = dict(client.connection_pool.connection_kwargs)
    own_host = options.get("host", "127.0.0.1")
    options.pop("path", None)
    name = (host.decode() if isinstance(host, bytes) else host) or own_host
    if port == 0:
        # What a server without a plain port tells who came by its unix socket.
        raise redis.ConnectionError(f"{name} is reached by TLS alone; start this worker with a rediss:// URL")
    pool = redis.ConnectionPool(
        connection_class=_connection_class(client), **{**options, "host": name, "port": port}
    )
    return redis.Redis.from_pool(pool)


def _connection_class(client: redis.Redis) -> Any:
    found = client.connection_pool.connection_class
    return redis.Connection if found is redis.UnixDomainSocketConnection else found


def _lanes(node: redis.Redis, deployment: str, target: str) -> list[str]:
    try:
        return [each.stream for each in lanes.fetch_lanes(node, deployment).lanes if each.target == target]
    except redis.ResponseError:
        # A shard without the deployment, or without the module, has captured nothing.
        return []


def _marks(node: redis.Redis, lane: str) -> Iterator[Change]:
    after = b"-"
    while True:
        page: Any = node.execute_command("XRANGE", lane, after, "+", "COUNT", PAGE)
        entries = list(_flat(page))
        moving = [entry for entry in entries if changes.read_meta(entry[1])[:1] in _OF_MOVES]
        yield from (change for change in changes.decode(moving)[0] if change.node != NO_NODE)
        if len(entries) < PAGE:
            return
        after = b"(" + entries[-1][0]


def _flat(page: Any) -> Iterator[tuple[bytes, list[bytes]]]:
    for entry_id, fields in page:
        pairs = fields if isinstance(fields, list) else [part for pair in fields.items() for part in pair]
        yield entry_id, pairs
