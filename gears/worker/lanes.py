"""The Redis side of the worker: which lanes there are, reading, acknowledging, dead letters, heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from connectors import Position
from gears.applying.acknowledgments import Acknowledgment
from gears.applying.change import (
    Change,
    Changes,
    Malformed,
    decode,
    goes_on,
    is_applied,
    parsed_id,
    read_meta,
)
from gears.applying.commands import MOST_BYTES, Commands
from gears.applying.intents import follows
from gears.declaring.deployment import Deployment

SOCKET_TIMEOUT_SECONDS = 15.0
CHUNK = 1000
"""The most entries of one XREAD: Redis builds the answer on its main thread."""
FIRST = 50
"""The entries of the first read, before it is known how large they are."""
PAGE_BYTES = 16 << 20
"""About the most of one read: the memory of Redis has the lane, and its answer."""
LANE_HEAD = b"0-0"
ASKING = "ASKING"
"""Before what writes clients' keys: a cluster takes those of a slot that comes from no one else."""


class Lane(NamedTuple):
    """One lane of a deployment, as the module tells."""

    stream: str
    dead_stream: str
    target: str
    number: int
    retired: bool
    adopted: bool = False
    """It came from another shard with its slot."""

    @property
    def total(self) -> int:
        """How many lanes there are with it, of its target."""
        return int(self.stream.rpartition(".")[2])


class Term(NamedTuple):
    """An epoch of a server's life as a primary. An older module tells of no lives."""

    epoch: int
    life: str = ""


class Lanes(NamedTuple):
    """The answer of GEARSYNC.LANES."""

    epoch: int
    state: str
    version: int
    lanes: tuple[Lane, ...]
    paused: frozenset[str] = frozenset()
    """The targets that are paused alone."""
    source: str = ""
    """What names the shard, whichever server is its primary."""
    digest: str = ""
    """Of the payload; empty: the module is older than this worker."""
    life: str = ""
    """What tells the server's life as a primary from others, which may have had the same epoch."""

    @property
    def term(self) -> Term:
        """For how long ids of the lanes only grow."""
        return Term(self.epoch, self.life)


class EpochPassed(Exception):
    """The server has another epoch than when the lane's session began."""


class Pulse(NamedTuple):
    """The answer of GEARSYNC.HEARTBEAT."""

    epoch: int
    version: int
    state: str


def connect(url: str, steady: bool = False) -> redis.Redis:
    """Return a client that raises at once what goes wrong; retrying is the worker's own.

    ``steady``: on one connection, whose loss is an error. Others are made anew without a word, and may lead
    to a server that is an older state of the one before.
    """
    return redis.Redis.from_url(
        url,
        single_connection_client=steady,
        protocol=2,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def fetch_deployment(client: redis.Redis, name: str) -> tuple[Deployment, str] | None:
    """Return the deployment of that name as the module holds it, and its digest; None: there is none."""
    for entry in client.execute_command("GEARSYNC.DEPLOYMENTS"):
        if entry[0].decode() == name:
            return Deployment.from_payload(entry[3]), hash_of(entry[3])
    return None


def hash_of(content: bytes) -> str:
    """Return the hash by which the module calls long things by short names: FNV-1a, 64 bits, in hex."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def fetch_lanes(client: redis.Redis, name: str) -> Lanes:
    """Return the lanes of a deployment, retired ones first, with the shard's epoch."""
    # A module that is older than this worker pauses no target alone, and tells no digest and no life.
    epoch, source, state, version, entries, *more = client.execute_command("GEARSYNC.LANES", name)
    lanes = tuple(
        Lane(
            stream.decode(),
            dead.decode(),
            target.decode(),
            int(index),
            status == b"retired",
            b":lane:" + source + b":" not in stream,
        )
        for stream, dead, target, index, status in entries
    )
    paused = frozenset(target.decode() for target in (more[0] if more else ()))
    told = digest_and_life(more[1:])
    return Lanes(int(epoch), state.decode(), int(version), lanes, paused, source.decode(), *told)


def digest_and_life(words: Sequence[bytes]) -> tuple[str, str]:
    """Return the last two words of an answer, which a module that is older than this worker does not tell."""
    digest, life = (*words, b"", b"")[:2]
    return digest.decode(), life.decode()


def fetch_versions(client: redis.Redis, name: str) -> list[Any]:
    """Return ``[version, payload, marks]`` of each version that was replaced, oldest first; a mark is
    ``[stream, ms, seq]``. A module that is older than this worker keeps none.
    """
    try:
        reply: Any = client.execute_command("GEARSYNC.VERSIONS", name)
    except redis.ResponseError as error:
        # A package is upgraded before the server that has the module loaded is started anew.
        if not str(error).lower().startswith("unknown command"):
            raise
        return []
    return list(reply)


def heartbeat(client: redis.Redis, name: str, worker_id: str, report: str) -> Pulse:
    """Tell the module that this worker lives; return what the module wants of it."""
    epoch, version, state = client.execute_command("GEARSYNC.HEARTBEAT", name, worker_id, report)
    return Pulse(int(epoch), int(version), state.decode())


def acknowledge(client: redis.Redis, stream: str, entry_id: str, term: Term) -> int:
    """Let the module trim the lane up to and with ``entry_id``; return how many changes are left.

    Raises EpochPassed when ``term``, in which that was read, is over: the id may be another change's now.
    """
    words = "GEARSYNC.ACK", stream, entry_id, *(term if term.life else ())
    try:
        return int(client.execute_command(*words))
    except redis.ResponseError as error:
        if str(error).startswith("EPOCH"):
            raise EpochPassed(str(error)) from error
        raise


def takes_less(error: redis.ResponseError) -> bool:
    """Whether a command had a word too many: the module is older than this worker."""
    return str(error).lower().startswith("wrong number of arguments")


def applied(client: redis.Redis, stream: str, upto: Position) -> Iterator[Sequence[Change]]:
    """Yield the changes at the head of a lane that SQL, which is at ``upto``, has, a page at a time."""
    commands = RedisCommands(client)
    start, count = "-", 1
    while True:
        page = commands.call("XRANGE", stream, start, "+", "COUNT", count)
        found, malformed = decode(page)
        known = [each for each in found if is_applied(each, upto)]
        if known:
            yield known
        if len(page) < count or len(known) + len(malformed) < len(page):
            return
        start, count = f"({page[-1][0].decode()}", fitting(len(page), bytes_of(page))


def deny(client: redis.Redis, stream: str, reason: str) -> int:
    """Refuse the intents that no worker has taken; return how many there were."""
    return int(client.execute_command("GEARSYNC.DENY", stream, reason))


def fetch_applied(client: redis.Redis, stream: str) -> Position:
    """Return up to where Redis has what SQL committed of the intents of a lane."""
    epoch, entry_id = client.execute_command("GEARSYNC.APPLIED", stream)
    ms, _, seq = entry_id.partition(b"-")
    return Position(int(epoch), int(ms), int(seq))


def redo(
    client: redis.Redis,
    stream: str,
    position: Position,
    worker: str,
    outcomes: Sequence[tuple[str, bytes, str]],
) -> None:
    """Have Redis do what SQL committed, up to a position; each outcome is an id, its command and a reason."""
    words = [word for outcome in outcomes for word in outcome]
    entry_id = f"{position.ms}-{position.seq}"
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command(ASKING)
        pipe.execute_command("GEARSYNC.REDO", stream, position.epoch, entry_id, worker, *words)
        # A server that is no cluster refuses the first.
        _, done = pipe.execute(raise_on_error=False)
    if isinstance(done, redis.RedisError):
        raise done


def tell(client: redis.Redis, told: Sequence[Acknowledgment]) -> list[str]:
    """Write acknowledgments; return what Redis said of those that it refused. Raises RedisError otherwise."""
    refused = []
    for start in range(0, len(told), CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for each in told[start : start + CHUNK]:
                for words in each.commands():
                    pipe.execute_command(*words)
            # Not tried again: a lane that waited for memory would keep what it could free.
            replies = pipe.execute(raise_on_error=False)
        refused += [str(reply) for reply in replies[::2] if isinstance(reply, redis.ResponseError)]
    return refused


class RedisCommands(Commands):
    """The commands of a client."""

    def __init__(self, client: redis.Redis) -> None:
        # One without callbacks, which would make other types of some replies.
        self._client = redis.Redis(connection_pool=client.connection_pool)
        for name in list(self._client.response_callbacks):
            del self._client.response_callbacks[name]

    def call(self, *words: Any) -> Any:
        return self._client.execute_command(*words)

    def transaction(self, commands: Sequence[Sequence[Any]]) -> None:
        with self._client.pipeline(transaction=True) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            pipe.execute()

    def most_bytes(self) -> int:
        # Beyond them the server closes the connection, again and again.
        return min(self._limit(name) for name in ("proto-max-bulk-len", "client-query-buffer-limit")) // 2

    def _limit(self, name: str) -> int:
        try:
            told = self.call("CONFIG", "GET", name)
        except redis.ResponseError:
            # The worker's user has no right to it, or it has another name.
            told = ()
        return int(told[1]) if told else MOST_BYTES * 2


def bytes_of(entries: Sequence[tuple[bytes, list[bytes]]]) -> int:
    """Return about how large entries are, of which most are one pair."""
    return sum([len(pairs[1]) if len(pairs) == 2 else sum(map(len, pairs or ())) for _, pairs in entries])


def fitting(count: int, size: int) -> int:
    """Return how many entries are to be read at once after ``count`` of them had ``size`` bytes."""
    return max(1, min(CHUNK, PAGE_BYTES * count // max(1, size)))


class Reading:
    """What was read of a lane so far: changes, entries that are none, the last id of both, and about how many
    bytes they have.
    """

    def __init__(self) -> None:
        self.changes = Changes([], [])
        self.malformed: list[Malformed] = []
        self.last_id = ""
        self.size = 0

    def __len__(self) -> int:
        return len(self.changes) + len(self.malformed)

    def add(self, entries: Sequence[tuple[bytes, list[bytes]]]) -> None:
        """Add entries as the stream has them."""
        changes, malformed = decode(entries)
        self.changes.extend(changes)
        self.malformed += malformed
        self.last_id = entries[-1][0].decode("ascii")

    def cut(self, covers: Callable[[Change], bool]) -> bool:
        """Take off what follows the changes that are covered, from the first one that is not; whether there
        was any.
        """
        at = next((at for at, each in enumerate(self.changes) if not covers(each)), None)
        if at is None:
            return False
        first = parsed_id(self.changes[at].id)
        self.changes = self.changes[:at]
        self.malformed = [each for each in self.malformed if parsed_id(each.id) < first]
        ids = [each.id for each in (*self.changes, *self.malformed)]
        self.last_id = max(ids, key=parsed_id) if ids else ""
        return True


def _goes_on(entry: tuple[bytes, list[bytes]]) -> bool:
    return goes_on(read_meta(entry[1]))


class Reader:
    """Reads one lane from its head, on a connection of its own."""

    def __init__(self, url: str, stream: str) -> None:
        self._client = connect(url)
        self._connection = self._client.connection_pool.get_connection()
        self._stream = stream
        self._after = LANE_HEAD
        # What was read while looking for the end of a transaction, and belongs to the next one.
        self._ahead: list[tuple[bytes, list[bytes]]] = []
        self._is_cut = False
        # How many are read at once, and about how large the last ones were.
        self._count = FIRST
        self._size = 0

    def read_into(self, reading: Reading, most: int, block_ms: int) -> int:
        """Add the next entries, at most ``most``; wait up to ``block_ms`` for the first. Returns how many."""
        if self._ahead:
            entries, self._ahead = self._ahead[:most], self._ahead[most:]
            reading.size += bytes_of(entries)
        else:
            entries = self._read(most, block_ms)
            reading.size += self._size
        if entries:
            reading.add(entries)
        return len(entries)

    def end_transaction(self, reading: Reading) -> None:
        """Add what else belongs to the transaction of the last entry, which ``most`` may have cut.

        A transaction is in the lane whole, or not yet; so where a read found the lane's end, one ends too.
        """
        while self._ahead or self._is_cut:
            self._ahead = self._ahead or self._read(CHUNK, 0)
            if not self._ahead:
                return
            more = next((at for at, each in enumerate(self._ahead) if not _goes_on(each)), len(self._ahead))
            if more:
                reading.add(self._ahead[:more])
                self._ahead = self._ahead[more:]
            if self._ahead:
                return

    def _read(self, most: int, block_ms: int) -> list[tuple[bytes, list[bytes]]]:
        count = min(most, self._count)
        arguments: list[Any] = ["XREAD", "COUNT", count]
        if block_ms > 0:
            arguments += ["BLOCK", block_ms]
        # The plain connection: redis-py's own XREAD makes a dict of each entry, which costs most.
        self._connection.send_command(*arguments, "STREAMS", self._stream, self._after)
        answer = self._connection.read_response()
        entries: list[tuple[bytes, list[bytes]]] = answer[0][1] if answer else []
        self._is_cut = len(entries) == count
        self._size = bytes_of(entries)
        if entries:
            self._after = entries[-1][0]
            self._count = fitting(len(entries), self._size)
        return entries

    @property
    def client(self) -> redis.Redis:
        """A client for commands beside the reading."""
        return self._client

    def version(self, name: str) -> tuple[int, str, str]:
        """Return the deployment's version and digest, and the server's life, by now: what was read before is
        of these or older.
        """
        self._connection.send_command("GEARSYNC.LANES", name)
        reply = self._connection.read_response()
        return int(reply[3]), *digest_and_life(reply[6:])

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
        self._client.close()


class Settled(NamedTuple):
    """What became of the intents of a lane up to an id: of those that were refused the ids and reasons."""

    entry_id: str
    refused: Sequence[tuple[str, str]]


class Intake(NamedTuple):
    """What was read of a lane, the deployment's version by then, and the intents whose clients wait."""

    reading: Reading
    version: int
    alive: frozenset[bytes]


class Exchange:
    """Settles intents and takes the next ones, on its own connection: clients wait for each round trip."""

    _ALL = "18446744073709551615-18446744073709551615"

    def __init__(self, url: str, stream: str, worker: str) -> None:
        self._client = connect(url)
        self._connection = self._client.connection_pool.get_connection()
        self._stream = stream
        self._worker = worker
        self._after = LANE_HEAD
        # What was read while looking for the end of an intent, and comes with the next answer.
        self._ahead: list[tuple[bytes, list[bytes]]] = []
        self._is_cut = False
        self._asking = self._ask_first()
        self._take = b"".join(self._connection.pack_command("GEARSYNC.TAKE", stream, self._ALL, worker))
        # For each command that was sent, whether its reply counts.
        self._sent: list[bool] = []
        self._of_asked = [False, True] if self._asking else [True]

    def _ask_first(self) -> list[bytes]:
        """Return what stands before each command that writes clients' keys: on a cluster, ASKING."""
        packed: list[bytes] = self._connection.pack_command(ASKING)
        self._connection.send_packed_command(packed)
        try:
            self._connection.read_response()
        except redis.ResponseError:
            # It is no cluster; or its user may not: then clients try again until their slot has come.
            return []
        return packed

    def ask(self, settled: Settled | None, block_ms: int) -> None:
        """Settle, and ask for the next entries of the lane; ``block_ms``: how long to wait for the first."""
        settling = [] if settled is None else self._settle(settled)
        # The server takes no other command while XREAD waits: TAKE comes right after what it found.
        packed = self._xread(0 if self._ahead else block_ms)
        self._connection.send_packed_command([b"".join([*settling, *packed, *self._asking, self._take])])
        self._sent = [*([] if settled is None else self._of_asked), True, *self._of_asked]

    def answer(self) -> Intake:
        """Return what was asked for. Raises what was said of the settling, too."""
        *_, found, taken = self._receive()
        entries = [*self._ahead, *self._entries(found)]
        self._ahead = []
        self._end_intent(entries)
        reading = Reading()
        if entries:
            reading.add(entries)
        version, *alive = taken
        return Intake(reading, int(version), frozenset(alive))

    def _end_intent(self, entries: list[tuple[bytes, list[bytes]]]) -> None:
        """Add what else belongs to the intent of the last entry, of which COUNT may have cut some keys off.

        An intent is in the lane whole, or not yet; so where a read found the lane's end, one ends too.
        """
        while self._is_cut and not self._ahead:
            self._connection.send_packed_command(self._xread(0))
            more = self._entries(self._connection.read_response())
            end = next((at for at, each in enumerate(more) if not follows(read_meta(each[1]))), len(more))
            entries += more[:end]
            self._ahead = more[end:]

    def _xread(self, block_ms: int) -> list[bytes]:
        blocking = ("BLOCK", block_ms) if block_ms > 0 else ()
        read = "XREAD", "COUNT", CHUNK, *blocking, "STREAMS", self._stream, self._after
        packed: list[bytes] = self._connection.pack_command(*read)
        return packed

    def _entries(self, answer: Any) -> list[tuple[bytes, list[bytes]]]:
        """Return the entries in an answer to XREAD; the next one begins behind them."""
        entries: list[tuple[bytes, list[bytes]]] = answer[0][1] if answer else []
        self._is_cut = len(entries) == CHUNK
        if entries:
            self._after = entries[-1][0]
        return entries

    def settle(self, settled: Settled) -> None:
        """Settle alone."""
        self._connection.send_packed_command(self._settle(settled))
        self._sent = self._of_asked
        self._receive()

    def _settle(self, settled: Settled) -> list[bytes]:
        words = [word for pair in settled.refused for word in pair]
        command = "GEARSYNC.SETTLE", self._stream, settled.entry_id, self._worker
        return [*self._asking, *self._connection.pack_command(*command, *words)]

    def _receive(self) -> list[Any]:
        """Return the replies to what was sent; raises the first error after all were read."""
        replies: list[Any] = []
        failure: redis.ResponseError | None = None
        for counts in self._sent:
            try:
                reply = self._connection.read_response()
                if counts:
                    replies.append(reply)
            except redis.ResponseError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return replies

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
        self._client.close()
