"""How tests drive the module alone: a server with it and no worker, deployments by hand, lanes read back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gears.applying.change import read_label
from tests.choice import version_of
from tests.sanitizers import module_path
from tests.servers import RedisServer, find_redis_server

T = TypeVar("T")
FIELDS = ("first", "last", "age")
#: AOF options under which a write that was answered is on disk.
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
#: The same, as commands alone, which a test can read and cut.
PLAIN_AOF = (*ALWAYS, "--aof-use-rdb-preamble", "no")


class Change(NamedTuple):
    """One entry of a lane; bytes are shown as latin-1. ``ticket`` is what followed an operation."""

    op: str
    epoch: int
    key: str
    image: dict[str, str]
    ticket: str = ""
    goes_on: bool = False
    """It belongs to the transaction of the entry before it."""


class Function(NamedTuple):
    """One function of GEARSYNC.DEPLOY; ``fields`` None: the whole hash."""

    template: str = "person:{id}"
    fields: Sequence[str] | None = FIELDS
    target: str = "t1"
    db: int = 0
    flush: str = "KEEP"
    operations: bool = False
    timeout_ms: int = 0
    """Of write-through; 0: write-behind."""
    type: str = ""
    """Of keys that are no hashes: JSON, SET, LIST or ZSET."""

    def arguments(self) -> list[str | int]:
        """Return the function's part of the command."""
        count = -1 if self.fields is None else len(self.fields)
        words: list[str | int] = ["OPERATIONS"] if self.operations else []
        words += ["THROUGH", self.timeout_ms] if self.timeout_ms else []
        if self.type:
            return [self.target, self.db, self.template, self.flush, *words, "TYPE", self.type, 0]
        return [self.target, self.db, self.template, self.flush, *words, count, *(self.fields or ())]


class Read(NamedTuple):
    """One function of GEARSYNC.DEPLOY that reads through; times in ms."""

    template: str = "person:{id}"
    target: str = "t1"
    db: int = 0
    timeout: int = 20_000
    missing: int = 60_000
    refresh: int = 0
    failure: str = "ERROR"

    def arguments(self) -> list[str | int]:
        """Return the function's part of the command."""
        return [self.target, self.db, self.template, self.timeout, self.missing, self.refresh, self.failure]


def server_version() -> tuple[int, ...]:
    """Return the version of the server under test; Valkey's own numbers."""
    return tuple(int(part) for part in version_of(find_redis_server()).split("."))


def debug_options() -> tuple[str, ...]:
    """Return the options with which a server takes DEBUG and MODULE."""
    if server_version() < (7, 0):
        return ()
    return ("--enable-debug-command", "yes", "--enable-module-command", "yes")


def module_server(*options: str, arguments: Sequence[str] = ("SUPERVISE", "no"), **more: Any) -> RedisServer:
    """Return a server, not yet started, with the module and with DEBUG allowed."""
    return RedisServer(*debug_options(), *options, module=module_path(), module_arguments=arguments, **more)


def connect(server: RedisServer, **options: Any) -> redis.Redis:
    """Return a client that tells of a lost server at once."""
    return server.client(retry=Retry(NoBackoff(), 0), **options)


def deploy_arguments(
    name: str = "people",
    version: int = 1,
    functions: Sequence[Function] = (Function(),),
    targets: Sequence[str] = ("t1",),
    lanes: int = 1,
    backlog: tuple[int, int] = (0, 0),
    on_full: str = "REFUSE",
    worker: str = "EXTERNAL",
    payload: str = "{}",
    check: bool = False,
    reads: Sequence[Read] = (),
    whole: bool = False,
) -> list[str | int]:
    """Return all arguments of one GEARSYNC.DEPLOY."""
    head: list[str | int] = [name, version, *(["CHECK"] if check else [])]
    head += ["LANES", lanes, "BACKLOG", *backlog, on_full, "WORKER", worker]
    head += [*(["TRANSACTIONS", "WHOLE"] if whole else []), "PAYLOAD", payload]
    head += ["TARGETS", len(targets), *targets, "FUNCTIONS", len(functions)]
    found = head + [each for function in functions for each in function.arguments()]
    if reads:
        found += ["READS", len(reads), *(each for read in reads for each in read.arguments())]
    return found


def deploy(client: redis.Redis, *functions: Function, **settings: Any) -> None:
    """Deploy ``functions``, by default one on person:{id}; the settings are those of deploy_arguments."""
    if functions:
        settings["functions"] = functions
    client.execute_command("GEARSYNC.DEPLOY", *deploy_arguments(**settings))


def entries(client: redis.Redis, stream: str | bytes) -> list[tuple[bytes, list[bytes]]]:
    """Return a stream's entries with their pairs in order, where a dict would lose a field named as a label.
    Changes are as they would be with a pair for each part: k, key, m, meta, field, value…
    """
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("XRANGE", lambda reply, **_: reply)
    return [(each[0], unpacked(each[1])) for each in reader.execute_command("XRANGE", stream, "-", "+")]


def unpacked(pairs: list[bytes]) -> list[bytes]:
    """Return the pairs of an entry that has only one, if it is a change."""
    if len(pairs) != 2 or not pairs[0].startswith(b"c"):
        return pairs
    _, meta, key, *values = pairs[1].split(pairs[1][:1])
    image = (part for pair in zip(read_label(pairs[0]), values) for part in pair)
    return [b"k", key, b"m", meta, *image]


def decode(pairs: Sequence[bytes]) -> Change:
    """Decode the pairs of one entry."""
    assert (pairs[0], pairs[2]) == (b"k", b"m")
    text = [part.decode("latin-1") for part in pairs]
    epoch, _, ticket = text[3][1:].partition(":")
    number, plus, _ = epoch.partition("+")
    return Change(
        text[3][0], int(number, 16), text[1], dict(zip(text[4::2], text[5::2])), ticket, plus == "+"
    )


def lanes(client: redis.Redis, name: str = "people", target: str = "t1") -> list[str]:
    """Return the streams of a deployment's target, in the order in which they are to be read."""
    found = client.execute_command("GEARSYNC.LANES", name)[4]
    return [stream.decode() for stream, _, of, _, _ in found if of.decode() == target]


def changes(client: redis.Redis, name: str = "people", target: str = "t1") -> list[Change]:
    """Return the changes that wait for a target, lane by lane."""
    return [decode(pairs) for lane in lanes(client, name, target) for _, pairs in entries(client, lane)]


def lane_keys(client: redis.Redis) -> list[str]:
    """Return every lane that is in the keyspace, also of a replica, sorted."""
    return sorted(key.decode() for key in client.scan_iter("gearsync:{*}:lane:*"))


def key_changes(client: redis.Redis) -> list[Change]:
    """Return what waits of users' keys: without the marks of slots and lanes that move."""
    return [each for each in changes(client) if not each.key.startswith("gearsync:")]


def acknowledge(client: redis.Redis, name: str = "people") -> int:
    """Acknowledge all that waits in every lane of a deployment; return how many changes that were."""
    count = 0
    for stream, *_ in client.execute_command("GEARSYNC.LANES", name)[4]:
        waiting = entries(client, stream)
        count += len(waiting)
        if waiting:
            assert client.execute_command("GEARSYNC.ACK", stream, waiting[-1][0]) == 0
    return count


def drop(client: redis.Redis) -> None:
    """Do as a worker that is done with all."""
    (lane,) = lanes(client)
    client.execute_command("GEARSYNC.ACK", lane, "18446744073709551615-18446744073709551615")


def status(client: redis.Redis) -> dict[str, Any]:
    """Return GEARSYNC.STATUS, parsed."""
    found: dict[str, Any] = json.loads(client.execute_command("GEARSYNC.STATUS"))
    return found


def deployment_status(client: redis.Redis, name: str = "people") -> dict[str, Any]:
    """Return one deployment's part of the status."""
    found: dict[str, Any] = next(each for each in status(client)["deployments"] if each["name"] == name)
    return found


def has_command(client: redis.Redis, name: str) -> bool:
    """Say whether the server knows a command."""
    reader = redis.Redis(connection_pool=client.connection_pool)
    reader.set_response_callback("COMMAND", lambda reply, **_: reply)
    return bool(reader.execute_command("COMMAND", "INFO", name)[0])


def wait_for(probe: Callable[[], T], what: str, seconds: float = 15) -> T:
    """Return the first true answer of probe; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.01)


def aof_files(directory: Path) -> list[Path]:
    """Return the AOF files with commands in the order of their writing: one before Redis 7, several since."""
    return sorted(path for path in directory.rglob("*.aof") if path.stat().st_size > 0)


def aof_commands(text: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield (offset, words) of each command in an AOF without RDB preamble."""
    at = 0
    while at < len(text):
        start = at
        if text[at : at + 1] == b"#":
            at = text.index(b"\r\n", at) + 2
            continue
        line = text.index(b"\r\n", at)
        count, at, words = int(text[at + 1 : line]), line + 2, []
        for _ in range(count):
            line = text.index(b"\r\n", at)
            size = int(text[at + 1 : line])
            words.append(text[line + 2 : line + 2 + size].decode("latin-1"))
            at = line + 2 + size + 2
        yield start, words
